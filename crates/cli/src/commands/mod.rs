//! The commands: one file each. `storekeeper <noun> <verb>`.

pub mod app;
pub mod backup;
pub mod bench;
pub mod clock;
pub mod completions;
pub mod config;
pub mod dev;
pub mod emulate;
pub mod export;
pub mod fault;
pub mod import;
pub mod init;
pub mod key;
pub mod lease;
pub mod node;
pub mod serve;
pub mod status;
pub mod store;

use std::collections::BTreeMap;
use std::path::Path;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use storekeeper_keeper::Keeper;

use crate::exit::{CommandError, CommandResult, Exit};
use crate::log_writer::LogWriter;
use crate::logging::{self, LogFormat};
use crate::output::Format;
use crate::ready::Ready;
use crate::signals::{Signal, Signals};

/// Keeps Microsoft Store ID keys renewed, and emulates the Store for tests.
#[derive(Debug, Parser)]
#[command(
    name = "storekeeper",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = AFTER_HELP)]
pub struct CommandLine {
    /// How data is printed
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    #[arg(help_heading = "Everywhere", hide_possible_values = true, help = "How data is printed: table or json")]
    output: Format,
    /// What is logged on stderr: error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Everywhere")]
    log_level: Option<String>,
    /// How log lines look: text or json
    #[arg(long, global = true, value_enum, default_value = "text", value_name = "FORMAT")]
    #[arg(help_heading = "Everywhere", hide_possible_values = true)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
The first five minutes: `storekeeper dev` in one terminal; in another
  storekeeper status
  storekeeper clock advance 60d --watch
  storekeeper key explain player-0001

Exit codes: 0 ok, 1 failure, 2 usage or configuration, 3 not found, 4 refused, 5 unavailable, 6 problems found,
  129, 130 and 143 ended by SIGHUP, SIGINT or SIGTERM before it had finished";

#[derive(Debug, Subcommand)]
enum Command {
    Dev(Box<dev::Dev>),
    Serve(serve::Serve),
    Emulator(Box<emulate::Emulate>),
    Init(init::Init),
    Key(key::Key),
    App(app::App),
    Node(node::Node),
    Lease(lease::Lease),
    Status(status::Status),
    Export(export::Export),
    Import(import::Import),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Clock(clock::Clock),
    Fault(fault::Fault),
    Config(config::Config),
    #[command(subcommand)]
    Bench(bench::Bench),
    Completions(completions::Completions),
}

impl Command {
    /// Whether it has something to finish when a signal asks it to end.
    fn handles_signals(&self) -> bool {
        match self {
            Self::Serve(_) | Self::Dev(_) => true,
            Self::Emulator(emulator) => emulator.serves(),
            Self::Key(key) => key.renews(),
            Self::Bench(bench) => bench.compares(),
            _ => false,
        }
    }

    /// Servers tell what they do; `dev`, which greets a person, and everything else speak up when something is wrong.
    fn log_level(&self) -> &'static str {
        match self {
            Self::Serve(_) => "info",
            Self::Emulator(emulator) if emulator.serves() => "info",
            _ => "warn",
        }
    }
}

impl CommandLine {
    /// Runs the command. `environment` holds the variables of the process.
    ///
    /// # Errors
    /// What to tell the person, and the exit code.
    pub async fn run(self, environment: &BTreeMap<String, String>, log: &LogWriter) -> CommandResult {
        let level = self.log_level.as_deref().unwrap_or_else(|| self.command.log_level());
        logging::start(level, self.log_format, log).map_err(|error| CommandError::new(Exit::Usage, error))?;
        let format = self.output;
        if !self.command.handles_signals() {
            end_at_signal(Signals::listen()?, log.clone());
        }
        match self.command {
            Command::Serve(serve) => serve.run(environment, log).await,
            Command::Dev(dev) => dev.run(log).await,
            Command::Emulator(emulator) => emulator.run(format).await,
            Command::Init(init) => init.run(environment, format).await,
            Command::Key(key) => key.run(environment, format).await,
            Command::App(app) => app.run(format).await,
            Command::Node(node) => node.run(format).await,
            Command::Lease(lease) => lease.run(format).await,
            Command::Status(status) => status.run(format).await,
            Command::Backup(backup) => backup.run(environment, format).await,
            Command::Restore(restore) => restore.run(environment, format).await,
            Command::Export(export) => export.run(format).await,
            Command::Import(import) => import.run(environment, format).await,
            Command::Clock(clock) => clock.run(format).await,
            Command::Fault(fault) => fault.run(format).await,
            Command::Config(config) => config.run(environment, format),
            Command::Bench(bench) => bench.run().await,
            Command::Completions(completions) => completions.run(),
        }
    }
}

/// Ends the process at the first signal: a command that only asks or computes has nothing to finish. This also holds where
/// the command blocks its thread, on stdin for example.
fn end_at_signal(mut signals: Signals, log: LogWriter) {
    tokio::spawn(async move {
        let error = signals.received().await.error();
        crate::exit::report(&error, &log);
        std::process::exit(error.exit as i32);
    });
}

/// Waits for the end of a server: the signal that asks for it, or the failure of a core task. What the surviving tasks hold
/// is for the caller to save.
///
/// # Errors
/// The core task that died, with exit code 1: the supervisor of the operating system starts the process again.
async fn end(signals: &mut Signals, failed: impl Future<Output = &'static str>) -> Result<Signal, CommandError> {
    tokio::select! {
        signal = signals.received() => {
            if signal != Signal::Hangup {
                tracing::info!("{signal}: finishing what is under way");
            }
            Ok(signal)
        }
        task = failed => {
            let error = format!("{task} has died of a bug of storekeeper: this process ends, to be started again");
            tracing::error!("{error}");
            Err(CommandError::new(Exit::Failure, error))
        }
    }
}

/// Ends a keeper and, before it, its server. A second signal cuts the wait short: what is not committed by then goes into
/// the rescue file.
///
/// # Errors
/// Successors that are not in the keyring, with where they are.
async fn drain(signals: &mut Signals, keeper: &Keeper, server: Option<storekeeper_server::Running>) -> CommandResult {
    keeper.stop_renewing();
    let ending = async {
        if let Some(server) = server {
            server.shutdown().await;
        }
        keeper.shutdown().await
    };
    tokio::pin!(ending);
    loop {
        tokio::select! {
            drained = &mut ending => return crate::compose::drained(&drained),
            signal = signals.received() => {
                tracing::info!("{signal}: waiting no longer");
                keeper.hurry();
            }
        }
    }
}

/// Writes the ready file, then logs where everything listens.
fn tell_ready(ready: &Ready, file: Option<&Path>) -> CommandResult {
    if let Some(file) = file {
        let written = ready.write(file);
        written.map_err(|error| CommandError::new(Exit::Usage, format!("{}: {error}", file.display())))?;
    }
    tracing::info!(
        listen = ready.listen,
        admin_listen = ready.admin_listen,
        http = ready.http,
        https = ready.https,
        control = ready.control,
        "ready"
    );
    Ok(())
}

/// Removes a ready file: nothing is ready any more.
fn take_back(file: Option<&Path>) {
    // It may have been removed by whoever read it.
    drop(file.map(std::fs::remove_file));
}

/// A progress bar on stderr; nothing where stderr is no terminal.
fn progress_bar(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(what)
}

/// The passphrase in a file.
fn passphrase(file: &Path) -> Result<storekeeper_model::Secret<String>, CommandError> {
    let fail = |error: &dyn std::fmt::Display| CommandError::new(Exit::Usage, error);
    let secret = crate::config::read_secret(file).map_err(|error| fail(&error))?;
    if secret.expose().chars().count() < crate::envelope::PASSPHRASE_MIN {
        let least = crate::envelope::PASSPHRASE_MIN;
        return Err(fail(&format!("{}: a passphrase has {least} characters or more", file.display())));
    }
    Ok(secret)
}
