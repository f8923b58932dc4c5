//! `App`: what the engine knows of one app beyond its configuration: paused or not, the guard, the witnesses, the cap.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use storekeeper_keyring::{AppRow, Paused};
use storekeeper_model::{AppName, ClientId, KeyId, KeyKind, Timestamp};
use storekeeper_policy::{CondemnationCap, Guard, RenewalPolicy};

use super::event::TicketIndex;

/// How often a paused app is probed, and how often witnesses are sought.
pub(super) const PROBE_PAUSE: Duration = Duration::from_secs(300);
/// At most this many condemnations wait for an operator by name; more are only counted.
const AWAITING_MAX: usize = 100_000;

/// Why an app is paused. The words are stable: they stand in the API, in metrics and in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PauseReason {
    /// An operator said so, and only an operator resumes.
    Operator,
    /// Too many proven keys are refused to believe it of each.
    Guard,
    /// The Store says that our client ID is not the keys'.
    InconsistentClientId,
    /// Entra refuses our credentials.
    Credential,
}

impl PauseReason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Operator, Self::Guard, Self::InconsistentClientId, Self::Credential];

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Guard => "guard",
            Self::InconsistentClientId => "inconsistent_client_id",
            Self::Credential => "credential",
        }
    }

    fn parse(word: &str) -> Self {
        // A word of a newer version pauses until an operator looks: an unknown state is no default.
        Self::ALL.into_iter().find(|reason| reason.as_str() == word).unwrap_or(Self::Operator)
    }

    /// Whether a renewal that succeeds shows that the reason is gone.
    fn is_probed(self) -> bool {
        matches!(self, Self::Guard | Self::InconsistentClientId)
    }
}

/// One app.
#[derive(Debug)]
pub(super) struct App {
    pub(super) name: AppName,
    pub(super) client_id: ClientId,
    pub(super) policy: RenewalPolicy,
    /// The service ticket's place.
    pub(super) ticket: TicketIndex,
    pub(super) paused: Option<Paused>,
    pub(super) reason: Option<PauseReason>,
    pub(super) probe_at: Option<Timestamp>,
    pub(super) guard: Guard,
    pub(super) cap: CondemnationCap,
    pub(super) evidence_since: Timestamp,
    /// When another proven key was last renewed.
    pub(super) witness_at: Option<Timestamp>,
    pub(super) witnesses_sought_at: Option<Timestamp>,
    /// The day on which an operator lifted the cap.
    pub(super) cap_lifted_on: Option<i64>,
    pub(super) awaiting_operator: HashSet<KeyId>,
    /// The span the last key of each kind was issued for.
    pub(super) lifetimes: HashMap<KeyKind, Duration>,
    /// How many keys it has, as last counted; for the cap.
    pub(super) population: u64,
    /// Its row could not be saved; try again at this instant.
    pub(super) save_at: Option<Timestamp>,
}

impl App {
    pub(super) fn new(
        name: AppName,
        client_id: ClientId,
        policy: RenewalPolicy,
        ticket: TicketIndex,
        row: Option<&AppRow>,
        population: u64,
        now: Timestamp,
    ) -> Self {
        let today = row.filter(|row| row.condemned_day == now.day());
        let cap = today.map_or_else(CondemnationCap::new, |row| CondemnationCap::restored(now, row.condemned));
        let paused = row.and_then(|row| row.paused.clone());
        let reason = paused.as_ref().map(|paused| PauseReason::parse(&paused.reason));
        Self {
            name,
            client_id,
            policy,
            ticket,
            // Probe at once: what had paused the app may have passed while nobody looked.
            probe_at: reason.filter(|reason| reason.is_probed()).map(|_| Timestamp::MIN),
            paused,
            reason,
            guard: Guard::default(),
            cap,
            evidence_since: row.map_or(Timestamp::MIN, |row| row.evidence_since),
            witness_at: None,
            witnesses_sought_at: None,
            cap_lifted_on: None,
            awaiting_operator: HashSet::new(),
            lifetimes: HashMap::new(),
            population,
            save_at: None,
        }
    }

    /// The row as it has to be saved.
    pub(super) fn row(&self, now: Timestamp) -> AppRow {
        AppRow {
            name: self.name.clone(),
            client_id: self.client_id.clone(),
            paused: self.paused.clone(),
            evidence_since: self.evidence_since,
            condemned_day: now.day(),
            condemned: self.cap.taken(),
        }
    }

    /// Pauses, unless it is paused already; an operator's pause outranks every other. Returns whether anything changed.
    pub(super) fn pause(&mut self, reason: PauseReason, detail: String, now: Timestamp) -> bool {
        if self.reason.is_some() && (reason != PauseReason::Operator || self.reason == Some(PauseReason::Operator)) {
            return false;
        }
        self.paused = Some(Paused { reason: reason.as_str().to_owned(), detail, since: now });
        self.reason = Some(reason);
        self.probe_at = reason.is_probed().then(|| now + PROBE_PAUSE);
        self.evidence_since = now;
        true
    }

    /// Resumes; what was held against keys until now proves nothing. Returns the reason it had been paused for.
    pub(super) fn resume(&mut self, now: Timestamp) -> Option<String> {
        let paused = self.paused.take()?;
        self.reason = None;
        self.probe_at = None;
        self.void_evidence(now);
        Some(paused.reason)
    }

    pub(super) fn void_evidence(&mut self, now: Timestamp) {
        self.evidence_since = now;
        self.guard.clear();
        self.awaiting_operator.clear();
    }

    pub(super) fn is_paused(&self) -> bool {
        self.reason.is_some()
    }

    /// A condemnation waits for an operator.
    pub(super) fn await_operator(&mut self, id: KeyId) {
        if self.awaiting_operator.len() < AWAITING_MAX {
            self.awaiting_operator.insert(id);
        }
    }

    /// Whether one more key may be condemned today.
    pub(super) fn may_condemn(&mut self, now: Timestamp) -> bool {
        self.cap_lifted_on == Some(now.day()) || self.cap.try_take(now, self.population)
    }

    /// Whether witnesses may be sought, which is not done for every single refusal.
    pub(super) fn may_seek_witnesses(&mut self, now: Timestamp) -> bool {
        let may = self.witnesses_sought_at.is_none_or(|at| now < at || at + PROBE_PAUSE <= now);
        if may {
            self.witnesses_sought_at = Some(now);
        }
        may
    }

    /// The clock went back: what was to be waited for may lie far ahead, and what was dated then proves nothing.
    pub(super) fn clock_went_back(&mut self, now: Timestamp) {
        self.probe_at = self.probe_at.map(|at| at.min(now));
        self.save_at = self.save_at.map(|at| at.min(now));
        self.witnesses_sought_at = None;
        self.witness_at = self.witness_at.filter(|at| *at <= now);
        self.evidence_since = self.evidence_since.min(now);
    }
}
