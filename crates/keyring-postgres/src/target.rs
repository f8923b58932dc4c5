//! `Target`: the database that a URL names, and how to speak to it: plainly, or by TLS with a verified certificate.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use rustls_platform_verifier::BuilderVerifierExt;
use storekeeper_keyring::KeyringError;
use tokio_postgres::config::{Config, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::address::{Address, Split, parsed};
use crate::connector::Connector;
use crate::error::{Fault, one_line};
use crate::hosts::Hosts;
use crate::{LEASE_CONNECTIONS, NoPassword, Options};

/// A host that has let go of a connection without a word is found out about within a minute, told of or not.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const SILENCE_PROBES: u32 = 3;

/// Where the database is.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) config: Config,
    pub(crate) hosts: Arc<Hosts>,
    tls: MakeRustlsConnect,
    /// How long each host may take, if the URL says so.
    told_patience: Option<Duration>,
    /// Whether passwords are told whenever a connection is made.
    has_passwords: bool,
}

impl Target {
    /// Reads a URL (or a line of `keyword=value`) as libpq and tokio-postgres do: several hosts, `target_session_attrs`,
    /// `connect_timeout`, `options`, `keepalives`, `tcp_user_timeout` and more.
    ///
    /// `sslmode` is `disable`, `prefer`, `require` or `verify-full`; whenever TLS is spoken, the certificate and the host's
    /// name in it are verified: against `sslrootcert` if that is given, else as the platform does. Where neither is given
    /// it is `prefer`, but `disable` to this machine itself: nobody listens between, and what servers there have for a
    /// certificate was often made by their installer and signed by nobody.
    pub(crate) fn parse(url: &str, options: &Options) -> Result<Self, KeyringError> {
        let Split { rest, mode, root } = Split::of(url)?;
        let mut config = parsed(&rest)?;
        let address = Address::in_config(&config, mode);
        let unless_told = if address.is_loopback() && root.is_none() { SslMode::Disable } else { SslMode::Prefer };
        config.ssl_mode(mode.unwrap_or(unless_told));
        let told_patience = config.get_connect_timeout().copied();
        if config.get_application_name().is_none() {
            config.application_name("storekeeper");
        }
        notice_silence(&mut config);
        let hosts = Arc::new(Hosts::of(&config));
        let tls = tls(root.as_deref()).map_err(|why| unreachable(format!("TLS cannot be set up: {why}")))?;
        let has_passwords = options.passwords.is_some();
        let tls = MakeRustlsConnect::new(tls);
        Ok(Self { address, config, hosts, tls, told_patience, has_passwords })
    }

    /// Hosts, ports and the database, for people.
    pub(crate) fn location(&self) -> String {
        format!("{} at {}", self.address.database(), self.address.places())
    }

    /// What makes connections, each of which is told this first. All of them share what they learn of the hosts.
    pub(crate) fn connector(&self, options: &Options, session: &str) -> Connector {
        let count = self.hosts.count();
        let each = self.told_patience.unwrap_or(options.connect_timeout / count);
        Connector {
            hosts: Arc::clone(&self.hosts),
            tls: self.tls.clone(),
            passwords: options.passwords.clone(),
            session: session.into(),
            // Whatever the URL says: nobody waits for a connection longer than for an answer.
            patience: each.min(options.answer_within() / count),
        }
    }

    /// One line that says what to do about a failure to connect, or to work with what is there:
    /// [`KeyringError::Unavailable`] where it may pass by itself, [`KeyringError::Unreachable`] where somebody has to
    /// correct something.
    pub(crate) fn explain(&self, fault: &Fault) -> KeyringError {
        match self.may_pass(fault) {
            Some(why) => KeyringError::Unavailable(why),
            None => unreachable(self.to_correct(fault)),
        }
    }

    fn may_pass(&self, fault: &Fault) -> Option<String> {
        let (places, user) = (self.address.places(), self.address.user().unwrap_or("(none)"));
        let code = fault.state().map(|state| state.code().to_owned()).unwrap_or_default();
        Some(match (code.as_str(), fault) {
            ("53300", _) => format!(
                "the database at {places} has no connection left for a keeper that may hold `connections` and {LEASE_CONNECTIONS}: lower `connections` of each keeper, or raise max_connections there, or the CONNECTION LIMIT of the user {user} ({fault})"
            ),
            ("57P03", _) => {
                format!("the database at {places} is starting or stopping: wait, then start again ({fault})")
            }
            ("25006", _) => format!(
                "the database at {places} is read-only: name the primary, or all hosts with target_session_attrs=read-write, in the keyring's URL ({fault})"
            ),
            (_, Fault::NotConnected(error)) if is_about_tls(error) || self.is_without(error).is_some() => return None,
            (_, Fault::NoPassword(NoPassword::Unavailable(_))) => fault.to_string(),
            (_, Fault::Late | Fault::NoConnection) => format!(
                "the database at {places} does not answer: check that it runs, and the host and port in the keyring's URL"
            ),
            ("", Fault::NotConnected(_) | Fault::Database(_)) => format!(
                "the database at {places} cannot be reached: check that it runs, and the host and port in the keyring's URL ({fault})"
            ),
            _ => return None,
        })
    }

    fn to_correct(&self, fault: &Fault) -> String {
        let (places, database) = (self.address.places(), self.address.database());
        let user = self.address.user().unwrap_or("(none)");
        let code = fault.state().map(|state| state.code().to_owned()).unwrap_or_default();
        match (code.as_str(), fault) {
            (_, Fault::NoPassword(_)) => fault.to_string(),
            ("28000", _) if fault.to_string().contains("no encryption") => format!(
                "the database at {places} lets the user {user} in with TLS only: write sslmode=verify-full into the keyring's URL, and the authority of its certificate as sslrootcert where the platform does not know it ({fault})"
            ),
            ("28P01" | "28000", _) if self.has_passwords => format!(
                "the database at {places} refuses the user {user} with the token that Entra gave: correct the user name in the keyring's URL, or let the database's Entra administrator make this role for the app registration ({fault})"
            ),
            ("28P01" | "28000", _) => format!(
                "the database at {places} refuses the user {user}: correct the user name or the password in the keyring's URL ({fault})"
            ),
            ("3D000", _) => format!(
                "there is no database {database} at {places}: create it, or correct the name in the keyring's URL"
            ),
            ("42P01" | "3F000", _) => format!(
                "the database {database} at {places} has no tables of storekeeper: run `storekeeper init --migrate`"
            ),
            ("42501", _) => format!(
                "the user {user} may not use the tables in {database} at {places}: run `storekeeper init --migrate`, which grants it what it needs ({fault})"
            ),
            ("0A000" | "42883" | "42601", _) => format!(
                "the database at {places} refuses a statement that storekeeper cannot do without: use PostgreSQL 15 or newer, where storekeeper is tested, or Citus 13 or newer on it ({fault})"
            ),
            (_, Fault::NotConnected(error)) if self.is_without(error).is_some() => {
                format!("the database at {places} {}", self.is_without(error).unwrap_or_default())
            }
            (_, Fault::NotConnected(error)) if is_about_tls(error) => format!(
                "the database at {places} cannot be trusted: give the authority of its certificate as sslrootcert in the keyring's URL, or correct the host's name ({fault})"
            ),
            _ => format!("the database at {places}: {fault}"),
        }
    }

    /// What one side wants and the other has not, which tokio-postgres tells in words only.
    fn is_without(&self, error: &tokio_postgres::Error) -> Option<String> {
        let said = one_line(error);
        let user = self.address.user().unwrap_or("(none)");
        if said.contains("password missing") {
            return Some(format!(
                "wants a password of the user {user}: write it into the keyring's URL, and that into a file named by `url_file`"
            ));
        }
        said.contains("server does not support TLS").then(|| {
            String::from("does not speak TLS: turn it on there, or write sslmode=disable where nobody listens between")
        })
    }

    /// The name of the database.
    pub(crate) fn database(&self) -> &str {
        self.address.database()
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Target").field(&self.address).finish()
    }
}

/// Sees to it that a connection whose other end is gone ends too, unless the URL says otherwise: the driver's own limits
/// are hours.
fn notice_silence(config: &mut Config) {
    if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
        config.keepalives_idle(SILENCE_MAX);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(SILENCE_MAX / SILENCE_PROBES);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(SILENCE_PROBES);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE_MAX);
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
    fn a_target_names_no_password() {
        let target = Target::parse("postgres://u:hunter2@one:1,two:2/d?sslmode=disable", &Options::default()).unwrap();
        let shown = format!("{target:?} {}", target.explain(&Fault::Late));
        assert!(!shown.contains("hunter2") && shown.contains("one:1, two:2"), "{shown}");
    }

    #[test]
    fn a_connection_whose_other_end_is_gone_ends_unless_the_url_says_otherwise() {
        let limits = |query: &str| {
            let config = Target::parse(&format!("postgres://u@h/d?{query}"), &Options::default()).unwrap().config;
            let (idle, interval) = (config.get_keepalives_idle(), config.get_keepalives_interval().unwrap());
            let silent = idle + interval * config.get_keepalives_retries().unwrap();
            (silent.as_secs(), config.get_tcp_user_timeout().unwrap().as_secs())
        };
        assert_eq!(limits("connect_timeout=1"), (60, 30));
        let told = "keepalives_idle=100&keepalives_interval=20&keepalives_retries=5&tcp_user_timeout=7";
        assert_eq!(limits(told), (200, 7));
    }
}
