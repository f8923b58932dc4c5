//! Reads a secret from a file of its own: trimmed, bounded, and with a look at who else may read it.

use std::io::Read;
use std::path::{Path, PathBuf};

use storekeeper_keeper::SecretError;
use storekeeper_model::Secret;
use zeroize::Zeroizing;

/// A secret and where it was found.
#[derive(Debug)]
pub(super) struct SecretFile {
    pub(super) text: Secret<String>,
    pub(super) file: PathBuf,
    /// Whether somebody other than its owner can read it.
    pub(super) is_loose: bool,
}

/// Reads `file`. The error says which file, why, and what to do; it never holds any of its content.
pub(super) fn read(file: &Path) -> Result<SecretFile, SecretError> {
    let name = file.display();
    let wrong = |why: String| Err(SecretError::Wrong(why));
    let failure = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            SecretError::Wrong(format!("{name} does not exist: write the secret there, mode 0600"))
        }
        std::io::ErrorKind::PermissionDenied => {
            SecretError::Wrong(format!("{name} cannot be read: its permissions keep this user out"))
        }
        std::io::ErrorKind::NotADirectory | std::io::ErrorKind::InvalidInput => {
            SecretError::Wrong(format!("{name} cannot be read: {error}"))
        }
        // No descriptor is left, the disk fails: that is no fault of the secret.
        _ => SecretError::Unavailable(format!("{name} cannot be read: {error}")),
    };
    let opened = std::fs::File::open(file).map_err(failure)?;
    let metadata = opened.metadata().map_err(failure)?;
    if metadata.is_dir() {
        return wrong(format!("{name} is a folder: expected a file"));
    }
    let mut content = Zeroizing::new(Vec::with_capacity(BYTES_MAX + 1));
    opened.take(BYTES_MAX as u64 + 1).read_to_end(&mut content).map_err(failure)?;
    if content.len() > BYTES_MAX {
        return wrong(format!("{name} is longer than {BYTES_MAX} bytes: that is no secret"));
    }
    let Ok(text) = std::str::from_utf8(&content) else { return wrong(format!("{name} is not text")) };
    let text = text.trim();
    if text.is_empty() {
        return wrong(format!("{name} is empty: write the secret there"));
    }
    Ok(SecretFile { text: Secret::new(text.to_owned()), file: file.to_owned(), is_loose: is_loose(&metadata) })
}

/// Whether group or others have any right to a file.
#[cfg(unix)]
pub(super) fn is_loose(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o077 != 0
}

/// Other systems say who may read a file in ways that cannot be read off its metadata.
#[cfg(not(unix))]
pub(super) fn is_loose(_metadata: &std::fs::Metadata) -> bool {
    false
}

/// No secret is longer.
const BYTES_MAX: usize = 16 * 1024;
