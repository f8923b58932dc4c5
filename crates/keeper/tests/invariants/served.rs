//! Invariant 6: a live key is served until `exp`.

use storekeeper_keeper::{Code, ReadError};
use storekeeper_model::Fingerprint;

use crate::support::store::{Entra, Mood};
use crate::support::{DAY, HOUR, MINUTE, SECOND, World, config, identity, mygame, player};

#[tokio::test]
async fn invariant_6_a_live_key_is_served_until_exp_whatever_the_store_says() {
    for mood in [Mood::Refuse, Mood::WrongClient, Mood::Silent, Mood::Broken, Mood::BadRequest, Mood::Throttle(9)] {
        let world = World::new().await;
        world.proven(10).await;
        let expires_at = world.view(&player(0)).await.expires_at.unwrap();
        let held = world.served(&player(0)).await;
        world.store.set(|store| store.mood = mood);
        world.advance(expires_at.since(world.now()) - SECOND).await;
        assert_eq!(world.served(&player(0)).await, held, "{mood:?}");
        let many = world.keeper.get_many(&[identity(&player(0)), identity("nobody")]).await;
        assert_eq!(many[0].as_ref().unwrap().view.fingerprint, held, "{mood:?}");
        assert!(matches!(many[1], Err(ReadError::NotFound)));
        world.advance(SECOND).await;
        assert!(matches!(world.get(&player(0)).await, Err(ReadError::Lapsed)), "{mood:?}");
    }
}

#[tokio::test]
async fn invariant_6_a_paused_app_is_served() {
    let world = World::new().await;
    let key = world.enroll("ada", DAY).await;
    world.keeper.pause(&mygame()).await.unwrap();
    world.advance(DAY * 29 - SECOND).await;
    assert_eq!(world.served("ada").await, Fingerprint::of(&key));
    let hasty = world.get_with("ada", DAY).await.unwrap();
    assert_eq!((hasty.view.fingerprint, hasty.renewal_failed), (Fingerprint::of(&key), Some("app_paused")));
}

#[tokio::test]
async fn invariant_6_while_the_keyring_is_down_keys_come_from_a_bounded_cache() {
    let mut config = config();
    config.cache_rows = 5;
    let world = World::with(config).await;
    for number in 0..10 {
        world.enroll(&player(number), DAY).await;
        world.served(&player(number)).await;
    }
    // Read often enough, a key gets its place.
    for _ in 0..8 {
        world.served(&player(9)).await;
    }
    world.keyring.memory.set_available(false);
    let mut served = 0;
    for number in 0..10 {
        match world.get(&player(number)).await {
            Ok(_) => served += 1,
            Err(error) => assert!(number < 9 && error.code() == Code::KeyringUnavailable, "{number}: {error}"),
        }
    }
    assert_eq!(served, 5);
    world.advance(DAY * 29).await;
    assert!(matches!(world.get(&player(9)).await, Err(ReadError::Lapsed)), "not past its exp");
}

#[tokio::test]
async fn invariant_6_the_cache_never_answers_for_a_key_that_was_replaced() {
    let world = World::new().await;
    world.proven(20).await;
    world.enroll_dead("ada", DAY * 11).await;
    world.advance(DAY * 12).await;
    assert!(matches!(world.get("ada").await, Err(ReadError::Revoked)));
    let revived = world.enroll("ada", SECOND).await;
    world.keyring.memory.set_available(false);
    match world.get("ada").await {
        Ok(live) => assert_eq!(live.view.fingerprint, Fingerprint::of(&revived)),
        Err(error) => assert_eq!(error.code(), Code::KeyringUnavailable, "nobody has to mint a new key"),
    }
}

#[tokio::test]
async fn invariant_6_min_ttl_renews_first_and_serves_the_live_key_when_that_fails() {
    let world = World::new().await;
    let key = world.enroll("ada", DAY * 5).await;
    let enough = world.get_with("ada", DAY).await.unwrap();
    assert_eq!((enough.view.fingerprint, enough.renewal_failed), (Fingerprint::of(&key), None));
    assert_eq!(world.store.renewals(), 0);
    let error = world.get_with("ada", DAY * 16).await.unwrap_err();
    assert!(matches!(error, ReadError::MinTtlTooLong));

    world.store.set(|store| store.mood = Mood::Unavailable);
    world.advance(DAY * 24 - HOUR).await;
    let failed = world.get_with("ada", DAY * 2).await.unwrap();
    assert_eq!((failed.view.fingerprint, failed.renewal_failed), (Fingerprint::of(&key), Some("renewal_failed")));

    world.store.set(|store| store.mood = Mood::Renew);
    world.advance(MINUTE * 15).await;
    let renewed = world.get_with("ada", DAY * 2).await.unwrap();
    assert_eq!(renewed.renewal_failed, None);
    assert_ne!(renewed.view.fingerprint, Fingerprint::of(&key));
}

/// Asks for more life than the key has while the clock stands still: the answer must not wait for better times.
async fn answered_at_once(world: &World, user: &str) -> &'static str {
    let keeper = world.keeper.clone();
    let identity = identity(user);
    let asking = tokio::spawn(async move { keeper.get(&identity, Some(DAY * 14)).await });
    world.until("the read is answered", || asking.is_finished()).await;
    asking.await.unwrap().unwrap().renewal_failed.unwrap()
}

#[tokio::test]
async fn invariant_6_a_read_does_not_wait_for_a_store_that_is_down() {
    let world = World::new().await;
    world.proven(40).await;
    world.store.set(|store| store.mood = Mood::Unavailable);
    world.advance(DAY * 17).await;
    for number in 0..40 {
        assert_eq!(answered_at_once(&world, &player(number)).await, "renewal_failed");
    }
}

#[tokio::test]
async fn invariant_6_a_read_does_not_wait_for_an_entra_that_is_down() {
    let world = World::new().await;
    world.proven(5).await;
    world.store.set(|store| store.entra = Entra::Unavailable);
    world.advance(DAY * 17).await;
    for number in 0..5 {
        assert_eq!(answered_at_once(&world, &player(number)).await, "renewal_failed");
    }
}

#[tokio::test]
async fn invariant_6_a_read_does_not_wait_for_a_keyring_that_is_down() {
    let world = World::new().await;
    world.store.set(|store| store.mood = Mood::Refuse);
    for user in ["ada", "eve"] {
        world.enroll(user, DAY * 17).await;
        world.served(user).await;
    }
    world.advance(DAY).await;
    world.keyring.memory.set_available(false);
    world.store.set(|store| store.mood = Mood::Renew);
    // The successor of one cannot be stored; the other is not tried at all.
    assert_eq!(world.get_with("ada", DAY * 14).await.unwrap().renewal_failed, Some("renewal_failed"));
    assert_eq!(answered_at_once(&world, "eve").await, "renewal_failed");
}

#[tokio::test]
async fn invariant_6_a_read_does_not_wait_for_clocks_to_agree() {
    let world = World::new().await;
    world.store.set(|store| (store.date_off, store.mood) = (3600, Mood::Refuse));
    world.enroll("ada", DAY * 17).await;
    world.rest().await;
    assert_eq!(answered_at_once(&world, "ada").await, "renewal_failed");
    assert_eq!(answered_at_once(&world, "ada").await, "renewal_failed");
}

#[tokio::test]
async fn invariant_6_a_read_waits_for_a_fresh_ticket_for_seconds_only() {
    let world = World::new().await;
    world.proven(1).await;
    let held = world.served(&player(0)).await;
    world.store.set(|store| store.mood = Mood::Refuse);
    world.advance(DAY * 16).await;
    // The first one has the ticket fetched anew; the second one would have to wait for the end of the minute.
    for _ in 0..2 {
        let keeper = world.keeper.clone();
        let asking = tokio::spawn(async move { keeper.get(&identity(&player(0)), Some(DAY * 15)).await });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        world.advance(SECOND * 15).await;
        let live = asking.await.unwrap().unwrap();
        assert_eq!((live.view.fingerprint, live.renewal_failed.is_some()), (held, true));
    }
}

#[tokio::test]
async fn invariant_6_a_key_read_before_is_served_without_asking_and_is_never_older_than_what_was_answered() {
    let world = World::new().await;
    let first = world.enroll("ada", DAY).await;
    assert_eq!(world.served("ada").await, Fingerprint::of(&first));
    assert!(world.keyring.take_finds() > 0);
    assert_eq!(world.served("ada").await, Fingerprint::of(&first));
    assert_eq!(world.keyring.take_finds(), 0);
    // Whoever heard of a change reads it: a renewal, another key, a condemnation undone, a key forgotten.
    let renewed = world.keeper.renew(&identity("ada")).await.unwrap().fingerprint;
    assert_eq!(world.served("ada").await, renewed);
    let unproven = world.enroll("eve", DAY).await;
    assert_eq!(world.served("eve").await, Fingerprint::of(&unproven));
    let second = world.enroll("eve", SECOND).await;
    assert_eq!(world.served("eve").await, Fingerprint::of(&second));
    let ada = identity("ada").user;
    world.keeper.forget(&mygame(), &ada, None, None).await.unwrap();
    assert!(matches!(world.get("ada").await, Err(ReadError::NotFound)));
}

#[tokio::test]
async fn invariant_6_after_a_write_that_nobody_can_vouch_for_the_keyring_is_asked() {
    let world = World::new().await;
    let first = world.enroll("ada", DAY).await;
    assert_eq!(world.served("ada").await, Fingerprint::of(&first));
    let second = world.mint("ada", SECOND);
    world.keyring.deny_next();
    assert!(world.try_enroll("ada", &second).await.is_err(), "it was written, and its writer told that it was not");
    assert_eq!(world.served("ada").await, Fingerprint::of(&second));
}

#[tokio::test]
async fn invariant_6_a_reader_who_looked_before_a_write_puts_nothing_old_down() {
    let world = World::new().await;
    let first = world.enroll("ada", DAY).await;
    // Reads the old row, and is held up on the way back with it.
    world.keyring.shut_finds();
    let keeper = world.keeper.clone();
    let reading = tokio::spawn(async move { keeper.get(&identity("ada"), None).await });
    world.until("the reader has looked", || world.keyring.waiting() == 1).await;
    let second = world.enroll("ada", SECOND).await;
    world.keyring.open_finds();
    assert_eq!(reading.await.unwrap().unwrap().view.fingerprint, Fingerprint::of(&first), "it asked before");
    assert_eq!(world.served("ada").await, Fingerprint::of(&second));
}
