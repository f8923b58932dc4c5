//! Backup and restore: a consistent copy of the one file while its keeper runs, and a copy put back in its place.
//!
//! Whatever is made is complete and on disk before it bears its name, so that a kill at any moment leaves what was there
//! before, and at most a file with another name, which the next try replaces.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use storekeeper_keyring::{KeyringError, WrappedRoot};
use storekeeper_model::{AppName, KeyKind, Timestamp};

use crate::apps;
use crate::error::{in_use, one_line, opening};
use crate::lock::{FileLock, beside, private};
use crate::row::kind;
use crate::schema;

/// Why a backup was not made, or not put back. What was there before is untouched.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Nothing is overwritten.
    #[error("{0} is there already, and nothing is overwritten")]
    AlreadyThere(String),
    /// There is no keyring to copy.
    #[error("{0} is no keyring")]
    NoKeyring(String),
    /// The counts that are kept do not agree with the rows.
    #[error("{path} is damaged: it holds {rows} keys and says {counted}")]
    Incomplete {
        /// Which file.
        path: String,
        /// How many rows there are.
        rows: u64,
        /// How many there should be.
        counted: u64,
    },
    /// The file system refuses.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The database cannot be read or written.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

/// What a keyring's file holds.
#[derive(Debug, Clone)]
pub struct Contents {
    /// When it was copied; `None` in a keyring that is no backup.
    pub made_at: Option<Timestamp>,
    /// The version of its tables.
    pub schema: u32,
    /// By app and kind: how many keys, and how many of them are revoked.
    pub keys: Vec<(AppName, KeyKind, u64, u64)>,
    /// The latest `iat` of all keys: nothing that was renewed after it is in here.
    pub last_issued_at: Option<Timestamp>,
    /// The roots, which only the right master key unwraps.
    pub roots: Vec<WrappedRoot>,
    /// How large it is.
    pub bytes: u64,
}

impl Contents {
    /// How many keys there are.
    pub fn total(&self) -> u64 {
        self.keys.iter().map(|(_, _, total, _)| total).sum()
    }
}

/// Copies the keyring at `source`, which a keeper may be using, to the new file `target`. What was committed when it
/// began is in the copy.
///
/// # Errors
/// See [`BackupError`].
pub fn backup(source: &Path, target: &Path, now: Timestamp) -> Result<Contents, BackupError> {
    absent(target)?;
    if !source.exists() {
        return Err(BackupError::NoKeyring(source.display().to_string()));
    }
    let partial = partial(target);
    create_anew(&partial)?;
    let connection = open(source, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    demand_schema(&connection, source)?;
    let text = partial.to_str().ok_or_else(|| failed(target)(io::Error::other("the path is not UTF-8")))?;
    connection.execute("-- backup::backup\nVACUUM INTO :target", [text]).map_err(|error| in_use(&error))?;
    drop(connection);
    let copy = open(&partial, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let note = "-- backup::backup
        CREATE TABLE backup (made_at INTEGER NOT NULL)";
    let written = copy.execute(note, []).and_then(|_| {
        copy.execute("-- backup::backup\nINSERT INTO backup (made_at) VALUES (:made_at)", [now.millis()])
    });
    written.map_err(|error| in_use(&error))?;
    drop(copy);
    let contents = inspect(&partial)?;
    put_in_place(&partial, target)?;
    Ok(contents)
}

/// How many bytes of a backup to `target` are written so far.
pub fn progress(target: &Path) -> u64 {
    std::fs::metadata(partial(target)).map_or(0, |file| file.len())
}

/// How many bytes of a backup that is being restored to `target` are copied so far.
pub fn restore_progress(target: &Path) -> u64 {
    std::fs::metadata(restoring(target)).map_or(0, |file| file.len())
}

/// Looks into a file: whether it is whole, what it holds, and whether this version can work with it.
///
/// # Errors
/// See [`BackupError`].
pub fn inspect(path: &Path) -> Result<Contents, BackupError> {
    let bytes = std::fs::metadata(path).map_err(failed(path))?.len();
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let schema = demand_schema(&connection, path)?;
    let whole: String = connection
        .query_row("-- backup::inspect\nPRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| opening(path, &error))?;
    if whole != "ok" {
        return Err(KeyringError::Corrupt(format!("{}: {}", path.display(), one_line(&whole))).into());
    }
    let keys = population(&connection)?;
    let one = |sql| connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).map_err(|error| in_use(&error));
    let rows = one("-- backup::inspect\nSELECT count(*) FROM record")?.unwrap_or(0).unsigned_abs();
    let contents = Contents {
        made_at: made_at(&connection)?,
        schema,
        keys,
        last_issued_at: one("-- backup::inspect\nSELECT max(issued_at) FROM record")?.map(Timestamp::from_millis),
        roots: apps::roots(&connection)?,
        bytes,
    };
    if contents.total() != rows {
        return Err(BackupError::Incomplete { path: path.display().to_string(), rows, counted: contents.total() });
    }
    Ok(contents)
}

/// What becomes of a keyring that stands where a backup is to be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Former {
    /// It stays, and nothing is restored.
    Keep,
    /// It is set aside under another name.
    SetAside,
}

/// Puts the backup at `backup` in the place of the keyring at `target`, which nobody may be using. `approve` looks at the
/// very copy that is put there. Returns what it holds, and where the former keyring is now.
///
/// # Errors
/// See [`BackupError`]; `E` is what `approve` says.
pub fn restore<E: From<BackupError>>(
    backup: &Path,
    target: &Path,
    former: Former,
    approve: impl FnOnce(&Contents) -> Result<(), E>,
) -> Result<(Contents, Option<PathBuf>), E> {
    if former == Former::Keep {
        absent(target)?;
    }
    // Taken before anything is looked at: from here on no keeper can start on what stands there.
    let lock = FileLock::take(target).map_err(BackupError::from)?;
    let partial = restoring(target);
    copy(backup, &partial)?;
    let contents = inspect(&partial)?;
    approve(&contents)?;
    forget_the_note(&partial)?;
    let aside = if target.exists() { Some(set_aside(target)?) } else { None };
    without_log(target, aside.as_deref())?;
    put_in_place(&partial, target)?;
    drop(lock);
    Ok((contents, aside))
}

fn partial(target: &Path) -> PathBuf {
    beside(target, ".partial")
}

fn restoring(target: &Path) -> PathBuf {
    beside(target, ".restoring")
}

fn absent(target: &Path) -> Result<(), BackupError> {
    if target.exists() { Err(BackupError::AlreadyThere(target.display().to_string())) } else { Ok(()) }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> BackupError + '_ {
    move |source| BackupError::File { path: path.display().to_string(), source }
}

/// An empty file that only its owner can read, in the place of one that an interrupted try has left.
fn create_anew(path: &Path) -> Result<File, BackupError> {
    for file in [path.to_owned(), beside(path, "-journal"), beside(path, "-wal"), beside(path, "-shm")] {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&file)(error)),
            _ => {}
        }
    }
    private(path).map_err(failed(path))
}

fn open(path: &Path, access: OpenFlags) -> Result<Connection, BackupError> {
    Ok(schema::connect(path, access).map_err(|error| opening(path, &error))?)
}

fn demand_schema(connection: &Connection, path: &Path) -> Result<u32, BackupError> {
    match schema::found(connection).map_err(|error| opening(path, &error))? {
        None => Err(BackupError::NoKeyring(path.display().to_string())),
        Some((version, oldest_reader)) if oldest_reader > schema::known() => {
            Err(KeyringError::TooNew { found: version, known: schema::known() }.into())
        }
        Some((version, _)) => Ok(version),
    }
}

fn made_at(connection: &Connection) -> Result<Option<Timestamp>, BackupError> {
    let sql = "-- backup::made_at
        SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'backup'";
    let is_backup: bool = connection.query_row(sql, [], |row| row.get(0)).map_err(|error| in_use(&error))?;
    if !is_backup {
        return Ok(None);
    }
    let made_at = connection.query_row("-- backup::made_at\nSELECT max(made_at) FROM backup", [], |row| row.get(0));
    Ok(made_at.map(|millis: Option<i64>| millis.map(Timestamp::from_millis)).map_err(|error| in_use(&error))?)
}

fn population(connection: &Connection) -> Result<Vec<(AppName, KeyKind, u64, u64)>, BackupError> {
    let sql = "-- backup::population
        SELECT app.name, kind, total, revoked FROM population JOIN app ON app.number = population.app
        WHERE total > 0 ORDER BY app.name, kind";
    let read = || {
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        rows.collect::<rusqlite::Result<Vec<(String, i64, i64, i64)>>>()
    };
    let rows = read().map_err(|error| in_use(&error))?;
    let share = |(app, number, total, revoked): (String, i64, i64, i64)| {
        let app = AppName::new(&app).map_err(|_| KeyringError::Corrupt(String::from("an app's name")))?;
        Ok((app, kind(number)?, total.unsigned_abs(), revoked.unsigned_abs()))
    };
    rows.into_iter().map(share).collect()
}

fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    let mut source = File::open(from).map_err(failed(from))?;
    let mut file = create_anew(to)?;
    io::copy(&mut source, &mut file).map_err(failed(to))?;
    file.sync_all().map_err(failed(to))
}

/// A keyring that is in use is no backup.
fn forget_the_note(path: &Path) -> Result<(), BackupError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let dropped = connection.execute("-- backup::forget_the_note\nDROP TABLE IF EXISTS backup", []);
    Ok(dropped.map(drop).map_err(|error| in_use(&error))?)
}

/// Gives the file that is there a second name, under which it stays.
fn set_aside(target: &Path) -> Result<PathBuf, BackupError> {
    fold_log(target);
    let names = (1..).map(|number| match number {
        1 => beside(target, ".replaced"),
        number => beside(target, &format!(".replaced-{number}")),
    });
    for aside in names {
        match std::fs::hard_link(target, &aside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            linked => return linked.map(|()| aside).map_err(failed(target)),
        }
    }
    unreachable!("there is always another number")
}

/// Copies the log of a keyring back, so that the one file is all of it. One that is damaged stays as it is.
fn fold_log(target: &Path) {
    let fold = || -> rusqlite::Result<()> {
        let connection = schema::connect(target, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.query_row("-- backup::fold_log\nPRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        connection.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))
    };
    if let Err(error) = fold() {
        tracing::warn!(%error, "the log of the former keyring is set aside as it is");
    }
}

/// A log that belongs to the former keyring must not meet the restored one.
fn without_log(target: &Path, aside: Option<&Path>) -> Result<(), BackupError> {
    for suffix in ["-wal", "-shm", "-journal"] {
        let log = beside(target, suffix);
        let gone = match aside {
            Some(aside) => std::fs::rename(&log, beside(aside, suffix)),
            None => std::fs::remove_file(&log),
        };
        match gone {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&log)(error)),
            _ => {}
        }
    }
    schema::sync_directory(target).map_err(failed(target))
}

fn put_in_place(complete: &Path, target: &Path) -> Result<(), BackupError> {
    File::open(complete).and_then(|file| file.sync_all()).map_err(failed(complete))?;
    std::fs::rename(complete, target).map_err(failed(target))?;
    schema::sync_directory(target).map_err(failed(target))
}
