//! What can go wrong with what a caller asks, each with a stable code that says who must act.

use std::time::Duration;

use storekeeper_keyring::KeyringError;
use storekeeper_model::{ParseKeyError, Timestamp};

/// A stable word for a problem: the `code` of the HTTP API, of batch lines and of logs. One table, in
/// `docs/reference/codes.md`, says what each means and who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is its own snake_case word; the table in docs/reference/codes.md explains them")]
pub enum Code {
    AppUnknown,
    KeyNotFound,
    KeyEmpty,
    KeyMalformed,
    KeyTooLarge,
    KeyWrongKind,
    KeyWrongClient,
    KeyWrongUser,
    KeyOlder,
    KeyRevoked,
    KeyLapsed,
    KeyHandedOver,
    KeyAltered,
    KeyChanged,
    KeyExpired,
    KeyNotYetValid,
    AppPaused,
    KeyringUnavailable,
    RenewalRefused,
    RenewalFailed,
    TicketRefused,
    TicketUnavailable,
    TooBusy,
    ClockSkewed,
    ShuttingDown,
    MinTtlTooLong,
    NodeUnknown,
    NodeAlone,
    LeasesElsewhere,
}

impl Code {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AppUnknown => "app_unknown",
            Self::KeyNotFound => "key_not_found",
            Self::KeyEmpty => "key_empty",
            Self::KeyMalformed => "key_malformed",
            Self::KeyTooLarge => "key_too_large",
            Self::KeyWrongKind => "key_wrong_kind",
            Self::KeyWrongClient => "key_wrong_client",
            Self::KeyWrongUser => "key_wrong_user",
            Self::KeyOlder => "key_older",
            Self::KeyRevoked => "key_revoked",
            Self::KeyLapsed => "key_lapsed",
            Self::KeyHandedOver => "key_handed_over",
            Self::KeyAltered => "key_altered",
            Self::KeyChanged => "key_changed",
            Self::KeyExpired => "key_expired",
            Self::KeyNotYetValid => "key_not_yet_valid",
            Self::AppPaused => "app_paused",
            Self::KeyringUnavailable => "keyring_unavailable",
            Self::RenewalRefused => "renewal_refused",
            Self::RenewalFailed => "renewal_failed",
            Self::TicketRefused => "ticket_refused",
            Self::TicketUnavailable => "ticket_unavailable",
            Self::TooBusy => "too_busy",
            Self::ClockSkewed => "clock_skewed",
            Self::ShuttingDown => "shutting_down",
            Self::MinTtlTooLong => "min_ttl_too_long",
            Self::NodeUnknown => "node_unknown",
            Self::NodeAlone => "node_alone",
            Self::LeasesElsewhere => "leases_elsewhere",
        }
    }
}

/// Why a key was not taken in. Nothing was stored, nothing was lost.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// No such app is configured.
    #[error("no app of this name is configured")]
    AppUnknown,
    /// The text is no Store ID key.
    #[error(transparent)]
    Key(#[from] ParseKeyError),
    /// The key is for the other service.
    #[error("the key is for the other service: its `aud` says {found}")]
    WrongKind {
        /// The key's own kind.
        found: storekeeper_model::KeyKind,
    },
    /// The key's `clientId` is not the app's.
    #[error("the key was made for another client ID than this app's")]
    WrongClient,
    /// `user_claim = "equal"`, and the key's `userId` is not the player's name.
    #[error("the key's `userId` claim is not the name it is enrolled under")]
    WrongUser,
    /// Another key is held, issued later.
    #[error("a key issued later is held for this player")]
    Older,
    /// This very key was condemned.
    #[error("this very key was refused by the Store for good: the player has to mint a new one")]
    Revoked,
    /// This very key has expired in our hands.
    #[error("this very key has expired: the player has to mint a new one")]
    Lapsed,
    /// The fingerprint that came with it is another key's.
    #[error("the key is not the one whose fingerprint came with it: the line was damaged on its way")]
    Altered,
    /// Its `exp` has passed.
    #[error("the key expired at {expires_at}: the player has to mint a new one")]
    Expired {
        /// The claim `exp`.
        expires_at: Timestamp,
    },
    /// Its `iat` or `nbf` lies more than five minutes ahead of our clock.
    #[error("the key is not valid before {valid_at}: it was made by somebody whose clock is ahead of ours, or forged")]
    NotYetValid {
        /// When it will be.
        valid_at: Timestamp,
    },
    /// Its times speak against it by our clock, but our clock and the Store's disagree.
    #[error("our clock and the Store's differ by more than five minutes: whether this key is valid cannot be said")]
    ClockSkewed,
    /// Its times speak against it by our clock, which no response has confirmed since the start.
    #[error(
        "by our clock this key is not valid, but neither the Store nor Entra ID has answered since the start to confirm our clock"
    )]
    ClockUnverified,
    /// The keyring could not make it durable.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The row changed under us again and again.
    #[error("the same row is being written by many callers at once: try again")]
    TooBusy,
    /// The keeper is going away.
    #[error("the keeper is shutting down: try again elsewhere or later")]
    ShuttingDown,
}

impl EnrollError {
    /// The stable word.
    pub const fn code(&self) -> Code {
        match self {
            Self::AppUnknown => Code::AppUnknown,
            Self::Key(ParseKeyError::Empty) => Code::KeyEmpty,
            Self::Key(ParseKeyError::TooLarge) => Code::KeyTooLarge,
            Self::Key(_) => Code::KeyMalformed,
            Self::WrongKind { .. } => Code::KeyWrongKind,
            Self::WrongClient => Code::KeyWrongClient,
            Self::WrongUser => Code::KeyWrongUser,
            Self::Older => Code::KeyOlder,
            Self::Revoked => Code::KeyRevoked,
            Self::Lapsed => Code::KeyLapsed,
            Self::Altered => Code::KeyAltered,
            Self::Expired { .. } => Code::KeyExpired,
            Self::NotYetValid { .. } => Code::KeyNotYetValid,
            Self::ClockSkewed | Self::ClockUnverified => Code::ClockSkewed,
            Self::Keyring(_) => Code::KeyringUnavailable,
            Self::TooBusy => Code::TooBusy,
            Self::ShuttingDown => Code::ShuttingDown,
        }
    }
}

/// Why no live key can be handed out, or nothing can be said about one.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such app is configured.
    #[error("no app of this name is configured")]
    AppUnknown,
    /// No row.
    #[error("no key is enrolled under this name")]
    NotFound,
    /// Condemned.
    #[error("the Store refuses this key for good: the player has to mint a new one")]
    Revoked,
    /// Expired before we renewed it.
    #[error("this key expired before it could be renewed: the player has to mint a new one")]
    Lapsed,
    /// Its renewals are another keeper's now, and so is its successor.
    #[error("this key was handed over to another keeper, which renews it: ask that one")]
    HandedOver,
    /// It has expired by our clock, but our clock and the Store's disagree.
    #[error("our clock and the Store's differ by more than five minutes: whether this key has expired cannot be said")]
    ClockSkewed,
    /// It has expired by our clock, which no response has confirmed since the start.
    #[error(
        "by our clock this key has expired, but neither the Store nor Entra ID has answered since the start to confirm our clock"
    )]
    ClockUnverified,
    /// `min_ttl` is longer than half the key's own lifetime.
    #[error("`min_ttl` may be at most half of the key's lifetime")]
    MinTtlTooLong,
    /// The keyring cannot be read, and the cache does not hold it.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

impl ReadError {
    /// The stable word.
    pub const fn code(&self) -> Code {
        match self {
            Self::AppUnknown => Code::AppUnknown,
            Self::NotFound => Code::KeyNotFound,
            Self::Revoked => Code::KeyRevoked,
            Self::HandedOver => Code::KeyHandedOver,
            Self::Lapsed => Code::KeyLapsed,
            Self::ClockSkewed | Self::ClockUnverified => Code::ClockSkewed,
            Self::MinTtlTooLong => Code::MinTtlTooLong,
            Self::Keyring(_) => Code::KeyringUnavailable,
        }
    }
}

/// Why a renewal that was asked for was not made. The held key is untouched, and served while it lives.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// As for a read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The app is paused.
    #[error("the app is paused ({reason}): its keys are served, not renewed")]
    Paused {
        /// The stable word.
        reason: String,
    },
    /// The Store said no.
    #[error("the Store refused the renewal; the key is served while it lives, and tried again")]
    Refused,
    /// No answer that says anything about the key.
    #[error("the renewal failed ({code}); the key is served while it lives, and tried again")]
    Failed {
        /// A stable word for what failed.
        code: &'static str,
        /// When to ask again.
        retry_after: Option<Duration>,
    },
    /// The keeper is going away.
    #[error("the keeper is shutting down: try again elsewhere or later")]
    ShuttingDown,
}

impl RenewError {
    /// The stable word.
    pub const fn code(&self) -> Code {
        match self {
            Self::Read(error) => error.code(),
            Self::Paused { .. } => Code::AppPaused,
            Self::Refused => Code::RenewalRefused,
            Self::Failed { .. } => Code::RenewalFailed,
            Self::ShuttingDown => Code::ShuttingDown,
        }
    }
}

/// Why there is no ticket for a caller.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TicketError {
    /// No such app is configured.
    #[error("no app of this name is configured")]
    AppUnknown,
    /// Entra refuses the app's credentials.
    #[error("Entra ID refuses the app's credentials ({code}): an operator has to renew them")]
    Refused {
        /// A stable word, such as `invalid_client`.
        code: String,
    },
    /// Entra cannot be reached or answers with an error that may pass.
    #[error("Entra ID gives no ticket at the moment ({code}): try again")]
    Unavailable {
        /// A stable word.
        code: String,
        /// When to ask again.
        retry_after: Option<Duration>,
    },
    /// The keeper is going away.
    #[error("the keeper is shutting down: try again elsewhere or later")]
    ShuttingDown,
}

impl TicketError {
    /// The stable word.
    pub const fn code(&self) -> Code {
        match self {
            Self::AppUnknown => Code::AppUnknown,
            Self::Refused { .. } => Code::TicketRefused,
            Self::Unavailable { .. } => Code::TicketUnavailable,
            Self::ShuttingDown => Code::ShuttingDown,
        }
    }
}

/// Why a key was not marked as handed over.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// No row.
    #[error("no key is enrolled under this name")]
    NotFound,
    /// The row is not as it was exported.
    #[error("the key has changed since it was exported: export it again")]
    Changed,
    /// Other keepers hold leases, and may be renewing what is to be marked.
    #[error(
        "other keepers of this keyring renew some of its keys: drain them first (`storekeeper node drain NODE`) and begin again"
    )]
    LeasesElsewhere,
    /// The keyring could not make it durable.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

impl HandOverError {
    /// The stable word.
    pub const fn code(&self) -> Code {
        match self {
            Self::NotFound => Code::KeyNotFound,
            Self::Changed => Code::KeyChanged,
            Self::LeasesElsewhere => Code::LeasesElsewhere,
            Self::Keyring(_) => Code::KeyringUnavailable,
        }
    }
}

/// Why an operator's order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// No such app is configured.
    #[error("no app of this name is configured")]
    AppUnknown,
    /// The keyring could not make it durable.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The keeper is going away.
    #[error("the keeper is shutting down: try again elsewhere or later")]
    ShuttingDown,
}

impl OrderError {
    /// The stable word.
    pub const fn code(&self) -> Code {
        match self {
            Self::AppUnknown => Code::AppUnknown,
            Self::Keyring(_) => Code::KeyringUnavailable,
            Self::ShuttingDown => Code::ShuttingDown,
        }
    }
}

/// Why a node could not be told to drain.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No node has this id or name.
    #[error("no node of this id or name shares the keyring")]
    Unknown,
    /// Several nodes have this name.
    #[error("several nodes have this name: say the id of the one that is meant")]
    Ambiguous,
    /// The keyring is not shared.
    #[error("one keeper alone holds this keyring: there is nobody to take its leases; stop it instead")]
    Alone,
    /// The keyring cannot be asked.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

impl From<ReadError> for NodeError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Keyring(error) => Self::Keyring(error),
            other => Self::Keyring(KeyringError::Unavailable(other.to_string())),
        }
    }
}

impl NodeError {
    /// The stable word.
    pub const fn code(&self) -> Code {
        match self {
            Self::Unknown | Self::Ambiguous => Code::NodeUnknown,
            Self::Alone => Code::NodeAlone,
            Self::Keyring(_) => Code::KeyringUnavailable,
        }
    }
}
