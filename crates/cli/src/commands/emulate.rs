//! `storekeeper emulator`: the Microsoft Store and Entra ID on localhost.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use storekeeper_clock::{Clock as _, SystemClock, VirtualClock};
use storekeeper_emulator::{
    EmulatorOptions, ErrorShape, Profile, Running, Server, ServerOptions, Superseded, Switches,
};
use storekeeper_model::Timestamp;

use super::store;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::Format;
use crate::ready::Ready;
use crate::signals::Signals;

/// What both `emulator` and `dev` can be told about the emulated Store.
#[derive(Debug, Clone, Args)]
pub struct EmulatorArgs {
    /// The emulated hosts, plain HTTP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8440")]
    pub http: SocketAddr,
    /// The emulated hosts, TLS under a local CA
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    pub https: SocketAddr,
    /// The control port: clock, faults, ledger
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8444")]
    pub control: SocketAddr,
    /// Which era of the Store: documented, game-docs or legacy
    #[arg(long, default_value = "documented", value_parser = parse::<Profile>)]
    pub profile: Profile,
    /// How a 401 is told: plain or wrapped
    #[arg(long, default_value = "plain", value_parser = parse::<ErrorShape>)]
    pub errors: ErrorShape,
    /// Whether a superseded key still renews: usable or refused
    #[arg(long, default_value = "usable", value_parser = parse::<Superseded>)]
    pub superseded: Superseded,
    /// The instant to start at, RFC 3339; only an empty data directory takes it
    #[arg(long, value_name = "RFC3339")]
    pub clock: Option<Timestamp>,
    /// Decides payloads, ids and faults; only an empty data directory takes it
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Where others reach the emulated hosts; keys then name it as their refreshUri
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
}

/// Run the Microsoft Store and Entra ID on localhost, or ask a running one.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Emulate {
    #[command(subcommand)]
    verb: Option<store::Verb>,
    #[command(flatten)]
    emulator: EmulatorArgs,
    /// Keep clock, keys, certificates, clients and revocations here
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Write addresses here once every listener accepts
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
}

impl Emulate {
    /// Whether it serves, rather than asks one that does.
    pub fn serves(&self) -> bool {
        self.verb.is_none()
    }

    /// Runs until SIGTERM, SIGINT or SIGHUP; or runs the verb.
    pub async fn run(self, format: Format) -> CommandResult {
        if let Some(verb) = self.verb {
            return verb.run(format).await;
        }
        let mut signals = Signals::listen()?;
        let clock = self.emulator.clock_to_start_with();
        let running = self.emulator.start(clock, self.data_dir).await?;
        super::tell_ready(&ready(&running), self.ready_file.as_deref())?;
        let end = super::end(&mut signals, running.failed()).await;
        let ended = running.shutdown().await;
        super::take_back(self.ready_file.as_deref());
        ended.map_err(|error| CommandError::with_causes(Exit::Failure, &error))?;
        end.map(drop)
    }
}

impl EmulatorArgs {
    /// A clock at `--clock`, or at the system's time, running at rate 1.
    pub fn clock_to_start_with(&self) -> VirtualClock {
        VirtualClock::running_from(self.clock.unwrap_or_else(|| SystemClock::new().now()), 1.0)
    }

    /// Starts the emulator on `clock`.
    ///
    /// # Errors
    /// One line that says what is in the way.
    pub async fn start(&self, clock: VirtualClock, data_dir: Option<PathBuf>) -> Result<Running, CommandError> {
        let switches =
            Switches { profile: self.profile, errors: self.errors, superseded: self.superseded, ..Switches::default() };
        let emulator = EmulatorOptions {
            switches,
            seed: self.seed,
            public_url: self.public_url.clone(),
            ..EmulatorOptions::default()
        };
        let options = ServerOptions {
            http: Some(self.http),
            https: Some(self.https),
            control: Some(self.control),
            data_dir,
            ..ServerOptions::ephemeral()
        };
        let started = Server::start(emulator, clock, options).await;
        started.map_err(|error| CommandError::with_causes(Exit::Unavailable, &error))
    }
}

/// Where a running emulator is reached.
pub fn ready(running: &Running) -> Ready {
    let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
    Ready {
        http: text(running.http()),
        https: text(running.https()),
        control: text(running.control()),
        ca_file: running.ca_file().map(crate::compose::absolute),
        ..Ready::default()
    }
}

/// Reads one of the emulator's words the way its control port does.
fn parse<T: serde::de::DeserializeOwned>(word: &str) -> Result<T, String> {
    let value = serde_json::Value::String(word.to_owned());
    serde_json::from_value(value).map_err(|error| error.to_string())
}
