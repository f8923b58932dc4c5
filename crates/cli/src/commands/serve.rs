//! `storekeeper serve`: the keeper with its HTTP API, from a configuration file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use storekeeper_clock::{Clock, SystemClock};
use storekeeper_keeper::KeeperConfig;
use storekeeper_server::Server;

use crate::compose;
use crate::config::Config;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::ready::Ready;

/// Run the keeper: keys in over HTTP, all kept renewed, a live one out at any moment.
#[derive(Debug, Args)]
pub struct Serve {
    /// The configuration file; `storekeeper init` writes one
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Write addresses here once every listener accepts
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// Listen here instead of `server.listen`
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Listen here instead of `server.admin_listen`
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// Start although the keyring holds keys of an app that is not configured, or whose client ID changed
    #[arg(long)]
    accept_orphans: bool,
    /// What people call this keeper where several share a keyring; else the machine and the process
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Certificates to trust besides the platform's, as a PEM file: the emulator's CA
    #[arg(long, value_name = "FILE")]
    extra_ca: Option<PathBuf>,
}

impl Serve {
    /// Runs until SIGTERM or SIGINT, then drains.
    pub async fn run(self, environment: &BTreeMap<String, String>) -> CommandResult {
        let stop = super::StopSignals::listen()?;
        let (mut config, warnings) =
            Config::load(&self.config, environment).map_err(|error| CommandError::new(Exit::Usage, error))?;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        config.server.listen = self.listen.unwrap_or(config.server.listen);
        config.server.admin_listen = self.admin_listen.unwrap_or(config.server.admin_listen);
        for address in [config.server.listen, config.server.admin_listen] {
            config.server.allow(address).map_err(|error| CommandError::new(Exit::Usage, error))?;
        }
        let extra_ca = self.extra_ca.as_ref().map(read).transpose()?;
        let node = compose::node(self.node_name.as_deref());
        let (transport, clock): (_, Arc<dyn Clock>) = (compose::transport(extra_ca)?, Arc::new(SystemClock::new()));
        let passwords = compose::passwords(&config.keyring, &transport, &clock);
        let keyring = compose::open_keyring(&config.keyring, passwords).await?;
        let keeper = compose::start_keeper(
            KeeperConfig { node, ..compose::keeper_config(&config, compose::seed(), self.accept_orphans) },
            keyring,
            &compose::master_key(&config),
            transport,
            clock,
        )
        .await?;
        let server = Server::start(keeper.clone(), compose::server_config(&config)?).await;
        let server = server.map_err(|error| CommandError::with_causes(Exit::Unavailable, &error))?;
        let ready = Ready {
            listen: Some(server.listen.to_string()),
            admin_listen: Some(server.admin_listen.to_string()),
            ..Ready::default()
        };
        super::tell_ready(&ready, self.ready_file.as_deref())?;
        stop.received().await;
        server.shutdown().await;
        keeper.shutdown().await;
        super::take_back(self.ready_file.as_deref());
        Ok(())
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, CommandError> {
    std::fs::read(path).map_err(|error| CommandError::new(Exit::Usage, format!("{}: {error}", path.display())))
}
