//! What happens to a keeper in a simulated year.

use std::time::Duration;

use storekeeper_emulator::{Profile, Superseded};

/// Something that happens at an instant; what lasts ends by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    /// The renewal endpoint answers nothing useful.
    Outage {
        /// For how long.
        span: Duration,
        /// How it fails.
        how: Outage,
    },
    /// This share of renewals is refused although nothing is wrong with key or ticket.
    FalseRefusals {
        /// For how long.
        span: Duration,
        /// 0 to 1.
        share: f64,
    },
    /// The Store renews, but this share of its answers is lost on the way.
    LostAnswers {
        /// For how long.
        span: Duration,
        /// 0 to 1.
        share: f64,
    },
    /// Entra gives no tickets.
    NoTickets {
        /// For how long.
        span: Duration,
        /// Whether it refuses the credential, or just fails.
        refused: bool,
    },
    /// The keyring fails every call.
    KeyringDown {
        /// For how long.
        span: Duration,
    },
    /// The keeper's clock is wrong.
    ClockJump {
        /// For how long.
        span: Duration,
        /// By how much, in milliseconds.
        offset: i64,
    },
    /// The Store revokes the keys held for this many players.
    Revoke {
        /// How many.
        keys: usize,
    },
    /// The Store signs with a new certificate; older ones are accepted for this much longer.
    Rotate {
        /// How much longer.
        accept_previous_for: Duration,
    },
    /// The keeper is killed and started again; what was under way is gone.
    Restart,
    /// Players start the game again: a new key each.
    Reenroll {
        /// How many.
        keys: usize,
        /// Keys the Store will refuse.
        forged: bool,
    },
}

/// How an outage looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// 503.
    Unavailable,
    /// No answer.
    Silent,
    /// 500 with an HTML page.
    Broken,
    /// 429 with `Retry-After`.
    Throttling,
    /// The server fault that is delivered as 401 (store.md 5.3).
    WrappedFault,
}

/// One operation and when it happens, counted from the start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// When.
    pub at: Duration,
    /// What.
    pub op: Op,
}

/// A whole year.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Decides everything that is drawn.
    pub seed: u64,
    /// How many keys.
    pub keys: usize,
    /// How long.
    pub span: Duration,
    /// Which era of the Store.
    pub profile: Profile,
    /// The open question whether a superseded key still renews.
    pub superseded: Superseded,
    /// In the order of time.
    pub steps: Vec<Step>,
}
