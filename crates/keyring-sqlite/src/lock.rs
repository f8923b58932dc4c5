//! `FileLock`: keeps a second process away from the database, and is gone with the process that holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use storekeeper_keyring::KeyringError;

/// A lock of the kernel on a file beside the database. The file stays, the lock does not outlive its holder.
#[derive(Debug)]
pub(crate) struct FileLock(#[expect(dead_code, reason = "closing the file gives the lock back")] File);

impl FileLock {
    /// Takes the lock for the database at `path`.
    pub(crate) fn take(path: &Path) -> Result<Self, KeyringError> {
        let lock_path = beside(path, ".lock");
        let unreachable = |error| KeyringError::Unreachable(format!("{}: {error}", lock_path.display()));
        let file = private(&lock_path).map_err(unreachable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(KeyringError::Held(path.display().to_string())),
            Err(TryLockError::Error(error)) => Err(unreachable(error)),
        }
    }
}

/// Opens a file for reading and writing; a new one is readable by its owner only.
pub(crate) fn private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The path of a file that belongs to the one at `path`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
