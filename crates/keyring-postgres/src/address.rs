//! `Address`: what a URL says of a database, without its password: safe to show, and refused where it cannot be read.

use std::fmt;
use std::net::IpAddr;

use storekeeper_keyring::KeyringError;
use tokio_postgres::config::{Config, Host, SslMode};

use crate::target::unreachable;

/// Where a database is, who is to use it and how; never its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    user: Option<String>,
    has_password: bool,
    places: Vec<String>,
    database: Option<String>,
    mode: &'static str,
    is_loopback: bool,
}

impl Address {
    /// Reads `postgres://user@host:port/database`, or `postgresql://`, with the options that libpq knows behind a `?`.
    ///
    /// # Errors
    /// [`KeyringError::Unreachable`] with one line that says what to write; it quotes nothing of the URL.
    pub fn of(url: &str) -> Result<Self, KeyringError> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(not_understood("write postgres://user@host/database"));
        }
        let Split { rest, mode, .. } = Split::of(url)?;
        let config = parsed(&rest)?;
        if config.get_hosts().is_empty() {
            return Err(not_understood("it names no host: write postgres://user@host/database"));
        }
        Ok(Self::in_config(&config, mode))
    }

    pub(crate) fn in_config(config: &Config, mode: Option<SslMode>) -> Self {
        Self {
            user: config.get_user().map(String::from),
            has_password: config.get_password().is_some(),
            places: places(config),
            database: config.get_dbname().map(String::from),
            mode: self::mode(mode),
            is_loopback: is_loopback(config),
        }
    }

    /// Who is to use the database; `None`: whoever the operating system says this is.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Whether the URL holds a password.
    pub const fn has_password(&self) -> bool {
        self.has_password
    }

    /// The name of the database.
    pub fn database(&self) -> &str {
        self.database.as_deref().or(self.user()).unwrap_or("(none)")
    }

    /// Hosts and ports, as in `one:5432, two:5432`.
    pub fn places(&self) -> String {
        self.places.join(", ")
    }

    /// Whether nothing is sent without TLS.
    pub fn demands_tls(&self) -> bool {
        self.mode == mode(Some(SslMode::Require))
    }

    /// Whether every host is this machine.
    pub const fn is_loopback(&self) -> bool {
        self.is_loopback
    }
}

impl fmt::Display for Address {
    /// As a URL that could be written so, but for the password and options that do not say where the database is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user().unwrap_or_default();
        let password = if self.has_password { ":[redacted]" } else { "" };
        let at = if user.is_empty() && password.is_empty() { "" } else { "@" };
        let (places, database) = (self.places.join(","), self.database.as_deref().unwrap_or_default());
        write!(f, "postgres://{user}{password}{at}{places}/{database}{}", self.mode)
    }
}

const fn mode(mode: Option<SslMode>) -> &'static str {
    match mode {
        Some(SslMode::Disable) => "?sslmode=disable",
        Some(SslMode::Require) => "?sslmode=require",
        _ => "",
    }
}

fn places(config: &Config) -> Vec<String> {
    let ports = config.get_ports();
    let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
    let place = |(at, host): (usize, &Host)| match host {
        Host::Tcp(name) => format!("{name}:{}", port(at)),
        #[cfg(unix)]
        Host::Unix(path) => format!("{}:{}", path.display(), port(at)),
    };
    config.get_hosts().iter().enumerate().map(place).collect()
}

fn is_loopback(config: &Config) -> bool {
    let is_here = |host: &Host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    !config.get_hosts().is_empty()
        && config.get_hosts().iter().all(is_here)
        && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

/// What tokio-postgres makes of a URL. Its own words about what is wrong may quote a part of a password that was not
/// escaped, so they are not passed on.
pub(crate) fn parsed(rest: &str) -> Result<Config, KeyringError> {
    rest.parse().map_err(|error: tokio_postgres::Error| {
        let said = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let option = KNOWN.iter().find(|option| said.ends_with(&format!("for option `{option}`")));
        match option {
            Some(option) => not_understood(&format!("the value of `{option}` is none")),
            None => not_understood(ESCAPE),
        }
    })
}

const KNOWN: [&str; 12] = [
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

const ESCAPE: &str = "write postgres://user@host/database, with %40 for a `@` in a password, %3F for a `?`, %25 for a `%`, and behind a `?` only the options of libpq";

fn not_understood(what: &str) -> KeyringError {
    unreachable(format!("the URL is not understood: {what}"))
}

/// What tokio-postgres does not read by itself, taken out of a URL or of `keyword=value` words.
pub(crate) struct Split {
    pub(crate) rest: String,
    pub(crate) mode: Option<SslMode>,
    pub(crate) root: Option<String>,
}

impl Split {
    pub(crate) fn of(url: &str) -> Result<Self, KeyringError> {
        let is_url = url.contains("://");
        let (head, words) = match url.split_once('?') {
            Some((head, query)) if is_url => (head, query.split('&').collect::<Vec<_>>()),
            None if is_url => (url, Vec::new()),
            _ => ("", url.split_whitespace().collect()),
        };
        // Read on, such a password would be taken for a host, a database or an option, and be shown.
        if is_url && (head.matches('@').count() > 1 || words.iter().any(|word| word.contains('@'))) {
            return Err(not_understood(ESCAPE));
        }
        let mut split = Self { rest: String::new(), mode: None, root: None };
        let mut kept = Vec::new();
        for word in words {
            match word.split_once('=') {
                Some(("sslmode", mode)) => split.mode = Some(ssl_mode(mode)?),
                Some(("sslrootcert", path)) if is_url => split.root = Some(unescaped(path)),
                Some(("sslrootcert", path)) => split.root = Some(path.to_owned()),
                _ => kept.push(word),
            }
        }
        split.rest = match (is_url, kept.is_empty()) {
            (true, true) => head.to_owned(),
            (true, false) => format!("{head}?{}", kept.join("&")),
            (false, _) => kept.join(" "),
        };
        Ok(split)
    }
}

fn ssl_mode(mode: &str) -> Result<SslMode, KeyringError> {
    match mode {
        "disable" => Ok(SslMode::Disable),
        "prefer" => Ok(SslMode::Prefer),
        "require" | "verify-full" => Ok(SslMode::Require),
        _ => Err(unreachable(String::from(
            "the URL's sslmode is not known: say disable, prefer, require or verify-full",
        ))),
    }
}

/// Undoes `%2F` and the like.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tokio_postgres_does_not_read_is_taken_out() {
        let check = |url: &str, rest: &str, mode: Option<SslMode>, root: Option<&str>| {
            let split = Split::of(url).unwrap();
            assert_eq!((split.rest.as_str(), split.mode, split.root.as_deref()), (rest, mode, root), "{url}");
        };
        check("postgres://u@h/d", "postgres://u@h/d", None, None);
        check("postgres://u@h/d?sslmode=verify-full", "postgres://u@h/d", Some(SslMode::Require), None);
        check(
            "postgres://u@h/d?connect_timeout=3&sslmode=require&sslrootcert=%2Fa%20b/c.pem&options=-cx",
            "postgres://u@h/d?connect_timeout=3&options=-cx",
            Some(SslMode::Require),
            Some("/a b/c.pem"),
        );
        check("host=h sslmode=disable user=u", "host=h user=u", Some(SslMode::Disable), None);
        assert!(Split::of("postgres://h/d?sslmode=allow").is_err());
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        let check = |url: &str, shown: &str| assert_eq!(Address::of(url).unwrap().to_string(), shown);
        check("postgres://u@h/d", "postgres://u@h:5432/d");
        check("postgresql://u:hunter2@one:1,two:2/d", "postgres://u:[redacted]@one:1,two:2/d");
        check("postgres://u@h/d?password=hunter2&sslmode=require", "postgres://u:[redacted]@h:5432/d?sslmode=require");
        check("postgres://h/d?user=u&p%61ssword=hunter2&options=-cx", "postgres://u:[redacted]@h:5432/d");
    }

    #[test]
    fn what_is_not_understood_is_not_quoted_either() {
        for password in ["hun@ter2", "hun@ter/2", "hun?ter2", "12?hun/ter2", "hun%3?ter2", "a@b?c@d/hunter"] {
            let url = format!("postgres://u:{password}@host/database");
            let told = Address::of(&url).unwrap_err().to_string();
            assert!(told.contains("%40 for a `@`") && !told.contains("hun") && !told.contains("ter2"), "{told}");
        }
        for (url, part) in [
            ("postgres:/u:hunter2@h/d", "write postgres://"),
            ("postgres://u:hunter2@h:port/d", "the value of `port`"),
            ("postgres:///d", "no host"),
            ("postgres://u:hunter2@h/d?connect_timeout=soon", "the value of `connect_timeout`"),
            ("postgres://u:hunter2@h/d?nonsense=hunter2", "only the options"),
        ] {
            let told = Address::of(url).unwrap_err().to_string();
            assert!(told.contains(part) && !told.contains("hunter2"), "{told}");
        }
        let odd = Address::of("postgres://u:hun/ter:2#@host/database").unwrap();
        assert_eq!(odd.to_string(), "postgres://u:[redacted]@host:5432/database");
    }

    #[test]
    fn this_machine_is_told_from_others() {
        for (url, here) in [
            ("postgres://u@127.0.0.1/d", true),
            ("postgres://u@localhost,[::1]:1/d", true),
            ("postgres://u@%2Frun%2Fpostgresql/d", true),
            ("postgres://u@127.0.0.1,db.example/d", false),
            ("postgres://u@localhost/d?hostaddr=192.0.2.1", false),
            ("postgres://u@localhost.example/d", false),
        ] {
            assert_eq!(Address::of(url).unwrap().is_loopback(), here, "{url}");
        }
    }
}
