//! `Engine`: the state machine that keeps every key renewed. `(event, now) -> actions`; it never waits, sends or stores.
//!
//! A row's way: *scanned* when it is due → queued on its `line` in the order of risk → *tried* when ticket, breaker
//! and pace allow → the answer becomes a *write* → the write is durable → done. What an answer means is decided in
//! `outcome`; when an app is paused, in `pausing`.

mod app;
mod clock_check;
mod event;
mod journal;
mod latency;
mod leases;
mod line;
mod observation;
mod outcome;
mod pausing;
mod scan;
mod set_aside;
mod settling;
mod starting;
mod tickets;
mod wanted;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use storekeeper_keyring::{AppRow, Record};
use storekeeper_model::{AppName, Audience, KeyId, KeyKind, Timestamp};
use storekeeper_policy::{Breaker, Pace};

use crate::config::{KeeperConfig, Limits};
use crate::fleet::Share;
use app::App;
use clock_check::ClockCheck;
use journal::Journal;
use line::{Candidate, Cause, Line};
use scan::{Scanning, backs_off_until};
use set_aside::SetAside;
use settling::Successor;
use tickets::{Demand, Tickets};

pub use app::PauseReason;
pub use event::{
    Action, Announcement, Answer, AppIndex, Asked, Call, Endangered, Event, Finished, KeyEvent, Order, Saving,
    SettleFault, Silence, Subject, TicketFault, TicketFetched, TicketIndex, Waiter,
};
pub use latency::LatencyObservation;
pub use observation::{AppObservation, LineObservation, Observation, TicketObservation};
pub use scan::TICK;

/// At most this many refused keys of one ticket wait for a fresh one; past that nothing new is tried with it.
const FRESH_WAITING_MAX: usize = 64;
/// A scan or save that failed is repeated after this.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// A row that is being tried.
#[derive(Debug)]
struct Attempt {
    app: AppIndex,
    cause: Cause,
    /// When this attempt's first refusal came: the retry needs a ticket fetched after that.
    refused_at: Option<Timestamp>,
    /// Who asked.
    waiters: Vec<Waiter>,
    /// What to tell who asked, once the write is durable.
    verdict: Option<Asked>,
    /// The row is left due, for whoever has a better clock; this keeper alone waits until then.
    waits_until: Option<Timestamp>,
    /// The row's lease was lost since the attempt began: another keeper may have renewed the key, and then a refusal says
    /// nothing about it.
    lost_lease: bool,
}

impl Attempt {
    fn new(app: AppIndex, cause: Cause) -> Self {
        Self { app, cause, refused_at: None, waiters: Vec::new(), verdict: None, waits_until: None, lost_lease: false }
    }
}

/// The state machine.
#[derive(Debug)]
pub struct Engine {
    apps: Vec<App>,
    names: BTreeMap<AppName, AppIndex>,
    lines: Vec<Line>,
    /// Which line an app's keys of a kind take.
    routes: HashMap<(AppIndex, KeyKind), usize>,
    tickets: Tickets,
    tenants: Vec<(String, usize)>,
    attempts: HashMap<KeyId, Attempt>,
    /// Fetched a little before its time; waits until then.
    backing_off: BTreeMap<(Timestamp, KeyId), Candidate>,
    /// Refused once, waiting for a fresh ticket.
    fresh_waiting: BTreeMap<TicketIndex, Vec<Candidate>>,
    /// Given back undecided; not fetched again before the next regular scan.
    released: HashSet<KeyId>,
    in_flight: usize,
    journal: Journal,
    /// Successors that were overtaken, until it is known by what.
    successors: HashMap<KeyId, Successor>,
    /// What is ours of a keyring that is shared.
    share: Option<Share>,
    /// Apps with rows that nobody configured: their keys are left to expire.
    orphans: Vec<AppName>,
    scanning: Scanning,
    scanned_at: Option<Timestamp>,
    clock_check: ClockCheck,
    /// Refused or missed while the clocks disagree; not fetched again for a while.
    set_aside: SetAside,
    last_now: Timestamp,
    concurrency: usize,
    draining: bool,
    conflicts: u64,
    turn: usize,
    rng: SmallRng,
}

impl Engine {
    /// An engine for these apps, as their rows stand; `populations` is how many keys each app has.
    pub fn new(config: &KeeperConfig, rows: &[AppRow], populations: &BTreeMap<AppName, u64>, now: Timestamp) -> Self {
        let mut engine = Self {
            apps: Vec::new(),
            names: BTreeMap::new(),
            lines: Vec::new(),
            routes: HashMap::new(),
            tickets: Tickets::default(),
            tenants: Vec::new(),
            attempts: HashMap::new(),
            backing_off: BTreeMap::new(),
            fresh_waiting: BTreeMap::new(),
            released: HashSet::new(),
            in_flight: 0,
            journal: Journal::default(),
            successors: HashMap::new(),
            share: None,
            orphans: Vec::new(),
            scanning: Scanning { at: Some(now), ..Scanning::default() },
            scanned_at: None,
            clock_check: ClockCheck::default(),
            set_aside: SetAside::default(),
            last_now: now,
            concurrency: config.concurrency.max(1),
            draining: false,
            conflicts: 0,
            turn: 0,
            rng: SmallRng::seed_from_u64(config.seed),
        };
        for app in &config.apps {
            let index = AppIndex(engine.apps.len());
            let credentials = app.credentials.len();
            let ticket = engine.tickets.place(index, &app.tenant, &app.client_id, Audience::Service, credentials);
            let row = rows.iter().find(|row| row.name == app.name);
            let population = populations.get(&app.name).copied().unwrap_or(0);
            engine.tenants.push((app.tenant.clone(), credentials));
            engine.names.insert(app.name.clone(), index);
            engine.add_lines(index, app, config.limits);
            engine.apps.push(App::new(
                app.name.clone(),
                app.client_id.clone(),
                app.policy,
                ticket,
                row,
                population,
                now,
            ));
        }
        let orphans = rows.iter().map(|row| &row.name).filter(|name| !engine.names.contains_key(*name));
        engine.orphans = orphans.cloned().collect();
        engine
    }

    fn add_lines(&mut self, index: AppIndex, app: &crate::config::AppConfig, limits: Limits) {
        for kind in KeyKind::ALL {
            let known = self.lines.iter().position(|line| line.kind == kind && line.client_id == app.client_id);
            let line = known.unwrap_or_else(|| {
                let limited = limits == Limits::On;
                let pace = limited.then(|| Pace::new(app.policy.pace_start, app.policy.pace_max));
                let breaker = limited.then(Breaker::new);
                self.lines.push(Line::new(kind, app.client_id.clone(), pace, breaker));
                self.lines.len() - 1
            });
            self.routes.insert((index, kind), line);
        }
    }

    /// Takes an event in and decides. Ends with `Engine::pump`, so every event may start work.
    pub fn handle(&mut self, event: Event, now: Timestamp, actions: &mut Vec<Action>) {
        self.take_in(event, now, actions);
        self.pump(now, actions);
    }

    /// As [`Engine::handle`], for several events at once: their writes go in one group.
    pub fn handle_all(&mut self, events: impl IntoIterator<Item = Event>, now: Timestamp, actions: &mut Vec<Action>) {
        // Also when there is no event: an idle keeper that is only observed notices that its clock was set.
        self.look_at_clock(now, actions);
        for event in events {
            self.take_in(event, now, actions);
        }
        self.pump(now, actions);
    }

    /// Starts nothing new from here on; what is under way is finished.
    pub fn drain(&mut self) {
        self.draining = true;
        self.journal.drain(self.last_now);
    }

    /// Whether nothing is under way: no attempt, no write.
    pub fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.journal.is_empty() && self.successors.is_empty()
    }

    /// When the engine wants [`Event::Wake`] although nothing happened; always later than `now`.
    ///
    /// What could be done at `now` was done by the last event's `Engine::pump`, so an instant that has passed waits for
    /// something else: an answer, a commit, a place among the attempts.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let lines = self.lines.iter().filter_map(Line::wake_at);
        let apps = self.apps.iter().flat_map(|app| [app.probe_at, app.save_at].into_iter().flatten());
        let scan = if self.scanning.under_way { None } else { self.scanning.at.max(self.scanning.retry_at) };
        let hopeless = self.apps.iter().filter(|app| app.reason == Some(PauseReason::Credential));
        let tickets = hopeless
            .map(|app| app.ticket)
            .chain(self.fresh_waiting.keys().copied())
            .chain(self.lines_without_ticket())
            .chain(self.wanted_tickets())
            .filter_map(|ticket| self.tickets.get(ticket).wake_at(now));
        let backing_off = self.backing_off.keys().map(|(at, _)| *at).next();
        let (journal, check) = (self.journal.wake_at(), self.clock_check.check_at());
        let instants = lines.chain(backing_off).chain(apps).chain(scan).chain(tickets).chain(journal).chain(check);
        instants.filter(|at| *at > now).min()
    }

    /// How many writes were overtaken.
    pub fn conflicts(&self) -> u64 {
        self.conflicts
    }

    fn take_in(&mut self, event: Event, now: Timestamp, actions: &mut Vec<Action>) {
        self.look_at_clock(now, actions);
        match event {
            Event::Wake => self.wake(now, actions),
            Event::Scanned(due) => self.scanned(due, now),
            Event::ScanFailed => {
                self.scanning.under_way = false;
                self.scanning.handed_over.clear();
                self.scanning.retry_at = Some(now + RETRY_PAUSE);
            }
            Event::Probes(app, records) => {
                let ours = records.into_iter().filter(|record| self.may_try(record.id)).collect();
                let probe = pausing::choose_probe(ours);
                self.queue_extra(app, probe.into_iter().collect(), Cause::Probe, now);
            }
            Event::Witnesses(app, records) => self.queue_extra(app, records, Cause::Witness, now),
            Event::Finished(finished) => self.finished(*finished, now, actions),
            Event::Ticket(ticket, fetched) => self.ticket_came(ticket, fetched, now, actions),
            Event::Settled(results) => self.settled(&results, now, actions),
            Event::SettleFailed(writes, fault) => self.journal.failed(writes, fault, now),
            Event::Reread(id, row) => self.reread(id, row, now, actions),
            Event::RereadFailed(id) => self.reread_failed(id, now),
            Event::SaveFailed(app) => self.save_failed(app, now),
            Event::AppSaved(app, row) => self.app_saved(app, &row, now, actions),
            Event::AppSeen(app, row) => self.app_seen(app, &row, now, actions),
            Event::Leases(share) => self.shared(share, now, actions),
            Event::Changed(due_at) => self.changed(due_at, now),
            Event::HandedOver(ids) => self.handed_over(&ids, actions),
            Event::Ask(waiter, record) => self.ask(waiter, record, now, actions),
            Event::AskTicket(waiter, app, audience) => self.ask_ticket(waiter, app, audience, now, actions),
            Event::Order(waiter, app, order) => self.order(waiter, app, order, now, actions),
            Event::CredentialsChanged => self.tickets.credentials_changed(),
            Event::Counted(app, population) => self.apps[app.0].population = population,
        }
    }

    /// A clock that went back leaves every instant that was to be waited for in the future.
    fn look_at_clock(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        if now + Duration::from_secs(1) < self.last_now {
            self.apps.iter_mut().for_each(|app| app.clock_went_back(now));
            self.lines.iter_mut().for_each(Line::clock_went_back);
            self.tickets.clock_went_back();
            self.scanning.at = Some(now);
            (self.scanning.until, self.scanning.retry_at) = (None, None);
            self.journal.clock_went_back(now);
            self.clock_check.clock_went_back(now);
            self.set_aside.clear();
            // No ticket would be fresh enough for a refusal that the clock that was ahead has dated.
            for attempt in self.attempts.values_mut() {
                attempt.refused_at = attempt.refused_at.map(|at| at.min(now));
            }
            // Their time was told by the wrong clock.
            for candidate in std::mem::take(&mut self.backing_off).into_values() {
                self.attempts.remove(&candidate.record.id);
            }
        }
        self.last_now = now;
        self.look_for_skew(now, actions);
    }

    fn wake(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        for index in 0..self.apps.len() {
            if self.apps[index].save_at.is_some_and(|at| at <= now) {
                self.save_app(AppIndex(index), now, actions);
            }
            let app = &mut self.apps[index];
            if app.probe_at.is_some_and(|at| at <= now) {
                app.probe_at = Some(now + app::PROBE_PAUSE);
                let from = self.any_id();
                actions.push(Action::FindProbes(AppIndex(index), from));
            }
        }
        self.queue_what_came_due(now);
    }

    fn queue_extra(&mut self, app: AppIndex, records: Vec<Record>, cause: Cause, now: Timestamp) {
        for record in records {
            if self.may_try(record.id) {
                self.enqueue(Candidate::new(Box::new(record), app, cause), now);
            }
        }
    }

    fn enqueue(&mut self, candidate: Candidate, now: Timestamp) {
        let id = candidate.record.id;
        if self.attempts.contains_key(&id) {
            return;
        }
        self.attempts.insert(id, Attempt::new(candidate.app, candidate.cause));
        if let Some(at) = backs_off_until(&candidate, now) {
            self.backing_off.insert((at, id), candidate);
            return;
        }
        let line = self.routes[&(candidate.app, candidate.record.identity.kind)];
        self.lines[line].queue.push(candidate);
    }

    /// Somebody wants this row renewed now. Who cannot be served soon is told so at once: a live key waits to be read.
    fn ask(&mut self, waiter: Waiter, record: Box<Record>, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(app) = self.names.get(&record.identity.app).copied() else {
            actions.push(Action::Reply(waiter, Asked::Overtaken));
            return;
        };
        if let Some(paused) = &self.apps[app.0].paused {
            actions.push(Action::Reply(waiter, Asked::Paused(paused.reason.clone())));
            return;
        }
        if !self.may_try(record.id) {
            actions.push(Action::Reply(waiter, Asked::Elsewhere));
            return;
        }
        if let Some((code, wait)) = self.obstacle(app, record.identity.kind, now) {
            actions.push(Action::Reply(waiter, Asked::Failed(code, wait)));
            return;
        }
        let id = record.id;
        if self.backing_off.extract_if(.., |(_, waiting), _| *waiting == id).next().is_some() {
            self.attempts.remove(&id);
        }
        self.enqueue(Candidate::new(record, app, Cause::Asked), now);
        self.attempts.get_mut(&id).expect("just enqueued, or under way").waiters.push(waiter);
        self.journal.is_awaited = true;
    }

    /// What keeps a row from being tried for longer than anybody wants to wait.
    fn obstacle(&self, app: AppIndex, kind: KeyKind, now: Timestamp) -> Option<(&'static str, Option<Duration>)> {
        let wait = |at: Timestamp| Some(at.since(now));
        if self.journal.is_blocked(now) {
            return Some(("keyring_unavailable", self.journal.next_at().and_then(wait)));
        }
        if let Some(at) = self.lines[self.routes[&(app, kind)]].cut_off_until(now) {
            return Some(("store_degraded", wait(at)));
        }
        let ticket = self.tickets.get(self.apps[app.0].ticket);
        ticket.waits_until(now).map(|at| ("no_ticket", wait(at)))
    }

    fn ask_ticket(
        &mut self,
        waiter: Waiter,
        app: AppIndex,
        audience: Audience,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let (tenant, credentials) = self.tenants[app.0].clone();
        let client_id = self.apps[app.0].client_id.clone();
        let ticket = self.tickets.place(app, &tenant, &client_id, audience, credentials);
        self.tickets.get_mut(ticket).call(ticket, waiter, now, actions);
    }

    /// Starts whatever may be started: attempts, the writes of those that ended, a scan for more.
    fn pump(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        if self.draining {
            self.flush(now, actions);
            return self.rescue(now, actions);
        }
        self.requeue_refused(now, actions);
        self.probe_credentials(now, actions);
        self.fetch_wanted(now, actions);
        self.start(now, actions);
        self.flush(now, actions);
        self.rescue(now, actions);
        self.scan_if_needed(now, actions);
    }

    /// Ends an attempt without a write; the row is as it was, and due if it was.
    fn release(&mut self, id: KeyId, verdict: &Asked, actions: &mut Vec<Action>) {
        let Some(attempt) = self.attempts.remove(&id) else { return };
        self.released.insert(id);
        self.look_again();
        for waiter in attempt.waiters {
            actions.push(Action::Reply(waiter, verdict.clone()));
        }
    }

    /// Once a ticket is fresh enough, what was refused queues again: with the pace and in the order of risk.
    fn requeue_refused(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let places: Vec<TicketIndex> = self.fresh_waiting.keys().copied().collect();
        for place in places {
            let waiting = self.fresh_waiting.remove(&place).unwrap_or_default();
            let mut staying = Vec::new();
            for candidate in waiting {
                let floor = self.attempts.get(&candidate.record.id).and_then(|attempt| attempt.refused_at);
                match self.tickets.get_mut(place).demand(place, floor, now, actions) {
                    Demand::Use(_) => {
                        let line = self.routes[&(candidate.app, candidate.record.identity.kind)];
                        self.lines[line].queue.push(candidate);
                    }
                    Demand::Wait => staying.push(candidate),
                }
            }
            if !staying.is_empty() {
                self.fresh_waiting.insert(place, staying);
            }
        }
    }

    fn lines_without_ticket(&self) -> impl Iterator<Item = TicketIndex> + '_ {
        let waiting = self.lines.iter().filter_map(|line| line.queue.peek());
        waiting.map(|candidate| self.apps[candidate.app.0].ticket)
    }

    fn jitter(&mut self) -> f64 {
        self.rng.random()
    }
}
