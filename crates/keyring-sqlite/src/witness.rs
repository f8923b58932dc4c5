//! Finding who can bear witness, along the same narrow index as what is due.

use storekeeper_keyring::{KeyringError, Record};
use storekeeper_model::{AppName, KeyId, Timestamp};

use crate::error::in_use;
use crate::find::Places;
use crate::reader::Reader;

/// How far the search goes along the index.
const SCAN_MAX: i64 = 100_000;

/// Rows that can bear witness, the soonest next attempt first.
pub(crate) fn witnesses(
    reader: &Reader,
    app: &AppName,
    except: KeyId,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Record>, KeyringError> {
    let Some(app) = reader.names.number(app) else { return Ok(Vec::new()) };
    let _snapshot = reader.snapshot()?;
    let mut rows = Places::new(reader)?;
    let mut witnesses = Vec::new();
    // One more than asked for: `except` may be among them.
    for place in places(reader, app, now, limit.saturating_add(1))? {
        if witnesses.len() < limit {
            witnesses.extend(rows.read(place, |at| Ok(at.id()? != except))?);
        }
    }
    Ok(witnesses)
}

fn places(reader: &Reader, app: i64, now: Timestamp, limit: usize) -> Result<Vec<i64>, KeyringError> {
    let sql = "-- witness::places
        SELECT place FROM (
            SELECT place, app, expires_at, witness FROM record INDEXED BY record_due
            WHERE next_attempt_at IS NOT NULL ORDER BY next_attempt_at >> 19, next_attempt_at LIMIT :scan_max)
        WHERE app = :app AND witness = 1 AND expires_at > :now LIMIT :limit";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let read = || {
        let mut statement = reader.connection.prepare_cached(sql)?;
        let rows = statement.query_map((SCAN_MAX, app, now.millis(), limit), |row| row.get(0))?;
        rows.collect::<rusqlite::Result<Vec<i64>>>()
    };
    read().map_err(|error| in_use(&error))
}
