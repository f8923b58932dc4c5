//! `Watch`: notices that the files were moved, replaced, removed or cut short while they are in use. SQLite would go on
//! writing into what no longer bears the name, and who was told of such a commit would find nothing at the next start.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use storekeeper_keyring::KeyringError;

use crate::lock::beside;

/// What tells a file from any other of the same name; and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    file: (u64, u64),
    length: u64,
}

/// The database and its log, as they were opened.
#[derive(Debug)]
pub(crate) struct Watch {
    database: PathBuf,
    log: PathBuf,
    opened: Option<[(u64, u64); 2]>,
    /// The database never becomes shorter.
    length: Cell<u64>,
}

impl Watch {
    /// Watches the files of the database at `path`, which is open for writing.
    pub(crate) fn new(path: &Path) -> Self {
        let (database, log) = (path.to_owned(), beside(path, "-wal"));
        let opened = found(&database).zip(found(&log)).map(|(database, log)| [database.file, log.file]);
        Self { database, log, opened, length: Cell::new(0) }
    }

    /// Whether both files are where they were.
    pub(crate) fn check(&self) -> Result<(), KeyringError> {
        let Some([database, log]) = self.opened else { return Ok(()) };
        let now = found(&self.database).filter(|found| found.file == database && found.length >= self.length.get());
        let Some(now) = now else { return Err(gone(&self.database)) };
        self.length.set(now.length);
        if found(&self.log).is_some_and(|found| found.file == log) { Ok(()) } else { Err(gone(&self.log)) }
    }
}

fn gone(path: &Path) -> KeyringError {
    let path = path.display();
    KeyringError::Unavailable(format!(
        "{path} was moved, replaced, removed or cut short while it was in use: stop this process, and put the file or a backup back"
    ))
}

#[cfg(unix)]
fn found(path: &Path) -> Option<Found> {
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::metadata(path).ok()?;
    Some(Found { file: (file.dev(), file.ino()), length: file.len() })
}

/// Elsewhere a file that is open cannot be moved or removed.
#[cfg(not(unix))]
fn found(_path: &Path) -> Option<Found> {
    None
}
