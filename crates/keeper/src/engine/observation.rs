//! `Observation`: what of the engine is to be seen from outside: for statistics, metrics and tests.

use storekeeper_keyring::Paused;
use storekeeper_model::{AppName, Audience, KeyKind, Timestamp};
use storekeeper_policy::{Breaker, Pace};

use super::Engine;
use super::latency::LatencyObservation;

/// What the engine can be asked about at any time.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// Per app, in the order of configuration.
    pub apps: Vec<AppObservation>,
    /// Per host and client ID.
    pub lines: Vec<LineObservation>,
    /// Per client ID and audience.
    pub tickets: Vec<TicketObservation>,
    /// Ours and the Store's now, as the last response that was dated showed and a clock that never steps has carried on;
    /// `None` until a response of the Store or Entra ID has been dated.
    pub clocks: Option<(Timestamp, Timestamp)>,
    /// Whether they differ by more than five minutes.
    pub skewed: bool,
    /// The part of all keys that are this keeper's to renew: 1 where no other keeper shares the keyring.
    pub part: f64,
    /// Attempts under way.
    pub in_flight: usize,
    /// Rows held in memory for whatever reason: waiting, tried, or on their way to the disk.
    pub rows: usize,
    /// Outcomes that are not durable yet.
    pub unsettled: usize,
    /// Rows whose outcomes the keyring refuses while it takes others.
    pub failing_rows: usize,
    /// The keyring takes no outcomes at the moment, so no key is tried.
    pub is_blocked: bool,
    /// Until when every due row has been looked for.
    pub scanned_at: Option<Timestamp>,
    /// Writes that were overtaken: harmless, and counted.
    pub conflicts: u64,
}

/// One app, observed.
#[derive(Debug, Clone)]
pub struct AppObservation {
    /// Its name.
    pub name: AppName,
    /// Whether it is paused, and why.
    pub paused: Option<Paused>,
    /// Condemnations that wait for an operator.
    pub awaiting_operator: u64,
}

/// One line, observed.
#[derive(Debug, Clone)]
pub struct LineObservation {
    /// Which host.
    pub kind: KeyKind,
    /// For which client ID.
    pub client_id: String,
    /// Renewals per second it is asked for at most.
    pub pace: f64,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// Rows waiting.
    pub queued: usize,
    /// How the Store answered lately.
    pub latency: LatencyObservation,
}

/// One ticket, observed.
#[derive(Debug, Clone)]
pub struct TicketObservation {
    /// The apps that use it.
    pub apps: Vec<AppName>,
    /// For which client ID.
    pub client_id: String,
    /// For what.
    pub audience: Audience,
    /// Until when it may be used.
    pub expires_at: Option<Timestamp>,
    /// Why the last fetch failed, as a stable word and as one line, and since when every fetch has failed.
    pub fault: Option<(String, String, Timestamp)>,
    /// How Entra answered lately.
    pub latency: LatencyObservation,
}

impl Engine {
    /// What is to be seen from outside at `now`.
    pub fn observe(&self, now: Timestamp) -> Observation {
        let apps = self.apps.iter().map(|app| AppObservation {
            name: app.name.clone(),
            paused: app.paused.clone(),
            awaiting_operator: app.awaiting_operator.len() as u64,
        });
        let lines = self.lines.iter().map(|line| LineObservation {
            kind: line.kind,
            client_id: line.client_id.to_string(),
            pace: line.pace.as_ref().map_or(f64::INFINITY, Pace::rate),
            breaker: line.breaker.as_ref().map_or("closed", Breaker::state),
            queued: line.queue.len(),
            latency: line.latency.observe(now),
        });
        let tickets = self.tickets.iter().enumerate().map(|(index, place)| TicketObservation {
            apps: self.apps.iter().filter(|app| app.ticket.0 == index).map(|app| app.name.clone()).collect(),
            client_id: place.client_id().to_string(),
            audience: place.audience(),
            expires_at: place.expires_at(),
            fault: place.lasting_fault().map(|(fault, since)| (fault.code.clone(), fault.detail.clone(), since)),
            latency: place.latency(now),
        });
        Observation {
            apps: apps.collect(),
            lines: lines.collect(),
            tickets: tickets.collect(),
            clocks: self.clock_check.now(now),
            skewed: self.clock_check.is_skewed(),
            part: self.share.as_ref().map_or(1.0, crate::fleet::Share::part),
            in_flight: self.in_flight,
            rows: self.attempts.len(),
            unsettled: self.journal.len(),
            failing_rows: self.journal.failing_alone(),
            is_blocked: self.journal.is_blocked(now),
            scanned_at: if self.has_nothing_to_look_for(now) { Some(now) } else { self.scanned_at },
            conflicts: self.conflicts,
        }
    }
}
