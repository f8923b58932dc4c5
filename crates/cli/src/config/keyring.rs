//! `[keyring]`: where enrolled keys are kept.

use std::path::{Path, PathBuf};

use super::problem::Report;
use super::resolve::Node;
use super::schema::{Kind, Occurs, Preset, Section, Setting};

/// Which keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyringUrl {
    /// One SQLite file.
    Sqlite(PathBuf),
}

/// Where enrolled keys are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    /// The backend and its place.
    pub url: KeyringUrl,
}

/// Why a text names no keyring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyringUrlError {
    /// PostgreSQL was asked for.
    #[error("PostgreSQL is not in this version: write `sqlite:PATH`")]
    Postgres,
    /// Neither `sqlite:` nor `postgres:`.
    #[error("is not a keyring: write `sqlite:PATH`, for example `sqlite:storekeeper.db`")]
    Unknown,
    /// `sqlite:` without a usable path.
    #[error("names no file: write `sqlite:PATH`, for example `sqlite:storekeeper.db`")]
    NoPath,
}

impl KeyringUrl {
    /// Reads `sqlite:PATH`; a relative path starts at `folder`.
    ///
    /// # Errors
    /// See [`ParseKeyringUrlError`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self, ParseKeyringUrlError> {
        if ["postgres:", "postgresql:"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(ParseKeyringUrlError::Postgres);
        }
        let path = text.strip_prefix("sqlite:").ok_or(ParseKeyringUrlError::Unknown)?;
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.ends_with('/') || path.starts_with(':') {
            return Err(ParseKeyringUrlError::NoPath);
        }
        Ok(Self::Sqlite(folder.join(path)))
    }
}

impl Keyring {
    pub(super) fn read(node: &Node, folder: &Path, report: &mut Report) -> Self {
        let text = node.text("url").unwrap_or_default();
        let url = KeyringUrl::parse(&text, folder).unwrap_or_else(|error| {
            if !text.is_empty() {
                node.refuse("url", error.to_string(), report);
            }
            KeyringUrl::Sqlite(PathBuf::new())
        });
        let KeyringUrl::Sqlite(file) = &url;
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
            node.refuse("url", format!("the folder {} does not exist: create it", parent.display()), report);
        }
        Self { url }
    }
}

pub(super) const SECTION: Section = Section {
    name: "keyring",
    occurs: Occurs::Once,
    about: "Where enrolled keys are kept. The file is made when it is not there; its folder is not.",
    settings: &[Setting {
        name: "url",
        kind: Kind::Text,
        preset: Preset::Value("sqlite:storekeeper.db"),
        sample: None,
        about: "`sqlite:PATH`, relative to this file. `postgres://` is understood and refused: it is not in this version.",
    }],
    sections: &[],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let parse = |text| KeyringUrl::parse(text, Path::new("/etc/storekeeper"));
        assert_eq!(parse("sqlite:a.db"), Ok(KeyringUrl::Sqlite("/etc/storekeeper/a.db".into())));
        assert_eq!(parse("sqlite:/var/a.db"), Ok(KeyringUrl::Sqlite("/var/a.db".into())));
        assert_eq!(parse("sqlite:///var/a.db"), Ok(KeyringUrl::Sqlite("/var/a.db".into())));
        assert_eq!(parse("sqlite:"), Err(ParseKeyringUrlError::NoPath));
        assert_eq!(parse("sqlite::memory:"), Err(ParseKeyringUrlError::NoPath));
        assert_eq!(parse("postgres://user@host/db"), Err(ParseKeyringUrlError::Postgres));
        assert_eq!(parse("mysql://host/db"), Err(ParseKeyringUrlError::Unknown));
    }
}
