//! What callers see of the population: keys, outcomes and statistics, without anything secret unless asked for.

use std::time::Duration;

use storekeeper_keyring::{Paused, Record};
use storekeeper_model::{AppName, CertificateId, Fingerprint, Identity, KeyKind, Secret, Slot, Timestamp, UserName};
use storekeeper_policy::Standing;

/// What is known of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyView {
    /// Whose it is.
    pub identity: Identity,
    /// `active`, `revoked` or `lapsed`, at the instant it was asked for.
    pub standing: Standing,
    /// Whether the Store has renewed this line at least once.
    pub proven: bool,
    /// Since when the Store refuses it, if it does.
    pub refused_since: Option<Timestamp>,
    /// Changes only with the key.
    pub key_version: u32,
    /// How to speak of it.
    pub fingerprint: Fingerprint,
    /// Which certificate signed it.
    pub certificate: CertificateId,
    /// The claim `iat`.
    pub issued_at: Timestamp,
    /// The claim `exp`; `None` when the key's times are unusable.
    pub expires_at: Option<Timestamp>,
    /// When the next attempt is due; `None` when none will be made.
    pub renew_at: Option<Timestamp>,
    /// Whether a newcomer waits beside it for proof.
    pub newcomer: Option<Fingerprint>,
    /// Whether its renewals are another keeper's now.
    pub handed_over: bool,
}

impl KeyView {
    /// What a row shows at `now`.
    pub fn of(record: &Record, now: Timestamp) -> Self {
        let expires_at = record.key.lifetime.expires_at();
        Self {
            identity: record.identity.clone(),
            standing: storekeeper_policy::standing(record.state.is_revoked(), expires_at, now),
            proven: record.proven,
            refused_since: record.state.refused().map(|refused| refused.since),
            key_version: record.key_version,
            fingerprint: record.key.fingerprint,
            certificate: record.key.certificate.clone(),
            issued_at: record.key.lifetime.issued_at(),
            expires_at,
            renew_at: record.next_attempt_at.filter(|_| !record.is_handed_over()),
            handed_over: record.is_handed_over(),
            newcomer: record.newcomer.as_ref().map(|newcomer| newcomer.key.fingerprint),
        }
    }
}

/// A key that can be used now.
#[derive(Debug, Clone)]
pub struct LiveKey {
    /// Its text.
    pub key: Secret<String>,
    /// What is known of it.
    pub view: KeyView,
    /// `min_ttl` asked for more life than this key has and the renewal failed: why, as a stable word.
    pub renewal_failed: Option<&'static str>,
}

/// A key handed in.
#[derive(Debug, Clone)]
pub struct EnrollRequest {
    /// The configured name.
    pub app: AppName,
    /// The backend's own name for the player.
    pub user: UserName,
    /// Which of the player's Store accounts.
    pub slot: Slot,
    /// The kind the caller named; `None` takes the key's own.
    pub kind: Option<KeyKind>,
    /// The compact JWT.
    pub key: Secret<String>,
}

/// What became of a key handed in; durable when this is returned.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// New row, known key, replaced or waiting.
    pub outcome: EnrollOutcome,
    /// The key that was handed in.
    pub fingerprint: Fingerprint,
    /// The row as it stands now; of a waiting newcomer, the held key.
    pub view: KeyView,
}

/// How a key was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnrollOutcome {
    /// A row that was not there: HTTP 201.
    New,
    /// The key held, or the one last enrolled: HTTP 200.
    Known,
    /// It took the place of another: HTTP 200.
    Replaced,
    /// It waits beside a proven live key until the Store has accepted it: HTTP 200.
    Waiting,
}

impl EnrollOutcome {
    /// The name used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Known => "known",
            Self::Replaced => "replaced",
            Self::Waiting => "waiting",
        }
    }
}

/// Which apps a caller may see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Visibility {
    /// Every app.
    #[default]
    All,
    /// These apps; an empty list leaves none.
    Only(Vec<AppName>),
}

impl Visibility {
    /// Whether every app may be seen, those of the future included.
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }

    /// Whether the app of this name may be seen.
    pub fn sees(&self, app: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(apps) => apps.iter().any(|allowed| allowed.as_str() == app),
        }
    }

    /// Whether no app may be seen.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Only(apps) if apps.is_empty())
    }

    /// The one app that may be seen, where there is exactly one.
    pub(crate) fn only_app(&self) -> Option<&AppName> {
        match self {
            Self::Only(apps) => <&[AppName; 1]>::try_from(apps.as_slice()).ok().map(|[app]| app),
            Self::All => None,
        }
    }
}

/// Which keys to list, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Only this app's; `None` lists every app the caller may see.
    pub app: Option<AppName>,
    /// Only keys of apps that the caller may see.
    pub visible: Visibility,
    /// Only keys in this state.
    pub standing: Option<Standing>,
    /// Only keys whose next attempt is due before this instant.
    pub due_before: Option<Timestamp>,
    /// Where the last page ended.
    pub after: Option<storekeeper_model::KeyId>,
    /// At most this many.
    pub limit: usize,
}

/// A page of keys.
#[derive(Debug, Clone)]
pub struct KeyPage {
    /// In the order of their ids; may be shorter than the limit although there are more.
    pub keys: Vec<KeyView>,
    /// Ask for keys after this one; `None` at the end.
    pub next: Option<storekeeper_model::KeyId>,
}

/// The population and what is done for it. Counts are exact.
#[derive(Debug, Clone)]
pub struct Stats {
    /// The keeper's clock.
    pub now: Timestamp,
    /// One entry per configured app, in the order of configuration.
    pub apps: Vec<AppStats>,
    /// Our clock minus the Store's, when an answer has told.
    pub clock_skew: Option<SignedSpan>,
}

/// A span with a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedSpan {
    /// Ours is ahead by this much.
    Ahead(Duration),
    /// Ours is behind by this much.
    Behind(Duration),
}

impl SignedSpan {
    /// Our clock against the Store's.
    pub(crate) fn between(ours: Timestamp, theirs: Timestamp) -> Self {
        if ours >= theirs { Self::Ahead(ours.since(theirs)) } else { Self::Behind(theirs.since(ours)) }
    }
}

/// One app's share of [`Stats`].
#[derive(Debug, Clone)]
pub struct AppStats {
    /// The configured name.
    pub app: AppName,
    /// Per kind.
    pub kinds: Vec<(KeyKind, KindStats)>,
    /// Why its keys are not renewed, if they are not.
    pub paused: Option<Paused>,
    /// Keys that wait for an operator because the daily cap on condemnations was reached.
    pub awaiting_operator: u64,
    /// When a key that is handed over was last asked for here, if that was within the last hour.
    pub handed_over_read_at: Option<Timestamp>,
    /// When the first key that is handed over expires, if that is within the policy's outage budget.
    pub handed_over_expiring_at: Option<Timestamp>,
    /// Renewals since this process started.
    pub renewed: u64,
    /// Attempts without a successor since this process started.
    pub failed: u64,
}

/// Counts of one app and kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KindStats {
    /// Alive and kept.
    pub active: u64,
    /// Condemned.
    pub revoked: u64,
    /// Expired before we renewed them.
    pub lapsed: u64,
    /// Active with a refusal held against them.
    pub refused: u64,
    /// Never renewed by the Store.
    pub unproven: u64,
    /// Active keys past their moment.
    pub due_backlog: u64,
    /// Active keys past the deadline.
    pub past_deadline: u64,
    /// Handed over to another keeper, and neither active nor lapsed.
    pub handed_over: u64,
    /// When the first of those expires here that has not yet.
    pub handed_over_until: Option<Timestamp>,
}

/// A service ticket for a caller.
#[derive(Debug, Clone)]
pub struct TicketView {
    /// The access token.
    pub access_token: Secret<String>,
    /// Until when it may be used, by our clock.
    pub expires_at: Timestamp,
}
