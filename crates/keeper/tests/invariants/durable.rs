//! Invariant 1: durable before replaced.

use storekeeper_keeper::RenewError;
use storekeeper_model::Fingerprint;

use crate::support::{DAY, SECOND, World, identity, request};

#[tokio::test]
async fn invariant_1_an_enrollment_is_durable_before_anybody_hears_of_it() {
    let world = World::new().await;
    let key = world.mint("ada", DAY);
    world.keyring.shut();
    let keeper = world.keeper.clone();
    let asked = request(&identity("ada"), &key);
    let enrolling = tokio::spawn(async move { keeper.enroll(vec![asked]).await });
    world.until("the row is about to be written", || world.keyring.waiting() == 1).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!enrolling.is_finished(), "the caller was told before the row was on disk");
    assert!(world.get("ada").await.is_err());
    world.keyring.open();
    enrolling.await.unwrap().remove(0).unwrap();
    assert_eq!(world.served("ada").await, Fingerprint::of(&key));
}

#[tokio::test]
async fn invariant_1_a_successor_is_durable_before_it_is_served_or_told_of() {
    let world = World::new().await;
    let key = world.enroll("ada", DAY).await;
    assert_eq!(world.served("ada").await, Fingerprint::of(&key), "it is in the cache from now on");
    world.keyring.shut();
    let keeper = world.keeper.clone();
    let renewing = tokio::spawn(async move { keeper.renew(&identity("ada")).await });
    world.until("the successor is about to be written", || world.keyring.waiting() == 1).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.store.renewals(), 1);
    assert!(!renewing.is_finished(), "the caller was told before the successor was on disk");
    assert_eq!(world.served("ada").await, Fingerprint::of(&key), "the successor is not on disk yet");
    assert_eq!(world.events("key.renewed").await, 0.0);

    world.keyring.open();
    let view = renewing.await.unwrap().unwrap();
    assert_eq!(view.key_version, 2);
    assert_eq!(world.served("ada").await, view.fingerprint);
}

#[tokio::test]
async fn invariant_1_a_successor_that_cannot_be_stored_is_kept_until_it_can() {
    let world = World::new().await;
    world.store.set(|store| store.refuses_superseded = true);
    let key = world.enroll("ada", DAY).await;
    world.served("ada").await;
    world.store.shut();
    let keeper = world.keeper.clone();
    let renewing = tokio::spawn(async move { keeper.renew(&identity("ada")).await });
    world.until("the Store was asked", || world.store.renewals() == 1).await;
    world.keyring.memory.set_available(false);
    world.store.open();
    world.rest().await;
    assert_eq!(world.served("ada").await, Fingerprint::of(&key), "from the cache");
    world.advance(SECOND * 90).await;
    assert_eq!(world.served("ada").await, Fingerprint::of(&key), "from the cache");
    let told = renewing.await.unwrap();
    assert!(matches!(told, Err(RenewError::Failed { .. })), "who asked was not told of a success: {told:?}");

    world.keyring.memory.set_available(true);
    world.advance(SECOND * 6).await;
    let view = world.view("ada").await;
    assert_eq!((view.key_version, view.proven), (2, true));
    assert_eq!(world.served("ada").await, view.fingerprint);
    assert_eq!(world.store.renewals(), 1, "the Store was asked once");
}

#[tokio::test]
async fn invariant_1_while_outcomes_cannot_be_stored_no_more_keys_are_tried() {
    let world = World::new().await;
    world.proven(200).await;
    world.store.set(|store| store.refuses_superseded = true);
    world.advance(DAY * 6).await;
    world.store.take_log();
    world.keyring.memory.set_available(false);
    world.advance(DAY).await;
    let at_risk = world.store.renewals();
    assert!(at_risk <= 16, "{at_risk} keys were given up for successors that are on no disk");
    world.keyring.memory.set_available(true);
    world.advance(DAY * 10).await;
    let counts = world.counts().await;
    assert_eq!((counts.active, counts.refused), (200, 0), "{counts:?}");
}

#[tokio::test]
async fn invariant_1_a_keeper_that_is_gone_lost_nothing_that_it_had_told_of() {
    let world = World::new().await;
    world.proven(30).await;
    world.store.shut();
    world.enroll("late", DAY * 11).await;
    world.until("a renewal is under way", || world.store.renewals() > 0).await;
    // Killed: the answer under way is lost; another keeper starts on what is on disk.
    let next = world.another(crate::support::config()).await;
    world.store.open();
    world.advance(DAY * 30).await;
    let stats = next.stats().await.unwrap();
    let active: u64 = stats.apps[0].kinds.iter().map(|(_, kind)| kind.active).sum();
    assert_eq!(active, 31);
    assert_eq!(world.view("late").await.identity, identity("late"));
}
