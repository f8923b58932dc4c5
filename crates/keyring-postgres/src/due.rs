//! Finding what is due. Most of the time that is little, and is read in one go. Of a backlog, indexes in the order of time
//! tell which rows, sorted by risk, and then the first of those are read.

use std::collections::HashMap;

use futures_util::future::{try_join, try_join3};
use storekeeper_keyring::{Due, DueQuery, Record};
use storekeeper_model::{KeyId, Timestamp};
use tokio_postgres::Row;

use crate::backlog::{Ranked, Risk, app_and_kind, still_holds};
use crate::catalogue::{DUE_FEW, DUE_IMPOSSIBLE, DUE_NEXT, DUE_WAITING, Statement};
use crate::database::{Database, Parameters};
use crate::error::Fault;
use crate::find;
use crate::row::{BUCKETS, decode_all, id, instant, kind_number};

/// What is due, the soonest `exp` first.
pub(crate) async fn due(database: &Database, query: &DueQuery) -> Result<Due, Fault> {
    let asked = Asked::of(database, query).await?;
    let mut search = database.backlog.search();
    if let Some(mut ranked) = search.kept(query, &asked.blocked) {
        let from = ranked.go_on(query.until);
        let (waiting, next_due_at) = try_join(asked.waiting(from), asked.next_due_at()).await?;
        ranked.fill(waiting, asked.rows_max);
        let due = read(database, query, &mut ranked).await?;
        // Too few of what was kept are still due: there may be others behind them.
        if due.more || ranked.is_complete() {
            search.keep(ranked);
            return Ok(Due { next_due_at, ..due });
        }
    }
    let (few, impossible, next_due_at) = try_join3(asked.few(), asked.impossible(), asked.next_due_at()).await?;
    if let Some(mut records) = few.filter(|_| impossible.is_empty()) {
        records.sort_unstable_by_key(|record| (record.key.lifetime.expires_at(), record.id));
        return Ok(Due { records, next_due_at, more: false });
    }
    let mut ranked = search.anew(query, &asked.blocked);
    ranked.fill(asked.waiting(Timestamp::from_millis(i64::MIN)).await?, asked.rows_max);
    ranked.fill(impossible, asked.rows_max);
    let due = read(database, query, &mut ranked).await?;
    search.keep(ranked);
    Ok(Due { next_due_at, ..due })
}

/// A question as the statements take it.
struct Asked<'q> {
    database: &'q Database,
    query: &'q DueQuery,
    blocked: Vec<i32>,
    buckets: Option<Vec<u8>>,
    rows_max: usize,
}

impl<'q> Asked<'q> {
    async fn of(database: &'q Database, query: &'q DueQuery) -> Result<Self, Fault> {
        let mut blocked = Vec::with_capacity(query.blocked.len());
        for (app, kind) in &query.blocked {
            if let Some(app) = database.app_number(app).await? {
                blocked.push(app_and_kind(app, kind_number(*kind)));
            }
        }
        let buckets = query.buckets.as_ref().map(|buckets| buckets.to_bytes());
        // Rows in `except` take their places in the order too, and one more tells whether there are more.
        let enough = query.limit.saturating_add(query.except.len()).saturating_add(1);
        Ok(Self { database, query, blocked, buckets, rows_max: database.backlog.rows_max().max(enough) })
    }

    /// All that is due but for what the asker has, if that fits into one answer; nothing where it would be mostly what
    /// the asker has.
    async fn few(&self) -> Result<Option<Vec<Record>>, Fault> {
        let DueQuery { until, except, limit, .. } = self.query;
        if except.len() > *limit {
            return Ok(None);
        }
        let (first, last) = BUCKETS;
        let rows_max = limit + except.len() + 1;
        let most = i64::try_from(rows_max).unwrap_or(i64::MAX);
        let parameters: Parameters<'_> = &[&first, &last, &until.millis(), &self.blocked, &most, &self.buckets];
        let rows = self.database.query(DUE_FEW, parameters).await?;
        if rows.len() == rows_max {
            return Ok(None);
        }
        let mut records = decode_all(self.database, &rows).await?;
        records.retain(|record| !except.contains(&record.id));
        Ok(Some(records).filter(|records| records.len() <= *limit))
    }

    /// What became due behind an instant.
    async fn waiting(&self, from: Timestamp) -> Result<Vec<Risk>, Fault> {
        let (until, limit) = (self.query.until.millis(), self.limit());
        self.risks(DUE_WAITING, &[&from.millis(), &until, &self.blocked, &limit, &self.buckets]).await
    }

    async fn impossible(&self) -> Result<Vec<Risk>, Fault> {
        let far = self.query.until.max(self.query.impossible_after).millis();
        self.risks(DUE_IMPOSSIBLE, &[&far, &self.blocked, &self.limit(), &self.buckets]).await
    }

    async fn risks(&self, sql: Statement, parameters: Parameters<'_>) -> Result<Vec<Risk>, Fault> {
        let (first, last) = BUCKETS;
        let parameters = [&[&first as _, &last as _], parameters].concat();
        let risk = |row: &Row| Ok(Risk { expires_at: instant(row, 1)?, id: id(row, 0)? });
        self.database.query(sql, &parameters).await?.iter().map(risk).collect()
    }

    /// One more than are kept tells whether there are more.
    fn limit(&self) -> i64 {
        i64::try_from(self.rows_max.saturating_add(1)).unwrap_or(i64::MAX)
    }

    async fn next_due_at(&self) -> Result<Option<Timestamp>, Fault> {
        let (first, last) = BUCKETS;
        let (until, impossible_after) = (self.query.until.millis(), self.query.impossible_after.millis());
        let next = self.database.query(DUE_NEXT, &[&first, &last, &until, &impossible_after, &self.buckets]).await?;
        let next = next.first().map(|row| instant(row, 0)).transpose()?.flatten();
        Ok(next.filter(|at| *at != Record::HANDED_OVER))
    }
}

/// Reads rows in the order of their ranks until there are enough. A row may have been written since it was ranked.
async fn read(database: &Database, query: &DueQuery, ranked: &mut Ranked) -> Result<Due, Fault> {
    ranked.take_back(&query.except);
    let enough = query.limit.saturating_add(1);
    let mut found: Vec<(Risk, Record)> = Vec::new();
    loop {
        let risks = ranked.take(enough - found.len(), &query.except);
        let are_last = risks.len() < enough - found.len();
        let ids: Vec<KeyId> = risks.iter().map(|risk| risk.id).collect();
        let mut records: HashMap<KeyId, Record> =
            find::records(database, &ids).await?.into_iter().map(|record| (record.id, record)).collect();
        for risk in risks {
            if let Some(record) = records.remove(&risk.id)
                && still_holds(&risk, &record, query)
            {
                found.push((risk, record));
            }
        }
        if are_last || found.len() == enough {
            break;
        }
    }
    let more = found.len() == enough;
    for (risk, _) in found.drain(query.limit.min(found.len())..) {
        ranked.put_back(risk);
    }
    let mut records = Vec::with_capacity(found.len());
    for (risk, record) in found {
        ranked.give(risk);
        records.push(record);
    }
    Ok(Due { records, next_due_at: None, more })
}
