//! `storekeeper init --migrate` and `--distributed`: the tables of a keyring on PostgreSQL. Keepers never make them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use storekeeper_clock::SystemClock;
use storekeeper_keyring_postgres::{
    Migrated, NoPassword, Passwords as _, distributable, distribute, distribution, grant, migrate,
};

use crate::compose::{self, keyring_error};
use crate::config::{Config, Keyring, KeyringUrl, PostgresUrl};
use crate::entra_password::EntraPasswords;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Format};

/// What is to be done to the tables.
#[derive(Debug, Args)]
#[group(id = "Tables", multiple = true)]
pub(super) struct Tables {
    /// Make the tables in the PostgreSQL of a configuration, or bring them up to date; keepers may be running
    #[arg(long)]
    migrate: bool,
    /// Print what spreads the tables over the nodes of a distributed PostgreSQL (Citus, Azure elastic clusters)
    #[arg(long)]
    distributed: bool,
    /// With --distributed: run it
    #[arg(long, requires = "distributed")]
    apply: bool,
    /// The configuration that names the database [default: storekeeper.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The database that a configuration names.
struct Database {
    /// For keepers.
    url: PostgresUrl,
    /// For who may change tables.
    admin: PostgresUrl,
}

impl Tables {
    /// Whether this is about tables at all.
    pub(super) const fn are_asked_for(&self) -> bool {
        self.migrate || self.distributed || self.config.is_some()
    }

    /// Does it, and tells what came of it.
    pub(super) async fn run(self, environment: &BTreeMap<String, String>, format: Format) -> CommandResult {
        if !self.migrate && !self.distributed {
            let message = "--config names what --migrate or --distributed is about: say one of them, or --dir DIR to write a configuration";
            return Err(CommandError::new(Exit::Usage, message));
        }
        let database = self.database(environment).await;
        if self.migrate
            && self.apply
            && let Ok(Some(database)) = &database
        {
            // What cannot be distributed is told before tables are made for it.
            distributable(database.admin.text.expose()).await.map_err(|error| keyring_error(&error))?;
        }
        if self.migrate {
            match database? {
                Some(database) => migrate_and_grant(&database, format).await?,
                None => nothing_to_migrate(format)?,
            }
        }
        match (self.distributed, self.apply) {
            (true, true) => self.apply(environment, format).await,
            (true, false) => print_distribution(format),
            (false, _) => Ok(()),
        }
    }

    async fn apply(&self, environment: &BTreeMap<String, String>, format: Format) -> CommandResult {
        let Some(database) = self.database(environment).await? else {
            let message =
                "the keyring is a SQLite file, which cannot be distributed: let `[keyring] url` name a PostgreSQL";
            return Err(CommandError::new(Exit::Usage, message));
        };
        let run = distribute(database.admin.text.expose()).await.map_err(|error| keyring_error(&error))?;
        match format {
            Format::Json => output::print_json(&json!({ "applied": run })),
            Format::Table if run.is_empty() => output::print("the tables are distributed already"),
            Format::Table => output::print(&format!("{};\nthe tables are distributed", run.join(";\n"))),
        }
    }

    /// `None` for a SQLite file.
    async fn database(&self, environment: &BTreeMap<String, String>) -> Result<Option<Database>, CommandError> {
        let file = self.config.clone().unwrap_or_else(|| PathBuf::from("storekeeper.toml"));
        let keyring =
            Config::load_keyring(&file, environment).map_err(|error| CommandError::new(Exit::Usage, error))?;
        let Keyring { url: KeyringUrl::Postgres(url), admin_url, entra, .. } = keyring else { return Ok(None) };
        let mut admin = admin_url.unwrap_or_else(|| url.clone());
        if let Some(entra) = entra.filter(|_| !admin.address.has_password()) {
            let passwords = EntraPasswords::new(entra, compose::transport(None)?, Arc::new(SystemClock::new()));
            let password = passwords.password().await.map_err(|why| password_error(&why))?;
            admin = admin.with_password(&password);
        }
        Ok(Some(Database { admin, url }))
    }
}

fn password_error(why: &NoPassword) -> CommandError {
    let exit = if matches!(why, NoPassword::Unavailable(_)) { Exit::Unavailable } else { Exit::Usage };
    CommandError::new(exit, format!("no password for the database: {why}"))
}

async fn migrate_and_grant(database: &Database, format: Format) -> CommandResult {
    let admin = database.admin.text.expose();
    let migrated = migrate(admin).await.map_err(|error| keyring_error(&error))?;
    let keeper = database.url.address.user().filter(|user| Some(*user) != database.admin.address.user());
    if let Some(keeper) = keeper {
        grant(admin, keeper).await.map_err(|error| keyring_error(&error))?;
    }
    match format {
        Format::Json => {
            output::print_json(&json!({ "from": migrated.from, "version": migrated.to, "granted_to": keeper }))
        }
        Format::Table => output::print(&told(&migrated, database, keeper)),
    }
}

fn told(migrated: &Migrated, database: &Database, keeper: Option<&str>) -> String {
    let (name, to) = (database.admin.address.database(), migrated.to);
    let places = database.admin.address.places();
    let done = match migrated.from {
        None => format!("made the tables in {name} at {places} (version {to})"),
        Some(from) if from < to => format!("brought the tables in {name} at {places} from version {from} to {to}"),
        Some(from) => format!("the tables in {name} at {places} are up to date (version {from})"),
    };
    match keeper {
        Some(keeper) => format!("{done}; {keeper} may use them"),
        None => done,
    }
}

fn nothing_to_migrate(format: Format) -> CommandResult {
    match format {
        Format::Json => output::print_json(&json!({ "from": null, "version": null, "granted_to": null })),
        Format::Table => {
            output::print("nothing to do: the keyring is a SQLite file, and whoever opens it brings it up to date")
        }
    }
}

fn print_distribution(format: Format) -> CommandResult {
    match format {
        Format::Json => output::print_json(&json!({ "statements": distribution() })),
        Format::Table => output::print(&format!("{};", distribution().join(";\n"))),
    }
}
