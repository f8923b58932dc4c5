//! Invariant 2: no key is condemned on evidence that something else could explain.

use std::collections::HashMap;

use storekeeper_keeper::{EnrollError, ReadError};
use storekeeper_model::{Fingerprint, Timestamp};
use storekeeper_policy::Standing;

use crate::support::store::{Exchange, Mood, What};
use crate::support::{DAY, HOUR, KIND, MINUTE, SECOND, World, identity, player, request};

/// Which ticket each user's renewals were sent with, in order.
fn by_user(log: &[Exchange]) -> HashMap<&str, Vec<(Timestamp, u64)>> {
    let mut found: HashMap<&str, Vec<(Timestamp, u64)>> = HashMap::new();
    for exchange in log {
        if let What::Renewal { user, ticket, .. } = &exchange.what {
            found.entry(user).or_default().push((exchange.at, *ticket));
        }
    }
    found
}

#[tokio::test]
async fn invariant_2_a_bad_ticket_condemns_nobody() {
    let world = World::new().await;
    world.proven(100).await;
    world.advance(DAY * 8).await;
    world.store.take_log();
    // Every ticket that is out there goes bad, again and again.
    for _ in 0..24 {
        let last = world.store.last_serial();
        world.store.set(|store| store.bad_tickets.extend(last.saturating_sub(200)..=last));
        world.advance(HOUR).await;
    }
    let log = world.store.take_log();
    assert!(by_user(&log).values().any(|tries| tries.len() == 2), "some key met a bad ticket");
    for (user, tries) in by_user(&log) {
        for pair in tries.windows(2) {
            assert!(pair[0].1 < pair[1].1, "{user} was tried twice with one ticket: {tries:?}");
        }
    }
    let counts = world.counts().await;
    assert_eq!((counts.active, counts.refused), (100, 0), "{counts:?}");
    assert_eq!(world.events("key.refused").await, 0.0, "a refusal that a fresh ticket cures is none");
    assert_eq!(world.paused().await, None);
}

#[tokio::test]
async fn invariant_2_refusals_force_one_fetch_in_a_minute_at_most() {
    let world = World::new().await;
    world.proven(300).await;
    world.advance(DAY * 7).await;
    let dead: Vec<Fingerprint> = world.everybody().await.iter().map(|view| view.fingerprint).step_by(4).collect();
    world.store.set(|store| store.dead.extend(dead));
    world.store.take_log();
    for _ in 0..120 {
        world.advance(MINUTE * 12).await;
    }
    let log = world.store.take_log();
    let fetches: Vec<Timestamp> = log.iter().filter(|one| matches!(one.what, What::Ticket)).map(|one| one.at).collect();
    assert!(fetches.len() > 20, "{}", fetches.len());
    for pair in fetches.windows(2) {
        assert!(pair[1].since(pair[0]) >= MINUTE, "{} and {}", pair[0], pair[1]);
    }
}

async fn false_refusals(share: f64) -> World {
    let world = World::new().await;
    world.proven(400).await;
    world.advance(DAY * 8 + HOUR * 12).await;
    world.store.set(|store| store.false_refusals = share);
    world.advance(HOUR * 12).await;
    world.store.set(|store| store.false_refusals = 0.0);
    assert_eq!(world.counts().await.revoked, 0);
    world.advance(DAY * 4).await;
    let counts = world.counts().await;
    assert_eq!((counts.active, counts.revoked, counts.refused), (400, 0, 0), "{counts:?}");
    assert_eq!(world.events("key.reenroll_required").await, 0.0);
    assert_eq!(world.paused().await, None);
    world
}

#[tokio::test]
async fn invariant_2_5_percent_false_refusals_for_hours_condemn_nobody() {
    assert_eq!(false_refusals(0.05).await.events("app.paused").await, 0.0);
}

#[tokio::test]
async fn invariant_2_20_percent_false_refusals_for_hours_condemn_nobody() {
    assert_eq!(false_refusals(0.2).await.events("app.paused").await, 0.0);
}

#[tokio::test]
async fn invariant_2_40_percent_false_refusals_for_hours_condemn_nobody() {
    false_refusals(0.4).await;
}

#[tokio::test]
async fn invariant_2_90_percent_false_refusals_for_hours_condemn_nobody() {
    let world = false_refusals(0.9).await;
    let (paused, resumed) = (world.events("app.paused").await, world.events("app.resumed").await);
    assert!(paused >= 1.0 && paused == resumed, "paused {paused} times, resumed {resumed} times");
}

#[tokio::test]
async fn invariant_2_exactly_the_revoked_keys_become_revoked() {
    let world = World::new().await;
    world.proven(200).await;
    let mut dead = Vec::new();
    for number in (0..200).step_by(20) {
        dead.push(world.served(&player(number)).await);
    }
    world.store.set(|store| store.dead.extend(dead.clone()));
    world.advance(DAY * 15).await;
    for number in 0..200 {
        let (view, is_dead) = (world.view(&player(number)).await, number % 20 == 0);
        assert_eq!(view.standing == Standing::Revoked, is_dead, "{view:?}");
        assert_eq!(matches!(world.get(&player(number)).await, Err(ReadError::Revoked)), is_dead);
    }
    assert_eq!(world.events("key.reenroll_required").await, 10.0);
    assert_eq!(world.events("app.paused").await, 0.0);
}

#[tokio::test]
async fn invariant_2_condemning_takes_three_refusals_a_day_and_a_witness() {
    let world = World::new().await;
    world.proven(60).await;
    let dead = world.served(&player(0)).await;
    world.store.kill(dead);
    let mut since = None;
    for _ in 0..(15 * 24 * 6) {
        world.advance(MINUTE * 10).await;
        let view = world.view(&player(0)).await;
        since = since.or(view.refused_since);
        let Some(since) = since.filter(|_| view.standing == Standing::Revoked) else {
            assert_eq!(world.served(&player(0)).await, dead, "served while nothing is proven");
            continue;
        };
        let log = world.store.take_log();
        let tries = &by_user(&log)[player(0).as_str()];
        assert!(world.now().since(since) >= DAY, "condemned after {:?}", world.now().since(since));
        assert!(tries.len() >= 6, "three refusals, each with two tickets: {tries:?}");
        let witnesses = by_user(&log);
        let is_between = |tries: &Vec<(Timestamp, u64)>| tries.iter().any(|(at, _)| *at > since);
        assert!(witnesses.iter().any(|(user, tries)| *user != player(0) && is_between(tries)));
        return;
    }
    panic!("never condemned");
}

#[tokio::test]
async fn invariant_2_without_a_witness_a_key_stays_until_it_expires() {
    let world = World::new().await;
    world.proven(1).await;
    let dead = world.served(&player(0)).await;
    world.store.kill(dead);
    world.advance(DAY * 30 - HOUR).await;
    let view = world.view(&player(0)).await;
    assert!(view.refused_since.is_some());
    assert_eq!(world.served(&player(0)).await, dead);
    world.advance(HOUR * 2).await;
    assert!(matches!(world.get(&player(0)).await, Err(ReadError::Lapsed)));
    assert_eq!(world.events("key.reenroll_required").await, 1.0);
}

#[tokio::test]
async fn invariant_2_an_unproven_key_bears_no_witness_and_trips_no_guard() {
    let world = World::new().await;
    world.proven(20).await;
    for number in 100..150 {
        world.enroll_dead(&player(number), DAY * 11).await;
    }
    world.advance(DAY * 3).await;
    assert_eq!(world.events("app.paused").await, 0.0, "forged keys cannot stop the others");
    assert_eq!(world.counts().await.revoked, 50);
    assert_eq!(world.counts().await.active, 20);
}

#[tokio::test]
async fn invariant_2_a_revoked_key_answers_for_good_and_a_new_one_revives_it() {
    let world = World::new().await;
    world.proven(10).await;
    let key = world.enroll_dead("ada", DAY * 11).await;
    world.advance(DAY * 3).await;
    assert!(matches!(world.get("ada").await, Err(ReadError::Revoked)));
    assert!(matches!(world.try_enroll("ada", &key).await, Err(EnrollError::Revoked)), "this very key again");
    world.store.take_log();
    world.advance(DAY * 3).await;
    assert!(!by_user(&world.store.take_log()).contains_key("ada"), "a key that is revoked is left alone");

    let revived = world.enroll("ada", MINUTE).await;
    assert_eq!(world.served("ada").await, Fingerprint::of(&revived));
    world.advance(DAY * 12).await;
    let view = world.view("ada").await;
    assert!(view.proven && view.standing == Standing::Active && view.refused_since.is_none(), "{view:?}");
}

#[tokio::test]
async fn invariant_2_condemnations_past_the_cap_wait_for_an_operator() {
    let world = World::new().await;
    world.proven(20).await;
    let forged: Vec<_> = (100..1_160).map(|number| (player(number), world.mint(&player(number), DAY * 11))).collect();
    world.store.set(|store| store.dead.extend(forged.iter().map(|(_, key)| Fingerprint::of(key))));
    let requests = forged.iter().map(|(user, key)| request(&identity(user), key)).collect();
    assert!(world.keeper.enroll(requests).await.iter().all(Result::is_ok));
    // All refused for the third time within one day of the calendar.
    world.advance(DAY * 2 + HOUR * 6).await;
    let app = world.app().await;
    let counts = world.counts().await;
    assert!(counts.revoked >= 1_000, "{counts:?}");
    let mut waiting = app.awaiting_operator;
    let mut revoked = counts.revoked;
    if waiting == 0 {
        // The day ended in between; nobody was ever condemned above the cap.
        assert_eq!(revoked, 1_060);
        return;
    }
    assert_eq!(waiting + revoked, 1_060);
    assert_eq!(world.keeper.resume(&crate::support::mygame(), true).await.unwrap(), waiting);
    world.advance(HOUR).await;
    (waiting, revoked) = (world.app().await.awaiting_operator, world.counts().await.revoked);
    assert_eq!((waiting, revoked), (0, 1_060));
}

#[tokio::test]
async fn invariant_2_acquittal_gives_keys_back_and_voids_what_was_held_against_them() {
    let world = World::new().await;
    world.proven(30).await;
    let dead = world.served(&player(0)).await;
    world.store.kill(dead);
    world.advance(DAY * 14).await;
    assert!(matches!(world.get(&player(0)).await, Err(ReadError::Revoked)));
    // The Store had been wrong.
    world.store.set(|store| store.dead.clear());
    assert_eq!(world.keeper.acquit(&crate::support::mygame()).await.unwrap(), 1);
    assert_eq!(world.served(&player(0)).await, dead, "at once");
    assert_eq!(world.app().await.awaiting_operator, 0);
    world.advance(MINUTE * 2).await;
    let view = world.view(&player(0)).await;
    assert!(view.refused_since.is_none() && view.key_version > 2, "{view:?}");
    assert_ne!(world.served(&player(0)).await, dead);
}

#[tokio::test]
async fn invariant_2_what_says_nothing_about_a_key_is_not_held_against_it() {
    let moods = [
        Mood::WrappedFault,
        Mood::Unavailable,
        Mood::Broken,
        Mood::Throttle(600),
        Mood::Silent,
        Mood::Empty,
        Mood::SameKey,
        Mood::Redirect,
        Mood::BadRequest,
    ];
    for mood in moods {
        let world = World::new().await;
        world.proven(20).await;
        world.advance(DAY * 6).await;
        world.store.set(|store| store.mood = mood);
        world.advance(DAY * 7).await;
        let counts = world.counts().await;
        assert_eq!((counts.active, counts.refused, counts.revoked), (20, 0, 0), "{mood:?}: {counts:?}");
        assert_eq!(world.paused().await, None, "{mood:?}");
        world.store.set(|store| store.mood = Mood::Renew);
        world.advance(DAY * 3).await;
        let counts = world.counts().await;
        assert_eq!((counts.active, counts.due_backlog), (20, 0), "{mood:?}: {counts:?}");
        for view in world.everybody().await {
            assert!(view.issued_at > world.now() - DAY * 11, "{mood:?}: {view:?}");
        }
    }
}

#[tokio::test]
async fn invariant_2_retry_after_is_obeyed_to_the_second() {
    let world = World::new().await;
    world.store.set(|store| store.mood = Mood::Throttle(1800));
    world.enroll("ada", DAY * 11).await;
    world.rest().await;
    let first = world.store.take_log().iter().rev().find(|one| matches!(one.what, What::Renewal { .. })).unwrap().at;
    world.store.set(|store| store.mood = Mood::Renew);
    world.advance(SECOND * 1799).await;
    assert_eq!(world.store.renewals(), 0, "the Store wants to be left alone");
    world.advance(HOUR).await;
    let log = world.store.take_log();
    let again = log.iter().find(|one| matches!(one.what, What::Renewal { .. })).unwrap().at;
    assert!(again.since(first) >= SECOND * 1800, "{:?}", again.since(first));
    assert_eq!(KIND, world.view("ada").await.identity.kind);
}
