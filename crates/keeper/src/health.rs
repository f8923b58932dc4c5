//! `Health`: what an operator has to look at, decided in one place. `status`, `/readyz`, the metrics and the alerts read the
//! same value, so that none of them is content while another is not.

use std::time::Duration;

use storekeeper_model::AppName;

use crate::engine::{AppObservation, Observation, TicketObservation};
use crate::keyring_state::KeyringState;
use crate::rescue::RescueFacts;
use crate::view::{AppStats, SignedSpan, Stats};

/// What is the matter, as a stable word: in `GET /v1/health`, in `storekeeper status` and as a label of
/// `storekeeper_condition`. `docs/reference/conditions.md` says what each means and what ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionCode {
    /// A core task makes no progress.
    TaskStalled,
    /// The keyring answers no reads.
    KeyringReadsFail,
    /// The keyring takes no writes.
    KeyringWritesFail,
    /// Successors that the Store has issued are not in the keyring.
    SuccessorsNotDurable,
    /// Rescue files of earlier processes wait until the keyring takes their successors.
    RescueFileWaiting,
    /// A rescue file is damaged, or of another keyring.
    RescueFileUnusable,
    /// The rescue folder cannot be used.
    RescueFolderUnusable,
    /// Our clock and the Store's differ by more than five minutes.
    ClockSkewed,
    /// Every keeper of the fleet drains.
    FleetDraining,
    /// The Store is not asked for renewals for a while, because it did not answer.
    StoreUnreachable,
    /// The Store or Entra ID takes long to answer, or some requests are not answered in time.
    StoreSlow,
    /// At the pace that the Store bears, what is due takes longer than six hours.
    BacklogOutrunsPace,
    /// Entra ID refuses the app's credentials, and the app is paused for that.
    CredentialRefused,
    /// The app's keys are not renewed.
    AppPaused,
    /// The app's last request for a ticket failed.
    TicketMissing,
    /// Keys expired before they could be renewed.
    KeysLapsed,
    /// Active keys are older than the policy's deadline.
    KeysPastDeadline,
    /// More keys are refused than one day may condemn.
    CondemnationsAwaitOperator,
    /// Keys that were handed over are still read here.
    HandedOverInUse,
    /// Keys that were handed over expire within the outage budget.
    HandedOverExpiring,
    /// Nearly all file descriptors of the process are open.
    DescriptorsShort,
    /// Log lines were dropped within the last ten minutes.
    LogLinesDropped,
    /// The reader of the log has taken no line for ten seconds.
    LogStalled,
    /// The configuration was not reloaded, because it is not valid.
    ReloadFailed,
}

impl ConditionCode {
    /// All of them, in the order in which they are reported.
    pub const ALL: &[Self] = &[
        Self::TaskStalled,
        Self::KeyringReadsFail,
        Self::KeyringWritesFail,
        Self::SuccessorsNotDurable,
        Self::RescueFileWaiting,
        Self::RescueFileUnusable,
        Self::RescueFolderUnusable,
        Self::ClockSkewed,
        Self::FleetDraining,
        Self::StoreUnreachable,
        Self::StoreSlow,
        Self::BacklogOutrunsPace,
        Self::CredentialRefused,
        Self::AppPaused,
        Self::TicketMissing,
        Self::KeysLapsed,
        Self::KeysPastDeadline,
        Self::CondemnationsAwaitOperator,
        Self::HandedOverInUse,
        Self::HandedOverExpiring,
        Self::DescriptorsShort,
        Self::LogLinesDropped,
        Self::LogStalled,
        Self::ReloadFailed,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TaskStalled => "task_stalled",
            Self::KeyringReadsFail => "keyring_reads_fail",
            Self::KeyringWritesFail => "keyring_writes_fail",
            Self::SuccessorsNotDurable => "successors_not_durable",
            Self::RescueFileWaiting => "rescue_file_waiting",
            Self::RescueFileUnusable => "rescue_file_unusable",
            Self::RescueFolderUnusable => "rescue_folder_unusable",
            Self::ClockSkewed => "clock_skewed",
            Self::FleetDraining => "fleet_draining",
            Self::StoreUnreachable => "store_unreachable",
            Self::StoreSlow => "store_slow",
            Self::BacklogOutrunsPace => "backlog_outruns_pace",
            Self::CredentialRefused => "credential_refused",
            Self::AppPaused => "app_paused",
            Self::TicketMissing => "ticket_missing",
            Self::KeysLapsed => "keys_lapsed",
            Self::KeysPastDeadline => "keys_past_deadline",
            Self::CondemnationsAwaitOperator => "condemnations_await_operator",
            Self::HandedOverInUse => "handed_over_in_use",
            Self::HandedOverExpiring => "handed_over_expiring",
            Self::DescriptorsShort => "descriptors_short",
            Self::LogLinesDropped => "log_lines_dropped",
            Self::LogStalled => "log_stalled",
            Self::ReloadFailed => "reload_failed",
        }
    }
}

/// One thing that an operator has to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Which.
    pub code: ConditionCode,
    /// The app it concerns; `None` for the whole keeper.
    pub app: Option<AppName>,
    /// One line for the operator: what happens, and what to do. Without secrets and users.
    pub detail: String,
}

impl Condition {
    /// A condition of the whole keeper.
    pub fn of_keeper(code: ConditionCode, detail: impl Into<String>) -> Self {
        Self { code, app: None, detail: detail.into() }
    }

    /// A condition of one app.
    pub fn of_app(code: ConditionCode, app: &AppName, detail: impl Into<String>) -> Self {
        Self { code, app: Some(app.clone()), detail: detail.into() }
    }
}

/// What the process around the keeper knows of itself.
pub trait Surroundings: Send + Sync {
    /// How many log lines were dropped since the start.
    fn log_lines_dropped(&self) -> u64;

    /// What is the matter with the process, such as a configuration that could not be reloaded.
    fn conditions(&self) -> Vec<Condition>;
}

/// What the conditions follow from.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// The population; `None` while it cannot be counted.
    pub(crate) stats: Option<&'a Stats>,
    /// The engine.
    pub(crate) seen: &'a Observation,
    /// The keyring.
    pub(crate) keyring: &'a KeyringState,
    /// Rescue files.
    pub(crate) rescue: &'a RescueFacts,
    /// A core task that makes no progress, and for how many seconds.
    pub(crate) stalled: Option<(&'static str, u64)>,
    /// How many living nodes share the keyring and are not draining; `None` where the keeper holds the keyring alone.
    pub(crate) renewing_nodes: Option<usize>,
    /// What the process reports of itself.
    pub(crate) surroundings: &'a [Condition],
}

/// The health of a keeper at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// What an operator has to look at; empty when all is well.
    pub conditions: Vec<Condition>,
}

/// A backlog that takes longer than this at the present pace is reported.
const BACKLOG_MAX: Duration = Duration::from_secs(6 * 3600);

/// A check of the whole keeper.
type Check = fn(&Facts<'_>) -> Option<Condition>;
/// A check of one app.
type AppCheck = fn(&AppObservation, Option<&AppStats>) -> Option<Condition>;

/// In the order in which an operator should look at them.
const CHECKS: &[Check] = &[
    task_stalled,
    keyring_reads_fail,
    keyring_writes_fail,
    successors_not_durable,
    rescue_file_waiting,
    rescue_file_unusable,
    rescue_folder_unusable,
    clock_skewed,
    fleet_draining,
    store_unreachable,
    store_slow,
    backlog_outruns_pace,
];
const APP_CHECKS: &[AppCheck] = &[
    app_paused,
    keys_lapsed,
    keys_past_deadline,
    condemnations_await_operator,
    handed_over_in_use,
    handed_over_expiring,
];

impl Health {
    /// Judges the facts.
    pub(crate) fn assess(facts: &Facts<'_>) -> Self {
        let mut conditions: Vec<Condition> = CHECKS.iter().filter_map(|check| check(facts)).collect();
        for app in &facts.seen.apps {
            let stats = facts.stats.and_then(|stats| stats.apps.iter().find(|stats| stats.app == app.name));
            conditions.extend(ticket_missing(app, facts.seen));
            conditions.extend(APP_CHECKS.iter().filter_map(|check| check(app, stats)));
        }
        conditions.extend_from_slice(facts.surroundings);
        Self { conditions }
    }
}

fn task_stalled(facts: &Facts<'_>) -> Option<Condition> {
    let (task, seconds) = facts.stalled?;
    let detail = format!("{task} has made no progress for {seconds} s: restart the keeper");
    Some(Condition::of_keeper(ConditionCode::TaskStalled, detail))
}

fn keyring_reads_fail(facts: &Facts<'_>) -> Option<Condition> {
    let failure = facts.keyring.reads_fail()?;
    let detail = format!(
        "the keyring {} answers no reads ({failure}): keys are served from memory only, and none is renewed",
        facts.keyring.location()
    );
    Some(Condition::of_keeper(ConditionCode::KeyringReadsFail, detail))
}

fn keyring_writes_fail(facts: &Facts<'_>) -> Option<Condition> {
    let failure = facts.keyring.writes_fail()?;
    let detail = format!(
        "the keyring {} takes no writes ({failure}): no key is enrolled, and none is renewed until it does",
        facts.keyring.location()
    );
    Some(Condition::of_keeper(ConditionCode::KeyringWritesFail, detail))
}

fn successors_not_durable(facts: &Facts<'_>) -> Option<Condition> {
    let (held, failing) = (facts.rescue.held, facts.seen.failing_rows);
    let held = match held {
        0 => None,
        held => {
            Some(format!("{held} successors are in the rescue file and not in the keyring, which does not take them"))
        }
    };
    let failing = match failing {
        0 => None,
        failing => {
            Some(format!("the keyring refuses the outcomes of {failing} rows while it takes others: see the log"))
        }
    };
    let detail: Vec<String> = held.into_iter().chain(failing).collect();
    let is_one = !detail.is_empty();
    is_one.then(|| Condition::of_keeper(ConditionCode::SuccessorsNotDurable, detail.join("; ")))
}

fn rescue_file_waiting(facts: &Facts<'_>) -> Option<Condition> {
    let files = Some(facts.rescue.waiting).filter(|files| *files > 0)?;
    let detail = format!("successors of {files} rescue files wait until the keyring takes them");
    Some(Condition::of_keeper(ConditionCode::RescueFileWaiting, detail))
}

fn rescue_file_unusable(facts: &Facts<'_>) -> Option<Condition> {
    let files: Vec<String> = facts.rescue.unusable.iter().map(|file| file.display().to_string()).collect();
    let detail = format!("damaged, or of another keyring: {}; see the log, then put it away", files.join(", "));
    (!files.is_empty()).then(|| Condition::of_keeper(ConditionCode::RescueFileUnusable, detail))
}

fn rescue_folder_unusable(facts: &Facts<'_>) -> Option<Condition> {
    let problem = facts.rescue.problem.as_ref()?;
    let detail = format!("successors that the keyring does not take would be lost with the process: {problem}");
    Some(Condition::of_keeper(ConditionCode::RescueFolderUnusable, detail))
}

fn clock_skewed(facts: &Facts<'_>) -> Option<Condition> {
    if !facts.seen.skewed {
        return None;
    }
    let (ours, theirs) = facts.seen.clocks?;
    let (span, side) = match SignedSpan::between(ours, theirs) {
        SignedSpan::Ahead(span) => (span, "ahead of"),
        SignedSpan::Behind(span) => (span, "behind"),
    };
    let seconds = span.as_secs();
    let detail = format!(
        "the keeper's clock is {seconds} s {side} the Store's: keys are renewed as usual, and none is condemned, until they agree; correct this machine's time (NTP), or, if it is right, wait for the Store"
    );
    Some(Condition::of_keeper(ConditionCode::ClockSkewed, detail))
}

fn fleet_draining(facts: &Facts<'_>) -> Option<Condition> {
    facts.renewing_nodes.filter(|count| *count == 0)?;
    let detail = "every keeper of the fleet drains, and no key is renewed: `storekeeper node undrain NODE` or the restart of a keeper ends it";
    Some(Condition::of_keeper(ConditionCode::FleetDraining, detail))
}

fn store_unreachable(facts: &Facts<'_>) -> Option<Condition> {
    let cut_off = facts.seen.lines.iter().filter(|line| line.breaker != "closed");
    let hosts = listed(cut_off.map(|line| line.kind.host().to_owned()))?;
    let detail = format!(
        "{hosts} did not answer several requests in a row: renewals wait, and one attempt at a time finds out whether it works again"
    );
    Some(Condition::of_keeper(ConditionCode::StoreUnreachable, detail))
}

/// Half of the requests take this long, or one in four is not answered in time: renewals are in danger.
fn store_slow(facts: &Facts<'_>) -> Option<Condition> {
    let lines = facts.seen.lines.iter().map(|line| (line.kind.host(), line.latency));
    let tickets = facts.seen.tickets.iter().map(|ticket| ("Entra ID", ticket.latency));
    let slow = lines.chain(tickets).filter_map(|(host, latency)| {
        let (timed_out, requests) = (latency.timed_out, latency.requests);
        let (median, is_losing) = (latency.median?, timed_out > 0 && timed_out * 4 >= requests);
        let seconds = median.as_secs_f64();
        (median >= SLOW || is_losing).then(|| {
            format!(
                "{host} takes {seconds:.1} s, and {timed_out} of its last {requests} requests were not answered in time"
            )
        })
    });
    let detail = format!("{}: renewals go on, more slowly", listed(slow)?);
    Some(Condition::of_keeper(ConditionCode::StoreSlow, detail))
}

/// The Store and Entra answer within a second; an attempt is given up after thirty.
const SLOW: Duration = Duration::from_secs(5);

fn ticket_missing(app: &AppObservation, seen: &Observation) -> Option<Condition> {
    if is_paused_for_credential(app) {
        return None;
    }
    let of_app = |ticket: &&TicketObservation| ticket.apps.contains(&app.name);
    let (code, why, since) = seen.tickets.iter().filter(of_app).find_map(|ticket| ticket.fault.as_ref())?;
    let detail = format!(
        "Entra ID has given no ticket since {since} ({code}: {why}); keys are served, and none is renewed once the last ticket has expired"
    );
    Some(Condition::of_app(ConditionCode::TicketMissing, &app.name, detail))
}

/// Each once, in order; `None` for none.
fn listed(parts: impl Iterator<Item = String>) -> Option<String> {
    let parts: std::collections::BTreeSet<String> = parts.collect();
    (!parts.is_empty()).then(|| parts.into_iter().collect::<Vec<_>>().join(", "))
}

fn backlog_outruns_pace(facts: &Facts<'_>) -> Option<Condition> {
    let renewed = facts.stats?.apps.iter().filter(|app| app.paused.is_none());
    let due: u64 = renewed.flat_map(|app| &app.kinds).map(|(_, kind)| kind.due_backlog).sum();
    let ours: f64 = facts.seen.lines.iter().map(|line| line.pace).sum();
    // Each keeper of a fleet has its part of the pace.
    let pace = ours / facts.seen.part;
    let hours = due as f64 / pace / 3600.0;
    if !hours.is_finite() || hours < BACKLOG_MAX.as_secs_f64() / 3600.0 {
        return None;
    }
    let detail = format!(
        "{due} keys are due, and at {pace:.0} renewals per second they take {hours:.0} h: does the Store throttle or fail, or is pace_max too low?"
    );
    Some(Condition::of_keeper(ConditionCode::BacklogOutrunsPace, detail))
}

fn is_paused_for_credential(app: &AppObservation) -> bool {
    app.paused.as_ref().is_some_and(|paused| paused.reason == "credential")
}

fn app_paused(app: &AppObservation, _: Option<&AppStats>) -> Option<Condition> {
    let paused = app.paused.as_ref()?;
    let name = &app.name;
    let remedy = match paused.reason.as_str() {
        "guard" => {
            String::from("most keys are refused, so the keys are not at fault; a probe that succeeds ends the pause")
        }
        "credential" => format!(
            "correct the app's credential; the pause ends within five minutes of Entra's consent, or at once with `storekeeper app resume {name}`"
        ),
        "inconsistent_client_id" => {
            String::from("the Store says that client_id is not the keys': correct the configuration")
        }
        _ => format!("`storekeeper app resume {name}` ends the pause"),
    };
    let cause = if paused.detail.is_empty() { String::new() } else { format!(": {}", paused.detail) };
    let detail = format!("paused since {}, reason {}{cause}; {remedy}", paused.since, paused.reason);
    let code = match is_paused_for_credential(app) {
        true => ConditionCode::CredentialRefused,
        false => ConditionCode::AppPaused,
    };
    Some(Condition::of_app(code, name, detail))
}

fn keys_lapsed(app: &AppObservation, stats: Option<&AppStats>) -> Option<Condition> {
    let keys = counted(stats?, |kind| kind.lapsed)?;
    let detail = format!("{keys} expired before they could be renewed; their players have to mint new ones");
    Some(Condition::of_app(ConditionCode::KeysLapsed, &app.name, detail))
}

fn keys_past_deadline(app: &AppObservation, stats: Option<&AppStats>) -> Option<Condition> {
    let keys = counted(stats?, |kind| kind.past_deadline)?;
    let detail = format!("{keys} past the policy's deadline, which the Store may refuse at any moment");
    Some(Condition::of_app(ConditionCode::KeysPastDeadline, &app.name, detail))
}

fn condemnations_await_operator(app: &AppObservation, _: Option<&AppStats>) -> Option<Condition> {
    let keys = keys(app.awaiting_operator)?;
    let name = &app.name;
    let detail =
        format!("{keys} more than one day may condemn; find out why, then `storekeeper app resume {name} --condemn`");
    Some(Condition::of_app(ConditionCode::CondemnationsAwaitOperator, name, detail))
}

fn handed_over_in_use(app: &AppObservation, stats: Option<&AppStats>) -> Option<Condition> {
    let stats = stats?;
    let (read_at, keys) = (stats.handed_over_read_at?, counted(stats, |kind| kind.handed_over)?);
    let detail = format!(
        "{keys} handed over and not renewed here, and read here as lately as {read_at}: point the backends at the keeper that renews them; if there is none, `storekeeper app reclaim {}`",
        app.name
    );
    Some(Condition::of_app(ConditionCode::HandedOverInUse, &app.name, detail))
}

fn handed_over_expiring(app: &AppObservation, stats: Option<&AppStats>) -> Option<Condition> {
    let expires_at = stats?.handed_over_expiring_at?;
    let detail = format!(
        "keys that were handed over expire here from {expires_at} on: stop this keeper if another one renews them; if none does, `storekeeper app reclaim {}`",
        app.name
    );
    Some(Condition::of_app(ConditionCode::HandedOverExpiring, &app.name, detail))
}

fn counted(stats: &AppStats, count: fn(&crate::view::KindStats) -> u64) -> Option<String> {
    keys(stats.kinds.iter().map(|(_, kind)| count(kind)).sum())
}

/// `1 key` or `2 keys`; `None` for none.
fn keys(count: u64) -> Option<String> {
    match count {
        0 => None,
        1 => Some(String::from("1 key")),
        count => Some(format!("{count} keys")),
    }
}

#[cfg(test)]
mod tests;
