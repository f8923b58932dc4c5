//! Spreading the tables over the nodes of a distributed PostgreSQL (Citus, Azure elastic clusters), by their bucket.

use std::sync::Arc;

use storekeeper_keyring::KeyringError;
use tokio_postgres::{Client, Row};

use crate::Options;
use crate::catalogue::{self, DISTRIBUTION_BEGIN, DISTRIBUTION_FOUND, DISTRIBUTION_KNOWN, DISTRIBUTION_NODES, DURABLE};
use crate::database::Database;
use crate::error::Fault;
use crate::schema::{Admin, in_time};
use crate::target::{Target, unreachable};

/// The statements that spread the tables, for an operator to read and to run.
pub fn distribution() -> Vec<String> {
    catalogue::distribution(|_| false)
}

/// Says whether the tables could be spread in a database, before they are made in it.
///
/// # Errors
/// [`KeyringError::Unavailable`] and [`KeyringError::Unreachable`] with one line that says what to do.
pub async fn distributable(admin_url: &str) -> Result<(), KeyringError> {
    let target = Target::parse(admin_url, &Options::default())?;
    let admin = Admin::connect(&target).await?;
    let checked = check_in_time(&admin.client, &target).await;
    admin.end().await;
    checked
}

/// Spreads those tables that are not spread yet, all or none of them; answers the statements that were run. Rows are kept.
///
/// # Errors
/// [`KeyringError::Unavailable`] and [`KeyringError::Unreachable`] with one line that says what to do.
pub async fn distribute(admin_url: &str) -> Result<Vec<String>, KeyringError> {
    let target = Target::parse(admin_url, &Options::default())?;
    let admin = Admin::connect(&target).await?;
    let spread = spread(&admin.client, &target).await;
    // A transaction that was not committed ends with its connection, and nothing of it stays.
    admin.end().await;
    spread
}

async fn check_in_time(client: &Client, target: &Target) -> Result<(), KeyringError> {
    in_time(async { Ok(check(client, target).await) }).await.map_err(|late| target.explain(&late))?
}

async fn check(client: &Client, target: &Target) -> Result<(), KeyringError> {
    let (places, database) = (target.address.places(), target.address.database());
    let explain = |error: tokio_postgres::Error| target.explain(&error.into());
    if !is_known(client).await.map_err(explain)? {
        return Err(unreachable(format!(
            "the database {database} at {places} is not distributed: run CREATE EXTENSION citus in it, or leave the tables as they are, which is what a plain PostgreSQL needs"
        )));
    }
    let nodes = client.query_one(DISTRIBUTION_NODES, &[]).await.map_err(explain)?;
    let number = |column| nodes.try_get::<_, i64>(column).map_err(explain);
    // A database that knows of no node at all is its own first one.
    if number(0)? == 0 && number(1)? > 0 {
        return Err(unreachable(format!(
            "the database {database} at {places} has no node to spread tables over: run citus_add_node('HOST', PORT) in it, then run this again"
        )));
    }
    Ok(())
}

async fn is_known(client: &Client) -> Result<bool, tokio_postgres::Error> {
    client.query_one(DISTRIBUTION_KNOWN, &[]).await?.try_get(0)
}

async fn spread(client: &Client, target: &Target) -> Result<Vec<String>, KeyringError> {
    check_in_time(client, target).await?;
    let explain = |error: tokio_postgres::Error| target.explain(&error.into());
    let mut tables = catalogue::REFERENCE_TABLES.iter().chain(catalogue::DISTRIBUTED_TABLES);
    let found = in_time(async { Ok(found(client).await?) }).await.map_err(|fault| target.explain(&fault))?;
    let by_another =
        |table: &&str| found.iter().any(|(found, by)| found == table && by.as_deref().is_some_and(|by| by != "bucket"));
    if let Some(table) = tables.find(|table| by_another(table)) {
        return Err(unreachable(format!(
            "the table {table} at {} is distributed already, and not by its bucket: run undistribute_table('{table}') in it, then run this again",
            target.address.places()
        )));
    }
    let statements = catalogue::distribution(|table| found.iter().any(|(found, _)| found == table));
    if statements.is_empty() {
        return Ok(statements);
    }
    client.batch_execute(DISTRIBUTION_BEGIN).await.map_err(explain)?;
    for statement in &statements {
        client.batch_execute(statement).await.map_err(|error| refused(target, statement, &error.into()))?;
    }
    client.batch_execute("COMMIT").await.map_err(explain)?;
    Ok(statements)
}

/// What a keeper has to know of tables that are spread.
#[derive(Debug, Clone)]
pub(crate) struct Spread {
    /// What a transaction that writes begins with.
    pub(crate) begin: Arc<str>,
}

/// Whether the keys of a keyring are spread by their bucket.
pub(crate) async fn found_by(database: &Database) -> Result<Option<Spread>, Fault> {
    let known = database.query(DISTRIBUTION_KNOWN, &[]).await?;
    if !known.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false) {
        return Ok(None);
    }
    let found = tables(&database.query(DISTRIBUTION_FOUND, &[]).await?)?;
    if !found.iter().any(|(table, by)| table == "key" && by.as_deref() == Some("bucket")) {
        return Ok(None);
    }
    let durable = database.query(DURABLE, &[]).await?;
    let how: &str = durable.first().ok_or_else(|| Fault::corrupt("setting"))?.try_get(0)?;
    Ok(Some(Spread { begin: catalogue::durable_everywhere(how).into() }))
}

/// Tables that are spread, and by which column.
async fn found(client: &Client) -> Result<Vec<(String, Option<String>)>, tokio_postgres::Error> {
    tables(&client.query(DISTRIBUTION_FOUND, &[]).await?)
}

fn tables(rows: &[Row]) -> Result<Vec<(String, Option<String>)>, tokio_postgres::Error> {
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

fn refused(target: &Target, statement: &str, fault: &Fault) -> KeyringError {
    match fault.state().map(tokio_postgres::error::SqlState::code) {
        Some("42P01") => target.explain(fault),
        Some("42501") => unreachable(format!(
            "the user {} may not distribute the tables at {}, so none was: let their owner do it, as admin_url ({fault})",
            target.address.user().unwrap_or("(none)"),
            target.address.places()
        )),
        Some(_) => unreachable(format!(
            "the database at {} refuses `{statement}`, so no table was distributed: do what it says, then run this again ({fault})",
            target.address.places()
        )),
        None => target.explain(fault),
    }
}
