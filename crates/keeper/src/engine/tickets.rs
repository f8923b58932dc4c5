//! `Tickets`: one service ticket per (tenant, client ID, audience), fetched once, shared, refreshed in use past half-life.

use std::sync::Arc;
use std::time::Duration;

use storekeeper_model::{Audience, ClientId, ServiceTicket, Timestamp};
use storekeeper_policy::TicketTimes;

use super::event::{Action, AppIndex, TicketFault, TicketIndex, Waiter};
use super::latency::{Latency, LatencyObservation};

/// A refusal may force a fetch at most this long after the last one.
const FORCED_PAUSE: Duration = Duration::from_secs(60);
/// A fetch that failed for a passing reason is repeated after this, doubled with each failure up to the maximum.
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// A fetch that only an operator can mend is repeated at this pace.
const PROBE_PAUSE: Duration = Duration::from_secs(300);

/// What the holder of a ticket's place gets when it asks.
#[derive(Debug, Clone)]
pub(super) enum Demand {
    /// Use this.
    Use(Arc<ServiceTicket>),
    /// A fetch is under way or will be made; ask again when it has come.
    Wait,
}

/// A ticket in use.
#[derive(Debug)]
struct Held {
    ticket: Arc<ServiceTicket>,
    times: TicketTimes,
}

/// One ticket's place.
#[derive(Debug)]
pub(super) struct Place {
    /// One of the apps that use it.
    app: AppIndex,
    tenant: String,
    client_id: ClientId,
    audience: Audience,
    credentials: usize,
    /// The credential in use.
    credential: usize,
    /// Credentials refused in a row; all of them means that only an operator can mend it.
    refused_in_row: usize,
    held: Option<Held>,
    /// When the fetch under way began.
    fetching_since: Option<Timestamp>,
    /// When the last fetch began.
    asked_at: Option<Timestamp>,
    retry_at: Option<Timestamp>,
    failures: u32,
    /// The last fetch's fault, until one succeeds.
    fault: Option<TicketFault>,
    /// Since when every fetch has failed.
    fault_since: Option<Timestamp>,
    /// How long Entra took for the last answers.
    latency: Latency,
    /// Callers of the API.
    callers: Vec<Waiter>,
}

/// All places.
#[derive(Debug, Default)]
pub(super) struct Tickets(Vec<Place>);

impl Tickets {
    /// The place for these, made when it is not there yet.
    pub(super) fn place(
        &mut self,
        app: AppIndex,
        tenant: &str,
        client_id: &ClientId,
        audience: Audience,
        credentials: usize,
    ) -> TicketIndex {
        let same =
            |place: &Place| place.tenant == tenant && place.client_id == *client_id && place.audience == audience;
        if let Some(index) = self.0.iter().position(same) {
            return TicketIndex(index);
        }
        self.0.push(Place {
            app,
            tenant: tenant.to_owned(),
            client_id: client_id.clone(),
            audience,
            credentials,
            credential: 0,
            refused_in_row: 0,
            held: None,
            fetching_since: None,
            asked_at: None,
            retry_at: None,
            failures: 0,
            fault: None,
            fault_since: None,
            latency: Latency::default(),
            callers: Vec::new(),
        });
        TicketIndex(self.0.len() - 1)
    }

    pub(super) fn get(&self, index: TicketIndex) -> &Place {
        &self.0[index.0]
    }

    pub(super) fn get_mut(&mut self, index: TicketIndex) -> &mut Place {
        &mut self.0[index.0]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.0.iter()
    }

    /// Credentials may have changed: what was refused is asked for again at once.
    pub(super) fn credentials_changed(&mut self) {
        for place in self.0.iter_mut().filter(|place| place.fault.is_some()) {
            place.retry_at = None;
            place.refused_in_row = 0;
        }
    }

    /// How many fetches are under way.
    pub(super) fn fetching(&self) -> usize {
        self.0.iter().filter(|place| place.fetching_since.is_some()).count()
    }

    /// The clock went back: what was to be waited for may lie far ahead.
    pub(super) fn clock_went_back(&mut self) {
        for place in &mut self.0 {
            place.retry_at = None;
            place.asked_at = None;
        }
    }
}

impl Place {
    pub(super) fn audience(&self) -> Audience {
        self.audience
    }

    pub(super) fn client_id(&self) -> &ClientId {
        &self.client_id
    }

    /// Until when the ticket in hand may be used, by our clock.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        self.held.as_ref().map(|held| held.times.expires_at())
    }

    /// What the last fetch failed with, until one succeeds.
    pub(super) fn fault(&self) -> Option<&TicketFault> {
        self.fault.as_ref()
    }

    /// Whether there is a ticket that may be used at `now`.
    pub(super) fn is_usable(&self, now: Timestamp) -> bool {
        self.held.as_ref().is_some_and(|held| held.times.usable(now))
    }

    /// When the last fetch began.
    pub(super) fn asked_at(&self) -> Option<Timestamp> {
        self.asked_at
    }

    /// Whether a ticket is to be fetched although none is waited for: none came yet, or the last fetch failed.
    pub(super) fn is_wanted(&self) -> bool {
        self.held.is_none() || self.fault.is_some()
    }

    /// Whether a fetch may be made for the `Date` of its response alone.
    pub(super) fn may_check(&self, now: Timestamp) -> bool {
        self.may_fetch(now) && self.may_force(now)
    }

    /// The ticket to use, one fetched at or after `floor` if that is given. Emits the fetch that is needed.
    pub(super) fn demand(
        &mut self,
        index: TicketIndex,
        floor: Option<Timestamp>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) -> Demand {
        let usable = self.held.as_ref().filter(|held| held.times.usable(now));
        let fresh = usable.filter(|held| floor.is_none_or(|floor| held.times.fetched_at >= floor));
        match fresh.map(|held| (Arc::clone(&held.ticket), held.times.refresh_due(now))) {
            Some((ticket, refresh_due)) => {
                if refresh_due && self.may_fetch(now) {
                    self.fetch(index, now, actions);
                }
                Demand::Use(ticket)
            }
            None => {
                let forced = floor.is_some() && usable.is_some();
                if self.may_fetch(now) && (!forced || self.may_force(now)) {
                    self.fetch(index, now, actions);
                }
                Demand::Wait
            }
        }
    }

    /// A caller of the API wants a ticket with some life left.
    pub(super) fn call(&mut self, index: TicketIndex, caller: Waiter, now: Timestamp, actions: &mut Vec<Action>) {
        match self.demand(index, None, now, actions) {
            Demand::Use(ticket) => {
                let expires_at = self.expires_at().unwrap_or(now);
                actions.push(Action::ReplyTicket(caller, Ok(ticket), expires_at));
            }
            // Not fetching and not allowed to: say why instead of letting the caller wait for minutes.
            Demand::Wait if self.fetching_since.is_none() => {
                let fault = self.fault.clone().unwrap_or_else(|| TicketFault {
                    code: String::from("waiting"),
                    detail: String::from("the next attempt to get a ticket is not due yet"),
                    refused: false,
                    retry_after: None,
                });
                let retry_after = self.retry_at.map(|at| at.since(now));
                actions.push(Action::ReplyTicket(caller, Err(TicketFault { retry_after, ..fault }), now));
            }
            Demand::Wait => self.callers.push(caller),
        }
    }

    /// Entra answered.
    pub(super) fn fetched(
        &mut self,
        index: TicketIndex,
        result: Result<Arc<ServiceTicket>, TicketFault>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let began = self.fetching_since.take().unwrap_or(now);
        let timed_out = result.as_ref().is_err_and(|fault| fault.code == "timed_out");
        self.latency.note(now.since(began), timed_out, now);
        match result {
            Ok(ticket) => self.keep(ticket, began, actions),
            Err(fault) => self.note(index, fault, now, actions),
        }
    }

    /// The last fetch's fault, and since when every one has failed.
    pub(super) fn lasting_fault(&self) -> Option<(&TicketFault, Timestamp)> {
        Some((self.fault.as_ref()?, self.fault_since?))
    }

    /// How long Entra took for the last answers.
    pub(super) fn latency(&self, now: Timestamp) -> LatencyObservation {
        self.latency.observe(now)
    }

    /// When the place wants to be asked again although nothing happened.
    pub(super) fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.fetching_since.is_some() {
            return None;
        }
        let forced = self.asked_at.map(|at| at + FORCED_PAUSE);
        [self.retry_at, forced].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// When the next attempt to get a ticket is made, if there is none and the last one failed.
    pub(super) fn waits_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.retry_at.filter(|at| *at > now && !self.is_usable(now))
    }

    /// Whether no ticket can be used and only an operator can mend it.
    pub(super) fn is_hopeless(&self, now: Timestamp) -> bool {
        self.fault.as_ref().is_some_and(|fault| fault.refused)
            && self.refused_in_row >= self.credentials
            && !self.is_usable(now)
    }

    pub(super) fn may_fetch(&self, now: Timestamp) -> bool {
        self.fetching_since.is_none() && self.retry_at.is_none_or(|at| at <= now)
    }

    fn may_force(&self, now: Timestamp) -> bool {
        self.asked_at.is_none_or(|at| at + FORCED_PAUSE <= now)
    }

    /// Begins a fetch.
    pub(super) fn fetch(&mut self, index: TicketIndex, now: Timestamp, actions: &mut Vec<Action>) {
        self.fetching_since = Some(now);
        self.asked_at = Some(now);
        let (app, audience, credential) = (self.app, self.audience, self.credential);
        actions.push(Action::FetchTicket { ticket: index, app, audience, credential });
    }

    fn keep(&mut self, ticket: Arc<ServiceTicket>, began: Timestamp, actions: &mut Vec<Action>) {
        let times = TicketTimes { fetched_at: began, lifetime: ticket.lifetime() };
        for caller in self.callers.drain(..) {
            actions.push(Action::ReplyTicket(caller, Ok(Arc::clone(&ticket)), began + ticket.lifetime()));
        }
        self.held = Some(Held { ticket, times });
        (self.failures, self.refused_in_row, self.retry_at) = (0, 0, None);
        (self.fault, self.fault_since) = (None, None);
    }

    fn note(&mut self, index: TicketIndex, fault: TicketFault, now: Timestamp, actions: &mut Vec<Action>) {
        self.failures = self.failures.saturating_add(1);
        self.fault_since.get_or_insert(now);
        if fault.refused {
            self.refused_in_row += 1;
            self.credential = (self.credential + 1) % self.credentials.max(1);
        }
        // Every credential gets its turn at once; only then is it time to wait.
        let another = fault.refused && self.refused_in_row < self.credentials;
        if another {
            self.fault = Some(fault);
            self.fetch(index, now, actions);
            return;
        }
        let pause = match fault.retry_after {
            Some(retry_after) => retry_after.clamp(RETRY_FIRST, PROBE_PAUSE),
            None if fault.refused => PROBE_PAUSE,
            None => RETRY_FIRST.saturating_mul(1 << self.failures.min(6)).min(RETRY_MAX),
        };
        self.retry_at = Some(now + pause);
        for caller in self.callers.drain(..) {
            let fault = TicketFault { retry_after: Some(pause), ..fault.clone() };
            actions.push(Action::ReplyTicket(caller, Err(fault), now));
        }
        self.fault = Some(fault);
    }
}
