//! What is kept besides rows of keys: apps and wrapped roots.

use rusqlite::{Connection, Row};
use storekeeper_keyring::{AppRow, KeyringError, Paused, WrappedRoot};
use storekeeper_model::{AppName, ClientId, Timestamp};

use crate::error::{corrupt, in_use};

/// Saves what is known of an app, whose name has its number by now.
pub(crate) fn save_app(connection: &Connection, app: &AppRow) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "-- apps::save_app
         UPDATE app SET client_id = :client_id, paused_reason = :paused_reason, paused_detail = :paused_detail,
             paused_since = :paused_since, evidence_since = :evidence_since, condemned_day = :condemned_day,
             condemned = :condemned
         WHERE name = :name",
    )?;
    let paused = app.paused.as_ref();
    statement.execute(rusqlite::named_params! {
        ":client_id": app.client_id.compact(),
        ":paused_reason": paused.map(|paused| &paused.reason),
        ":paused_detail": paused.map(|paused| &paused.detail),
        ":paused_since": paused.map(|paused| paused.since.millis()),
        ":evidence_since": app.evidence_since.millis(),
        ":condemned_day": app.condemned_day,
        ":condemned": i64::try_from(app.condemned).unwrap_or(i64::MAX),
        ":name": app.name.as_str(),
    })?;
    Ok(())
}

/// Every app that was saved.
pub(crate) fn apps(connection: &Connection) -> Result<Vec<AppRow>, KeyringError> {
    let sql = "-- apps::apps
        SELECT name, client_id, paused_reason, paused_detail, paused_since, evidence_since, condemned_day, condemned
        FROM app WHERE client_id IS NOT NULL ORDER BY name";
    all(connection, sql, app)
}

fn app(row: &Row<'_>) -> rusqlite::Result<Result<AppRow, KeyringError>> {
    let paused = match row.get::<_, Option<String>>(2)? {
        None => None,
        Some(reason) => Some(Paused { reason, detail: row.get(3)?, since: Timestamp::from_millis(row.get(4)?) }),
    };
    let name = match AppName::new(row.get_ref(0)?.as_str()?) {
        Ok(name) => name,
        Err(_) => return Ok(Err(corrupt("app name"))),
    };
    Ok(Ok(AppRow {
        name,
        client_id: ClientId::new(row.get_ref(1)?.as_str()?),
        paused,
        evidence_since: Timestamp::from_millis(row.get(5)?),
        condemned_day: row.get(6)?,
        condemned: u64::try_from(row.get::<_, i64>(7)?).unwrap_or_default(),
    }))
}

/// Adds a root; `false` if there is one of this generation.
pub(crate) fn insert_root(connection: &Connection, root: &WrappedRoot) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "-- apps::insert_root
         INSERT INTO root (generation, wrapped, created_at) VALUES (:generation, :wrapped, :created_at)
         ON CONFLICT (generation) DO NOTHING",
    )?;
    Ok(statement.execute((root.generation, &root.wrapped, root.created_at.millis()))? == 1)
}

/// Every root.
pub(crate) fn roots(connection: &Connection) -> Result<Vec<WrappedRoot>, KeyringError> {
    let sql = "-- apps::roots
        SELECT generation, wrapped, created_at FROM root ORDER BY generation";
    all(connection, sql, |row| {
        let created_at = Timestamp::from_millis(row.get(2)?);
        Ok(Ok(WrappedRoot { generation: row.get(0)?, wrapped: row.get(1)?, created_at }))
    })
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<Result<T, KeyringError>>,
) -> Result<Vec<T>, KeyringError> {
    let rows = || connection.prepare_cached(sql)?.query_map([], |row| read(row))?.collect::<rusqlite::Result<Vec<_>>>();
    rows().map_err(|error| in_use(&error))?.into_iter().collect()
}
