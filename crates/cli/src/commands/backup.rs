//! `storekeeper backup` and `restore`: a copy of an embedded keyring while its keeper runs, and back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use storekeeper_clock::{Clock as _, SystemClock};
use storekeeper_keyring::seal::Sealer;
use storekeeper_keyring_sqlite::backup::{self, BackupError, Contents, Former};
use storekeeper_model::Timestamp;

use crate::compose;
use crate::config::{Config, KeyringUrl};
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Format, Rows, count, counted, instant, instant_or_dash};

/// Copy the keyring to a new file while its keeper runs; keys in it are sealed, and the master key is not in it.
#[derive(Debug, Args)]
pub struct Backup {
    /// The new file; it appears when it is complete
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The configuration that names the keyring
    #[arg(long, value_name = "FILE", required_unless_present = "inspect")]
    config: Option<PathBuf>,
    /// Only tell what a backup holds
    #[arg(long, conflicts_with = "config")]
    inspect: bool,
}

/// Put a backup in the place of the keyring; its keeper must not be running.
#[derive(Debug, Args)]
pub struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The configuration that names the keyring, and its master key
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Set the keyring that is there aside, under another name
    #[arg(long)]
    replace: bool,
    /// Only check the backup and the master key, and tell what it holds
    #[arg(long)]
    plan: bool,
}

impl Backup {
    /// Copies, or looks.
    pub async fn run(self, environment: &BTreeMap<String, String>, format: Format) -> CommandResult {
        let Some(config) = &self.config else {
            let file = self.file.clone();
            let contents = blocking(move || Ok(backup::inspect(&file)?)).await?;
            return tell(&contents, &self.file, None, format);
        };
        let keyring =
            Config::load_keyring(config, environment).map_err(|error| CommandError::new(Exit::Usage, error))?;
        let source = embedded(&keyring.url)?;
        let expected = std::fs::metadata(&source).map_or(0, |file| file.len());
        let (target, now) = (self.file.clone(), SystemClock::new().now());
        let copying = blocking(move || Ok(backup::backup(&source, &target, now)?));
        let bar = super::progress_bar(expected, "copying the keyring");
        let contents = shown(copying, &bar, || backup::progress(&self.file)).await?;
        tell(&contents, &self.file, None, format)
    }
}

impl Restore {
    /// Checks, and puts it in place.
    pub async fn run(self, environment: &BTreeMap<String, String>, format: Format) -> CommandResult {
        let loaded = Config::load(&self.config, environment).map_err(|error| CommandError::new(Exit::Usage, error))?;
        let (config, _) = loaded;
        let target = embedded(&config.keyring.url)?;
        let file = self.file.clone();
        if self.plan {
            let contents = blocking(move || {
                let contents = backup::inspect(&file)?;
                approve(&config, &contents)?;
                Ok(contents)
            });
            return tell(&contents.await?, &self.file, None, format);
        }
        let former = if self.replace { Former::SetAside } else { Former::Keep };
        let bar = super::progress_bar(std::fs::metadata(&file).map_or(0, |file| file.len()), "restoring the keyring");
        let place = target.clone();
        let copying = blocking(move || backup::restore(&file, &target, former, |contents| approve(&config, contents)));
        let (contents, aside) = shown(copying, &bar, || backup::restore_progress(&place)).await?;
        tell(&contents, &self.file, aside.as_deref().or(Some(Path::new(""))), format)
    }
}

/// The file of an embedded keyring.
fn embedded(url: &KeyringUrl) -> Result<PathBuf, CommandError> {
    match url {
        KeyringUrl::Sqlite(path) => Ok(path.clone()),
        KeyringUrl::Postgres(_) => Err(CommandError::new(
            Exit::Usage,
            "the keyring is a PostgreSQL: back it up with its own means, such as pg_dump or pg_basebackup",
        )),
    }
}

/// Whether the keyring in a backup opens with the configured master key, by its check value.
fn approve(config: &Config, contents: &Contents) -> Result<(), CommandError> {
    if contents.roots.is_empty() {
        return Ok(());
    }
    let opened = Sealer::load_or_create(&compose::master_key(config), contents.roots.clone(), Timestamp::EPOCH);
    opened.map(drop).map_err(|error| CommandError::with_causes(Exit::Usage, &error))
}

impl From<BackupError> for CommandError {
    fn from(error: BackupError) -> Self {
        let exit = match &error {
            BackupError::AlreadyThere(_) => Exit::Refused,
            BackupError::NoKeyring(_) => Exit::NotFound,
            BackupError::Incomplete { .. } => Exit::Problems,
            BackupError::File { .. } => Exit::Failure,
            BackupError::Keyring(storekeeper_keyring::KeyringError::Held(_)) => Exit::Unavailable,
            BackupError::Keyring(_) => Exit::Usage,
        };
        Self::with_causes(exit, &error)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CommandError> + Send + 'static,
) -> Result<T, CommandError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| CommandError::new(Exit::Failure, error))?
}

/// Shows how many bytes are copied while the work goes on.
async fn shown<T: Send + 'static>(
    work: impl Future<Output = Result<T, CommandError>> + Send + 'static,
    bar: &ProgressBar,
    copied: impl Fn() -> u64,
) -> Result<T, CommandError> {
    let (work, clock) = (tokio::spawn(work), SystemClock::new());
    while !work.is_finished() {
        bar.set_position(copied());
        drop(clock.sleep_until(clock.now() + Duration::from_millis(50)).await);
    }
    bar.finish_and_clear();
    work.await.map_err(|error| CommandError::new(Exit::Failure, error))?
}

fn tell(contents: &Contents, file: &Path, restored: Option<&Path>, format: Format) -> CommandResult {
    let keys = contents.total();
    let aside = restored.filter(|aside| !aside.as_os_str().is_empty());
    if format == Format::Json {
        let shares = contents.keys.iter().map(|(app, kind, total, revoked)| {
            json!({ "app": app.as_str(), "kind": kind.as_str(), "keys": total, "revoked": revoked })
        });
        return output::print_json(&json!({
            "file": file, "restored": restored.is_some(), "set_aside": aside, "keys": keys, "bytes": contents.bytes,
            "schema": contents.schema, "made_at": contents.made_at, "last_issued_at": contents.last_issued_at,
            "shares": shares.collect::<Vec<_>>(),
        }));
    }
    let mut rows = Rows::new(["APP", "KIND", "KEYS", "REVOKED"]).numbers(&[2, 3]);
    for (app, kind, total, revoked) in &contents.keys {
        rows.add([app.as_str(), kind.as_str(), &count(*total), &count(*revoked)]);
    }
    output::print(&rows.text())?;
    let what = if restored.is_some() { "restored from" } else { "in" };
    let made = contents.made_at.map_or_else(|| String::from("no backup"), |at| format!("made {}", instant(at)));
    output::print(&format!(
        "{} {what} {} ({made}, {} bytes, schema {}); the last one was issued {}",
        counted(keys, "key"),
        file.display(),
        count(contents.bytes),
        contents.schema,
        instant_or_dash(contents.last_issued_at)
    ))?;
    match aside {
        Some(aside) => output::print(&format!("the former keyring is {} now", aside.display())),
        None => Ok(()),
    }
}
