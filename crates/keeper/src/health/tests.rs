//! Each fact leads to its condition, and a keeper that works has none.

use storekeeper_keyring::Paused;
use storekeeper_model::{Audience, KeyKind, Timestamp};

use super::*;
use crate::engine::{LatencyObservation, LineObservation};
use crate::view::KindStats;

fn codes(stats: Option<&Stats>, seen: &Observation, keyring: &KeyringState) -> Vec<&'static str> {
    let rescue = &RescueFacts::default();
    let facts = Facts { stats, seen, keyring, rescue, stalled: None, renewing_nodes: None, surroundings: &[] };
    Health::assess(&facts).conditions.iter().map(|condition| condition.code.as_str()).collect()
}

fn app(paused: Option<&str>, awaiting_operator: u64) -> Observation {
    let paused =
        paused.map(|reason| Paused { reason: reason.to_owned(), detail: String::from("why"), since: Timestamp::EPOCH });
    let name = AppName::new("mygame").unwrap();
    Observation { apps: vec![AppObservation { name, paused, awaiting_operator }], ..Observation::default() }
}

fn stats(kind: KindStats) -> Stats {
    let app = AppStats {
        app: AppName::new("mygame").unwrap(),
        kinds: vec![(KeyKind::Collections, kind)],
        paused: None,
        awaiting_operator: 0,
        handed_over_read_at: None,
        handed_over_expiring_at: None,
        renewed: 0,
        failed: 0,
    };
    Stats { now: Timestamp::EPOCH, apps: vec![app], clock_skew: None }
}

#[test]
fn a_keeper_that_works_has_no_conditions() {
    let busy = KindStats { active: 2000, refused: 2, due_backlog: 40, revoked: 3, ..KindStats::default() };
    assert_eq!(codes(Some(&stats(busy)), &app(None, 0), &KeyringState::new("memory")), [""; 0]);
}

#[test]
fn each_fact_leads_to_its_condition() {
    let keyring = KeyringState::new("storekeeper.db");
    let lapsed = stats(KindStats { lapsed: 2, past_deadline: 1, ..KindStats::default() });
    assert_eq!(codes(Some(&lapsed), &app(None, 0), &keyring), ["keys_lapsed", "keys_past_deadline"]);
    assert_eq!(codes(None, &app(Some("guard"), 7), &keyring), ["app_paused", "condemnations_await_operator"]);
    let now = Timestamp::from_seconds(1_700_000_000);
    let clocks = Some((now, now + Duration::from_secs(600)));
    let skewed = Observation { clocks, skewed: true, ..Observation::default() };
    assert_eq!(codes(None, &skewed, &keyring), ["clock_skewed"]);
}

#[test]
fn a_fleet_in_which_every_keeper_drains_is_reported() {
    let (seen, keyring) = (app(None, 0), KeyringState::new("memory"));
    let check = |renewing_nodes, expected: &[&str]| {
        let facts = Facts {
            stats: None,
            seen: &seen,
            keyring: &keyring,
            rescue: &RescueFacts::default(),
            stalled: None,
            renewing_nodes,
            surroundings: &[],
        };
        let conditions = Health::assess(&facts).conditions;
        assert_eq!(conditions.iter().map(|one| one.code.as_str()).collect::<Vec<_>>(), expected);
    };
    check(None, &[]);
    check(Some(2), &[]);
    check(Some(0), &["fleet_draining"]);
}

#[test]
fn keys_that_are_handed_over_are_reported_while_they_matter() {
    let (seen, keyring) = (app(None, 0), KeyringState::new("memory"));
    let mut moved = stats(KindStats { handed_over: 3, ..KindStats::default() });
    assert_eq!(codes(Some(&moved), &seen, &keyring), [""; 0]);
    moved.apps[0].handed_over_read_at = Some(Timestamp::EPOCH);
    moved.apps[0].handed_over_expiring_at = Some(Timestamp::EPOCH);
    assert_eq!(codes(Some(&moved), &seen, &keyring), ["handed_over_in_use", "handed_over_expiring"]);
    moved.apps[0].kinds[0].1.handed_over = 0;
    moved.apps[0].handed_over_expiring_at = None;
    assert_eq!(codes(Some(&moved), &seen, &keyring), [""; 0], "they were taken back");
}

#[test]
fn what_the_store_and_entra_do_leads_to_conditions() {
    let seen = |breaker, latency, entra| {
        let (kind, client_id) = (KeyKind::Collections, String::from("one"));
        let line = LineObservation { kind, client_id: client_id.clone(), pace: 20.0, breaker, queued: 0, latency };
        let (apps, fault) = (vec![AppName::new("mygame").unwrap()], entra);
        let ticket = TicketObservation {
            apps,
            client_id,
            audience: Audience::Service,
            expires_at: None,
            fault,
            latency: LatencyObservation::default(),
        };
        Observation { lines: vec![line], tickets: vec![ticket], ..app(None, 0) }
    };
    let latency =
        |seconds, timed_out| LatencyObservation { requests: 20, timed_out, median: Some(Duration::from_secs(seconds)) };
    let check = |seen: Observation, expected: &[&str]| {
        assert_eq!(codes(None, &seen, &KeyringState::new("memory")), expected, "{seen:?}");
    };
    check(seen("closed", latency(1, 4), None), &[]);
    check(seen("closed", latency(9, 0), None), &["store_slow"]);
    check(seen("closed", latency(1, 5), None), &["store_slow"]);
    check(seen("half_open", LatencyObservation::default(), None), &["store_unreachable"]);
    let fault = (String::from("unavailable"), String::from("503"), Timestamp::EPOCH);
    check(seen("closed", latency(1, 0), Some(fault)), &["ticket_missing"]);
}

#[test]
fn a_backlog_is_judged_by_the_pace_of_the_whole_fleet() {
    let line = LineObservation {
        kind: KeyKind::Collections,
        client_id: String::new(),
        pace: 10.0,
        breaker: "closed",
        queued: 0,
        latency: LatencyObservation::default(),
    };
    let seen = |part: f64| Observation { lines: vec![line.clone()], part, ..Observation::default() };
    let due = |due_backlog| stats(KindStats { due_backlog, ..KindStats::default() });
    let keyring = KeyringState::new("memory");
    assert_eq!(codes(Some(&due(200_000)), &seen(1.0), &keyring), [""; 0], "under six hours");
    assert_eq!(codes(Some(&due(220_000)), &seen(1.0), &keyring), ["backlog_outruns_pace"]);
    assert_eq!(codes(Some(&due(220_000)), &seen(0.5), &keyring), [""; 0], "another keeper renews the other half");
}

#[test]
fn each_fact_of_rescue_files_leads_to_its_condition() {
    let keyring = KeyringState::new("storekeeper.db");
    let codes = |rescue: RescueFacts, seen: Observation| -> Vec<&'static str> {
        let facts = Facts {
            stats: None,
            seen: &seen,
            keyring: &keyring,
            rescue: &rescue,
            stalled: None,
            renewing_nodes: None,
            surroundings: &[],
        };
        Health::assess(&facts).conditions.iter().map(|condition| condition.code.as_str()).collect()
    };
    let held = RescueFacts { held: 2, problem: Some(String::from("full")), ..RescueFacts::default() };
    assert_eq!(codes(held, Observation::default()), ["successors_not_durable", "rescue_folder_unusable"]);
    let failing = Observation { failing_rows: 1, ..Observation::default() };
    assert_eq!(codes(RescueFacts::default(), failing), ["successors_not_durable"]);
    let left = RescueFacts { waiting: 1, unusable: vec!["a".into()], ..RescueFacts::default() };
    assert_eq!(codes(left, Observation::default()), ["rescue_file_waiting", "rescue_file_unusable"]);
}

#[test]
fn every_code_has_a_word_of_its_own() {
    let words: std::collections::BTreeSet<&str> = ConditionCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(words.len(), ConditionCode::ALL.len());
}

#[test]
fn every_code_is_documented() {
    let page = include_str!("../../../../docs/reference/conditions.md");
    let documented: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let words: Vec<&str> = ConditionCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(documented, words);
}
