//! `Server`: both listeners, from binding to the last answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use storekeeper_keeper::Keeper;
use storekeeper_supervisor::Supervisor;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::api::Api;
use crate::caller::Caller;
use crate::config::{Plaintext, ServerConfig, SocketGuards};
use crate::drain::Drain;
use crate::front::Front;
use crate::listener::serve;
use crate::metrics::Listener;
use crate::router::{admin_service, data_service};
use crate::seats::Seats;

/// Why the server cannot start. Nothing listens then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// What was configured.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Others could read tokens and keys.
    #[error(
        "{address} can be reached from outside and would speak plain HTTP: \
         listen on a loopback address, or put a TLS proxy in front and say `plaintext = \"behind-proxy\"`"
    )]
    PlaintextExposed {
        /// What was configured.
        address: SocketAddr,
    },
    /// Nobody could say whose request it is.
    #[error("the callers `{one}` and `{other}` have the same token: give each its own")]
    TokenShared {
        /// A caller's name.
        one: String,
        /// Another caller's name.
        other: String,
    },
}

/// Starts the listeners.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Listens on both addresses and serves until [`Running::shutdown`]. Both accept when this returns.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(keeper: Keeper, config: ServerConfig) -> Result<Running, StartError> {
        check_callers(&config.callers)?;
        let data = bind(config.listen, config.plaintext).await?;
        let admin = bind(config.admin_listen, config.plaintext).await?;
        let (listen, admin_listen) = (address(&data, config.listen)?, address(&admin, config.admin_listen)?);
        let supervisor = keeper.supervisor().clone();
        let api = Api::new(keeper, &config);
        let (drain, admin_drain) = (api.drain().clone(), Drain::default());
        let data_seats = Seats::new(config.guards.connections_max, api.metrics().connections(Listener::Data));
        let data = spawn(data, data_service(&api), config.guards, data_seats, drain.clone(), &supervisor);
        let guards = SocketGuards { drain_timeout: config.guards.drain_timeout.min(ADMIN_DRAIN_MAX), ..config.guards };
        let admin_seats = Seats::new(guards.admin_connections_max, api.metrics().connections(Listener::Admin));
        let admin = spawn(admin, admin_service(&api), guards, admin_seats, admin_drain.clone(), &supervisor);
        Ok(Running { listen, admin_listen, api, stages: [(drain, data), (admin_drain, admin)] })
    }
}

/// Two listeners that accept.
pub struct Running {
    /// Where the data listener listens, with the port it got.
    pub listen: SocketAddr,
    /// Where the admin listener listens, with the port it got.
    pub admin_listen: SocketAddr,
    api: Api,
    stages: [(Drain, JoinHandle<()>); 2],
}

impl Running {
    /// Takes other callers in the place of those that are known; requests that are under way go on.
    ///
    /// # Errors
    /// [`StartError::TokenShared`]; then the callers stay as they are.
    pub fn replace_callers(&self, callers: Vec<Caller>) -> Result<(), StartError> {
        check_callers(&callers)?;
        self.api.replace_callers(callers);
        Ok(())
    }

    /// Accepts nothing more, lets what is under way finish (batches end after the lines they have read) and returns, a
    /// second after the configured drain time-out at the latest. The admin listener goes last: until then `/readyz` says
    /// why, and `/metrics` can be scraped. Shut the keeper down afterwards.
    pub async fn shutdown(self) {
        for (drain, task) in self.stages {
            drain.begin();
            // A listener that panicked has nothing left to drain.
            let _ = task.await;
        }
    }
}

/// How long the admin listener waits for what is under way there.
const ADMIN_DRAIN_MAX: Duration = Duration::from_secs(1);

fn spawn(
    listener: TcpListener,
    front: Front,
    guards: SocketGuards,
    seats: Arc<Seats>,
    drain: Drain,
    supervisor: &Supervisor,
) -> JoinHandle<()> {
    let guard = supervisor.guard("a listener");
    let front = Arc::new(front);
    let service = service_fn(move |request| {
        let front = Arc::clone(&front);
        async move { Ok(front.answer(request).await) }
    });
    tokio::spawn(async move {
        let _guard = guard;
        serve(listener, service, guards, seats, async move { drain.begun().await }).await;
    })
}

fn check_callers(callers: &[Caller]) -> Result<(), StartError> {
    for (index, other) in callers.iter().enumerate() {
        if let Some(one) = callers[..index].iter().find(|one| one.shares_token_with(other)) {
            return Err(StartError::TokenShared { one: one.name().to_owned(), other: other.name().to_owned() });
        }
    }
    Ok(())
}

async fn bind(address: SocketAddr, plaintext: Plaintext) -> Result<TcpListener, StartError> {
    if plaintext == Plaintext::LoopbackOnly && !address.ip().to_canonical().is_loopback() {
        return Err(StartError::PlaintextExposed { address });
    }
    TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, source })
}

fn address(listener: &TcpListener, configured: SocketAddr) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Bind { address: configured, source })
}
