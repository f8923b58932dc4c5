//! `App`: what the engine knows of one app beyond its configuration: paused or not, the guard, the witnesses, the cap.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use storekeeper_keyring::{AppRow, Paused};
use storekeeper_model::{AppName, ClientId, KeyId, KeyKind, Timestamp};
use storekeeper_policy::{CondemnationCap, Guard, RenewalPolicy};

use super::event::{Saving, TicketIndex};

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
    /// The row as it was last saved or seen; another keeper may have changed it since.
    seen: AppRow,
    /// How many rows are on their way to be saved.
    pub(super) saves: usize,
    /// Another keeper cannot get tickets. Ours may work.
    others_pause: Option<Paused>,
    /// Our part of the population, and how many more condemnations that leaves us; `None` without other keepers.
    part: Option<(f64, u64)>,
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
        let seen = row.cloned().unwrap_or_else(|| AppRow {
            name: name.clone(),
            client_id: client_id.clone(),
            paused: None,
            evidence_since: Timestamp::MIN,
            condemned_day: now.day(),
            condemned: 0,
        });
        let today = row.filter(|row| row.condemned_day == now.day());
        let cap_lifted_on = today.filter(|row| row.is_cap_lifted(now.day())).map(|row| row.condemned_day);
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
            cap_lifted_on,
            awaiting_operator: HashSet::new(),
            lifetimes: HashMap::new(),
            population,
            save_at: None,
            seen,
            saves: 0,
            others_pause: None,
            part: None,
        }
    }

    /// The row as it has to be saved.
    pub(super) fn row(&self, now: Timestamp) -> AppRow {
        AppRow {
            name: self.name.clone(),
            client_id: self.client_id.clone(),
            paused: self.paused.clone().or_else(|| self.others_pause.clone()),
            evidence_since: self.evidence_since,
            condemned_day: now.day(),
            condemned: if self.is_cap_lifted(now) { AppRow::CAP_LIFTED } else { self.cap.taken_on(now) },
        }
    }

    /// The row to be saved now, and what it was before.
    pub(super) fn saving(&mut self, now: Timestamp) -> Saving {
        self.saves += 1;
        self.save_at = None;
        let row = self.row(now);
        Saving { seen: std::mem::replace(&mut self.seen, row.clone()), row }
    }

    /// Takes over what stands in the row: all keepers pause and resume together, but for credentials, which each has of
    /// its own.
    pub(super) fn adopt(&mut self, row: &AppRow, now: Timestamp) {
        self.seen = row.clone();
        self.evidence_since = self.evidence_since.max(row.evidence_since);
        if row.is_cap_lifted(now.day()) {
            self.cap_lifted_on = Some(now.day());
        }
        let condemned = if row.condemned_day == now.day() { row.condemned } else { 0 };
        self.cap = CondemnationCap::restored(now, condemned);
        if let Some((part, _)) = self.part {
            self.share_cap(part, now);
        }
        let is_ours = self.reason == Some(PauseReason::Credential);
        let is_credential = |paused: &Paused| PauseReason::parse(&paused.reason) == PauseReason::Credential;
        self.others_pause = row.paused.clone().filter(|paused| !is_ours && is_credential(paused));
        let theirs = row.paused.as_ref().filter(|paused| !is_credential(paused));
        match theirs.map(|paused| PauseReason::parse(&paused.reason)) {
            None if is_ours => {}
            _ if self.paused.as_ref() == theirs => {}
            None => {
                (self.paused, self.reason, self.probe_at) = (None, None, None);
                self.guard.clear();
                self.awaiting_operator.clear();
            }
            Some(reason) => {
                (self.paused, self.reason) = (theirs.cloned(), Some(reason));
                self.probe_at = reason.is_probed().then(|| now + PROBE_PAUSE);
            }
        }
    }

    /// Whether an operator lets any number be condemned today.
    pub(super) fn is_cap_lifted(&self, now: Timestamp) -> bool {
        self.cap_lifted_on == Some(now.day())
    }

    /// So much of the population is ours; of what may still be condemned today we may condemn as much.
    pub(super) fn share_cap(&mut self, part: f64, now: Timestamp) {
        let left = CondemnationCap::allowance(self.population).saturating_sub(self.cap.taken_on(now));
        self.part = Some((part, (left as f64 * part) as u64));
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
        if self.is_cap_lifted(now) {
            return true;
        }
        if self.part.is_some_and(|(_, left)| left == 0) {
            return false;
        }
        let may = self.cap.try_take(now, self.population);
        if let Some((_, left)) = &mut self.part {
            *left -= u64::from(may);
        }
        may
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
