//! Why the keyring could not do what was asked.

/// The keyring could not do what was asked; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// Not reachable, or it answered with an error that may pass.
    #[error("the keyring is not available: {0}")]
    Unavailable(String),
    /// The rows to be written are at fault, not the keyring: the others of their group can be written without them.
    #[error("the keyring refuses a row: {0}")]
    Refused(String),
    /// What is stored cannot be read as what it should be.
    #[error("the keyring holds something unreadable: {0}")]
    Corrupt(String),
    /// Written by a newer version than this one can serve.
    #[error(
        "the keyring was written by a newer version (schema {found}, readable up to {known}): start that version, or restore a backup"
    )]
    TooNew {
        /// The schema found.
        found: u32,
        /// The newest schema this version can read.
        known: u32,
    },
    /// Another process holds it.
    #[error("another storekeeper process holds the keyring {0}: stop it first")]
    Held(String),
    /// A root of this generation is there already.
    #[error("the keyring holds a root {generation} already")]
    RootExists {
        /// Which generation.
        generation: u16,
    },
    /// The place it should be in cannot be used.
    #[error("the keyring cannot be opened: {0}")]
    Unreachable(String),
}
