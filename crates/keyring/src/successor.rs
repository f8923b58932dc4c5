//! `Successor`: a key that the Store issued in the place of another one, apart from its row, so that it can be kept outside
//! the keyring and put into its row later.
//!
//! Layout 1: the number 1, flags, id of the row (16), fingerprints of the predecessor and of the successor (16 each), `iat`
//! (8), then where a flag says so `exp` (8) and the next attempt (8), then length of the body and the [`body`] of the row,
//! and the packed newcomer up to the end. Numbers of eight bytes are big-endian. Neither user nor app is named: the row
//! knows them.

use storekeeper_model::{Fingerprint, KeyId, Timestamp};

use crate::body::{self, Body};
use crate::fold::{put_varint, take_varint};
use crate::{Expected, Newcomer, Outcome, Record, SealedKey, State, Write, newcomer};

const LAYOUT: u8 = 1;
const USABLE: u8 = 1;
const ATTEMPTED: u8 = 1 << 1;
const NEWCOMER: u8 = 1 << 2;

/// A successor and the key it came of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Successor {
    /// The row.
    pub id: KeyId,
    /// The key that the row held when its renewal began.
    pub predecessor: Fingerprint,
    /// The row's [`Record::key_version`] with the successor in it: what the key is sealed under.
    pub key_version: u32,
    /// The successor.
    pub key: SealedKey,
    /// [`Record::enrolled`]
    pub enrolled: Fingerprint,
    /// When it is to be renewed.
    pub next_attempt_at: Option<Timestamp>,
    /// How it came.
    pub outcome: Option<Outcome>,
    /// A key that waited for proof and still does.
    pub newcomer: Option<Newcomer>,
}

impl Successor {
    /// The successor in a write; `None` where the row keeps the key that it holds.
    pub fn of(write: &Write) -> Option<(Fingerprint, &Record)> {
        match write {
            Write::Put { expected: Expected::Row { fingerprint, .. }, record }
                if *fingerprint != record.key.fingerprint =>
            {
                Some((*fingerprint, record))
            }
            Write::Put { .. } | Write::Forget { .. } => None,
        }
    }

    /// Whether it may take its place in this row: the row holds its predecessor still.
    pub fn fits(&self, row: &Record) -> bool {
        row.id == self.id
            && row.key.fingerprint == self.predecessor
            && row.key_version.checked_add(1) == Some(self.key_version)
    }

    /// The write that puts it into this row, which it [fits](Successor::fits).
    pub fn put_into(&self, row: Record, now: Timestamp) -> Write {
        let expected = Expected::of(&row);
        let is_handed_over = row.is_handed_over();
        let mut record = Box::new(row);
        if record.newcomer.as_ref().is_some_and(|newcomer| newcomer.key.fingerprint == self.enrolled) {
            record.newcomer.clone_from(&self.newcomer);
        }
        if let Some(outcome) = &self.outcome {
            record.history.push(outcome.clone());
        }
        record.key = self.key.clone();
        (record.key_version, record.proven, record.state) = (self.key_version, true, State::ACTIVE);
        (record.failures, record.revision) = (0, record.revision.next());
        if !is_handed_over {
            // A newcomer is due: its moment was not known when the successor came.
            record.next_attempt_at = if record.newcomer.is_some() { Some(now) } else { self.next_attempt_at };
        }
        Write::Put { expected, record }
    }
}

/// Packs the successor that a row is to hold.
pub fn pack(predecessor: Fingerprint, record: &Record) -> Vec<u8> {
    let (lifetime, body) = (&record.key.lifetime, body::pack(record));
    let newcomer = record.newcomer.as_ref().map(newcomer::pack);
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let flags = flag(lifetime.expires_at().is_some(), USABLE)
        | flag(record.next_attempt_at.is_some(), ATTEMPTED)
        | flag(newcomer.is_some(), NEWCOMER);
    let mut bytes = Vec::with_capacity(96 + body.len() + newcomer.as_ref().map_or(0, Vec::len));
    bytes.extend_from_slice(&[LAYOUT, flags]);
    bytes.extend_from_slice(record.id.as_bytes());
    bytes.extend_from_slice(predecessor.as_bytes());
    bytes.extend_from_slice(record.key.fingerprint.as_bytes());
    let instants = [Some(lifetime.issued_at()), lifetime.expires_at(), record.next_attempt_at];
    instants.iter().flatten().for_each(|at| bytes.extend_from_slice(&at.millis().to_be_bytes()));
    put_varint(&mut bytes, body.len() as u64);
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(&newcomer.unwrap_or_default());
    bytes
}

/// Undoes [`pack`]; `None` if this is not what it makes.
pub fn unpack(mut bytes: &[u8]) -> Option<Successor> {
    let rest = &mut bytes;
    let [LAYOUT, flags] = take::<2>(rest)? else { return None };
    let id = KeyId::from_bytes(take(rest)?);
    let (predecessor, fingerprint) = (Fingerprint::from_bytes(take(rest)?), Fingerprint::from_bytes(take(rest)?));
    let issued_at = instant(rest)?;
    let expires_at = if flags & USABLE == 0 { None } else { Some(instant(rest)?) };
    let next_attempt_at = if flags & ATTEMPTED == 0 { None } else { Some(instant(rest)?) };
    let length = usize::try_from(take_varint(rest)?).ok()?;
    let (body, rest) = rest.split_at_checked(length)?;
    let body = body::unpack(body, issued_at, expires_at)?;
    let newcomer = match (flags & NEWCOMER, rest) {
        (0, []) => None,
        (0, _) => return None,
        (_, packed) => Some(newcomer::unpack(packed)?),
    };
    let Body { key_version, lifetime, certificate, sealed, enrolled, history, .. } = body;
    Some(Successor {
        id,
        predecessor,
        key_version,
        key: SealedKey { fingerprint, certificate, lifetime, sealed },
        enrolled: enrolled.unwrap_or(fingerprint),
        next_attempt_at,
        outcome: history.iter().last(),
        newcomer,
    })
}

fn take<const LENGTH: usize>(bytes: &mut &[u8]) -> Option<[u8; LENGTH]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn instant(bytes: &mut &[u8]) -> Option<Timestamp> {
    Some(Timestamp::from_millis(i64::from_be_bytes(take(bytes)?)))
}
