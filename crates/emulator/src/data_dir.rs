//! The data directory: clock, signing keys, certificates, clients and revocations, and the certificate authority,
//! durable across restarts and owned by one process at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use storekeeper_model::Timestamp;

use crate::Snapshot;
use crate::tls::{Authority, TlsError};

/// The format of the state file; another one is refused.
const FORMAT: u32 = 1;
const STATE: &str = "state.json";
const LOCK: &str = "lock";
const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "ca.key";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made, opened, read or written.
    #[error("the data directory's {path} cannot be used")]
    Io {
        /// What was tried.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another process owns it.
    #[error("another emulator uses the data directory {0}")]
    InUse(PathBuf),
    /// Its state is damaged or was written by another version.
    #[error("{path} cannot be read: {why}; remove the directory to start afresh")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Its certificate authority is damaged.
    #[error("the certificate authority in {path} cannot be used; remove ca.pem and ca.key for a new one")]
    Authority {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: TlsError,
    },
}

/// What is kept.
#[derive(Serialize, Deserialize)]
pub(crate) struct State {
    format: u32,
    /// Decides faults; that of the first start.
    pub(crate) seed: u64,
    pub(crate) clock: KeptClock,
    pub(crate) emulator: Snapshot,
}

impl State {
    pub(crate) fn new(seed: u64, clock: KeptClock, emulator: Snapshot) -> Self {
        Self { format: FORMAT, seed, clock, emulator }
    }
}

/// The clock as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptClock {
    /// Where it starts again. While the emulator runs this lies a little ahead of the clock, which does not pass it
    /// before it has been moved on: after a crash time may leap a little, but it never runs back behind a key that was
    /// issued.
    pub(crate) resume_at: Timestamp,
    pub(crate) rate: f64,
}

/// A directory that this process owns until it is dropped.
pub(crate) struct DataDir {
    path: PathBuf,
    lock: File,
}

impl DataDir {
    /// Makes the directory if there is none (mode 0700) and takes the lock on it.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        let error = |source| DataDirError::Io { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(error)?;
        let lock = owner_only().truncate(false).open(path.join(LOCK)).map_err(error)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), lock }),
            Err(fs::TryLockError::WouldBlock) => Err(DataDirError::InUse(path.to_owned())),
            Err(fs::TryLockError::Error(source)) => Err(error(source)),
        }
    }

    /// What was saved last; `None` in an empty directory.
    pub(crate) fn load(&self) -> Result<Option<State>, DataDirError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Some(text) = self.read(STATE)? else { return Ok(None) };
        let unreadable = |why| DataDirError::Unreadable { path: self.path.join(STATE), why };
        let Format { format } = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        if format != FORMAT {
            return Err(unreadable(format!("its format is {format}, this version reads {FORMAT}")));
        }
        serde_json::from_str(&text).map(Some).map_err(|error| unreadable(error.to_string()))
    }

    /// Replaces what was saved; durable when this returns.
    pub(crate) fn save(&self, state: &[u8]) -> Result<(), DataDirError> {
        self.replace(STATE, state)
    }

    /// Lets another process own the directory.
    pub(crate) fn release(&self) {
        // It is released at the latest when this is dropped.
        drop(self.lock.unlock());
    }

    /// The certificate authority, made at the first call.
    pub(crate) fn authority(&self, today: Timestamp) -> Result<Authority, DataDirError> {
        let error = |source| DataDirError::Authority { path: self.path.clone(), source };
        if let (Some(certificate), Some(key)) = (self.read(CA_CERTIFICATE)?, self.read(CA_KEY)?) {
            return Authority::read(certificate, &key).map_err(error);
        }
        let authority = Authority::new(today).map_err(error)?;
        self.replace(CA_KEY, authority.key_pem().as_bytes())?;
        self.replace(CA_CERTIFICATE, authority.certificate_pem().as_bytes())?;
        Ok(authority)
    }

    /// Where the authority's certificate lies.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.path.join(CA_CERTIFICATE)
    }

    fn read(&self, name: &str) -> Result<Option<String>, DataDirError> {
        let path = self.path.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DataDirError::Io { path, source }),
        }
    }

    /// Writes beside the old file, flushes, renames and flushes the directory: either file is whole at any instant.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
        let path = self.path.join(name);
        let written = || {
            let fresh = path.with_extension("new");
            let mut file = owner_only().truncate(true).open(&fresh)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&self.path)?.sync_all()
        };
        written().map_err(|source| DataDirError::Io { path: path.clone(), source })
    }
}

/// Every file here is nobody else's business.
fn owner_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}
