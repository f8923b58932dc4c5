//! `Rescue`: a file for successors that cannot be written where they belong.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::private::sync_directory;

/// Where a rescue file may be put. The keys in it stand in plain text, because a stream has no master key to seal them
/// with, so only the owner can read it.
#[derive(Debug, Clone)]
pub struct Rescue {
    folders: Vec<PathBuf>,
}

impl Rescue {
    /// The folders in the order in which they are tried.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// Writes the lines into a new file of the first folder that takes them, and returns its path; the lines are on disk
    /// then.
    ///
    /// # Errors
    /// When no folder takes them: why, for each.
    pub fn write<'a>(&self, lines: impl Iterator<Item = &'a [u8]> + Clone) -> Result<PathBuf, String> {
        let mut refusals = Vec::new();
        for folder in &self.folders {
            match write_in(folder, lines.clone()) {
                Ok(path) => return Ok(path),
                Err(error) => refusals.push(format!("{}: {error}", folder.display())),
            }
        }
        Err(refusals.join("; "))
    }
}

fn write_in<'a>(folder: &Path, mut lines: impl Iterator<Item = &'a [u8]>) -> io::Result<PathBuf> {
    // The message names a path that holds wherever it is read.
    let folder = folder.canonicalize()?;
    for number in 1u32.. {
        let path = folder.join(format!("storekeeper-rescue-{}-{number}.ndjson", std::process::id()));
        let file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        };
        let mut file = BufWriter::new(file);
        let written = lines.try_for_each(|line| file.write_all(line));
        let synced = written.and_then(|()| file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all());
        if let Err(error) = synced.and_then(|()| sync_directory(&path)) {
            // Half a rescue file would look like a whole one.
            drop(fs::remove_file(&path));
            return Err(error);
        }
        return Ok(path);
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_first_folder_that_takes_the_lines_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let rescue = Rescue::new(vec![dir.path().join("missing"), dir.path().to_owned()]);
        let lines: [&[u8]; 2] = [b"a\n", b"b\n"];
        let first = rescue.write(lines.into_iter()).unwrap();
        let second = rescue.write(lines.into_iter()).unwrap();
        assert_ne!(first, second, "a rescue file is never overwritten");
        assert_eq!(fs::read_to_string(&first).unwrap(), "a\nb\n");
        assert_eq!(fs::metadata(&first).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_rescue_that_fails_names_every_folder() {
        let dir = tempfile::tempdir().unwrap();
        let missing = ["a", "b"].map(|name| dir.path().join(name));
        let refused = Rescue::new(missing.to_vec()).write(std::iter::empty()).unwrap_err();
        assert!(missing.iter().all(|folder| refused.contains(&folder.display().to_string())), "{refused}");
    }
}
