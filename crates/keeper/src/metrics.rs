//! The keeper's metrics: renewals, population, tickets and clocks, in the Prometheus text format. No label carries a user.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use storekeeper_model::{AppName, KeyKind, Timestamp};

use crate::engine::{Observation, PauseReason};
use crate::health::{ConditionCode, Health};
use crate::keyring_state::KeyringState;
use crate::view::Stats;

type Float = Gauge<f64, AtomicU64>;

/// Attempts by what came of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RenewalLabels {
    pub(crate) app: String,
    pub(crate) kind: Kind,
    pub(crate) outcome: &'static str,
    pub(crate) code: &'static str,
}

/// A kind, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the label's value is the variant's name")]
pub(crate) enum Kind {
    collections,
    purchase,
}

impl From<KeyKind> for Kind {
    fn from(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Collections => Self::collections,
            KeyKind::Purchase => Self::purchase,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeysLabels {
    app: String,
    kind: Kind,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AppKindLabels {
    app: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AppLabels {
    app: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PausedLabels {
    app: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LineLabels {
    host: &'static str,
    client_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TicketLabels {
    client_id: String,
    audience: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    host: &'static str,
    status: String,
    inner_code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabels {
    code: &'static str,
    app: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SideLabels {
    side: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    r#type: &'static str,
}

/// All families. Counters are fed while running, gauges when somebody looks.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    /// Per app: with a successor, without.
    tally: Mutex<BTreeMap<AppName, (u64, u64)>>,
    /// Per app: when a key that is handed over was asked for.
    handed_over_read_at: Mutex<BTreeMap<AppName, Timestamp>>,
    handed_over_reads: Family<AppLabels, Counter>,
    renewals: Family<RenewalLabels, Counter>,
    renewal_duration: Histogram,
    renewal_age: Histogram,
    due_lag: Histogram,
    upstream: Family<UpstreamLabels, Counter>,
    events: Family<EventLabels, Counter>,
    ticket_requests: Family<UpstreamLabels, Counter>,
    overtaken: Counter,
    leases_lost: Counter,
    leases_held: Gauge,
    keys: Family<KeysLabels, Gauge>,
    refused: Family<AppKindLabels, Gauge>,
    unproven: Family<AppKindLabels, Gauge>,
    past_deadline: Family<AppKindLabels, Gauge>,
    handed_over: Family<AppKindLabels, Gauge>,
    handed_over_until: Family<AppKindLabels, Float>,
    due_backlog: Family<AppKindLabels, Gauge>,
    paused: Family<PausedLabels, Gauge>,
    pace: Family<LineLabels, Float>,
    breaker: Family<LineLabels, Gauge>,
    ticket_expiry: Family<TicketLabels, Float>,
    clock_skew: Float,
    scanned_at: Float,
    conditions: Family<ConditionLabels, Gauge>,
    keyring_up: Family<SideLabels, Gauge>,
    log_lines_dropped: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("storekeeper");
        let spans =
            || Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);
        let days = [1.0, 3.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 14.0, 17.0, 20.0, 25.0, 30.0];
        let lag = [1.0, 10.0, 60.0, 300.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0, 259_200.0];
        let metrics = Self {
            renewals: Family::default(),
            renewal_duration: spans(),
            renewal_age: Histogram::new(days.map(|days| days * 86_400.0)),
            due_lag: Histogram::new(lag),
            upstream: Family::default(),
            events: Family::default(),
            ticket_requests: Family::default(),
            overtaken: Counter::default(),
            leases_lost: Counter::default(),
            leases_held: Gauge::default(),
            keys: Family::default(),
            refused: Family::default(),
            unproven: Family::default(),
            past_deadline: Family::default(),
            handed_over: Family::default(),
            handed_over_until: Family::default(),
            handed_over_reads: Family::default(),
            handed_over_read_at: Mutex::default(),
            due_backlog: Family::default(),
            paused: Family::default(),
            pace: Family::default(),
            breaker: Family::default(),
            ticket_expiry: Family::default(),
            clock_skew: Float::default(),
            scanned_at: Float::default(),
            conditions: Family::default(),
            keyring_up: Family::default(),
            log_lines_dropped: Counter::default(),
            registry: Mutex::new(Registry::default()),
            tally: Mutex::default(),
        };
        metrics.register_counters(&mut registry);
        metrics.register_gauges(&mut registry);
        *metrics.registry.lock().expect("no holder of this lock panics") = registry;
        metrics
    }

    fn register_counters(&self, registry: &mut Registry) {
        registry.register("renewals", "Attempts to renew a key, by what came of them", self.renewals.clone());
        let help = "Time from starting an attempt to its answer, on the keeper's clock";
        registry.register_with_unit("renewal_duration", help, Unit::Seconds, self.renewal_duration.clone());
        let help = "Age of a key when its successor came";
        registry.register_with_unit("renewal_age", help, Unit::Seconds, self.renewal_age.clone());
        let help = "Time from a key's moment to the answer of its renewal";
        registry.register_with_unit("due_lag", help, Unit::Seconds, self.due_lag.clone());
        registry.register(
            "upstream_requests",
            "Answers of the Store by host, status and meaning",
            self.upstream.clone(),
        );
        registry.register("ticket_requests", "Answers of Entra ID by status and meaning", self.ticket_requests.clone());
        registry.register("events", "Events announced, by type", self.events.clone());
        let help = "Reads of keys that were handed over to another keeper";
        registry.register("handed_over_reads", help, self.handed_over_reads.clone());
        let help = "Leases that ended before they were given back";
        registry.register("lease_lost", help, self.leases_lost.clone());
        let help = "Outcomes that came too late and changed nothing";
        registry.register("outcomes_overtaken", help, self.overtaken.clone());
        let help = "Log lines that stderr did not take";
        registry.register("log_lines_dropped", help, self.log_lines_dropped.clone());
    }

    fn register_gauges(&self, registry: &mut Registry) {
        registry.register("lease_held", "Buckets of 4096 whose keys this keeper renews", self.leases_held.clone());
        registry.register("keys", "Keys by app, kind and state; exact", self.keys.clone());
        registry.register("keys_refused", "Active keys with a refusal held against them", self.refused.clone());
        registry.register("keys_unproven", "Keys the Store has never renewed", self.unproven.clone());
        registry.register("keys_past_deadline", "Active keys older than the deadline", self.past_deadline.clone());
        registry.register("keys_handed_over", "Keys whose renewals are another keeper's now", self.handed_over.clone());
        let help = "When the first key expires that was handed over and has not expired yet";
        registry.register("handed_over_expiry_timestamp_seconds", help, self.handed_over_until.clone());
        registry.register("due_backlog", "Active keys past their moment", self.due_backlog.clone());
        registry.register("app_paused", "1 while the app's keys are not renewed, by reason", self.paused.clone());
        registry.register("upstream_pace", "Renewals per second asked for at most", self.pace.clone());
        registry.register("breaker_state", "0 closed, 1 half open, 2 open", self.breaker.clone());
        let help = "When the ticket in use expires";
        registry.register("ticket_expiry_timestamp_seconds", help, self.ticket_expiry.clone());
        registry.register(
            "clock_skew_seconds",
            "Our clock minus the Store's, as its last response showed",
            self.clock_skew.clone(),
        );
        let help = "Until when every due key has been looked for";
        registry.register("scheduler_last_success_timestamp_seconds", help, self.scanned_at.clone());
        let help = "1 while an operator has to look at this; empty app: the whole keeper";
        registry.register("condition", help, self.conditions.clone());
        registry.register("keyring_up", "1 while the keyring answers reads, or takes writes", self.keyring_up.clone());
        let build: Family<[(&'static str, &'static str); 1], Gauge> = Family::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("build_info", "The version that runs", build);
    }

    pub(crate) fn attempt(
        &self,
        app: &AppName,
        labels: RenewalLabels,
        host: KeyKind,
        status: Option<u16>,
        seconds: f64,
    ) {
        {
            let mut tally = self.tally.lock().expect("no holder of this lock panics");
            let (renewed, failed) = tally.entry(app.clone()).or_default();
            *(if labels.outcome == "renewed" { renewed } else { failed }) += 1;
        }
        let status = status.map_or_else(|| String::from("none"), |status| status.to_string());
        let upstream = UpstreamLabels { host: host.host(), status, inner_code: labels.code };
        self.upstream.get_or_create(&upstream).inc();
        self.renewals.get_or_create(&labels).inc();
        self.renewal_duration.observe(seconds);
    }

    /// How many attempts of an app brought a successor, and how many did not.
    pub(crate) fn tally(&self, app: &AppName) -> (u64, u64) {
        let tally = self.tally.lock().expect("no holder of this lock panics");
        tally.get(app).copied().unwrap_or_default()
    }

    /// A key that is handed over was asked for.
    pub(crate) fn handed_over_read(&self, app: &AppName, now: Timestamp) {
        self.handed_over_reads.get_or_create(&AppLabels { app: app.to_string() }).inc();
        self.handed_over_read_at.lock().expect("no holder of this lock panics").insert(app.clone(), now);
    }

    /// When that was last so.
    pub(crate) fn handed_over_read_at(&self, app: &AppName) -> Option<Timestamp> {
        self.handed_over_read_at.lock().expect("no holder of this lock panics").get(app).copied()
    }

    pub(crate) fn renewed(&self, age: std::time::Duration, lag: std::time::Duration) {
        self.renewal_age.observe(age.as_secs_f64());
        self.due_lag.observe(lag.as_secs_f64());
    }

    pub(crate) fn ticket(&self, code: &'static str) {
        let labels = UpstreamLabels { host: "login.microsoftonline.com", status: String::new(), inner_code: code };
        self.ticket_requests.get_or_create(&labels).inc();
    }

    pub(crate) fn event(&self, kind: &'static str) {
        self.events.get_or_create(&EventLabels { r#type: kind }).inc();
    }

    /// So many leases are held, and so many more were lost.
    pub(crate) fn leases(&self, held: usize, lost: u64) {
        self.leases_held.set(i64::try_from(held).unwrap_or(i64::MAX));
        self.leases_lost.inc_by(lost);
    }

    pub(crate) fn overtaken(&self, count: u64) {
        self.overtaken.inc_by(count);
    }

    /// The health, as it is now. Each condition of the keeper and each of an app has a line in any case, so that an alert on
    /// one that ends is seen to end.
    pub(crate) fn set_health(&self, health: &Health, apps: &[AppName], keyring: &KeyringState, log_lines_dropped: u64) {
        let names = || apps.iter().map(ToString::to_string).chain([String::new()]);
        for (code, app) in ConditionCode::ALL.iter().flat_map(|code| names().map(move |app| (code, app))) {
            self.conditions.get_or_create(&ConditionLabels { code: code.as_str(), app }).set(0);
        }
        for condition in &health.conditions {
            let app = condition.app.as_ref().map_or_else(String::new, ToString::to_string);
            self.conditions.get_or_create(&ConditionLabels { code: condition.code.as_str(), app }).set(1);
        }
        for (side, fails) in [("reads", keyring.reads_fail()), ("writes", keyring.writes_fail())] {
            self.keyring_up.get_or_create(&SideLabels { side }).set(i64::from(fails.is_none()));
        }
        self.log_lines_dropped.inc_by(log_lines_dropped.saturating_sub(self.log_lines_dropped.get()));
    }

    /// Adds families that somebody else feeds.
    pub(crate) fn register(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock().expect("no holder of this lock panics"));
    }

    /// Sets the gauges and writes everything, without the closing `# EOF`.
    pub(crate) fn encode(&self, stats: Option<&Stats>, seen: &Observation) -> String {
        if let Some(stats) = stats {
            self.set_population(stats);
        }
        self.set_observation(seen);
        let mut text = String::new();
        let registry = self.registry.lock().expect("no holder of this lock panics");
        if encode(&mut text, &registry).is_err() {
            let _ = write!(text, "# metrics could not be written");
        }
        text.truncate(text.trim_end().trim_end_matches("# EOF").len());
        text
    }

    fn set_population(&self, stats: &Stats) {
        self.handed_over_until.clear();
        for app in &stats.apps {
            for (kind, counts) in &app.kinds {
                let name = app.app.to_string();
                for (state, count) in
                    [("active", counts.active), ("revoked", counts.revoked), ("lapsed", counts.lapsed)]
                {
                    let labels = KeysLabels { app: name.clone(), kind: (*kind).into(), state };
                    self.keys.get_or_create(&labels).set(signed(count));
                }
                let labels = AppKindLabels { app: name, kind: (*kind).into() };
                self.refused.get_or_create(&labels).set(signed(counts.refused));
                self.unproven.get_or_create(&labels).set(signed(counts.unproven));
                self.past_deadline.get_or_create(&labels).set(signed(counts.past_deadline));
                self.handed_over.get_or_create(&labels).set(signed(counts.handed_over));
                if let Some(at) = counts.handed_over_until {
                    self.handed_over_until.get_or_create(&labels).set(seconds(at));
                }
                self.due_backlog.get_or_create(&labels).set(signed(counts.due_backlog));
            }
        }
    }

    fn set_observation(&self, seen: &Observation) {
        for app in &seen.apps {
            for reason in PauseReason::ALL.map(PauseReason::as_str) {
                let paused = app.paused.as_ref().is_some_and(|paused| paused.reason == reason);
                let labels = PausedLabels { app: app.name.to_string(), reason };
                self.paused.get_or_create(&labels).set(i64::from(paused));
            }
        }
        for line in &seen.lines {
            let labels = LineLabels { host: line.kind.host(), client_id: line.client_id.clone() };
            self.pace.get_or_create(&labels).set(line.pace);
            let state = ["closed", "half_open", "open"].iter().position(|state| *state == line.breaker);
            self.breaker.get_or_create(&labels).set(state.map_or(-1, |state| state as i64));
        }
        for ticket in &seen.tickets {
            let labels = TicketLabels { client_id: ticket.client_id.clone(), audience: ticket.audience.as_str() };
            self.ticket_expiry.get_or_create(&labels).set(seconds(ticket.expires_at.unwrap_or(Timestamp::EPOCH)));
        }
        if let Some((ours, theirs)) = seen.clocks {
            self.clock_skew.set(seconds(ours) - seconds(theirs));
        }
        self.scanned_at.set(seconds(seen.scanned_at.unwrap_or(Timestamp::EPOCH)));
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn seconds(at: Timestamp) -> f64 {
    at.millis() as f64 / 1000.0
}
