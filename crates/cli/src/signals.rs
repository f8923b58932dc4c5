//! Signals: how every command hears SIGTERM, SIGINT and SIGHUP, also as PID 1, which the kernel ends by none of them.

use std::fmt;

use tokio::signal::unix::{self, SignalKind};

use crate::exit::{CommandError, Exit};

/// SIGXFSZ, on Linux for x86, Arm and RISC-V as on the BSDs.
const FILE_TOO_LARGE: i32 = 25;

/// A signal that asks the process to end, or `serve` to reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: the terminal was closed; a daemon reloads.
    Hangup,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// How a command ends that did not finish because of the signal: 128 and the signal's number.
    pub const fn exit(self) -> Exit {
        match self {
            Self::Hangup => Exit::Hangup,
            Self::Interrupt => Exit::Interrupted,
            Self::Terminate => Exit::Terminated,
        }
    }

    /// A command that did not finish because of the signal.
    pub fn error(self) -> CommandError {
        CommandError::new(self.exit(), format!("{self}: not finished"))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hangup => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// The three signals, caught from the moment this is made.
#[derive(Debug)]
pub struct Signals {
    hangup: Option<unix::Signal>,
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    /// Catches the signals. A SIGHUP that the parent had ignored, as `nohup` does, stays ignored.
    ///
    /// # Errors
    /// When the operating system lets none be caught.
    pub fn listen() -> Result<Self, CommandError> {
        let hangup = (!is_ignored(SignalKind::hangup())).then(|| listen(SignalKind::hangup())).transpose()?;
        Ok(Self { hangup, ..Self::with_reload()? })
    }

    /// Catches the signals, SIGHUP in any case: for a daemon that reloads at it.
    ///
    /// # Errors
    /// When the operating system lets none be caught.
    pub fn with_reload() -> Result<Self, CommandError> {
        // A file that may grow no further then fails the write, as a full disk does, instead of ending the process. Where
        // the signal cannot be caught that stays as it is.
        drop(unix::signal(SignalKind::from_raw(FILE_TOO_LARGE)));
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { hangup: Some(listen(SignalKind::hangup())?), interrupt, terminate })
    }

    /// Waits for the next signal.
    pub async fn received(&mut self) -> Signal {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = hangup => Signal::Hangup,
        }
    }

    /// Runs `work`; a signal that comes first ends it there, and the command with it.
    ///
    /// # Errors
    /// [`Signal::error`], or that of the work.
    pub async fn interrupt<T>(
        &mut self,
        work: impl Future<Output = Result<T, CommandError>>,
    ) -> Result<T, CommandError> {
        tokio::select! {
            done = work => done,
            signal = self.received() => Err(signal.error()),
        }
    }
}

fn listen(kind: SignalKind) -> Result<unix::Signal, CommandError> {
    unix::signal(kind).map_err(|error| CommandError::new(Exit::Failure, format!("signals cannot be caught: {error}")))
}

/// Whether the process was started with the signal ignored; where that cannot be seen, it was not.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}
