//! A `Record` as a row of the table `record`, and back.

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Row, ToSql};
use storekeeper_keyring::body::{self, Body};
use storekeeper_keyring::{Facets, KeyringError, Record, Refused, Revision, SealedKey, State, newcomer};
use storekeeper_model::{Fingerprint, Identity, KeyId, KeyKind, Slot, Timestamp, UserName};

use crate::error::{corrupt, in_use};
use crate::names::Names;

/// What a query has to select for [`decode`], in this order.
macro_rules! columns {
    () => {
        "id, app, kind, user, slot, revision, issued_at, expires_at, next_attempt_at, revoked_at, last_used_day, \
         fingerprint, body, newcomer"
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
    record.proven && record.state == State::ACTIVE && !record.is_failing() && !record.is_handed_over()
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
        let lifetime = &record.key.lifetime;
        self.bind(record.revision.number())?;
        self.bind(bears_witness(record))?;
        self.bind(record.is_failing())?;
        self.bind(lifetime.issued_at().millis())?;
        self.bind(lifetime.expires_at().map(Timestamp::millis))?;
        self.bind(record.next_attempt_at.map(Timestamp::millis))?;
        self.bind(revoked_at(&record.state).map(Timestamp::millis))?;
        self.bind(record.last_used_day)?;
        self.bind(record.key.fingerprint.as_bytes().as_slice())?;
        self.bind(body::pack(record).as_slice())?;
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

/// Reads a row that selected [`columns`].
pub(crate) fn decode(row: &Row<'_>, names: &Names) -> Result<Record, KeyringError> {
    let columns = Columns(row);
    let fingerprint = Fingerprint::from_bytes(columns.bytes(11, "fingerprint")?);
    let issued_at = Timestamp::from_millis(columns.number(6)?);
    let body =
        body::unpack(columns.blob(12, "body")?, issued_at, columns.instant(7)?).ok_or_else(|| corrupt("body"))?;
    let Body { lifetime, certificate, sealed, .. } = body;
    Ok(Record {
        id: KeyId::from_bytes(columns.bytes(0, "id")?),
        identity: Identity {
            app: names.name(columns.number(1)?)?,
            kind: kind(columns.number(2)?)?,
            user: UserName::from_bytes(columns.text(3, "user")?).map_err(|_| corrupt("user"))?,
            slot: Slot::new(columns.str(4, "slot")?).map_err(|_| corrupt("slot"))?,
        },
        revision: Revision::from_number(columns.number(5)?),
        key_version: body.key_version,
        proven: body.proven,
        failures: body.failures,
        next_attempt_at: columns.instant(8)?,
        state: state(columns.instant(9)?, body.refused)?,
        last_used_day: columns.number(10)?,
        key: SealedKey { fingerprint, certificate, lifetime, sealed },
        enrolled: body.enrolled.unwrap_or(fingerprint),
        history: body.history,
        newcomer: match columns.value(13)? {
            ValueRef::Null => None,
            _ => Some(newcomer::unpack(columns.blob(13, "newcomer")?).ok_or_else(|| corrupt("newcomer"))?),
        },
    })
}

fn state(revoked_at: Option<Timestamp>, refused: Option<Refused>) -> Result<State, KeyringError> {
    match (revoked_at, refused) {
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
        self.0.number(7)
    }

    /// Its place, which has to be selected behind [`columns`].
    pub(crate) fn place(&self) -> Result<i64, KeyringError> {
        self.0.number(14)
    }

    /// Its next attempt.
    pub(crate) fn next_attempt_at(&self) -> Result<Option<i64>, KeyringError> {
        self.0.number(8)
    }
}

/// What a row adds to the counts.
pub(crate) const fn counted(facets: Facets) -> [i64; 3] {
    [facets.revoked as i64, facets.refused as i64, facets.unproven as i64]
}
