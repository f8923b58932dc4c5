//! `storekeeper serve`: the keeper with its HTTP API, from a configuration file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use storekeeper_clock::{Clock, SystemClock};
use storekeeper_keeper::{Keeper, KeeperConfig, Surroundings};
use storekeeper_server::{Running, Server};

use crate::compose;
use crate::config::Config;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::log_writer::LogWriter;
use crate::ready::Ready;
use crate::reload::Reload;
use crate::signals::{Signal, Signals};

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
    /// Runs until SIGTERM or SIGINT, then drains; SIGHUP reloads callers and credentials.
    pub async fn run(self, environment: &BTreeMap<String, String>, log: &LogWriter) -> CommandResult {
        let mut signals = Signals::with_reload()?;
        let config = self.configuration(environment)?;
        let node = compose::node(self.node_name.as_deref());
        let mut keeper_config = compose::keeper_config(&config, compose::seed(), self.accept_orphans);
        keeper_config.node = node;
        let reload = Reload::new(self.config.clone(), environment, &config, &mut keeper_config, log);
        let keeper = signals.interrupt(self.start_keeper(&config, keeper_config)).await?;
        let reload = Arc::new(reload);
        keeper.surround(Arc::clone(&reload) as Arc<dyn Surroundings>);
        // The keeper renews by now: whatever comes, it is drained.
        let (server, ended) = match self.start_server(&keeper, &config).await {
            Ok(server) => {
                let ended = loop {
                    match super::end(&mut signals, keeper.supervisor().failed()).await {
                        Ok(Signal::Hangup) => reload.reload(&keeper, &server),
                        ended => break ended.map(drop),
                    }
                };
                (Some(server), ended)
            }
            Err(error) => (None, Err(error)),
        };
        let drained = super::drain(&mut signals, &keeper, server).await;
        super::take_back(self.ready_file.as_deref());
        ended.and(drained)
    }

    async fn start_server(&self, keeper: &Keeper, config: &Config) -> Result<Running, CommandError> {
        let server = Server::start(keeper.clone(), compose::server_config(config)?).await;
        let server = server.map_err(|error| CommandError::with_causes(Exit::Unavailable, &error))?;
        let ready = Ready {
            listen: Some(server.listen.to_string()),
            admin_listen: Some(server.admin_listen.to_string()),
            ..Ready::default()
        };
        super::tell_ready(&ready, self.ready_file.as_deref())?;
        Ok(server)
    }

    fn configuration(&self, environment: &BTreeMap<String, String>) -> Result<Config, CommandError> {
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
        Ok(config)
    }

    async fn start_keeper(&self, config: &Config, keeper: KeeperConfig) -> Result<Keeper, CommandError> {
        let extra_ca = self.extra_ca.as_ref().map(read).transpose()?;
        let (transport, clock): (_, Arc<dyn Clock>) = (compose::transport(extra_ca)?, Arc::new(SystemClock::new()));
        let passwords = compose::passwords(&config.keyring, &transport, &clock);
        let keyring = compose::open_keyring(&config.keyring, passwords).await?;
        compose::start_keeper(keeper, keyring, &compose::master_key(config), transport, clock).await
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, CommandError> {
    std::fs::read(path).map_err(|error| CommandError::new(Exit::Usage, format!("{}: {error}", path.display())))
}
