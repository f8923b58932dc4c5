//! Spreading the tables over the nodes of a distributed PostgreSQL (Citus, Azure elastic clusters), by their bucket.

use storekeeper_keyring::KeyringError;

use crate::Options;
use crate::catalogue::{self, DISTRIBUTION_BEGIN, DISTRIBUTION_FOUND};
use crate::error::Fault;
use crate::schema::Admin;
use crate::target::{Target, unreachable};

/// The statements that spread the tables, for an operator to read and to run.
pub fn distribution() -> Vec<String> {
    catalogue::distribution()
}

/// Spreads those tables that are not spread yet, all or none of them; answers the statements that were run.
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

async fn spread(client: &tokio_postgres::Client, target: &Target) -> Result<Vec<String>, KeyringError> {
    let (places, database) = (target.address.places(), target.address.database());
    let found = match client.query(DISTRIBUTION_FOUND, &[]).await.map_err(Fault::from) {
        Ok(rows) => rows,
        Err(fault) if fault.state().is_some_and(|state| state.code() == "42P01") => {
            return Err(unreachable(format!(
                "the database {database} at {places} is not distributed: run CREATE EXTENSION citus in it, or leave the tables as they are, which is what a plain PostgreSQL needs"
            )));
        }
        Err(fault) => return Err(target.explain(&fault)),
    };
    let found: Vec<String> = found.iter().filter_map(|row| row.try_get(0).ok()).collect();
    let tables = catalogue::REFERENCE_TABLES.iter().chain(catalogue::DISTRIBUTED_TABLES);
    let wanted = tables.zip(distribution()).filter(|(table, _)| !found.iter().any(|found| found == *table));
    let statements: Vec<String> = wanted.map(|(_, statement)| statement).collect();
    if statements.is_empty() {
        return Ok(statements);
    }
    client.batch_execute(DISTRIBUTION_BEGIN).await.map_err(|error| target.explain(&error.into()))?;
    for statement in &statements {
        client.batch_execute(statement).await.map_err(|error| refused(target, statement, &error.into()))?;
    }
    client.batch_execute("COMMIT").await.map_err(|error| target.explain(&error.into()))?;
    Ok(statements)
}

fn refused(target: &Target, statement: &str, fault: &Fault) -> KeyringError {
    match fault.state().map(tokio_postgres::error::SqlState::code) {
        Some("42P01") => target.explain(fault),
        Some(_) => unreachable(format!(
            "the database at {} refuses `{statement}`, so no table was distributed: do what it says, then run this again ({fault})",
            target.address.places()
        )),
        None => target.explain(fault),
    }
}
