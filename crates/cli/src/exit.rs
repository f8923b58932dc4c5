//! How a command ends: exit codes are a contract (docs/reference/cli.md), and a failure is one line that says what to do.

use std::fmt;
use std::process::ExitCode;

use crate::log_writer::LogWriter;

/// What went wrong, by exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Anything without a code of its own.
    Failure = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// What was asked for is not there.
    NotFound = 3,
    /// Refused: not allowed, or not possible for good.
    Refused = 4,
    /// Not reachable, or not now.
    Unavailable = 5,
    /// A check found problems.
    Problems = 6,
    /// SIGHUP came before the command had finished.
    Hangup = 129,
    /// SIGINT came before the command had finished.
    Interrupted = 130,
    /// SIGTERM came before the command had finished.
    Terminated = 143,
}

/// A failed command: its exit code and what to tell a person.
#[derive(Debug, Clone)]
pub struct CommandError {
    /// The exit code.
    pub exit: Exit,
    /// One line (or one per problem), lower case, without secrets.
    pub message: String,
}

impl CommandError {
    /// A failure with this exit code.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    /// A failure whose message names every cause.
    pub fn with_causes(exit: Exit, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            message.push_str(": ");
            message.push_str(&error.to_string());
            source = error.source();
        }
        Self { exit, message }
    }

    /// The code for the shell.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CommandError {}

/// Says on stderr why a command failed, and waits a moment until that is written.
pub fn report(error: &CommandError, log: &LogWriter) {
    for line in error.message.lines() {
        log.line(&format!("error: {line}"));
    }
    log.flush();
}

/// What every command returns.
pub type CommandResult = Result<(), CommandError>;
