//! `Place`: where a bench keeps its keyring: in a temporary directory, or in a file that was named and is the bench's own.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use storekeeper_keyring::seal::MasterKey;
use tempfile::TempDir;

use super::failure;
use crate::config::KeyringUrl;
use crate::exit::{CommandError, Exit};
use crate::ready::write_secret;

/// A SQLite file and the file with the key that seals what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Files {
    /// The keyring.
    pub(super) keyring: PathBuf,
    master: PathBuf,
}

/// Files that may be used, empty.
pub(super) struct Place {
    pub(super) files: Files,
    _temporary: Option<TempDir>,
}

impl Place {
    /// Prepares the files. A keyring that a bench made before is made anew; any other is left alone.
    ///
    /// # Errors
    /// A usage error when `url` names no file, or one that is somebody's.
    pub(super) fn prepare(url: Option<&str>) -> Result<Self, CommandError> {
        let (files, temporary) = match url {
            Some(url) => {
                let parsed = KeyringUrl::parse(url, Path::new(""));
                let KeyringUrl::Sqlite(path) =
                    parsed.map_err(|error| CommandError::new(Exit::Usage, format!("--keyring {error}")))?;
                (Files::at(path), None)
            }
            None => {
                let dir = tempfile::tempdir().map_err(failure)?;
                (Files::at(dir.path().join("bench.db")), Some(dir))
            }
        };
        files.make()?;
        Ok(Self { files, _temporary: temporary })
    }
}

impl Files {
    fn at(keyring: PathBuf) -> Self {
        let master = beside(&keyring, ".bench-key");
        Self { keyring, master }
    }

    fn make(&self) -> Result<(), CommandError> {
        let tell =
            |error: std::io::Error| CommandError::new(Exit::Usage, format!("{}: {error}", self.keyring.display()));
        if self.master.exists() {
            for suffix in ["", "-wal", "-shm"] {
                match fs::remove_file(beside(&self.keyring, suffix)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(tell(error)),
                    _ => {}
                }
            }
            fs::remove_file(&self.master).map_err(tell)?;
        }
        if self.keyring.exists() {
            let message = format!("{} is there and no bench made it: name another file", self.keyring.display());
            return Err(CommandError::new(Exit::Usage, message));
        }
        write_secret(&self.master, MasterKey::generate().to_text().expose()).map_err(tell)
    }

    /// The key that seals what is in the keyring.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn master(&self) -> Result<MasterKey, CommandError> {
        MasterKey::from_text(&fs::read_to_string(&self.master).map_err(failure)?).map_err(failure)
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_keyring_of_its_own_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let url = format!("sqlite:{}", path.display());
        let first = Place::prepare(Some(&url)).unwrap();
        fs::write(&first.files.keyring, "rows").unwrap();
        let first_master = fs::read(&first.files.master).unwrap();
        let second = Place::prepare(Some(&url)).unwrap();
        assert!(!second.files.keyring.exists());
        assert_ne!(fs::read(&second.files.master).unwrap(), first_master);

        fs::remove_file(&second.files.master).unwrap();
        fs::write(&path, "somebody's").unwrap();
        let refused = Place::prepare(Some(&url)).err().unwrap();
        assert_eq!(refused.exit, Exit::Usage);
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");
    }

    #[test]
    fn nothing_but_a_file_on_this_machine_is_taken() {
        for url in ["postgres://keeper@db.example/keys", "http://127.0.0.1/", "sqlite:", "bench.db"] {
            assert_eq!(Place::prepare(Some(url)).err().map(|error| error.exit), Some(Exit::Usage), "{url}");
        }
    }

    #[test]
    fn a_temporary_place_goes_with_the_bench() {
        let place = Place::prepare(None).unwrap();
        let master = place.files.master.clone();
        assert!(place.files.master().is_ok());
        drop(place);
        assert!(!master.exists());
    }
}
