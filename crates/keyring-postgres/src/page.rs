//! Listing rows in the order of their ids. A page costs a bounded number of rows, however few of them match.

use storekeeper_keyring::{Page, PageQuery};
use storekeeper_model::Timestamp;

use crate::catalogue::{PAGE, PAGE_REVOKED};
use crate::database::Database;
use crate::error::Fault;
use crate::find::find;
use crate::row::{bucket, id};

/// How many rows are looked at for one page with filters, unless it is longer itself.
const SCAN_MAX: usize = 4096;

/// A page of rows.
pub(crate) async fn page(database: &Database, query: &PageQuery) -> Result<Page, Fault> {
    let app = match &query.app {
        None => None,
        Some(name) => match database.app_number(name).await? {
            None => return Ok(Page { records: Vec::new(), next: None }),
            number => number,
        },
    };
    let scan = if is_filtered(query) { query.limit.max(SCAN_MAX) } else { query.limit };
    // One more tells whether there are more.
    let limit = i64::try_from(scan.saturating_add(1)).unwrap_or(i64::MAX);
    let (first, behind) = match &query.after {
        Some(after) => (bucket(after), after.as_bytes().as_slice()),
        None => (0, &[][..]),
    };
    let sql = if query.revoked == Some(true) { PAGE_REVOKED } else { PAGE };
    let [expired_at, alive_at, due_before] =
        [query.expired_at, query.alive_at, query.due_before].map(|at| at.map(Timestamp::millis));
    let rows = database
        .query(sql, &[&first, &behind, &limit, &app, &query.revoked, &expired_at, &alive_at, &due_before])
        .await?;
    let (mut ids, mut next, mut last) = (Vec::new(), None, None);
    for (looked_at, row) in rows.iter().enumerate() {
        if ids.len() >= query.limit || looked_at >= scan {
            next = last;
            break;
        }
        last = Some(id(row, 0)?);
        if row.try_get(1)? {
            ids.extend(last);
        }
    }
    // A row may have been written since it was found.
    let records = find(database, &ids).await?.into_iter().flatten().filter(|record| query.matches(record));
    Ok(Page { records: records.collect(), next })
}

const fn is_filtered(query: &PageQuery) -> bool {
    query.app.is_some()
        || query.revoked.is_some()
        || query.expired_at.is_some()
        || query.alive_at.is_some()
        || query.due_before.is_some()
}
