//! `Connector`: makes connections that are ready for use. A host that says nothing has its part of the time and no more:
//! then the next one is tried.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use storekeeper_keyring::KeyringError;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Config, Host};
use tokio_postgres::{Client, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Fault, one_line};
use crate::hosts::Hosts;
use crate::target::Target;
use crate::{Options, Passwords, broken};

/// A connection, and the task that moves it.
pub(crate) type Connected = (Client, JoinHandle<()>);

/// Makes connections, with the password that is good then.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) tls: MakeRustlsConnect,
    pub(crate) passwords: Option<Arc<dyn Passwords>>,
    /// What each connection is told first.
    pub(crate) session: Arc<str>,
    /// How long one host may take until a connection to it is ready.
    pub(crate) patience: Duration,
}

impl Connect for Connector {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<Connected, Error>> {
        // Whoever waits for this may have less patience than it takes to pass over a host, and stop waiting. The others
        // are tried all the same, so that whoever comes next begins with the one that is good.
        let connector = self.clone();
        let connecting = tokio::spawn(async move { connector.any().await });
        async move {
            match connecting.await {
                Ok(connected) => connected,
                Err(ended) => Err(broken::error(ended.into()).await),
            }
        }
        .boxed()
    }
}

impl Connector {
    /// Connects to the first host that is good.
    pub(crate) async fn any(&self) -> Result<Connected, Error> {
        let password = match &self.passwords {
            Some(passwords) => match passwords.password().await {
                Ok(password) => Some(password),
                Err(why) => return Err(broken::error(io::Error::other(why)).await),
            },
            None => None,
        };
        let mut failure = None;
        for (place, host) in self.hosts.in_turn() {
            let mut host = host.clone();
            if let Some(password) = &password {
                host.password(password.expose());
            }
            match self.first(self.addresses(&host).await).await {
                Ok((connected, config)) => {
                    self.hosts.was_good(place, &config);
                    return Ok(connected);
                }
                Err(error) => {
                    self.hosts.failed(place);
                    failure = Some(more_telling(failure, error));
                }
            }
        }
        Err(failure.expect("there is a host in every list"))
    }

    /// Connects to the first of these addresses that is good, and says to which. They share the time of one host.
    async fn first(&self, addresses: Vec<Config>) -> Result<(Connected, Config), Error> {
        let patience = self.patience / u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let mut failure = None;
        for config in addresses {
            match in_time(patience, self.one(&config)).await {
                Ok(connected) => return Ok((connected, config)),
                Err(error) => {
                    self.hosts.address_failed(&config);
                    failure = Some(more_telling(failure, error));
                }
            }
        }
        Err(failure.expect("each host is tried at one address at least"))
    }

    /// The same host once for each address that its name stands for. Where it has none the driver says so.
    async fn addresses(&self, host: &Config) -> Vec<Config> {
        let ([Host::Tcp(name)], []) = (host.get_hosts(), host.get_hostaddrs()) else { return vec![host.clone()] };
        let port = host.get_ports().first().copied().unwrap_or_default();
        let asked = async { Ok(tokio::net::lookup_host((name.as_str(), port)).await) };
        let Ok(Ok(found)) = in_time(self.patience, asked).await else { return vec![host.clone()] };
        let mut found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        if found.is_empty() {
            return vec![host.clone()];
        }
        self.hosts.sort(&mut found);
        let at = |address| {
            let mut config = host.clone();
            config.hostaddr(address);
            config
        };
        found.into_iter().map(at).collect()
    }

    async fn one(&self, config: &Config) -> Result<Connected, Error> {
        let (client, mut connection) = config.connect(self.tls.clone()).await?;
        let told = tokio::select! {
            told = client.batch_execute(&self.session) => Some(told),
            ended = &mut connection => ended.map(|()| None)?,
        };
        match told {
            Some(told) => told?,
            None => return Err(broken::error(io::ErrorKind::UnexpectedEof.into()).await),
        }
        Ok((client, tokio::spawn(moved(connection))))
    }
}

#[expect(clippy::disallowed_methods, reason = "a guard on a socket, like those in HTTP clients")]
async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(broken::error(io::ErrorKind::TimedOut.into()).await),
    }
}

/// A connection of one's own, made as a keyring makes its own from the same URL; it lasts as long as the client. For tools
/// and tests that speak to a keyring's database themselves.
///
/// # Errors
/// [`KeyringError::Unavailable`] and [`KeyringError::Unreachable`] with one line that says what to do.
pub async fn connect(url: &str) -> Result<Client, KeyringError> {
    let options = Options::default();
    let target = Target::parse(url, &options)?;
    let connected = target.connector(&options, "").any().await;
    let (client, _) = connected.map_err(|error| target.explain(&Fault::not_connected(error)))?;
    Ok(client)
}

/// What a server has said tells more than that another one says nothing.
fn more_telling(told: Option<Error>, error: Error) -> Error {
    match told {
        Some(told) if told.code().is_some() && error.code().is_none() => told,
        _ => error,
    }
}

/// Moves a connection until it ends; who uses it hears of that.
async fn moved(connection: impl Future<Output = Result<(), Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(fault = one_line(&error), "connection to the database ended");
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn an_address_that_says_nothing_is_passed_over() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let place = |listener: &TcpListener| {
                let at = listener.local_addr().unwrap();
                Config::new().user("u").hostaddr(at.ip()).port(at.port()).clone()
            };
            let options = Options { connect_timeout: Duration::from_millis(200), ..Options::default() };
            let target = Target::parse("postgres://u@h/d?sslmode=disable", &options).unwrap();
            let connector = target.connector(&options, "");
            let addresses = vec![place(&silent), place(&listener)];
            let (failed, accepted) =
                tokio::join!(connector.first(addresses), async { listener.accept().await.map(drop) });
            assert!(failed.is_err() && accepted.is_ok(), "nobody says anything there either");
        });
    }

    #[test]
    fn a_name_is_tried_at_each_of_its_addresses() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = Options::default();
        let target = Target::parse("postgres://u@localhost:7,127.0.0.2:8,nowhere.invalid:9/d", &options).unwrap();
        let connector = target.connector(&options, "");
        let at = |place: usize| {
            let (_, host) = connector.hosts.in_turn().nth(place).unwrap();
            let found = runtime.block_on(connector.addresses(host));
            assert!(found.iter().all(|one| one.get_hosts() == host.get_hosts() && one.get_ports() == host.get_ports()));
            found.iter().flat_map(|one| one.get_hostaddrs().to_vec()).collect::<Vec<_>>()
        };
        assert!(at(0).iter().all(IpAddr::is_loopback) && !at(0).is_empty());
        assert_eq!(at(1), ["127.0.0.2".parse::<IpAddr>().unwrap()]);
        assert!(at(2).is_empty(), "the driver says that there is none");
    }
}
