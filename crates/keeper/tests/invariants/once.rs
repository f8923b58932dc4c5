//! Invariant 5: at most one outcome is recorded per renewal.

use storekeeper_keeper::Visibility;
use storekeeper_keyring::OutcomeResult;

use crate::support::{DAY, HOUR, SECOND, World, config, identity, player};

#[tokio::test]
async fn invariant_5_callers_at_once_share_one_renewal() {
    let world = World::new().await;
    world.enroll("ada", DAY).await;
    world.store.shut();
    let mut calls = Vec::new();
    for _ in 0..50 {
        let keeper = world.keeper.clone();
        calls.push(tokio::spawn(async move { keeper.renew(&identity("ada")).await }));
    }
    world.until("the Store was asked", || world.store.renewals() > 0).await;
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    world.store.open();
    world.until("every caller is answered", || calls.iter().all(|call| call.is_finished())).await;
    let mut told = Vec::new();
    for call in calls {
        told.push(call.await.unwrap().unwrap().fingerprint);
    }
    assert_eq!(world.store.renewals(), 1);
    told.dedup();
    assert_eq!(told, [world.served("ada").await]);
}

#[tokio::test]
async fn invariant_5_a_late_owners_write_changes_nothing() {
    let world = World::new().await;
    world.enroll("ada", DAY).await;
    let late = world.another(config()).await;
    world.rest().await;
    // Both ask the Store; the first answer that is written stands.
    world.store.shut();
    let (first, second) = (world.keeper.clone(), late.clone());
    let first = tokio::spawn(async move { first.renew(&identity("ada")).await });
    let second = tokio::spawn(async move { second.renew(&identity("ada")).await });
    world.until("the Store was asked twice", || world.store.renewals() == 2).await;
    world.store.open();
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
    assert_eq!(first.fingerprint, second.fingerprint, "who came too late is told what stands");
    let row = world.row("ada").await;
    assert_eq!((row.key_version, row.key.fingerprint), (2, first.fingerprint));
    let renewed = row.history.iter().filter(|outcome| outcome.result == OutcomeResult::Renewed).count();
    assert_eq!(renewed, 1, "one outcome");
    let mut lost = world.metric("storekeeper_outcomes_overtaken_total").await;
    let text = late.metrics(&Visibility::All).await;
    lost += text
        .lines()
        .find_map(|line| line.strip_prefix("storekeeper_outcomes_overtaken_total "))
        .map_or(0.0, |n| n.parse().unwrap());
    assert_eq!(lost, 1.0, "harmless, and counted");
}

#[tokio::test]
async fn invariant_5_a_write_that_was_made_but_not_confirmed_is_not_made_twice() {
    let world = World::new().await;
    world.enroll("ada", DAY).await;
    world.keyring.deny_next();
    let keeper = world.keeper.clone();
    let renewing = tokio::spawn(async move { keeper.renew(&identity("ada")).await });
    world.advance(SECOND * 10).await;
    let view = renewing.await.unwrap().unwrap();
    let row = world.row("ada").await;
    assert_eq!((row.key_version, row.key.fingerprint), (2, view.fingerprint));
    let renewed = row.history.iter().filter(|outcome| outcome.result == OutcomeResult::Renewed).count();
    assert_eq!((renewed, world.store.renewals()), (1, 1));
    world.advance(DAY * 30).await;
    assert_eq!(world.counts().await.active, 1);
}

#[tokio::test]
async fn invariant_5_what_was_forgotten_meanwhile_stays_forgotten() {
    let world = World::new().await;
    world.enroll("ada", DAY).await;
    world.store.shut();
    let keeper = world.keeper.clone();
    let renewing = tokio::spawn(async move { keeper.renew(&identity("ada")).await });
    world.until("the Store was asked", || world.store.renewals() == 1).await;
    let ada = identity("ada");
    assert_eq!(world.keeper.forget(&ada.app, &ada.user, None, None).await.unwrap(), 1);
    world.store.open();
    world.rest().await;
    drop(renewing.await.unwrap());
    assert!(world.get("ada").await.is_err() && world.everybody().await.is_empty());
}

#[tokio::test]
async fn invariant_5_every_key_of_a_population_is_renewed_once_per_window() {
    let world = World::new().await;
    world.proven(100).await;
    world.advance(DAY * 10 + HOUR * 23).await;
    for number in 0..100 {
        let row = world.row(&player(number)).await;
        assert_eq!(row.key_version, 3, "{number}");
    }
    assert_eq!(world.store.renewals(), 100);
}
