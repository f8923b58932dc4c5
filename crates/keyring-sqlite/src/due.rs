//! Finding what is due, and who can bear witness: both read the narrow index first and then the rows that count.

use std::collections::BinaryHeap;

use rusqlite::types::ValueRef;
use storekeeper_keyring::{Due, DueQuery, KeyringError, Record};
use storekeeper_model::{AppName, KeyId, Timestamp};

use crate::error::in_use;
use crate::find::Places;
use crate::reader::Reader;
use crate::row::kind_number;

/// How far the search for witnesses goes along the index.
const WITNESS_SCAN_MAX: i64 = 100_000;

/// What is due, the soonest `exp` first.
pub(crate) fn due(reader: &Reader, query: &DueQuery) -> Result<Due, KeyringError> {
    let _snapshot = reader.snapshot()?;
    // Rows in `except` take their places in the order too, and one more tells whether there are more.
    let enough = query.limit.saturating_add(query.except.len()).saturating_add(1);
    let mut due = Due { next_due_at: next_due_at(reader, query)?, ..Due::default() };
    let mut places = Places::new(reader)?;
    for Candidate { place, .. } in candidates(reader, query, enough)? {
        let Some(record) = places.read(place, |id| !query.except.contains(&id))? else { continue };
        if due.records.len() == query.limit {
            due.more = true;
            break;
        }
        due.records.push(record);
    }
    Ok(due)
}

/// A row in the order of risk: unusable times come first, then the soonest `exp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    expires_at: Option<i64>,
    place: i64,
}

/// The first `enough` due rows in the order of risk.
fn candidates(reader: &Reader, query: &DueQuery, enough: usize) -> Result<Vec<Candidate>, KeyringError> {
    let number = |(app, kind): &(AppName, _)| Some((reader.names.number(app)?, kind_number(*kind)));
    let blocked: Vec<(i64, i64)> = query.blocked.iter().filter_map(number).collect();
    let mut first = BinaryHeap::with_capacity(enough.min(4096));
    let mut add = |candidate, app_and_kind| {
        if blocked.contains(&app_and_kind) {
            return;
        }
        if first.len() < enough {
            first.push(candidate);
        } else if first.peek().is_some_and(|last| candidate < *last) {
            first.pop();
            first.push(candidate);
        }
    };
    let waiting = "-- due::candidates
        SELECT place, expires_at, app, kind FROM record INDEXED BY record_due WHERE next_attempt_at <= :until";
    each(reader, waiting, &[query.until.millis()], &mut add)?;
    let impossible = "-- due::candidates
        SELECT place, expires_at, app, kind FROM record INDEXED BY record_failing
        WHERE failing = 1 AND next_attempt_at > :impossible_after AND next_attempt_at > :until";
    each(reader, impossible, &[query.impossible_after.millis(), query.until.millis()], &mut add)?;
    Ok(first.into_sorted_vec())
}

fn each(
    reader: &Reader,
    sql: &str,
    parameters: &[i64],
    add: &mut impl FnMut(Candidate, (i64, i64)),
) -> Result<(), KeyringError> {
    let mut scan = || {
        let mut statement = reader.connection.prepare_cached(sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
        while let Some(row) = rows.next()? {
            let expires_at = match row.get_ref(1)? {
                ValueRef::Null => None,
                value => Some(value.as_i64()?),
            };
            add(Candidate { expires_at, place: row.get(0)? }, (row.get(2)?, row.get(3)?));
        }
        Ok(())
    };
    scan().map_err(|error: rusqlite::Error| in_use(&error))
}

fn next_due_at(reader: &Reader, query: &DueQuery) -> Result<Option<Timestamp>, KeyringError> {
    let sql = "-- due::next_due_at
        SELECT next_attempt_at FROM record INDEXED BY record_due
        WHERE next_attempt_at > :until AND NOT (next_attempt_at > :impossible_after AND failing = 1)
        ORDER BY next_attempt_at LIMIT 1";
    let read = || {
        let mut statement = reader.connection.prepare_cached(sql)?;
        let mut rows = statement.query((query.until.millis(), query.impossible_after.millis()))?;
        rows.next()?.map(|row| row.get(0)).transpose()
    };
    Ok(read().map_err(|error: rusqlite::Error| in_use(&error))?.map(Timestamp::from_millis))
}

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
    let mut places = Places::new(reader)?;
    let mut witnesses = Vec::new();
    // One more than asked for: `except` may be among them.
    for place in witness_places(reader, app, now, limit.saturating_add(1))? {
        if witnesses.len() < limit {
            witnesses.extend(places.read(place, |id| id != except)?);
        }
    }
    Ok(witnesses)
}

fn witness_places(reader: &Reader, app: i64, now: Timestamp, limit: usize) -> Result<Vec<i64>, KeyringError> {
    let sql = "-- due::witness_places
        SELECT place FROM (
            SELECT place, app, expires_at, witness FROM record INDEXED BY record_due
            WHERE next_attempt_at IS NOT NULL ORDER BY next_attempt_at LIMIT :scan_max)
        WHERE app = :app AND witness = 1 AND expires_at > :now LIMIT :limit";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let read = || {
        let mut statement = reader.connection.prepare_cached(sql)?;
        let rows = statement.query_map((WITNESS_SCAN_MAX, app, now.millis(), limit), |row| row.get(0))?;
        rows.collect::<rusqlite::Result<Vec<i64>>>()
    };
    read().map_err(|error| in_use(&error))
}
