//! `Place`: where a bench keeps its keyring: in a temporary directory, or where it was told to, in a file or a database
//! of this machine that is the bench's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use serde::{Deserialize, Serialize};
use storekeeper_keyring::Keyring;
use storekeeper_keyring::seal::MasterKey;
use storekeeper_keyring_postgres::{scratch, scratch_bytes, scratch_read};
use tempfile::TempDir;

use super::failure;
use crate::compose;
use crate::config::{self, KeyringUrl};
use crate::exit::{CommandError, Exit};
use crate::ready::write_secret;

/// A keyring and the file with the key that seals what is in it. Goes to the parts of a bench through their stdin.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Files {
    /// The keyring, as it is written in a configuration; may hold a password.
    url: String,
    master: PathBuf,
}

/// A keyring that may be used, empty.
pub(super) struct Place {
    pub(super) files: Files,
    _temporary: Option<TempDir>,
}

impl Place {
    /// Prepares the keyring. One that a bench made before is made anew; any other is left alone.
    ///
    /// # Errors
    /// A usage error when `url` names no keyring on this machine, or one that is somebody's.
    pub(super) async fn prepare(url: Option<&str>) -> Result<Self, CommandError> {
        let Some(url) = url else {
            let dir = tempfile::tempdir().map_err(failure)?;
            let files = Files::at(&dir.path().join("bench.db"));
            files.write_master()?;
            return Ok(Self { files, _temporary: Some(dir) });
        };
        let parsed = KeyringUrl::parse(url, Path::new(""));
        match parsed.map_err(|error| CommandError::new(Exit::Usage, format!("--keyring {error}")))? {
            KeyringUrl::Sqlite(path) => {
                let files = Files::at(&path);
                files.make_anew(&path)?;
                Ok(Self { files, _temporary: None })
            }
            KeyringUrl::Postgres(postgres) => {
                if !postgres.address.is_loopback() {
                    let message = format!(
                        "--keyring {} is not on this machine: a bench talks to loopback only",
                        postgres.address
                    );
                    return Err(CommandError::new(Exit::Usage, message));
                }
                scratch(url).await.map_err(|error| compose::keyring_error(&error))?;
                let dir = tempfile::tempdir().map_err(failure)?;
                let files = Files { url: url.to_owned(), master: dir.path().join("master.key") };
                files.write_master()?;
                Ok(Self { files, _temporary: Some(dir) })
            }
        }
    }
}

impl Files {
    fn at(path: &Path) -> Self {
        Self { url: format!("sqlite:{}", path.display()), master: beside(path, ".bench-key") }
    }

    /// Removes what a bench left there.
    fn make_anew(&self, path: &Path) -> Result<(), CommandError> {
        let tell = |error: std::io::Error| CommandError::new(Exit::Usage, format!("{}: {error}", path.display()));
        if self.master.exists() {
            for suffix in ["", "-wal", "-shm"] {
                match fs::remove_file(beside(path, suffix)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(tell(error)),
                    _ => {}
                }
            }
            fs::remove_file(&self.master).map_err(tell)?;
        }
        if path.exists() {
            let message = format!("{} is there and no bench made it: name another file", path.display());
            return Err(CommandError::new(Exit::Usage, message));
        }
        self.write_master()
    }

    fn write_master(&self) -> Result<(), CommandError> {
        let tell = |error| CommandError::new(Exit::Usage, format!("{}: {error}", self.master.display()));
        write_secret(&self.master, MasterKey::generate().to_text().expose()).map_err(tell)
    }

    /// Opens the keyring.
    ///
    /// # Errors
    /// As a keeper's start.
    pub(super) async fn open(&self) -> Result<Arc<dyn Keyring>, CommandError> {
        let url = KeyringUrl::parse(&self.url, Path::new("")).map_err(failure)?;
        compose::open_keyring(&config::Keyring::of(url), None).await
    }

    /// How much disk it takes, once whoever had it open has closed it.
    ///
    /// # Errors
    /// When the disk or the database does not say.
    pub(super) async fn disk_bytes(&self) -> Result<u64, CommandError> {
        match KeyringUrl::parse(&self.url, Path::new("")).map_err(failure)? {
            KeyringUrl::Sqlite(path) => {
                let size = |suffix| fs::metadata(beside(&path, suffix)).map_or(0, |file| file.len());
                Ok(["", "-wal"].map(size).iter().sum())
            }
            KeyringUrl::Postgres(_) => scratch_bytes(&self.url).await.map_err(failure),
        }
    }

    /// Reads it from end to end, so that as much of it lies in memory as the machine has room for: some give back what was
    /// not touched for minutes, and filling it took minutes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn bring_into_memory(&self) -> Result<(), CommandError> {
        match KeyringUrl::parse(&self.url, Path::new("")).map_err(failure)? {
            KeyringUrl::Sqlite(path) => {
                let read = fs::File::open(path).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
                read.map(drop).map_err(failure)
            }
            KeyringUrl::Postgres(_) => scratch_read(&self.url).await.map_err(failure),
        }
    }

    /// What keeps it, as a reader knows it.
    pub(super) fn backend(&self) -> &'static str {
        if self.url.starts_with("sqlite:") { "SQLite" } else { "PostgreSQL" }
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

    #[tokio::test]
    async fn only_a_keyring_of_its_own_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let url = format!("sqlite:{}", path.display());
        let first = Place::prepare(Some(&url)).await.unwrap();
        fs::write(&path, "rows").unwrap();
        let first_master = fs::read(&first.files.master).unwrap();
        let second = Place::prepare(Some(&url)).await.unwrap();
        assert!(!path.exists());
        assert_ne!(fs::read(&second.files.master).unwrap(), first_master);

        fs::remove_file(&second.files.master).unwrap();
        fs::write(&path, "somebody's").unwrap();
        let refused = Place::prepare(Some(&url)).await.err().unwrap();
        assert_eq!(refused.exit, Exit::Usage);
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");
    }

    #[tokio::test]
    async fn nothing_but_a_keyring_on_this_machine_is_taken() {
        let far = "postgres://keeper:hunter2@db.example/keys";
        for url in [far, "http://127.0.0.1/", "sqlite:", "bench.db", "postgres://a@127.0.0.1,db.example/keys"] {
            let refused = Place::prepare(Some(url)).await.err().unwrap();
            assert_eq!(refused.exit, Exit::Usage, "{url}");
            assert!(!refused.message.contains("hunter2"), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_temporary_place_goes_with_the_bench() {
        let place = Place::prepare(None).await.unwrap();
        let master = place.files.master.clone();
        assert!(place.files.master().is_ok());
        drop(place);
        assert!(!master.exists());
    }
}
