//! Invariant 11: lifetimes are read, never assumed; and no terminal verdict while our clock and the Store's disagree.

use storekeeper_keeper::{Code, ReadError};
use storekeeper_model::Fingerprint;
use storekeeper_policy::Standing;

use crate::support::mint::Mint;
use crate::support::store::{Mood, What};
use crate::support::{DAY, HOUR, KIND, MINUTE, SECOND, World, identity, player, request};

#[tokio::test]
async fn invariant_11_the_schedule_follows_the_life_that_keys_are_issued_for() {
    let world = World::new().await;
    world.proven(30).await;
    world.advance(DAY).await;
    world.store.set(|store| store.life = DAY * 20);
    world.advance(DAY * 12).await;
    assert_eq!(world.events("app.lifetime_changed").await, 1.0, "told once");
    world.store.take_log();
    world.advance(DAY * 60).await;
    let counts = world.counts().await;
    assert_eq!((counts.active, counts.lapsed, counts.past_deadline), (30, 0, 0), "{counts:?}");
    for exchange in world.store.take_log() {
        let What::Renewal { expires_at, .. } = exchange.what else { continue };
        let age = exchange.at.since(expires_at.unwrap() - DAY * 20);
        // 7 to 11 days of 30 are 4.7 to 7.3 of 20.
        assert!(age >= DAY * 14 / 3 - MINUTE && age <= DAY * 22 / 3 + MINUTE, "{age:?}");
    }
    world.store.set(|store| store.life = DAY * 90);
    world.advance(DAY * 12).await;
    assert_eq!(world.events("app.lifetime_changed").await, 2.0);
    world.advance(DAY * 100).await;
    assert_eq!(world.counts().await.active, 30);
}

#[tokio::test]
async fn invariant_11_each_kind_has_a_life_of_its_own() {
    let world = World::new().await;
    let mut requests = Vec::new();
    for kind in storekeeper_model::KeyKind::ALL {
        let life = if kind == KIND { DAY * 30 } else { DAY * 90 };
        let key = Mint { life, ..world.store.mint(kind, "ada", world.now() - DAY * 11) }.jwt();
        requests.push(request(&storekeeper_model::Identity { kind, ..identity("ada") }, &key));
    }
    world.store.set(|store| store.purchase_life = Some(DAY * 90));
    assert!(world.keeper.enroll(requests).await.iter().all(Result::is_ok));
    world.advance(DAY * 60).await;
    assert_eq!(world.events("app.lifetime_changed").await, 0.0, "nothing has changed");
}

#[tokio::test]
async fn invariant_11_a_key_without_usable_times_is_kept_and_due_at_once() {
    let world = World::new().await;
    let key = Mint { is_swapped: true, ..world.store.mint(KIND, "ada", world.now() - DAY * 400) }.jwt();
    world.store.set(|store| store.mood = Mood::Unavailable);
    let enrolled = world.try_enroll("ada", &key).await.unwrap();
    assert_eq!((enrolled.view.expires_at, enrolled.view.standing), (None, Standing::Active));
    world.rest().await;
    assert_eq!(world.store.renewals(), 1);
    assert_eq!(world.served("ada").await, Fingerprint::of(&key));
    world.store.set(|store| store.mood = Mood::Renew);
    world.advance(HOUR).await;
    let view = world.view("ada").await;
    assert!(view.proven && view.expires_at.unwrap() > world.now() + DAY * 29, "{view:?}");
}

/// Our clock is wrong for an hour, in which players read and start the game; afterwards everything goes its usual way.
async fn wrong_for_an_hour(days: i64, mood: Mood) {
    let world = World::new().await;
    world.proven(120).await;
    world.advance(DAY * 7).await;
    let dead = world.served(&player(0)).await;
    world.store.kill(dead);
    world.store.set(|store| store.mood = mood);
    world.ours.set_wrong_by(days * 86_400);
    let mut turned_away = 0;
    for minute in 0..60 {
        world.advance(MINUTE).await;
        let user = player(minute);
        if let Err(error) = world.get(&user).await {
            turned_away += 1;
            assert!(matches!(error, ReadError::ClockSkewed), "{error}");
        }
        let newcomer = world.mint(&user, SECOND);
        if let Err(error) = world.try_enroll(&user, &newcomer).await {
            assert!(matches!(error.code(), Code::ClockSkewed | Code::KeyOlder), "{error}");
        }
    }
    assert!(turned_away <= 60);
    world.ours.set_wrong_by(0);
    world.store.set(|store| store.mood = Mood::Renew);
    world.rest().await;
    let counts = world.counts().await;
    assert_eq!((counts.active, counts.revoked), (120, 0), "{counts:?}");
    world.store.take_log();
    for _ in 0..40 {
        world.advance(DAY).await;
        let counts = world.counts().await;
        assert!(counts.lapsed == 0 && counts.past_deadline <= 1, "{days} {mood:?} {counts:?}");
    }
    let renewed: std::collections::BTreeSet<String> = world
        .store
        .take_log()
        .into_iter()
        .filter_map(|one| match one.what {
            What::Renewal { user, successor: Some(_), .. } => Some(user),
            _ => None,
        })
        .collect();
    let missing: Vec<String> = (1..120).map(player).filter(|user| !renewed.contains(user)).collect();
    assert!(missing.is_empty(), "every key that lives is renewed on its schedule: {missing:?}");
}

#[tokio::test]
async fn invariant_11_a_clock_40_days_ahead_for_an_hour_buries_nothing() {
    wrong_for_an_hour(40, Mood::Renew).await;
}

#[tokio::test]
async fn invariant_11_a_clock_25_days_ahead_for_an_hour_buries_nothing() {
    wrong_for_an_hour(25, Mood::Renew).await;
}

#[tokio::test]
async fn invariant_11_a_clock_40_days_behind_for_an_hour_buries_nothing() {
    wrong_for_an_hour(-40, Mood::Renew).await;
}

#[tokio::test]
async fn invariant_11_a_wrong_clock_during_an_outage_buries_nothing() {
    for days in [40, 25, -40] {
        wrong_for_an_hour(days, Mood::Silent).await;
        wrong_for_an_hour(days, Mood::Unavailable).await;
    }
}

#[tokio::test]
async fn invariant_11_nothing_is_condemned_while_the_clocks_disagree() {
    for off in [-3600, 3600] {
        let world = World::new().await;
        world.proven(60).await;
        let dead = world.served(&player(0)).await;
        world.store.kill(dead);
        world.store.set(|store| store.date_off = off);
        world.advance(DAY * 20).await;
        let counts = world.counts().await;
        assert_eq!((counts.revoked, counts.refused), (0, 0), "{counts:?}");
        assert_eq!(world.events("clock.skewed").await, 1.0);
        world.store.set(|store| store.date_off = 0);
        world.advance(MINUTE * 10).await;
        assert_eq!(world.events("clock.agrees").await, 1.0);
        world.advance(DAY * 6).await;
        assert_eq!(world.counts().await.revoked, 1, "now it may be judged");
    }
}

#[tokio::test]
async fn invariant_11_one_key_alone_is_tried_again_once_the_clocks_agree() {
    let world = World::new().await;
    world.store.set(|store| (store.date_off, store.mood) = (3600, Mood::Unavailable));
    world.enroll("ada", DAY * 11).await;
    world.advance(HOUR).await;
    world.store.set(|store| (store.date_off, store.mood) = (0, Mood::Renew));
    // The breaker had opened, for ten minutes at most.
    world.advance(MINUTE * 12).await;
    assert!(world.view("ada").await.proven, "nobody else's moment makes the keeper look");
}

#[tokio::test]
async fn invariant_11_while_the_clocks_disagree_nobody_is_sent_away_for_good() {
    let world = World::new().await;
    world.proven(3).await;
    world.store.set(|store| store.mood = Mood::Silent);
    let held = world.served(&player(0)).await;
    world.ours.set_wrong_by(40 * 86_400);
    world.rest().await;
    let error = world.get(&player(0)).await.unwrap_err();
    assert_eq!(error.code(), Code::ClockSkewed, "although the Store has told nothing since");
    let error = world.try_enroll("eve", &world.mint("eve", SECOND)).await.unwrap_err();
    assert_eq!(error.code(), Code::ClockSkewed);
    world.ours.set_wrong_by(0);
    assert_eq!(world.served(&player(0)).await, held);
    assert!(world.try_enroll("eve", &world.mint("eve", SECOND)).await.is_ok());
}
