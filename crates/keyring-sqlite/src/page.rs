//! Listing rows in the order of their ids. A page costs a bounded number of rows, however few of them match.

use storekeeper_keyring::{KeyringError, Page, PageQuery};
use storekeeper_model::KeyId;

use crate::error::in_use;
use crate::reader::Reader;
use crate::row::{columns, decode};

/// How many rows are looked at for one page, unless it is longer itself.
const SCAN_MAX: usize = 4096;

/// A page of rows.
pub(crate) fn page(reader: &Reader, query: &PageQuery) -> Result<Page, KeyringError> {
    let sql = match query.revoked {
        Some(true) => concat!(
            "-- page::page\nSELECT ",
            columns!(),
            " FROM record INDEXED BY record_revoked WHERE revoked_at IS NOT NULL AND id > :after ORDER BY id"
        ),
        _ => concat!("-- page::page\nSELECT ", columns!(), " FROM record WHERE id > :after ORDER BY id"),
    };
    let mut statement = reader.connection.prepare_cached(sql).map_err(|error| in_use(&error))?;
    let after = query.after.as_ref().map_or(&[][..], |after| after.as_bytes().as_slice());
    let mut rows = statement.query([after]).map_err(|error| in_use(&error))?;
    let mut page = Page { records: Vec::new(), next: None };
    let mut last: Option<KeyId> = None;
    let mut looked_at = 0;
    while let Some(row) = rows.next().map_err(|error| in_use(&error))? {
        if page.records.len() >= query.limit || looked_at >= query.limit.max(SCAN_MAX) {
            page.next = last;
            break;
        }
        looked_at += 1;
        let record = decode(row, &reader.names)?;
        last = Some(record.id);
        if query.matches(&record) {
            page.records.push(record);
        }
    }
    Ok(page)
}
