//! Logging: events on stderr, as lines for people or JSON for machines. What is logged holds no secret by construction.

use std::io::{IsTerminal, stderr};
use std::panic::PanicHookInfo;

use tracing_subscriber::EnvFilter;

use crate::log_writer::LogWriter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging at this level (`error` … `trace`, or directives such as `storekeeper_keeper=debug`). A panic becomes a
/// line of the log, too.
///
/// # Errors
/// One line when the level is not understood.
pub fn start(level: &str, format: LogFormat, writer: &LogWriter) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|error| format!("--log-level: {error}"))?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer.clone()).log_internal_errors(false);
    let started = match format {
        LogFormat::Text => builder.with_ansi(stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    std::panic::set_hook(Box::new(log_panic));
    started.map_err(|error| error.to_string())
}

/// The usual hook writes to stderr itself, and stands still where the log's reader does.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let (thread, message) = (thread.name().unwrap_or("unnamed"), panic.payload_as_str().unwrap_or("(no message)"));
    let location = panic.location().map(ToString::to_string);
    tracing::error!(thread, location, message, "a task panicked: a bug of storekeeper, please report it");
}
