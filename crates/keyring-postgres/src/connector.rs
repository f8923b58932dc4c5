//! `Connector`: makes connections that are ready for use. A host that says nothing has its part of the time and no more:
//! then the next one is tried.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use storekeeper_keyring::KeyringError;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Error};
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
        let mut told: Option<Error> = None;
        for (place, config) in self.hosts.in_turn() {
            let mut config = config.clone();
            if let Some(password) = &password {
                config.password(password.expose());
            }
            match self.in_time(&config).await {
                Ok(connected) => {
                    self.hosts.was_good(place);
                    return Ok(connected);
                }
                // What a server has said tells more than that another one says nothing.
                Err(error) if told.as_ref().is_some_and(|told| told.code().is_some()) && error.code().is_none() => {}
                Err(error) => told = Some(error),
            }
        }
        Err(told.expect("there is a host in every list"))
    }

    #[expect(clippy::disallowed_methods, reason = "a guard on a socket, like those in HTTP clients")]
    async fn in_time(&self, config: &Config) -> Result<Connected, Error> {
        match tokio::time::timeout(self.patience, self.one(config)).await {
            Ok(connected) => connected,
            Err(_) => Err(broken::error(io::ErrorKind::TimedOut.into()).await),
        }
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

/// Moves a connection until it ends; who uses it hears of that.
async fn moved(connection: impl Future<Output = Result<(), Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(fault = one_line(&error), "connection to the database ended");
    }
}
