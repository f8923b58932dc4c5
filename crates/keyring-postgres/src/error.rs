//! What a fault of the database means to a user of the keyring.

use std::error::Error as _;
use std::io::ErrorKind;

use deadpool_postgres::PoolError;
use storekeeper_keyring::KeyringError;
use tokio_postgres::error::SqlState;

use crate::{NoPassword, broken};

/// What a database says to whoever writes while it may only be read.
const READ_ONLY: &str = "25006";

/// What went wrong between us and the database.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The keyring was closed.
    Closed,
    /// No connection was free, or could be made, in time.
    NoConnection,
    /// A connection could not be made: the database or the way to it said so.
    NotConnected(tokio_postgres::Error),
    /// There is no password to make a connection with.
    NoPassword(NoPassword),
    /// The database did not answer in time.
    Late,
    /// The database or a connection to it that was made before said so.
    Database(tokio_postgres::Error),
    /// What was read cannot be.
    Corrupt(String),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::not_connected(error),
            PoolError::Closed => Self::Closed,
            PoolError::Timeout(_) | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => Self::NoConnection,
        }
    }
}

impl Fault {
    /// Why a connection could not be made.
    pub(crate) fn not_connected(error: tokio_postgres::Error) -> Self {
        let broken = broken::reason(&error);
        let password = broken.and_then(|broken| broken.get_ref()).and_then(|reason| reason.downcast_ref());
        match password {
            Some(why) => Self::NoPassword(NoPassword::clone(why)),
            None if broken.is_some_and(|broken| broken.kind() == ErrorKind::TimedOut) => Self::NoConnection,
            None => Self::NotConnected(error),
        }
    }

    /// What stands in a column cannot be.
    pub(crate) fn corrupt(what: &str) -> Self {
        Self::Corrupt(format!("a row's {what}"))
    }

    /// What the database said, if it was the database.
    pub(crate) fn state(&self) -> Option<&SqlState> {
        match self {
            Self::Database(error) | Self::NotConnected(error) => error.code(),
            _ => None,
        }
    }

    /// Whether the connection is gone, or the server is going: another connection may do better. Where none could be made,
    /// the next one would not be either.
    pub(crate) fn is_lost(&self) -> bool {
        match (self, self.state()) {
            (Self::Late, _) => true,
            (Self::Database(_), Some(state)) => {
                let code = state.code();
                code.starts_with("08") || ["57P01", "57P02", "57P03", "57P05", "25P03", READ_ONLY].contains(&code)
            }
            (Self::Database(error), None) => error.is_closed() || is_io(error),
            _ => false,
        }
    }

    /// Whether the database may only be read now: another one is to be written to, if there is one.
    pub(crate) fn is_read_only(&self) -> bool {
        self.state().is_some_and(|state| state.code() == READ_ONLY)
    }

    /// Whether the transaction met another one, and has to be done again.
    pub(crate) fn is_contended(&self) -> bool {
        self.state()
            .is_some_and(|state| [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(state))
    }

    /// Whether a transaction may have been committed although this is what came of `COMMIT`.
    pub(crate) fn leaves_doubt(&self) -> bool {
        self.is_lost() || self.state() == Some(&SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN)
    }

    /// Whether it is about what was sent, not about the database: what else was in the group may fare better.
    pub(crate) fn is_refusal(&self) -> bool {
        // Data, constraints, triggers and functions, limits of the program; a page or an index that is damaged.
        const CLASSES: [&str; 8] = ["21", "22", "23", "27", "38", "39", "54", "P0"];
        const DAMAGE: [&str; 2] = ["XX001", "XX002"];
        let is_about_rows = |code: &str| CLASSES.contains(&&code[..2]) || DAMAGE.contains(&code);
        matches!(self, Self::Database(_)) && self.state().is_some_and(|state| is_about_rows(state.code()))
    }

    /// For who asked.
    pub(crate) fn for_caller(&self) -> KeyringError {
        match self {
            Self::Corrupt(what) => KeyringError::Corrupt(what.clone()),
            refusal if refusal.is_refusal() => KeyringError::Refused(refusal.to_string()),
            other => KeyringError::Unavailable(other.to_string()),
        }
    }
}

impl From<Fault> for KeyringError {
    fn from(fault: Fault) -> Self {
        fault.for_caller()
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("it is closed"),
            Self::NoConnection => f.write_str("no connection to the database in time"),
            Self::NoPassword(why) => write!(f, "no password for the database: {why}"),
            Self::Late => f.write_str("the database did not answer in time"),
            Self::Database(error) | Self::NotConnected(error) => f.write_str(&one_line(error)),
            Self::Corrupt(what) => f.write_str(what),
        }
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|source| source.is::<std::io::Error>())
}

/// The whole chain of an error on one line. What the server said of rows (`DETAIL`) is left out: it may quote them.
pub(crate) fn one_line(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        let message = said.message().lines().next().unwrap_or_default();
        return format!("{message} ({})", said.code().code());
    }
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        source = cause.source();
    }
    line.replace('\n', " ")
}
