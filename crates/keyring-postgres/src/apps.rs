//! What is kept besides rows of keys: apps and wrapped roots.

use deadpool_postgres::Transaction;
use storekeeper_keyring::{AppRow, Paused, WrappedRoot};
use storekeeper_model::{AppName, ClientId, Timestamp};
use tokio_postgres::Row;

use crate::catalogue::{APPS, APPS_CHANGE, APPS_SAVE, ROOTS, ROOTS_ADD};
use crate::database::Database;
use crate::error::Fault;
use crate::row::instant;

/// Saves what is known of an app, whose name has its number by now.
pub(crate) async fn save_app(transaction: &Transaction<'_>, app: &AppRow) -> Result<(), Fault> {
    let paused = app.paused.as_ref();
    let statement = transaction.prepare_cached(APPS_SAVE).await?;
    let parameters: crate::database::Parameters<'_> = &[
        &app.name.as_str(),
        &text(app.client_id.compact()),
        &paused.map(|paused| text(&paused.reason)),
        &paused.map(|paused| text(&paused.detail)),
        &paused.map(|paused| paused.since.millis()),
        &app.evidence_since.millis(),
        &app.condemned_day,
        &i64::try_from(app.condemned).unwrap_or(i64::MAX),
    ];
    transaction.execute(&statement, parameters).await?;
    Ok(())
}

/// Saves what is known of an app, if what is kept is still what was seen. Asked twice, it may say no to what it has done.
pub(crate) async fn change_app(database: &Database, seen: &AppRow, app: &AppRow) -> Result<bool, Fault> {
    let (new, old) = (app.paused.as_ref(), seen.paused.as_ref());
    let parameters: crate::database::Parameters<'_> = &[
        &app.name.as_str(),
        &text(app.client_id.compact()),
        &new.map(|paused| text(&paused.reason)),
        &new.map(|paused| text(&paused.detail)),
        &new.map(|paused| paused.since.millis()),
        &app.evidence_since.millis(),
        &app.condemned_day,
        &i64::try_from(app.condemned).unwrap_or(i64::MAX),
        &text(seen.client_id.compact()),
        &old.map(|paused| text(&paused.reason)),
        &old.map(|paused| text(&paused.detail)),
        &old.map(|paused| paused.since.millis()),
        &seen.evidence_since.millis(),
        &seen.condemned_day,
        &i64::try_from(seen.condemned).unwrap_or(i64::MAX),
    ];
    Ok(!database.query(APPS_CHANGE, parameters).await?.is_empty())
}

/// The database's text holds every character but one.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Every app that was saved.
pub(crate) async fn apps(database: &Database) -> Result<Vec<AppRow>, Fault> {
    database.query(APPS, &[]).await?.iter().map(app).collect()
}

fn app(row: &Row) -> Result<AppRow, Fault> {
    let paused = match (row.try_get::<_, Option<String>>(2)?, instant(row, 4)?) {
        (None, _) => None,
        (Some(reason), Some(since)) => Some(Paused { reason, detail: row.try_get(3)?, since }),
        (Some(_), None) => return Err(Fault::corrupt("pause")),
    };
    Ok(AppRow {
        name: AppName::new(row.try_get(0)?).map_err(|_| Fault::corrupt("app name"))?,
        client_id: ClientId::new(row.try_get(1)?),
        paused,
        evidence_since: Timestamp::from_millis(row.try_get(5)?),
        condemned_day: row.try_get(6)?,
        condemned: u64::try_from(row.try_get::<_, i64>(7)?).unwrap_or_default(),
    })
}

/// Adds a root; `false` if there is one of this generation.
pub(crate) async fn add_root(transaction: &Transaction<'_>, root: &WrappedRoot) -> Result<bool, Fault> {
    let statement = transaction.prepare_cached(ROOTS_ADD).await?;
    let generation = i32::from(root.generation);
    let parameters: crate::database::Parameters<'_> = &[&generation, &root.wrapped, &root.created_at.millis()];
    Ok(transaction.execute(&statement, parameters).await? == 1)
}

/// Whether this very root stands there.
pub(crate) async fn has_root(transaction: &Transaction<'_>, root: &WrappedRoot) -> Result<bool, Fault> {
    let statement = transaction.prepare_cached(ROOTS).await?;
    let roots = transaction.query(&statement, &[]).await?;
    Ok(roots.iter().map(wrapped).collect::<Result<Vec<_>, _>>()?.contains(root))
}

/// Every root.
pub(crate) async fn roots(database: &Database) -> Result<Vec<WrappedRoot>, Fault> {
    database.query(ROOTS, &[]).await?.iter().map(wrapped).collect()
}

fn wrapped(row: &Row) -> Result<WrappedRoot, Fault> {
    let generation = u16::try_from(row.try_get::<_, i32>(0)?).map_err(|_| Fault::corrupt("root generation"))?;
    Ok(WrappedRoot { generation, wrapped: row.try_get(1)?, created_at: Timestamp::from_millis(row.try_get(2)?) })
}
