//! Three `serve` on one PostgreSQL: thirds; halves after one dies, stops or is drained; no key late, none renewed for the
//! record twice. The database is started here, or is the one that `STOREKEEPER_TEST_POSTGRES_URL` (and `_ADMIN_URL`) name.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

#[path = "support/callers.rs"]
mod callers;
#[allow(dead_code, reason = "this test binary uses a part of it")]
#[path = "../../keyring-postgres/tests/postgres/cluster.rs"]
mod cluster;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/scene.rs"]
mod scene;
mod support;

use std::time::{Duration, Instant};

use callers::{Callers, Ledger};
use fleet::Fleet;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
const NAMES: [&str; 3] = ["one", "two", "three"];

/// How many leases each node has, by its name, the most first.
fn shares(fleet: &Fleet, asked: &str) -> Vec<u64> {
    let list = fleet.command(asked, &["lease", "list", "-o", "json"]).json();
    let leases = list["leases"].as_array().unwrap();
    assert_eq!(leases.len(), 4096);
    let mut counts: Vec<u64> = Vec::new();
    for node in list["nodes"].as_array().unwrap() {
        let own = leases.iter().filter(|lease| lease["node"] == node["id"]).count() as u64;
        assert_eq!(node["leases"].as_u64(), Some(own), "{node}");
        counts.push(own);
    }
    let free = leases.iter().filter(|lease| lease["node"] == Value::Null).count() as u64;
    assert!(list["free"].as_u64().unwrap() >= free);
    counts.retain(|count| *count > 0);
    counts.sort_unstable_by(|a, b| b.cmp(a));
    counts
}

#[track_caller]
fn until_shares(fleet: &Fleet, asked: &str, within: Duration, expected: &[u64]) {
    let took = support::until(within, || shares(fleet, asked) == expected);
    assert!(took.is_some(), "not {expected:?} within {within:?}, but {:?}", shares(fleet, asked));
}

const THIRDS: [u64; 3] = [1366, 1365, 1365];
const HALVES: [u64; 2] = [2048, 2048];

#[test]
fn three_keepers_have_thirds_and_two_have_halves_when_one_is_killed() {
    let fleet = Fleet::start(&NAMES);
    until_shares(&fleet, "one", SECOND * 15, &THIRDS);
    fleet.enroll("one", 0..600);
    fleet.enroll("two", 600..1200);
    fleet.kill("three");
    fleet.enroll("one", 1200..1500);
    until_shares(&fleet, "one", SECOND * 15, &HALVES);
    fleet.enroll("two", 1500..1800);
    fleet.until_all_are_renewed("one", 1800, SECOND * 30);
    fleet.check_each_was_renewed_once("two", 1800);
    // A keeper that starts again is a new node, and the old one is no more.
    fleet.join("three");
    until_shares(&fleet, "three", SECOND * 15, &THIRDS);
    let told = fleet.command("two", &["lease", "list"]).out;
    assert_eq!(told.lines().filter(|line| line.contains("1,365")).count(), 2, "{told}");
}

/// About how many renewals there are between two kills: some seconds' worth.
const BETWEEN_KILLS: usize = 1500;
const CALLERS: u64 = 3;

#[test]
#[expect(clippy::disallowed_methods, reason = "it tells how long it took")]
fn invariant_5_a_random_keeper_dies_again_and_again_and_each_key_is_renewed_once_for_the_record() {
    let (keys, began) = (support::keys(1600), Instant::now());
    let fleet = Fleet::start(&NAMES);
    until_shares(&fleet, "one", SECOND * 15, &THIRDS);
    let callers = Callers::new(&fleet, &NAMES, keys);
    let mut ledger = Ledger::default();
    let kills = std::thread::scope(|scope| {
        for seed in 0..CALLERS {
            let callers = &callers;
            scope.spawn(move || callers.hand_in(seed));
        }
        kill_again_and_again(&fleet, &callers, keys, &mut ledger)
    });
    until_shares(&fleet, "one", SECOND * 30, &THIRDS);
    fleet.until_all_are_renewed("one", keys, SECOND * 60);
    fleet.check_each_was_renewed_once("two", keys);
    ledger.read_on(&fleet);
    let duplicates = callers.compare(&fleet.list("three"), &ledger);
    duplicates.keys().for_each(|user| fleet.check_history("three", user));
    let (calls, besides) = (ledger.renewals(), duplicates.values().sum::<usize>());
    println!(
        "{kills} kills, {keys} keys, {calls} calls, {besides} of them duplicates ({} keys), {} batches interrupted, {} s",
        duplicates.len(),
        callers.interrupted(),
        began.elapsed().as_secs()
    );
    assert!(kills >= 3 && callers.interrupted() > 0, "{kills} kills that interrupt nobody prove nothing");
    assert!(besides < keys / 4, "{besides} renewals were asked for besides the {keys} that were recorded");
}

/// Kills one keeper after the other and starts it anew, while keys are handed in and renewed, until nearly all are renewed.
/// Says how many it killed.
fn kill_again_and_again(fleet: &Fleet, callers: &Callers<'_>, keys: usize, ledger: &mut Ledger) -> usize {
    let mut random = SmallRng::seed_from_u64(5);
    let some = BETWEEN_KILLS.min(keys / 5);
    for kills in 0.. {
        let next = ledger.renewals() + random.random_range(1..=2 * some);
        if next >= keys {
            callers.allow(keys);
            return kills;
        }
        callers.allow(next + some);
        let renewing = std::cell::RefCell::new(&mut *ledger);
        let is_time = || {
            renewing.borrow_mut().read_on(fleet);
            renewing.borrow().renewals() >= next
        };
        support::until(SECOND * 60, is_time).expect("keys are renewed");
        let victim = NAMES[random.random_range(0..NAMES.len())];
        callers.allow(next + 2 * some);
        callers.until_called(victim);
        fleet.kill(victim);
        fleet.join(victim);
    }
    unreachable!("keys are renewed some time")
}

#[test]
fn a_keeper_that_stood_still_past_its_time_loses_its_leases_and_nothing_else() {
    let fleet = Fleet::start(&NAMES);
    until_shares(&fleet, "one", SECOND * 15, &THIRDS);
    // Answers take a while, so that some are under way whenever it is stopped.
    fleet.slow_down("700ms");
    fleet.enroll("three", 0..900);
    support::until(SECOND * 20, || fleet.renewals() > 60).expect("renewals are under way");
    fleet.signal("three", "STOP");
    until_shares(&fleet, "one", SECOND * 15, &HALVES);
    fleet.enroll("one", 900..1200);
    fleet.until_all_are_renewed("one", 1200, SECOND * 90);
    fleet.signal("three", "CONT");
    until_shares(&fleet, "three", SECOND * 15, &THIRDS);
    fleet.check_each_was_renewed_once("three", 1200);
    assert!(fleet.metric("three", "storekeeper_lease_lost_total") >= 1365.0, "it knows what it lost");
    let duplicates = fleet.renewals() - 1200;
    let overtaken: f64 = NAMES.iter().map(|name| fleet.metric(name, "storekeeper_outcomes_overtaken_total")).sum();
    assert!(overtaken <= duplicates as f64, "{overtaken} outcomes were overtaken by {duplicates} calls too many");
    assert!(duplicates > 0, "what was under way when it was stopped was asked for again");
    fleet.enroll("three", 1200..1260);
    fleet.until_all_are_renewed("two", 1260, SECOND * 60);
}

#[test]
fn who_is_stopped_or_drained_gives_its_leases_back_at_once() {
    let fleet = Fleet::start(&NAMES);
    until_shares(&fleet, "one", SECOND * 15, &THIRDS);
    // Less than a time-to-live: nobody had to find out.
    fleet.stop("three");
    until_shares(&fleet, "one", SECOND * 6, &HALVES);
    let told = fleet.command("one", &["node", "drain", "two"]).out;
    assert!(told.contains("two gives its leases back"), "{told}");
    until_shares(&fleet, "two", SECOND * 6, &[4096]);
    let list = fleet.command("two", &["node", "list"]).out;
    let line = list.lines().find(|line| line.starts_with("two")).unwrap();
    assert!(line.contains("draining") && !line.contains("4,096"), "{list}");
    fleet.enroll("two", 0..60);
    fleet.until_all_are_renewed("two", 60, SECOND * 20);
    fleet.try_command("one", &["node", "drain", "nobody"]).fails(3, "no node of this id or name");
    fleet.stop("one");
    let free = support::until(SECOND * 6, || shares(&fleet, "two").is_empty());
    assert!(free.is_some(), "a draining node takes nothing, though nobody else is left");
    fleet.enroll("two", 60..90);
    let undrained = fleet.command("two", &["node", "undrain", "two"]).out;
    assert!(undrained.contains("two may take leases again"), "{undrained}");
    until_shares(&fleet, "two", SECOND * 6, &[4096]);
    fleet.until_all_are_renewed("two", 90, SECOND * 20);
    fleet.try_command("two", &["node", "undrain", "none"]).fails(3, "no node of this id or name");
}

#[test]
fn an_order_to_one_keeper_is_followed_by_all() {
    let fleet = Fleet::start(&NAMES);
    until_shares(&fleet, "one", SECOND * 15, &THIRDS);
    fleet.command("one", &["app", "pause", "mygame"]);
    let paused = |name| fleet.metric(name, "storekeeper_app_paused{app=\"mygame\",reason=\"operator\"}") == 1.0;
    assert!(support::until(SECOND * 10, || NAMES.iter().all(|name| paused(name))).is_some());
    fleet.enroll("two", 0..60);
    fleet.command("three", &["app", "resume", "mygame"]);
    assert!(support::until(SECOND * 10, || !NAMES.iter().any(|name| paused(name))).is_some());
    fleet.until_all_are_renewed("one", 60, SECOND * 20);
}

#[test]
fn on_a_keyring_of_its_own_a_keeper_is_the_one_node() {
    let fleet = Fleet::alone();
    assert_eq!(shares(&fleet, "alone"), [4096]);
    let list = fleet.command("alone", &["node", "list", "-o", "json"]).json();
    assert_eq!((list["nodes"].as_array().unwrap().len(), &list["nodes"][0]["name"]), (1, &Value::from("alone")));
    fleet.try_command("alone", &["node", "drain", "alone"]).fails(4, "one keeper alone holds this keyring");
    fleet.try_command("alone", &["node", "undrain", "alone"]).fails(4, "one keeper alone holds this keyring");
    assert_eq!(fleet.metric("alone", "storekeeper_lease_held"), 4096.0);
}
