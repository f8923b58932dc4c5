//! What a keeper answers, as far as commands look at it (`docs/reference/http.md`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use storekeeper_model::Timestamp;

/// What is known of a key.
#[derive(Debug, Clone, Deserialize)]
pub struct Key {
    /// The configured app.
    pub app: String,
    /// The backend's own name for the player.
    pub user: String,
    /// Which of the player's Store accounts; usually empty.
    pub slot: String,
    /// `collections` or `purchase`.
    pub kind: String,
    /// `active`, `revoked` or `lapsed`.
    pub state: String,
    /// Whether the Store has renewed this line at least once.
    pub proven: bool,
    /// Since when the Store refuses it, if it does.
    pub refused_since: Option<Timestamp>,
    /// Changes only with the key.
    pub key_version: u32,
    /// How to speak of it.
    pub fingerprint: String,
    /// Which certificate signed it.
    pub certificate: String,
    /// The claim `iat`.
    pub issued_at: Timestamp,
    /// The claim `exp`; `None` when the key's times are unusable.
    pub expires_at: Option<Timestamp>,
    /// When the next renewal is due; `None` when none will be made.
    pub renew_at: Option<Timestamp>,
    /// The fingerprint of a newer key that waits until the Store has accepted it.
    #[serde(default)]
    pub newcomer: Option<String>,
    /// Whether its renewals are another keeper's now.
    #[serde(default)]
    pub handed_over: bool,
}

/// A key with its text.
#[derive(Deserialize)]
pub struct LiveKey {
    /// The compact JWT.
    pub key: String,
}

/// A key handed in.
#[derive(Debug, Clone, Deserialize)]
pub struct Enrolled {
    /// `new`, `known`, `replaced` or `waiting`.
    pub outcome: String,
    /// The fingerprint of the key that was handed in.
    pub enrolled: String,
    /// The key that is held.
    #[serde(flatten)]
    pub key: Key,
}

/// A page of keys.
#[derive(Debug, Clone, Deserialize)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<Key>,
    /// Where to read on.
    pub next: Option<String>,
}

/// The last outcomes of a key.
#[derive(Debug, Clone, Deserialize)]
pub struct History {
    /// Oldest first.
    pub outcomes: Vec<Outcome>,
}

/// One outcome.
#[derive(Debug, Clone, Deserialize)]
pub struct Outcome {
    /// When, by the keeper's clock.
    pub at: Timestamp,
    /// `enrolled`, `renewed`, `refused`, `failed` …
    pub result: String,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// A stable word that says why.
    pub code: String,
    /// The Store's `MS-CorrelationId`.
    pub correlation_id: Option<String>,
}

/// The population.
#[derive(Debug, Clone, Deserialize)]
pub struct Stats {
    /// The keeper's clock.
    pub now: Timestamp,
    /// Our clock minus the Store's.
    #[serde(default)]
    pub clock_skew_seconds: Option<f64>,
    /// By name.
    pub apps: BTreeMap<String, AppStats>,
}

/// What an operator has to look at.
#[derive(Debug, Clone, Deserialize)]
pub struct Health {
    /// The most urgent first.
    pub conditions: Vec<Condition>,
}

/// One thing that an operator has to look at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Condition {
    /// A stable word.
    pub code: String,
    /// The app it concerns, if it is one.
    pub app: Option<String>,
    /// The same for a person.
    pub detail: String,
}

/// One app's share.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct AppStats {
    /// How many keys are in which state.
    pub keys: KeyCounts,
    /// Active keys with a refusal held against them.
    pub refused: u64,
    /// Keys the Store has not renewed yet.
    pub unproven: u64,
    /// Why the app's keys are not renewed.
    pub paused: Option<String>,
    /// The same for a person.
    #[serde(default)]
    pub paused_detail: Option<String>,
    /// Since when.
    #[serde(default)]
    pub paused_since: Option<Timestamp>,
    /// Active keys past their moment.
    pub due_backlog: u64,
    /// Active keys older than the policy's deadline.
    #[serde(default)]
    pub past_deadline: u64,
    /// Keys whose renewals are another keeper's now.
    #[serde(default)]
    pub handed_over: u64,
    /// Keys that wait for `app resume --condemn`.
    #[serde(default)]
    pub awaiting_operator: u64,
    /// What came of renewals since the keeper started.
    pub renewals: RenewalCounts,
}

/// How many keys are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct KeyCounts {
    /// Alive and kept.
    pub active: u64,
    /// Condemned.
    pub revoked: u64,
    /// Expired before they were renewed.
    pub lapsed: u64,
}

/// What came of renewals since the keeper started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct RenewalCounts {
    /// Successors.
    pub renewed: u64,
    /// Attempts without one.
    pub failed: u64,
}

/// An operator's order, carried out.
#[derive(Debug, Clone, Deserialize)]
pub struct Order {
    /// How many waiting keys were condemned.
    #[serde(default)]
    pub condemned: Option<u64>,
    /// How many keys are active again.
    #[serde(default)]
    pub acquitted: Option<u64>,
    /// How many keys that were handed over are renewed here again.
    #[serde(default)]
    pub reclaimed: Option<u64>,
}

impl Stats {
    /// All apps together.
    pub fn keys(&self) -> KeyCounts {
        self.apps.values().fold(KeyCounts::default(), |sum, app| KeyCounts {
            active: sum.active + app.keys.active,
            revoked: sum.revoked + app.keys.revoked,
            lapsed: sum.lapsed + app.keys.lapsed,
        })
    }
}

/// What an emulator's clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct ClockState {
    /// The instant it is.
    pub now: Timestamp,
    /// Virtual seconds per real second; 0 when frozen.
    pub rate: f64,
}

/// A keeper that shares the keyring.
#[derive(Debug, Clone, Deserialize)]
pub struct Node {
    /// Made anew at each start.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// How many leases are its own.
    pub leases: u64,
    /// It gives its leases back and wants no others.
    pub draining: bool,
    /// How its clock stands to the Store's, where the keeper says.
    #[serde(default)]
    pub clock: String,
    /// Whether it is the one that answered.
    pub answering: bool,
}

/// The keepers that share the keyring, and how the leases are spread over them.
#[derive(Debug, Clone, Deserialize)]
pub struct Fleet {
    /// In the order of their ids.
    pub nodes: Vec<Node>,
    /// How many leases are nobody's.
    pub free: u64,
}
