//! The schema: makes it, brings it up to date, and says whether this version may work with what it finds.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use storekeeper_keyring::KeyringError;

use crate::Options;
use crate::error::{one_line, opening};
use crate::lock::private;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Opens the one connection that writes: makes the file if there is none, and its tables; migrates older ones.
pub(crate) fn open_writer(path: &Path, options: &Options) -> Result<Connection, KeyringError> {
    let unreachable = |error| KeyringError::Unreachable(format!("{}: {error}", path.display()));
    private(path).and_then(|_| sync_directory(path)).map_err(unreachable)?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|error| opening(path, &error))?;
    configure_writer(&connection, options).map_err(|error| opening(path, &error))?;
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// Opens a connection that reads.
///
/// Never through a mapping of the file: should somebody cut the file short, a mapping ends the process, a read only itself.
pub(crate) fn open_reader(path: &Path, cache_kib: u32) -> Result<Connection, KeyringError> {
    let open = || {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.pragma_update(None, "cache_size", -i64::from(cache_kib))?;
        connection.pragma_update_and_check(None, "mmap_size", 0, |_| Ok(()))?;
        Ok(connection)
    };
    open().map_err(|error| opening(path, &error))
}

/// Opens a connection; another process may have the file open too.
pub(crate) fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // Another process may read: sqlite3 on the command line, a backup.
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn configure_writer(connection: &Connection, options: &Options) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", 4096)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        let what = format!("the file system does not carry a write-ahead log (journal mode {mode})");
        return Err(rusqlite::Error::InvalidPath(what.into()));
    }
    // A commit is durable when it returns.
    connection.pragma_update(None, "synchronous", "full")?;
    // The writer copies the log back itself, when nobody waits for it.
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    connection.pragma_update(None, "cache_size", -i64::from(options.writer_cache_kib))?;
    connection.pragma_update(None, "temp_store", "memory")?;
    if let Some(pages_max) = options.pages_max {
        connection.pragma_update_and_check(None, "max_page_count", pages_max, |_| Ok(()))?;
    }
    Ok(())
}

/// A file that was just made is found after a power cut only when its directory is durable too.
pub(crate) fn sync_directory(path: &Path) -> std::io::Result<()> {
    // Elsewhere a directory cannot be opened, and need not be.
    if cfg!(not(unix)) {
        return Ok(());
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(directory)?.sync_all()
}

/// The version of the tables that this version makes.
pub(crate) fn known() -> u32 {
    let runner = embedded::migrations::runner();
    let known = runner.get_migrations().iter().map(|migration| migration.version()).max().unwrap_or_default();
    u32::try_from(known).expect("migrations are numbered from 1")
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), KeyringError> {
    let runner = embedded::migrations::runner();
    let known = known();
    match found(connection).map_err(|error| opening(path, &error))? {
        Some((version, oldest_reader)) if version > known && oldest_reader > known => {
            Err(KeyringError::TooNew { found: version, known })
        }
        // Made by the next version, which says that this one may still work with it: that is a roll-back.
        Some((version, _)) if version > known => {
            tracing::warn!(schema = version, known, "keyring of a newer version, which still serves this one");
            Ok(())
        }
        _ => runner
            .run(connection)
            .map(|_| ())
            .map_err(|error| KeyringError::Unreachable(format!("{}: {}", path.display(), one_line(&error)))),
    }
}

/// The version of the tables and the oldest version that can work with them; `None` in a new file.
pub(crate) fn found(connection: &Connection) -> rusqlite::Result<Option<(u32, u32)>> {
    let has_schema: bool = connection.query_row(
        "-- schema::found
         SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'schema'",
        [],
        |row| row.get(0),
    )?;
    if !has_schema {
        return Ok(None);
    }
    let numbers = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    connection.query_row("-- schema::found\nSELECT version, oldest_reader FROM schema", [], numbers).optional()
}
