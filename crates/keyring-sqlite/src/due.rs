//! Finding what is due: the narrow index tells which rows, in the order of risk, and then those are read.

use rusqlite::types::ValueRef;
use storekeeper_keyring::{Due, DueQuery, KeyringError, Record};
use storekeeper_model::{AppName, KeyKind, Timestamp};

use crate::backlog::{Backlog, Ranked, Seen};
use crate::error::in_use;
use crate::find::Places;
use crate::reader::Reader;
use crate::row::kind_number;

/// What is due, in the order of risk.
pub(crate) fn due(reader: &Reader, backlog: &Backlog, query: &DueQuery) -> Result<Due, KeyringError> {
    let number = |(app, kind): &(AppName, KeyKind)| Some((reader.names.number(app)?, kind_number(*kind)));
    let blocked = query.blocked.iter().filter_map(number).collect();
    // Rows in `except` take their places in the order too, and one more tells whether there are more.
    let enough = query.limit.saturating_add(query.except.len()).saturating_add(1);
    let mut search = backlog.search(query.until.millis(), enough, blocked);
    let _snapshot = reader.snapshot()?;
    let next_due_at = next_due_at(reader, query)?;
    if let Some(mut ranked) = search.kept() {
        rank(reader, query, &mut ranked)?;
        let due = read(reader, query, &mut ranked)?;
        // Too few of what was kept are still due: there may be others behind them.
        if due.more || ranked.is_complete() {
            search.keep(ranked);
            return Ok(Due { next_due_at, ..due });
        }
    }
    let mut ranked = search.anew();
    rank(reader, query, &mut ranked)?;
    let due = read(reader, query, &mut ranked)?;
    search.keep(ranked);
    Ok(Due { next_due_at, ..due })
}

/// Ranks what became due since the ranking was made, and what a wrong clock has sent too far away.
fn rank(reader: &Reader, query: &DueQuery, ranked: &mut Ranked) -> Result<(), KeyringError> {
    let until = query.until.millis();
    let from = ranked.go_on(until);
    let waiting = "-- due::rank
        SELECT place, expires_at, app, kind FROM record INDEXED BY record_due
        WHERE next_attempt_at >> 19 BETWEEN :from >> 19 AND :until >> 19
            AND next_attempt_at >= :from AND next_attempt_at <= :until";
    each(reader, waiting, &[from, until], ranked)?;
    let impossible = "-- due::rank
        SELECT place, expires_at, app, kind FROM record INDEXED BY record_failing
        WHERE failing = 1 AND next_attempt_at > :impossible_after AND next_attempt_at > :until";
    each(reader, impossible, &[query.impossible_after.millis(), until], ranked)
}

fn each(reader: &Reader, sql: &str, parameters: &[i64], ranked: &mut Ranked) -> Result<(), KeyringError> {
    let mut scan = || {
        let mut statement = reader.connection.prepare_cached(sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
        while let Some(row) = rows.next()? {
            let expires_at = match row.get_ref(1)? {
                ValueRef::Null => None,
                value => Some(value.as_i64()?),
            };
            ranked.add(row.get(0)?, expires_at, (row.get(2)?, row.get(3)?));
        }
        Ok(())
    };
    scan().map_err(|error: rusqlite::Error| in_use(&error))
}

/// Reads rows in the order of their ranks until there are enough.
fn read(reader: &Reader, query: &DueQuery, ranked: &mut Ranked) -> Result<Due, KeyringError> {
    let mut due = Due { records: Vec::with_capacity(ranked.count().min(query.limit)), ..Due::default() };
    let mut gone = Vec::new();
    let mut places = Places::new(reader)?;
    for (rank, Seen { expires_at, id }) in ranked.rows() {
        if id.is_some_and(|id| query.except.contains(&id)) {
            continue;
        }
        let mut is_due = false;
        let record = places.read(rank.place, |at| {
            *id = Some(at.id()?);
            is_due = at.expires_at()? == *expires_at && is_due_at(query, at.next_attempt_at()?);
            Ok(is_due && !query.except.contains(&at.id()?))
        })?;
        match record {
            Some(record) if record.next_attempt_at > Some(query.until) && !record.is_failing() => gone.push(rank),
            Some(_) if due.records.len() == query.limit => {
                due.more = true;
                break;
            }
            Some(record) => {
                reader.whereabouts.note(record.id, rank.place);
                due.records.push(record);
            }
            None if is_due => {}
            None => gone.push(rank),
        }
    }
    ranked.remove(&gone);
    Ok(due)
}

fn is_due_at(query: &DueQuery, next_attempt_at: Option<i64>) -> bool {
    next_attempt_at.is_some_and(|at| at <= query.until.millis() || at > query.impossible_after.millis())
}

fn next_due_at(reader: &Reader, query: &DueQuery) -> Result<Option<Timestamp>, KeyringError> {
    let sql = "-- due::next_due_at
        SELECT min(next_attempt_at) FROM record INDEXED BY record_due
        WHERE next_attempt_at >> 19 >= :until >> 19
            AND next_attempt_at > :until AND NOT (next_attempt_at > :impossible_after AND failing = 1)
        GROUP BY next_attempt_at >> 19 ORDER BY next_attempt_at >> 19 LIMIT 1";
    let read = || {
        let mut statement = reader.connection.prepare_cached(sql)?;
        let mut rows = statement.query((query.until.millis(), query.impossible_after.millis()))?;
        rows.next()?.map(|row| row.get(0)).transpose()
    };
    let next = read().map_err(|error: rusqlite::Error| in_use(&error))?.map(Timestamp::from_millis);
    Ok(next.filter(|at| *at != Record::HANDED_OVER))
}
