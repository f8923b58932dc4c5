//! Counting the population exactly, at the cost of what is due, lapsed or past the deadline.
//!
//! How many rows there are, and how many of them are revoked, refused and unproven, stands in `population`. What
//! depends on the instant is counted along three indexes that between them hold every row it can concern: a row that
//! has lapsed or passed its deadline either has a next attempt early enough to be met in `record_due`, or it is one of
//! the few in `record_lapsing` and `record_aging`. What is handed over has a moment of its own at the end of `record_due`.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Row;
use storekeeper_keyring::{Count, KeyringError, Record};
use storekeeper_model::{AppName, Timestamp};

use crate::error::in_use;
use crate::reader::Reader;
use crate::row::kind;

/// A row whose next attempt comes later than this after it was issued stands in `record_aging`; see the migration.
const AGING_MILLIS: i64 = 1_036_800_000;

type Counts = BTreeMap<(i64, i64), Count>;

/// Counts the population.
pub(crate) fn count(
    reader: &Reader,
    now: Timestamp,
    overdue_before: &[(AppName, Timestamp)],
) -> Result<Vec<Count>, KeyringError> {
    let _snapshot = reader.snapshot()?;
    let number = |(app, before): &(AppName, Timestamp)| Some((reader.names.number(app)?, before.millis()));
    let overdue_before: HashMap<i64, i64> = overdue_before.iter().filter_map(number).collect();
    let mut counts = population(reader)?;
    let sums = Moment { now: now.millis(), overdue_before };
    sums.count(reader, &mut counts).map_err(|error| in_use(&error))?;
    let mut counts: Vec<Count> = counts.into_values().collect();
    counts.iter_mut().for_each(|count| count.active = count.active.saturating_sub(count.lapsed + count.handed_over));
    counts.sort_by(|one, other| (&one.app, one.kind).cmp(&(&other.app, other.kind)));
    Ok(counts)
}

/// What stands in the table; `active` still holds those that lapsed and those handed over.
fn population(reader: &Reader) -> Result<Counts, KeyringError> {
    let sql = "-- count::population
        SELECT app, kind, total, revoked, refused, unproven FROM population WHERE total > 0";
    let read = || {
        let mut statement = reader.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            let numbers: [i64; 6] = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?];
            Ok(numbers)
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    let mut counts = Counts::new();
    for [app, kind_number, total, revoked, refused, unproven] in read().map_err(|error| in_use(&error))? {
        let mut count = Count::none(reader.names.name(app)?, kind(kind_number)?);
        let [active, revoked, refused, unproven] = [total - revoked, revoked, refused, unproven].map(unsigned);
        (count.active, count.revoked, count.refused, count.unproven) = (active, revoked, refused, unproven);
        counts.insert((app, kind_number), count);
    }
    Ok(counts)
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

/// What the instant is compared with.
struct Moment {
    now: i64,
    overdue_before: HashMap<i64, i64>,
}

/// A row of the population as an index shows it; not revoked.
struct Seen {
    app: i64,
    kind: i64,
    issued_at: i64,
    expires_at: Option<i64>,
    next_attempt_at: Option<i64>,
}

impl Seen {
    fn is_lapsing(&self) -> bool {
        self.next_attempt_at.is_none_or(|next| self.expires_at.is_some_and(|expires_at| next > expires_at))
    }

    fn is_aging(&self) -> bool {
        self.next_attempt_at.is_none_or(|next| next > self.issued_at.saturating_add(AGING_MILLIS))
    }
}

impl Moment {
    fn count(&self, reader: &Reader, counts: &mut Counts) -> rusqlite::Result<()> {
        let oldest = self.overdue_before.values().max().copied().unwrap_or(i64::MIN);
        let waiting = "-- count::waiting
            SELECT app, kind, expires_at, next_attempt_at, issued_at FROM record INDEXED BY record_due
            WHERE next_attempt_at >> 19 <= :horizon >> 19 AND next_attempt_at < :horizon AND revoked_at IS NULL";
        // A row may be due at its very `exp`, which is now.
        let horizon = self.now.saturating_add(1).max(oldest.saturating_add(AGING_MILLIS).saturating_add(1));
        self.each(reader, waiting, horizon, |seen| {
            let Some(count) = counts.get_mut(&(seen.app, seen.kind)) else { return };
            let is_lapsed = self.is_lapsed(seen);
            count.lapsed += u64::from(is_lapsed && !seen.is_lapsing());
            count.due_backlog += u64::from(!is_lapsed && seen.next_attempt_at.is_some_and(|next| next < self.now));
            count.past_deadline += u64::from(!is_lapsed && self.is_overdue(seen) && !seen.is_aging());
        })?;
        let lapsing = "-- count::lapsing
            SELECT app, kind, expires_at, next_attempt_at, 0 FROM record INDEXED BY record_lapsing
            WHERE revoked_at IS NULL AND (next_attempt_at IS NULL OR next_attempt_at > expires_at)
                AND expires_at <= :now AND next_attempt_at IS NOT 9223372036854775806";
        self.each(reader, lapsing, self.now, |seen| {
            let Some(count) = counts.get_mut(&(seen.app, seen.kind)) else { return };
            count.lapsed += 1;
        })?;
        let aging = "-- count::aging
            SELECT app, kind, expires_at, next_attempt_at, issued_at FROM record INDEXED BY record_aging
            WHERE revoked_at IS NULL AND (next_attempt_at IS NULL OR next_attempt_at > issued_at + 1036800000)
                AND issued_at < :oldest AND next_attempt_at IS NOT 9223372036854775806";
        self.each(reader, aging, oldest, |seen| {
            let Some(count) = counts.get_mut(&(seen.app, seen.kind)) else { return };
            count.past_deadline += u64::from(!self.is_lapsed(seen) && self.is_overdue(seen));
        })?;
        let handed_over = "-- count::handed_over
            SELECT app, kind, expires_at, next_attempt_at, issued_at FROM record INDEXED BY record_due
            WHERE next_attempt_at >> 19 = :handed_over >> 19 AND next_attempt_at = :handed_over
                AND revoked_at IS NULL";
        self.each(reader, handed_over, Record::HANDED_OVER.millis(), |seen| {
            let Some(count) = counts.get_mut(&(seen.app, seen.kind)) else { return };
            count.handed_over += 1;
            let until = seen.expires_at.filter(|at| *at > self.now).map(Timestamp::from_millis);
            count.handed_over_until = [count.handed_over_until, until].into_iter().flatten().min();
        })
    }

    fn each(&self, reader: &Reader, sql: &str, until: i64, mut add: impl FnMut(&Seen)) -> rusqlite::Result<()> {
        let mut statement = reader.connection.prepare_cached(sql)?;
        let mut rows = statement.query([until])?;
        while let Some(row) = rows.next()? {
            add(&seen(row)?);
        }
        Ok(())
    }

    fn is_lapsed(&self, seen: &Seen) -> bool {
        seen.expires_at.is_some_and(|at| at <= self.now)
    }

    fn is_overdue(&self, seen: &Seen) -> bool {
        self.overdue_before.get(&seen.app).is_some_and(|before| seen.issued_at < *before)
    }
}

fn seen(row: &Row<'_>) -> rusqlite::Result<Seen> {
    let (app, kind, expires_at) = (row.get(0)?, row.get(1)?, row.get(2)?);
    Ok(Seen { app, kind, expires_at, next_attempt_at: row.get(3)?, issued_at: row.get(4)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_name_the_moment_of_what_is_handed_over() {
        assert_eq!(Record::HANDED_OVER.millis(), 9_223_372_036_854_775_806);
    }
}
