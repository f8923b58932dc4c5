//! Files with secrets: readable by their owner only, and whole before they bear their names.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Makes a new file with mode 0600, in the place of any that is there.
///
/// # Errors
/// When it cannot be made.
pub fn create_anew(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Gives a complete file, whose bytes are on disk, its name; when this returns the name is on disk too.
///
/// # Errors
/// When it cannot be renamed, or its directory not be made durable.
pub fn put_in_place(complete: &Path, path: &Path) -> io::Result<()> {
    std::fs::rename(complete, path)?;
    sync_directory(path)
}

/// Makes durable which files the directory of `path` holds.
///
/// # Errors
/// When the operating system cannot.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    // Elsewhere a directory cannot be opened, and need not be.
    if cfg!(not(unix)) {
        return Ok(());
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// The path with something behind its name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
