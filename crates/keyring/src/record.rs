//! `Record`: one row of the keyring, and what a writer must have seen to replace it.

use storekeeper_model::{CertificateId, Fingerprint, Identity, KeyId, Lifetime, StoreIdKey, Timestamp};

use crate::History;

/// A row's write counter, raised by every write; what fences off a late writer.
///
/// It starts at the enrollment's time in milliseconds, so that a row forgotten and enrolled again never meets a write
/// that was meant for its former self.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(i64);

impl Revision {
    /// The first revision of a row enrolled at `now`.
    pub const fn first(now: Timestamp) -> Self {
        Self(now.millis())
    }

    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// From the stored number.
    pub const fn from_number(number: i64) -> Self {
        Self(number)
    }

    /// The number as stored.
    pub const fn number(self) -> i64 {
        self.0
    }
}

/// A key's text, encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Which root the data key was derived from.
    pub root_generation: u16,
    /// How the text was packed before it was encrypted.
    pub format: u8,
    /// Nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
}

/// A key at rest: what may be known of it without unsealing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// How to speak of it.
    pub fingerprint: Fingerprint,
    /// Which certificate signed it.
    pub certificate: CertificateId,
    /// Its three instants as claimed, usable or not.
    pub lifetime: Lifetime,
    /// Its text.
    pub sealed: Sealed,
}

impl SealedKey {
    /// A key's facts beside its sealed text.
    pub fn new(key: &StoreIdKey, sealed: Sealed) -> Self {
        Self {
            fingerprint: key.fingerprint(),
            certificate: key.certificate().clone(),
            lifetime: *key.lifetime(),
            sealed,
        }
    }
}

/// The Store said no: since when, and how often in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// When it was refused first.
    pub since: Timestamp,
    /// How many refusals since, that one included. A refusal that a fresh ticket cured does not count.
    pub count: u32,
}

/// What is stored of a key's state; *lapsed* is computed from `exp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Kept renewed.
    Active {
        /// Refused, and not yet judged.
        refused: Option<Refused>,
    },
    /// Refused for good before `exp`.
    Revoked {
        /// When it was condemned.
        at: Timestamp,
        /// What had been held against it.
        refused: Refused,
    },
}

impl State {
    /// Active, with nothing held against it.
    pub const ACTIVE: Self = Self::Active { refused: None };

    /// Whether it was condemned.
    pub const fn is_revoked(&self) -> bool {
        matches!(self, Self::Revoked { .. })
    }

    /// What is held against it.
    pub const fn refused(&self) -> Option<Refused> {
        match self {
            Self::Active { refused } => *refused,
            Self::Revoked { refused, .. } => Some(*refused),
        }
    }
}

/// A key enrolled while a proven one is alive: it waits beside it until the Store has accepted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// The key.
    pub key: SealedKey,
    /// Refused, and not yet dropped.
    pub refused: Option<Refused>,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// `identity.key_id()`, kept so that nobody hashes twice.
    pub id: KeyId,
    /// Whose key it is.
    pub identity: Identity,
    /// The write counter.
    pub revision: Revision,
    /// Changes only with the held key; starts at 1.
    pub key_version: u32,
    /// The key that is served.
    pub key: SealedKey,
    /// The key last handed in, which may have been renewed since.
    pub enrolled: Fingerprint,
    /// What is known of it.
    pub state: State,
    /// Whether the Store has renewed this line at least once.
    pub proven: bool,
    /// Attempts in a row that said nothing about the key (time-outs, 5xx and the like).
    pub failures: u32,
    /// When the next attempt is due, of the held key or of the newcomer; `None` when none will be made.
    pub next_attempt_at: Option<Timestamp>,
    /// The last outcomes.
    pub history: History,
    /// The last day (since the epoch) on which somebody read the key.
    pub last_used_day: Option<i64>,
    /// A key that waits for proof.
    pub newcomer: Option<Newcomer>,
}

/// What counting needs to know of a row: statistics are kept by adding and taking away facets, never by scanning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Facets {
    /// Condemned.
    pub revoked: bool,
    /// Active with something held against it.
    pub refused: bool,
    /// Never renewed by the Store.
    pub unproven: bool,
}

impl Record {
    /// The next attempt of a key whose renewals are another keeper's now: a moment that never comes. It stands where every
    /// index looks already, so that neither a column nor an index is needed for it, and the version before reads such a
    /// row as one that is never due.
    pub const HANDED_OVER: Timestamp = Timestamp::from_millis(i64::MAX - 1);

    /// Whether its renewals are another keeper's now. It is served until it expires, and not missed when it does.
    pub fn is_handed_over(&self) -> bool {
        self.next_attempt_at == Some(Self::HANDED_OVER) && !self.state.is_revoked()
    }

    /// How the row counts.
    pub fn facets(&self) -> Facets {
        Facets {
            revoked: self.state.is_revoked(),
            refused: matches!(self.state, State::Active { refused: Some(_) }),
            unproven: !self.proven,
        }
    }

    /// Whether the last attempt failed, or a refusal is held against one of its keys: what backs off, and so may have
    /// been sent too far away by a wrong clock.
    pub fn is_failing(&self) -> bool {
        let newcomer_is_refused = self.newcomer.as_ref().is_some_and(|newcomer| newcomer.refused.is_some());
        let fails = self.failures > 0 || self.state.refused().is_some() || newcomer_is_refused;
        fails && !self.is_handed_over()
    }

    /// Whether it can bear witness: active, proven, alive, to be renewed, with nothing held against it.
    pub fn is_witness(&self, now: Timestamp) -> bool {
        let is_alive = self.key.lifetime.expires_at().is_some_and(|at| at > now);
        let is_renewed = self.next_attempt_at.is_some() && !self.is_handed_over();
        is_alive && self.proven && self.state == State::ACTIVE && is_renewed && !self.is_failing()
    }
}

/// What a writer saw, and what must still stand when the write is made: every outcome is written compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// No row.
    Absent,
    /// This very row.
    Row {
        /// Its revision.
        revision: Revision,
        /// The held key's fingerprint.
        fingerprint: Fingerprint,
        /// How it counts; true while the revision is.
        facets: Facets,
    },
}

impl Expected {
    /// What must still stand if `record` was read.
    pub fn of(record: &Record) -> Self {
        Self::Row { revision: record.revision, fingerprint: record.key.fingerprint, facets: record.facets() }
    }
}
