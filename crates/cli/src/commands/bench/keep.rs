//! A keeper for benches: no pace, no breaker, its upstream on loopback; with its HTTP API as `serve` has it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use storekeeper_client::{Endpoint, EntraVersion};
use storekeeper_clock::{Clock, SystemClock};
use storekeeper_emulator::{DEV_CLIENT_ID, DEV_CLIENT_SECRET, DEV_TENANT_ID};
use storekeeper_keeper::{AppConfig, FixedSecret, Keeper, KeeperConfig, Limits, NodeConfig, UserClaim};
use storekeeper_keyring::Keyring;
use storekeeper_model::{AppName, ClientId, Secret};
use storekeeper_policy::RenewalPolicy;
use storekeeper_server::{Caller, Scope, Server, ServerConfig, TokenDigest};

use super::machine::usage;
use super::made_up::APP;
use super::part::{Listening, Orders};
use super::place::Files;
use super::{failure, report};
use crate::compose;
use crate::exit::{CommandError, CommandResult};

/// A keeper with its HTTP API.
#[derive(Serialize, Deserialize)]
pub(super) struct Keep {
    /// The keyring.
    pub(super) files: Files,
    /// By which the load is known.
    pub(super) token: String,
}

/// Tell what it has cost.
#[derive(Serialize, Deserialize)]
pub(super) struct TellUsage;

impl Keep {
    /// Serves until there are no more orders; each is [`TellUsage`].
    pub(super) async fn run(self, mut orders: Orders) -> CommandResult {
        let keyring = self.files.open().await?;
        // Nothing is due, so nobody is asked.
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let keeper = start(keyring, &self.files, nobody, Arc::new(SystemClock::new())).await?;
        let token = TokenDigest::of(&Secret::new(self.token)).map_err(failure)?;
        let mut config = ServerConfig::new(vec![Caller::new(APP, token, &[Scope::KeyRead, Scope::KeyWrite])]);
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        (config.listen, config.admin_listen) = (free, free);
        let server = Server::start(keeper.clone(), config).await.map_err(failure)?;
        report(&Listening { address: server.listen })?;
        while let Some(TellUsage) = orders.next().await? {
            report(&usage()?)?;
        }
        server.shutdown().await;
        keeper.shutdown().await;
        Ok(())
    }
}

/// Starts a keeper that knows no limits, with everything remote at `upstream`.
pub(super) async fn start(
    keyring: Arc<dyn Keyring>,
    files: &Files,
    upstream: SocketAddr,
    clock: Arc<dyn Clock>,
) -> Result<Keeper, CommandError> {
    let endpoint = Endpoint::parse(&format!("http://{upstream}")).map_err(failure)?;
    if !endpoint.is_loopback() {
        return Err(failure(format!("{upstream} is not on this machine: a bench talks to loopback only")));
    }
    let transport = compose::transport(None)?;
    compose::start_keeper(config(endpoint), keyring, &files.master()?, transport, clock).await
}

fn config(upstream: Endpoint) -> KeeperConfig {
    let app = AppConfig {
        name: AppName::new(APP).expect("the name is made of letters"),
        tenant: DEV_TENANT_ID.to_owned(),
        client_id: ClientId::new(DEV_CLIENT_ID),
        credentials: vec![Arc::new(FixedSecret(Secret::new(DEV_CLIENT_SECRET.to_owned())))],
        user_claim: UserClaim::Ignore,
        policy: RenewalPolicy::default(),
    };
    KeeperConfig {
        apps: vec![app],
        collections: upstream.clone(),
        purchase: upstream.clone(),
        entra: upstream,
        entra_version: EntraVersion::V2,
        concurrency: compose::CONCURRENCY,
        request_timeout: compose::REQUEST_TIMEOUT,
        cache_rows: compose::CACHE_ROWS,
        limits: Limits::Off,
        seed: 0,
        accept_orphans: false,
        rescue_folder: None,
        node: NodeConfig::default(),
    }
}
