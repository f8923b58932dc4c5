//! `[keyring]`: where enrolled keys are kept.

use std::path::{Path, PathBuf};

use storekeeper_keyring::KeyringError;
use storekeeper_keyring_postgres::Address;
use storekeeper_model::Secret;
use zeroize::Zeroizing;

use super::entra::{self, EntraPassword};
use super::problem::{Origin, Report};
use super::resolve::Node;
use super::schema::{Kind, Occurs, Preset, Section, Setting};

/// Which keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyringUrl {
    /// One SQLite file.
    Sqlite(PathBuf),
    /// One PostgreSQL, for several keepers.
    Postgres(PostgresUrl),
}

/// A database and who is to use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    /// With the password, if it holds one.
    pub text: Secret<String>,
    /// What may be told of it.
    pub address: Address,
}

/// Where enrolled keys are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    /// The backend and its place.
    pub url: KeyringUrl,
    /// The same database, for who may make its tables.
    pub admin_url: Option<PostgresUrl>,
    /// Who gives the password of URLs that hold none.
    pub entra: Option<EntraPassword>,
    /// So many connections to a PostgreSQL, and two more.
    pub connections: usize,
    /// Where successors are put that the keyring does not take.
    pub rescue_folder: Option<PathBuf>,
    is_rescue_folder_guessed: bool,
}

/// Why a text names no keyring.
#[derive(Debug, thiserror::Error)]
pub enum ParseKeyringUrlError {
    /// It names a PostgreSQL, but not well.
    #[error("{0}")]
    Postgres(String),
    /// Neither `sqlite:` nor `postgres:`.
    #[error(
        "is not a keyring: write `sqlite:PATH`, for example `sqlite:storekeeper.db`, or `postgres://user@host/database`"
    )]
    Unknown,
    /// `sqlite:` without a usable path.
    #[error("names no file: write `sqlite:PATH`, for example `sqlite:storekeeper.db`")]
    NoPath,
}

impl KeyringUrl {
    /// Reads `sqlite:PATH` or `postgres://…`; a relative path starts at `folder`. Errors quote nothing of the text.
    ///
    /// # Errors
    /// See [`ParseKeyringUrlError`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self, ParseKeyringUrlError> {
        if is_postgres(text) {
            return PostgresUrl::parse(text).map(Self::Postgres);
        }
        let path = text.strip_prefix("sqlite:").ok_or(ParseKeyringUrlError::Unknown)?;
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.ends_with('/') || path.starts_with(':') {
            return Err(ParseKeyringUrlError::NoPath);
        }
        Ok(Self::Sqlite(folder.join(path)))
    }
}

impl PostgresUrl {
    fn parse(text: &str) -> Result<Self, ParseKeyringUrlError> {
        let address = Address::of(text).map_err(|error| match error {
            KeyringError::Unreachable(why) => ParseKeyringUrlError::Postgres(why),
            other => ParseKeyringUrlError::Postgres(other.to_string()),
        })?;
        Ok(Self { text: Secret::new(text.to_owned()), address })
    }

    /// The same with a password, which it does not hold yet.
    pub fn with_password(&self, password: &Secret<String>) -> Self {
        let mut text = Zeroizing::new(self.text.expose().clone());
        let separator = if text.contains('?') { '&' } else { '?' };
        text.push(separator);
        text.push_str("password=");
        password.expose().bytes().for_each(|byte| text.push_str(&format!("%{byte:02X}")));
        Self { text: Secret::new(std::mem::take(&mut *text)), address: self.address.clone() }
    }
}

fn is_postgres(text: &str) -> bool {
    ["postgres:", "postgresql:"].iter().any(|scheme| text.starts_with(scheme))
}

/// A URL as it may be shown.
pub(super) fn shown(text: &Secret<String>) -> String {
    match KeyringUrl::parse(text.expose(), Path::new("")) {
        Ok(KeyringUrl::Sqlite(_)) => text.expose().clone(),
        Ok(KeyringUrl::Postgres(url)) => url.address.to_string(),
        Err(_) => String::from("[redacted]"),
    }
}

/// Whether a URL holds what others must not read. One that cannot be read is refused for that.
pub(super) fn has_password(text: &Secret<String>) -> bool {
    Address::of(text.expose()).is_ok_and(|address| address.has_password())
}

impl Keyring {
    pub(super) fn read(root: &Node, folder: &Path, report: &mut Report) -> Self {
        let node = root.only("keyring");
        let text = node.secret("url").unwrap_or_else(|| Secret::new(String::new()));
        let url = KeyringUrl::parse(text.expose(), folder).unwrap_or_else(|error| {
            if !text.expose().is_empty() {
                node.refuse("url", error.to_string(), report);
            }
            KeyringUrl::Sqlite(PathBuf::new())
        });
        if let KeyringUrl::Sqlite(file) = &url {
            demand_folder(file, node, report);
        }
        let admin_url = node.secret("admin_url").and_then(|text| admin_url(&text, &url, node, report));
        let connections = node.count("connections").and_then(|count| usize::try_from(count).ok());
        let postgres = if let KeyringUrl::Postgres(url) = &url { Some(url) } else { None };
        let entra = EntraPassword::read(node, root.only("endpoint"), postgres, admin_url.as_ref(), report);
        let rescue_folder = rescue_folder(node, &url, folder, report);
        let is_rescue_folder_guessed = !node.is_written("rescue_folder") && matches!(url, KeyringUrl::Postgres(_));
        let connections = connections.unwrap_or(CONNECTIONS);
        Self { url, admin_url, entra, connections, rescue_folder, is_rescue_folder_guessed }
    }

    /// A setting that is required and not there: `serve` starts without it, since an update must not stop renewals.
    pub fn missing(&self) -> Option<String> {
        self.is_rescue_folder_guessed.then(|| format!("keyring.rescue_folder: {UNSET}"))
    }

    /// A keyring with nothing but its URL written.
    pub fn of(url: KeyringUrl) -> Self {
        Self {
            url,
            admin_url: None,
            entra: None,
            connections: CONNECTIONS,
            rescue_folder: None,
            is_rescue_folder_guessed: false,
        }
    }
}

/// The folder of rescue files: that of a SQLite file unless another is set. With PostgreSQL none can be guessed that is
/// there after a restart.
fn rescue_folder(node: &Node, url: &KeyringUrl, folder: &Path, report: &mut Report) -> Option<PathBuf> {
    if let Some(path) = node.path("rescue_folder") {
        return Some(folder.join(path));
    }
    let here = |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
    match url {
        KeyringUrl::Sqlite(file) => file.parent().map(here),
        KeyringUrl::Postgres(_) => {
            report.warning(Origin::Default, node.setting("rescue_folder"), UNSET);
            Some(folder.join(RESCUE_FOLDER))
        }
    }
}

/// Where rescue files go with PostgreSQL when no place is set, next to the configuration file.
const RESCUE_FOLDER: &str = "rescue";
/// What an operator is to do about it.
const UNSET: &str = "is required with PostgreSQL and not set: add `rescue_folder = \"/var/lib/storekeeper/rescue\"`, a folder \
     that this keeper can write and that is there after a restart. Until then `rescue` next to this file is used";

fn demand_folder(file: &Path, node: &Node, report: &mut Report) {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        node.refuse("url", format!("the folder {} does not exist: create it", parent.display()), report);
    }
}

fn admin_url(text: &Secret<String>, url: &KeyringUrl, node: &Node, report: &mut Report) -> Option<PostgresUrl> {
    let told = match (PostgresUrl::parse(text.expose()), url) {
        (Ok(_), KeyringUrl::Sqlite(file)) if !file.as_os_str().is_empty() => {
            String::from("is for PostgreSQL, and `url` names a SQLite file: leave it out, or correct `url`")
        }
        (Ok(admin_url), _) => return Some(admin_url),
        (Err(_), _) if !is_postgres(text.expose()) => {
            String::from("is not a PostgreSQL: write `postgres://admin@host/database`")
        }
        (Err(error), _) => error.to_string(),
    };
    node.refuse("admin_url", told, report);
    None
}

/// What the table of settings says.
const CONNECTIONS: usize = 8;

pub(super) const SECTION: Section = Section {
    name: "keyring",
    occurs: Occurs::Once,
    about: "Where enrolled keys are kept. A SQLite file is made when it is not there, its folder is not. The tables in a PostgreSQL are made by `storekeeper init --migrate`.",
    settings: &[
        Setting {
            name: "url",
            kind: Kind::Keyring,
            preset: Preset::Value("sqlite:storekeeper.db"),
            sample: None,
            about: "`sqlite:PATH`, relative to this file, or `postgres://user@host/database`, for several keepers. A password is better put into a file.",
        },
        Setting {
            name: "admin_url",
            kind: Kind::Keyring,
            preset: Preset::Nothing,
            sample: Some("admin_url_file = \"admin.url\""),
            about: "The same PostgreSQL for a user who may make tables; only `storekeeper init` uses it. Absent: `url`.",
        },
        Setting {
            name: "connections",
            kind: Kind::Count(2, 1000),
            preset: Preset::Value("8"),
            sample: None,
            about: "So many connections to a PostgreSQL, for each keeper, made when it starts; and two more for its beats.",
        },
        Setting {
            name: "rescue_folder",
            kind: Kind::Folder,
            preset: Preset::Nothing,
            sample: Some("rescue_folder = \"/var/lib/storekeeper/rescue\""),
            about: "Where successors are put that the Store has issued and the keyring does not take; 8 MiB are reserved there. Absent: next to a SQLite file. Required with PostgreSQL: a folder that is there after a restart.",
        },
    ],
    sections: &[entra::SECTION],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let parse = |text| KeyringUrl::parse(text, Path::new("/etc/storekeeper"));
        for (text, path) in [
            ("sqlite:a.db", "/etc/storekeeper/a.db"),
            ("sqlite:/var/a.db", "/var/a.db"),
            ("sqlite:///var/a.db", "/var/a.db"),
        ] {
            assert_eq!(parse(text).unwrap(), KeyringUrl::Sqlite(path.into()));
        }
        assert!(matches!(parse("sqlite:"), Err(ParseKeyringUrlError::NoPath)));
        assert!(matches!(parse("sqlite::memory:"), Err(ParseKeyringUrlError::NoPath)));
        assert!(matches!(parse("mysql://host/db"), Err(ParseKeyringUrlError::Unknown)));
        for text in ["postgres:user@host/db", "postgresql:///db", "postgres://u:hunter2@a@b/db"] {
            let told = parse(text).unwrap_err();
            assert!(
                matches!(told, ParseKeyringUrlError::Postgres(_)) && !told.to_string().contains("hunter2"),
                "{told}"
            );
        }
    }

    #[test]
    fn a_password_is_carried_and_not_shown() {
        let text = "postgresql://user:hunter2@host/db";
        let Ok(KeyringUrl::Postgres(url)) = KeyringUrl::parse(text, Path::new("")) else { panic!("it is one") };
        assert_eq!(url.text.expose(), text);
        assert!(!format!("{url:?}").contains("hunter2"));
        assert_eq!(shown(&url.text), "postgres://user:[redacted]@host:5432/db");
        assert!(has_password(&url.text) && !has_password(&Secret::new(String::from("postgres://user@host/db"))));
    }

    #[test]
    fn the_table_says_how_many_connections() {
        let preset = SECTION.settings.iter().find(|setting| setting.name == "connections").unwrap().preset;
        assert_eq!(preset, Preset::Value("8"));
        assert_eq!(CONNECTIONS, 8);
    }
}
