//! `Passwords`: what each new connection is given for a password, where the URL holds none.

use std::fmt;

use futures_util::future::BoxFuture;
use storekeeper_model::Secret;

/// Tells the password of the user in the URL, whenever a connection is made: one that changes, such as a token.
pub trait Passwords: fmt::Debug + Send + Sync {
    /// The password that is good now.
    ///
    /// # Errors
    /// [`NoPassword`]: then no connection is made, and whoever wanted one hears why.
    fn password(&self) -> BoxFuture<'_, Result<Secret<String>, NoPassword>>;
}

/// Why there is no password. One line, which says what to do and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPassword {
    /// It may pass by itself.
    #[error("{0}")]
    Unavailable(String),
    /// Somebody has to correct something.
    #[error("{0}")]
    Refused(String),
}
