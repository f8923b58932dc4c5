//! Finding what is due: indexes in the order of time tell which rows, sorted by risk, and then those are read.

use futures_util::future::try_join3;
use storekeeper_keyring::{Due, DueQuery, Record};
use storekeeper_model::{KeyId, Timestamp};
use tokio_postgres::Row;

use crate::catalogue::{DUE_IMPOSSIBLE, DUE_NEXT, DUE_WAITING};
use crate::database::Database;
use crate::error::Fault;
use crate::find::find;
use crate::row::{BUCKETS, id, instant, kind_number};

/// What is due, the soonest `exp` first.
pub(crate) async fn due(database: &Database, query: &DueQuery) -> Result<Due, Fault> {
    let blocked = blocked(database, query).await?;
    // Rows in `except` take their places in the order too, and one more tells whether there are more.
    let enough = query.limit.saturating_add(query.except.len()).saturating_add(1);
    let enough = i64::try_from(enough).unwrap_or(i64::MAX);
    let (until, impossible_after) = (query.until.millis(), query.impossible_after.millis());
    let far = until.max(impossible_after);
    let (first, last) = BUCKETS;
    let buckets = query.buckets.as_ref().map(|buckets| buckets.to_bytes());
    let (waiting, impossible, next) = try_join3(
        database.query(DUE_WAITING, &[&first, &last, &until, &blocked, &enough, &buckets]),
        database.query(DUE_IMPOSSIBLE, &[&first, &last, &far, &blocked, &enough, &buckets]),
        database.query(DUE_NEXT, &[&first, &last, &until, &impossible_after, &buckets]),
    )
    .await?;
    let next_due_at = next.first().map(|row| instant(row, 0)).transpose()?.flatten();
    let next_due_at = next_due_at.filter(|at| *at != Record::HANDED_OVER);
    let mut ids = wanted(query, &[waiting, impossible])?;
    let more = ids.len() > query.limit;
    ids.truncate(query.limit);
    // A row may have been written since it was found.
    let records = find(database, &ids).await?.into_iter().flatten();
    let is_due = |at: Timestamp| at <= query.until || at > query.impossible_after;
    let records = records.filter(|record| record.next_attempt_at.is_some_and(is_due)).collect();
    Ok(Due { records, next_due_at, more })
}

async fn blocked(database: &Database, query: &DueQuery) -> Result<Vec<i32>, Fault> {
    let mut blocked = Vec::with_capacity(query.blocked.len());
    for (app, kind) in &query.blocked {
        if let Some(app) = database.app_number(app).await? {
            blocked.push(app * 2 + i32::from(kind_number(*kind)));
        }
    }
    Ok(blocked)
}

/// The ids in the order of risk, without those the asker has.
fn wanted(query: &DueQuery, found: &[Vec<Row>]) -> Result<Vec<KeyId>, Fault> {
    let mut risks = Vec::with_capacity(found.iter().map(Vec::len).sum());
    for row in found.iter().flatten() {
        let id = id(row, 0)?;
        if !query.except.contains(&id) {
            risks.push((instant(row, 1)?, id));
        }
    }
    risks.sort_unstable();
    risks.dedup();
    Ok(risks.into_iter().map(|(_, id)| id).collect())
}
