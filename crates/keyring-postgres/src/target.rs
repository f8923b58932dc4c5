//! `Target`: the database that a URL names, and how to speak to it: plainly, or by TLS with a verified certificate.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use rustls_platform_verifier::BuilderVerifierExt;
use storekeeper_keyring::KeyringError;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::Options;
use crate::error::{Fault, one_line};

/// Where the database is.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) tls: MakeRustlsConnect,
}

impl Target {
    /// Reads a URL (or a line of `keyword=value`) as libpq and tokio-postgres do: several hosts, `target_session_attrs`,
    /// `connect_timeout`, `options`, `keepalives`, `tcp_user_timeout` and more.
    ///
    /// `sslmode` is `disable`, `prefer` (the default), `require` or `verify-full`; whenever TLS is spoken, the
    /// certificate and the host's name in it are verified: against `sslrootcert` if that is given, else as the platform
    /// does.
    pub(crate) fn parse(url: &str, options: &Options) -> Result<Self, KeyringError> {
        let Split { rest, mode, root } = Split::of(url)?;
        let mut config: tokio_postgres::Config =
            rest.parse().map_err(|error| unreachable(format!("the URL is not understood: {}", one_line(&error))))?;
        config.ssl_mode(mode);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(options.connect_timeout);
        }
        if config.get_application_name().is_none() {
            config.application_name("storekeeper");
        }
        let tls = tls(root.as_deref()).map_err(|why| unreachable(format!("TLS cannot be set up: {why}")))?;
        Ok(Self { config, tls: MakeRustlsConnect::new(tls) })
    }

    /// One line that says what to do about a failure to connect, or to work with what is there.
    pub(crate) fn explain(&self, fault: &Fault) -> KeyringError {
        let (place, database) = (self.place(), self.database());
        let user = self.config.get_user().unwrap_or("(none)");
        let code = fault.state().map(|state| state.code().to_owned()).unwrap_or_default();
        unreachable(match (code.as_str(), fault) {
            ("28P01" | "28000", _) => {
                format!(
                    "{place} refuses the user {user}: correct the user name or the password in the keyring's URL ({fault})"
                )
            }
            ("3D000", _) => {
                format!("{place} has no database {database}: create it, or correct the name in the keyring's URL")
            }
            ("42P01" | "3F000", _) => format!(
                "the database {database} at {place} has no tables of storekeeper: run `storekeeper init` with its admin_url"
            ),
            ("42501", _) => format!(
                "the user {user} may not use the tables in {database} at {place}: grant it the right to read, add, change and delete their rows ({fault})"
            ),
            ("53300", _) => format!(
                "{place} has no connection left: raise its max_connections, or let each keeper use fewer ({fault})"
            ),
            ("57P03", _) => format!("{place} is starting or stopping: wait, then start again ({fault})"),
            (_, Fault::Database(error)) if is_about_tls(error) => format!(
                "{place} cannot be trusted: give the authority of its certificate as sslrootcert in the keyring's URL, or correct the host's name ({fault})"
            ),
            (_, Fault::Late | Fault::NoConnection) => {
                format!("{place} does not answer: check that it runs, and the host and port in the keyring's URL")
            }
            ("", _) => {
                format!(
                    "{place} cannot be reached: check that it runs, and the host and port in the keyring's URL ({fault})"
                )
            }
            _ => format!("{place}: {fault}"),
        })
    }

    /// The name of the database.
    pub(crate) fn database(&self) -> &str {
        self.config.get_dbname().or(self.config.get_user()).unwrap_or("(none)")
    }

    /// Hosts and ports.
    fn place(&self) -> String {
        let ports = self.config.get_ports();
        let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        let place = |(at, host): (usize, &Host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port(at)),
            #[cfg(unix)]
            Host::Unix(path) => format!("{}:{}", path.display(), port(at)),
        };
        let places: Vec<String> = self.config.get_hosts().iter().enumerate().map(place).collect();
        format!("the database at {}", places.join(", "))
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Target").field(&self.place()).finish()
    }
}

pub(crate) const fn unreachable(why: String) -> KeyringError {
    KeyringError::Unreachable(why)
}

fn is_about_tls(error: &tokio_postgres::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if cause.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        source = cause.source();
    }
    false
}

/// What tokio-postgres does not read by itself, taken out of a URL or of `keyword=value` words.
struct Split {
    rest: String,
    mode: SslMode,
    root: Option<String>,
}

impl Split {
    fn of(url: &str) -> Result<Self, KeyringError> {
        let is_url = url.contains("://");
        let (head, words) = match url.split_once('?') {
            Some((head, query)) if is_url => (head, query.split('&').collect::<Vec<_>>()),
            None if is_url => (url, Vec::new()),
            _ => ("", url.split_whitespace().collect()),
        };
        let mut split = Self { rest: String::new(), mode: SslMode::Prefer, root: None };
        let mut kept = Vec::new();
        for word in words {
            match word.split_once('=') {
                Some(("sslmode", mode)) => split.mode = ssl_mode(mode)?,
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

fn tls(root: Option<&str>) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let builder = match root {
        Some(path) => builder.dangerous().with_custom_certificate_verifier(verifier(path, provider)?),
        None => builder.with_platform_verifier().map_err(|error| error.to_string())?,
    };
    Ok(builder.with_no_client_auth())
}

fn verifier(path: &str, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| format!("{path}: {error}"))? {
        let certificate = certificate.map_err(|error| format!("{path}: {error}"))?;
        roots.add(certificate).map_err(|error| format!("{path}: {error}"))?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| format!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tokio_postgres_does_not_read_is_taken_out() {
        let check = |url: &str, rest: &str, mode: SslMode, root: Option<&str>| {
            let split = Split::of(url).unwrap();
            assert_eq!((split.rest.as_str(), split.mode, split.root.as_deref()), (rest, mode, root), "{url}");
        };
        check("postgres://u@h/d", "postgres://u@h/d", SslMode::Prefer, None);
        check("postgres://u@h/d?sslmode=verify-full", "postgres://u@h/d", SslMode::Require, None);
        check(
            "postgres://u@h/d?connect_timeout=3&sslmode=require&sslrootcert=%2Fa%20b/c.pem&options=-cx",
            "postgres://u@h/d?connect_timeout=3&options=-cx",
            SslMode::Require,
            Some("/a b/c.pem"),
        );
        check("host=h sslmode=disable user=u", "host=h user=u", SslMode::Disable, None);
        assert!(Split::of("postgres://h/d?sslmode=allow").is_err());
    }

    #[test]
    fn a_target_names_no_password() {
        let target = Target::parse("postgres://u:hunter2@one:1,two:2/d?sslmode=disable", &Options::default()).unwrap();
        let shown = format!("{target:?} {}", target.explain(&Fault::Late));
        assert!(!shown.contains("hunter2") && shown.contains("one:1, two:2"), "{shown}");
    }
}
