//! A `Record` as a row of the table `key`, and back.

use storekeeper_keyring::body::{self, Body};
use storekeeper_keyring::{Record, Refused, Revision, SealedKey, State, newcomer};
use storekeeper_model::{Fingerprint, Identity, KeyId, KeyKind, Slot, Timestamp, UserName};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::database::Database;
use crate::error::Fault;
use crate::names::Names;

/// The first and the last bucket.
pub(crate) const BUCKETS: (i16, i16) = (0, 4095);

/// A row whose next attempt comes later than this after it was issued is found by the index for aging rows.
pub(crate) const AGING_MILLIS: i64 = 12 * 86_400_000;

/// The bucket of an id, as stored.
pub(crate) fn bucket(id: &KeyId) -> i16 {
    i16::try_from(id.bucket().number()).expect("there are 4096 buckets")
}

/// The number that stands for a kind.
pub(crate) const fn kind_number(kind: KeyKind) -> i16 {
    match kind {
        KeyKind::Collections => 0,
        KeyKind::Purchase => 1,
    }
}

/// The kind behind a number.
pub(crate) fn kind(number: i16) -> Result<KeyKind, Fault> {
    KeyKind::ALL.into_iter().find(|kind| kind_number(*kind) == number).ok_or_else(|| Fault::corrupt("kind"))
}

/// When a row was condemned, if it was.
pub(crate) const fn revoked_at(state: &State) -> Option<Timestamp> {
    match state {
        State::Active { .. } => None,
        State::Revoked { at, .. } => Some(*at),
    }
}

/// Whether the row can bear witness while it is alive and its next attempt is known.
pub(crate) fn bears_witness(record: &Record) -> bool {
    record.proven && record.state == State::ACTIVE && !record.is_failing() && !record.is_handed_over()
}

/// Whether the row can lapse without being due before.
pub(crate) fn is_lapsing(record: &Record) -> bool {
    let expires_at = record.key.lifetime.expires_at();
    let comes_late = |next| expires_at.is_some_and(|expires_at| next > expires_at);
    !record.state.is_revoked() && record.next_attempt_at.is_none_or(comes_late)
}

/// Whether the row can pass a deadline long before it is due.
pub(crate) fn is_aging(record: &Record) -> bool {
    let late = record.key.lifetime.issued_at().millis().saturating_add(AGING_MILLIS);
    !record.state.is_revoked() && record.next_attempt_at.is_none_or(|next| next.millis() > late)
}

/// Reads rows that selected `columns!` of the catalogue.
pub(crate) async fn decode_all(database: &Database, rows: &[Row]) -> Result<Vec<Record>, Fault> {
    for row in rows {
        if database.names.name(row.try_get(1)?).is_none() {
            database.load_names().await?;
        }
    }
    rows.iter().map(|row| decode(row, &database.names)).collect()
}

fn decode(row: &Row, names: &Names) -> Result<Record, Fault> {
    let fingerprint = Fingerprint::from_bytes(bytes(row, 11, "fingerprint")?);
    let issued_at = Timestamp::from_millis(row.try_get(6)?);
    let packed: &[u8] = row.try_get(12)?;
    let body = body::unpack(packed, issued_at, instant(row, 7)?).ok_or_else(|| Fault::corrupt("body"))?;
    let Body { lifetime, certificate, sealed, .. } = body;
    let waiting: Option<&[u8]> = row.try_get(13)?;
    let slot = std::str::from_utf8(row.try_get(4)?).map_err(|_| Fault::corrupt("slot"))?;
    Ok(Record {
        id: KeyId::from_bytes(bytes(row, 0, "id")?),
        identity: Identity {
            app: names.name(row.try_get(1)?).ok_or_else(|| Fault::corrupt("app"))?,
            kind: kind(row.try_get(2)?)?,
            user: UserName::from_bytes(row.try_get(3)?).map_err(|_| Fault::corrupt("user"))?,
            slot: Slot::new(slot).map_err(|_| Fault::corrupt("slot"))?,
        },
        revision: Revision::from_number(row.try_get(5)?),
        key_version: body.key_version,
        proven: body.proven,
        failures: body.failures,
        next_attempt_at: instant(row, 8)?,
        state: state(instant(row, 9)?, body.refused)?,
        last_used_day: row.try_get::<_, Option<i32>>(10)?.map(i64::from),
        key: SealedKey { fingerprint, certificate, lifetime, sealed },
        enrolled: body.enrolled.unwrap_or(fingerprint),
        history: body.history,
        newcomer: match waiting {
            None => None,
            Some(packed) => Some(newcomer::unpack(packed).ok_or_else(|| Fault::corrupt("newcomer"))?),
        },
    })
}

fn state(revoked_at: Option<Timestamp>, refused: Option<Refused>) -> Result<State, Fault> {
    match (revoked_at, refused) {
        (None, refused) => Ok(State::Active { refused }),
        (Some(at), Some(refused)) => Ok(State::Revoked { at, refused }),
        (Some(_), None) => Err(Fault::corrupt("state")),
    }
}

/// An instant that may be missing.
pub(crate) fn instant(row: &Row, column: usize) -> Result<Option<Timestamp>, Fault> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_millis))
}

/// The id in a column.
pub(crate) fn id(row: &Row, column: usize) -> Result<KeyId, Fault> {
    Ok(KeyId::from_bytes(bytes(row, column, "id")?))
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, Fault> {
    Ok(row.try_get(column)?)
}

fn bytes(row: &Row, column: usize, what: &str) -> Result<[u8; 16], Fault> {
    get::<&[u8]>(row, column)?.try_into().map_err(|_| Fault::corrupt(what))
}
