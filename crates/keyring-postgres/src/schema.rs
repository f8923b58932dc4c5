//! The schema: makes it and brings it up to date when told to, and says whether this version may work with what it finds.

use storekeeper_keyring::KeyringError;
use tokio_postgres::error::SqlState;

use crate::Options;
use crate::catalogue::{self, SCHEMA_FOUND};
use crate::database::{Database, within};
use crate::error::Fault;
use crate::target::{Target, unreachable};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// So many others who make the same tables at the same moment are stood.
const ATTEMPTS_MAX: usize = 5;

/// The newest schema this version knows.
fn known() -> u32 {
    let runner = embedded::migrations::runner();
    let newest = runner.get_migrations().iter().map(|migration| migration.version()).max().unwrap_or_default();
    u32::try_from(newest).expect("migrations are numbered from 1")
}

/// What came of [`migrate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The version of the tables that were there; `None`: there were none.
    pub from: Option<u32>,
    /// The version they have now.
    pub to: u32,
}

/// Makes the tables in the database that `admin_url` names, or brings older ones up to date. Opening never does: only
/// whoever may change tables needs the right to. May be called again, and by several at once.
///
/// # Errors
/// [`KeyringError::TooNew`] after a newer version; [`KeyringError::Unavailable`] and [`KeyringError::Unreachable`] with
/// one line that says what to do. Nothing is left half made.
pub async fn migrate(admin_url: &str) -> Result<Migrated, KeyringError> {
    let target = Target::parse(admin_url, &Options::default())?;
    let mut admin = Admin::connect(&target).await?;
    let before = in_time(found(&admin.client)).await.map_err(|fault| target.explain(&fault))?;
    let made = match before {
        Some((found, oldest_reader)) if oldest_reader > known() => Err(KeyringError::TooNew { found, known: known() }),
        Some((found, _)) if found > known() => Ok(found),
        _ => make(&mut admin.client).await.map(|()| known()).map_err(|error| not_made(&target, &error)),
    };
    admin.end().await;
    Ok(Migrated { from: before.map(|(found, _)| found), to: made? })
}

/// Grants a keeper's user what it needs of the tables. May be called again.
///
/// # Errors
/// [`KeyringError::Unavailable`] and [`KeyringError::Unreachable`] with one line that says what to do.
pub async fn grant(admin_url: &str, user: &str) -> Result<(), KeyringError> {
    let target = Target::parse(admin_url, &Options::default())?;
    let admin = Admin::connect(&target).await?;
    let granted = in_time(async { Ok(admin.client.batch_execute(&catalogue::grant(user)).await?) }).await;
    admin.end().await;
    granted.map_err(|fault| match fault.state().map(SqlState::code) {
        Some("42704") => unreachable(format!(
            "the user {user} of the keyring's URL is not known at {}: create it (CREATE ROLE … LOGIN), then run this again",
            target.address.places()
        )),
        Some("42501") => unreachable(format!(
            "the user {user} was not granted what it needs: let the owner of the tables do it, as admin_url ({fault})"
        )),
        _ => target.explain(&fault),
    })
}

/// A connection for whoever may change tables.
pub(crate) struct Admin {
    pub(crate) client: tokio_postgres::Client,
    connection: tokio::task::JoinHandle<()>,
}

impl Admin {
    pub(crate) async fn connect(target: &Target) -> Result<Self, KeyringError> {
        let connected = target.connector(&Options::default(), "").any().await;
        let (client, connection) = connected.map_err(|error| target.explain(&Fault::not_connected(error)))?;
        Ok(Self { client, connection })
    }

    /// Waits until the server has heard that this is the end, if it listens.
    pub(crate) async fn end(self) {
        drop(self.client);
        let stop = self.connection.abort_handle();
        // It ends with its client; how does not matter any more.
        drop(in_time(async { Ok(self.connection.await) }).await);
        stop.abort();
    }
}

/// Gives up a server that does not answer what is answered at once wherever anybody does.
pub(crate) async fn in_time<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    within(Options::default().answer_within(), work).await
}

/// Runs what has not been run. Whoever meets somebody else who does the same fails, looks again, and finds it done.
async fn make(client: &mut tokio_postgres::Client) -> Result<(), refinery::Error> {
    let mut attempts = 1..=ATTEMPTS_MAX;
    loop {
        let Err(error) = embedded::migrations::runner().run_async(client).await else { return Ok(()) };
        if matches!(found(client).await, Ok(Some((found, _))) if found >= known()) {
            return Ok(());
        }
        if attempts.next().is_none() {
            return Err(error);
        }
    }
}

fn not_made(target: &Target, error: &refinery::Error) -> KeyringError {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(said) = cause.downcast_ref::<tokio_postgres::Error>() {
            let said = crate::error::one_line(said);
            return unreachable(format!("the tables in {} were not made: {said}", target.database()));
        }
        source = cause.source();
    }
    unreachable(format!("the tables in {} were not made: {}", target.database(), error.to_string().replace('\n', " ")))
}

/// The version of the tables and the oldest version that can work with them; `None` where there are none.
async fn found(client: &tokio_postgres::Client) -> Result<Option<(u32, u32)>, Fault> {
    let answer = client.query_opt(SCHEMA_FOUND, &[]).await;
    match answer.map_err(Fault::from) {
        Err(fault) if fault.state().is_some_and(|state| ["42P01", "3F000"].contains(&state.code())) => Ok(None),
        Err(fault) => Err(fault),
        Ok(row) => row.map(|row| numbers(&row)).transpose(),
    }
}

fn numbers(row: &tokio_postgres::Row) -> Result<(u32, u32), Fault> {
    let number = |column| {
        let number: i32 = row.try_get(column)?;
        u32::try_from(number).map_err(|_| Fault::corrupt("schema version"))
    };
    Ok((number(0)?, number(1)?))
}

/// Connects for the first time, and says whether this version may work with the tables.
pub(crate) async fn check(database: &Database, target: &Target) -> Result<(), KeyringError> {
    let rows = database.query(SCHEMA_FOUND, &[]).await.map_err(|fault| target.explain(&fault))?;
    let name = target.database();
    let again = || unreachable(format!("the tables in {name} are out of date: run `storekeeper init --migrate`"));
    let (version, oldest_reader) = match rows.first().map(numbers).transpose() {
        Ok(Some(found)) => found,
        Ok(None) => return Err(again()),
        Err(fault) => return Err(target.explain(&fault)),
    };
    let known = known();
    if version < known {
        return Err(again());
    }
    if version > known && oldest_reader > known {
        return Err(KeyringError::TooNew { found: version, known });
    }
    if version > known {
        // Made by the next version, which says that this one may still work with it: that is a roll-back.
        tracing::warn!(schema = version, known, "keyring of a newer version, which still serves this one");
    }
    Ok(())
}
