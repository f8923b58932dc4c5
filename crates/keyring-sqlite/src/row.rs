//! A `Record` as a row of the table `record`, and back.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{CachedStatement, Row, ToSql};
use storekeeper_keyring::{Facets, History, KeyringError, Record, Refused, Revision, Sealed, SealedKey, State};
use storekeeper_model::{CertificateId, Fingerprint, Identity, KeyId, KeyKind, Lifetime, Slot, Timestamp, UserName};

use crate::error::{corrupt, in_use};
use crate::names::Names;
use crate::newcomer;

/// What a query has to select for [`decode`], in this order.
macro_rules! columns {
    () => {
        "id, app, kind, user, slot, revision, key_version, proven, failures, issued_at, not_before, expires_at, \
         unusable_expires_at, next_attempt_at, refused_since, refused_count, revoked_at, last_used_day, \
         root_generation, format, fingerprint, enrolled, certificate, history, sealed, newcomer"
    };
}
pub(crate) use columns;

/// The number that stands for a kind.
pub(crate) const fn kind_number(kind: KeyKind) -> i64 {
    match kind {
        KeyKind::Collections => 0,
        KeyKind::Purchase => 1,
    }
}

/// The kind behind a number.
pub(crate) fn kind(number: i64) -> Result<KeyKind, KeyringError> {
    KeyKind::ALL.into_iter().find(|kind| kind_number(*kind) == number).ok_or_else(|| corrupt("kind"))
}

/// Whether the row can bear witness while it is alive and its next attempt is known.
fn bears_witness(record: &Record) -> bool {
    record.proven && record.state == State::ACTIVE && !record.is_failing()
}

/// Binds values in the order in which a statement names its parameters.
pub(crate) struct Binder<'a, 'c> {
    statement: &'a mut CachedStatement<'c>,
    next: usize,
}

impl<'a, 'c> Binder<'a, 'c> {
    /// Starts at the first parameter.
    pub(crate) fn new(statement: &'a mut CachedStatement<'c>) -> Self {
        Self { statement, next: 1 }
    }

    /// Binds the next parameter.
    pub(crate) fn bind(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.statement.raw_bind_parameter(self.next, value)?;
        self.next += 1;
        Ok(())
    }

    /// Binds all that a renewal may change: `revision` to `newcomer` in the statements of `settle`.
    pub(crate) fn bind_changes(&mut self, record: &Record) -> rusqlite::Result<()> {
        let SealedKey { fingerprint, certificate, lifetime, sealed } = &record.key;
        let [issued_at, not_before, claimed_expires_at] = lifetime.claimed().map(Timestamp::millis);
        let refused = record.state.refused();
        self.bind(record.revision.number())?;
        self.bind(record.key_version)?;
        self.bind(record.proven)?;
        self.bind(bears_witness(record))?;
        self.bind(record.is_failing())?;
        self.bind(record.failures)?;
        self.bind(issued_at)?;
        self.bind(not_before)?;
        self.bind(lifetime.expires_at().map(Timestamp::millis))?;
        self.bind((!lifetime.is_usable()).then_some(claimed_expires_at))?;
        self.bind(record.next_attempt_at.map(Timestamp::millis))?;
        self.bind(refused.map(|refused| refused.since.millis()))?;
        self.bind(refused.map(|refused| refused.count))?;
        self.bind(revoked_at(&record.state).map(Timestamp::millis))?;
        self.bind(record.last_used_day)?;
        self.bind(sealed.root_generation)?;
        self.bind(sealed.format)?;
        self.bind(fingerprint.as_bytes().as_slice())?;
        self.bind((record.enrolled != *fingerprint).then_some(record.enrolled.as_bytes().as_slice()))?;
        self.bind(Certificate(certificate))?;
        self.bind(record.history.packed())?;
        self.bind(sealed.bytes.as_slice())?;
        self.bind(record.newcomer.as_ref().map(newcomer::pack))
    }

    /// Runs the statement; returns how many rows it changed.
    pub(crate) fn execute(self) -> rusqlite::Result<usize> {
        self.statement.raw_execute()
    }
}

fn revoked_at(state: &State) -> Option<Timestamp> {
    match state {
        State::Active { .. } => None,
        State::Revoked { at, .. } => Some(*at),
    }
}

/// A certificate's name: 20 bytes where it is a thumbprint in upper-case hexadecimal, as `kid` is, else text.
struct Certificate<'a>(&'a CertificateId);

impl ToSql for Certificate<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = self.0.as_str().as_bytes();
        Ok(match thumbprint(text) {
            Some(bytes) => ToSqlOutput::Owned(Value::Blob(bytes.to_vec())),
            None => ToSqlOutput::Borrowed(ValueRef::Text(text)),
        })
    }
}

fn thumbprint(text: &[u8]) -> Option<[u8; 20]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let mut bytes = [0; 20];
    if pairs.len() != bytes.len() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn certificate(value: ValueRef<'_>) -> Option<CertificateId> {
    match value {
        ValueRef::Text(text) => Some(CertificateId::new(std::str::from_utf8(text).ok()?)),
        ValueRef::Blob(bytes) => {
            let bytes: &[u8; 20] = bytes.try_into().ok()?;
            let mut text = [0; 40];
            for ([high, low], byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
                (*high, *low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            }
            Some(CertificateId::new(std::str::from_utf8(&text).ok()?))
        }
        _ => None,
    }
}

/// Reads a row that selected [`columns`].
pub(crate) fn decode(row: &Row<'_>, names: &Names) -> Result<Record, KeyringError> {
    let columns = Columns(row);
    let record = Record {
        id: KeyId::from_bytes(columns.bytes(0, "id")?),
        identity: Identity {
            app: names.name(columns.number(1)?)?,
            kind: kind(columns.number(2)?)?,
            user: UserName::from_bytes(columns.text(3, "user")?).map_err(|_| corrupt("user"))?,
            slot: Slot::new(columns.str(4, "slot")?).map_err(|_| corrupt("slot"))?,
        },
        revision: Revision::from_number(columns.number(5)?),
        key_version: columns.number(6)?,
        proven: columns.number(7)?,
        failures: columns.number(8)?,
        next_attempt_at: columns.instant(13)?,
        state: state(&columns)?,
        last_used_day: columns.number(17)?,
        key: SealedKey {
            lifetime: lifetime(&columns)?,
            fingerprint: Fingerprint::from_bytes(columns.bytes(20, "fingerprint")?),
            certificate: certificate(columns.value(22)?).ok_or_else(|| corrupt("certificate"))?,
            sealed: Sealed {
                root_generation: columns.number(18)?,
                format: columns.number(19)?,
                bytes: columns.blob(24, "sealed key")?.to_vec(),
            },
        },
        enrolled: match columns.value(21)? {
            ValueRef::Null => Fingerprint::from_bytes(columns.bytes(20, "fingerprint")?),
            _ => Fingerprint::from_bytes(columns.bytes(21, "enrolled")?),
        },
        history: History::unpack(columns.blob(23, "history")?).map_err(|_| corrupt("history"))?,
        newcomer: match columns.value(25)? {
            ValueRef::Null => None,
            _ => Some(newcomer::unpack(columns.blob(25, "newcomer")?).ok_or_else(|| corrupt("newcomer"))?),
        },
    };
    Ok(record)
}

fn lifetime(columns: &Columns<'_, '_>) -> Result<Lifetime, KeyringError> {
    let [issued_at, not_before] = [columns.number(9)?, columns.number(10)?].map(Timestamp::from_millis);
    let expires_at = match columns.instant(11)? {
        Some(usable) => usable,
        None => columns.instant(12)?.ok_or_else(|| corrupt("times"))?,
    };
    Ok(Lifetime::new(issued_at, not_before, expires_at))
}

fn state(columns: &Columns<'_, '_>) -> Result<State, KeyringError> {
    let refused = match (columns.instant(14)?, columns.number::<Option<u32>>(15)?) {
        (Some(since), Some(count)) => Some(Refused { since, count }),
        _ => None,
    };
    match (columns.instant(16)?, refused) {
        (None, refused) => Ok(State::Active { refused }),
        (Some(at), Some(refused)) => Ok(State::Revoked { at, refused }),
        (Some(_), None) => Err(corrupt("state")),
    }
}

struct Columns<'a, 'r>(&'a Row<'r>);

impl Columns<'_, '_> {
    fn value(&self, index: usize) -> Result<ValueRef<'_>, KeyringError> {
        self.0.get_ref(index).map_err(|error| in_use(&error))
    }

    fn number<T: rusqlite::types::FromSql>(&self, index: usize) -> Result<T, KeyringError> {
        self.0.get(index).map_err(|error| in_use(&error))
    }

    fn instant(&self, index: usize) -> Result<Option<Timestamp>, KeyringError> {
        Ok(self.number::<Option<i64>>(index)?.map(Timestamp::from_millis))
    }

    fn blob(&self, index: usize, what: &str) -> Result<&[u8], KeyringError> {
        self.value(index)?.as_blob().map_err(|_| corrupt(what))
    }

    fn text(&self, index: usize, what: &str) -> Result<&[u8], KeyringError> {
        self.value(index)?.as_bytes().map_err(|_| corrupt(what))
    }

    fn str(&self, index: usize, what: &str) -> Result<&str, KeyringError> {
        self.value(index)?.as_str().map_err(|_| corrupt(what))
    }

    fn bytes(&self, index: usize, what: &str) -> Result<[u8; 16], KeyringError> {
        self.blob(index, what)?.try_into().map_err(|_| corrupt(what))
    }
}

/// A look at a row that selected [`columns`] without reading the whole of it.
pub(crate) struct At<'a, 'r>(Columns<'a, 'r>);

impl<'a, 'r> At<'a, 'r> {
    /// At this row.
    pub(crate) const fn row(row: &'a Row<'r>) -> Self {
        Self(Columns(row))
    }

    /// Its id.
    pub(crate) fn id(&self) -> Result<KeyId, KeyringError> {
        Ok(KeyId::from_bytes(self.0.bytes(0, "id")?))
    }

    /// Its `exp`, where it is usable.
    pub(crate) fn expires_at(&self) -> Result<Option<i64>, KeyringError> {
        self.0.number(11)
    }

    /// Its next attempt.
    pub(crate) fn next_attempt_at(&self) -> Result<Option<i64>, KeyringError> {
        self.0.number(13)
    }
}

/// What a row adds to the counts.
pub(crate) const fn counted(facets: Facets) -> [i64; 3] {
    [facets.revoked as i64, facets.refused as i64, facets.unproven as i64]
}
