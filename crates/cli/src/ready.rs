//! The ready file: one JSON object with addresses, in place by rename once every listener accepts.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where `dev` keeps its state, and where commands look for a running keeper or emulator.
pub const STATE_DIR: &str = ".storekeeper";

/// What a running process tells about itself. Addresses are `host:port`; what a command has not is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The keeper's data listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// The keeper's admin listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_listen: Option<String>,
    /// The emulated hosts, plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// The emulated hosts, TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https: Option<String>,
    /// The emulator's control port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// The certificate to trust for `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The file with a bearer token for the keeper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// What is known of the first keys of `dev`'s players: what would be alive without storekeeper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_keys_file: Option<PathBuf>,
}

impl Ready {
    /// Puts the file in place by rename, so that who waits for it never reads half of it.
    ///
    /// # Errors
    /// As the file system has it.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_string(self).map_err(io::Error::other)?;
        write_by_rename(path, format!("{text}\n").as_bytes())
    }

    /// Reads a ready file.
    ///
    /// # Errors
    /// `NotFound` when nothing runs there; `InvalidData` when it is no ready file.
    pub fn read(path: &Path) -> io::Result<Self> {
        serde_json::from_slice(&fs::read(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// Writes a file next to its place, makes it durable, and moves it there.
///
/// # Errors
/// As the file system has it.
pub fn write_by_rename(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = beside(path);
    let mut file = fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

/// As [`write_by_rename`], for this user only (mode 0600): a text and a line end.
///
/// # Errors
/// As the file system has it; what stood there before then still does.
pub fn write_secret_by_rename(path: &Path, text: &str) -> io::Result<()> {
    let beside = beside(path);
    // A left-over of a process with our number must not keep its mode.
    drop(fs::remove_file(&beside));
    write_secret(&beside, text)?;
    fs::rename(&beside, path)
}

/// Writes a secret for this user only (mode 0600), refusing to overwrite one that is there.
///
/// # Errors
/// `AlreadyExists` when there is one.
pub fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_file_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready.json");
        let ready = Ready { listen: Some(String::from("127.0.0.1:1")), ..Ready::default() };
        ready.write(&path).unwrap();
        assert_eq!(Ready::read(&path).unwrap(), ready);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"listen\":\"127.0.0.1:1\"}\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_is_for_its_owner_and_is_not_overwritten() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_secret(&path, "one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(write_secret(&path, "two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
    }
}
