//! Invariant 2, where a fault concerns a whole app: it is paused, nothing is condemned, and it resumes without a hand.

use std::sync::{Arc, Mutex};

use storekeeper_keeper::{CredentialSource, RenewError};
use storekeeper_keyring::{AppRow, Keyring, Paused};
use storekeeper_model::{ClientId, Fingerprint, Secret, Timestamp};

use crate::support::store::{Entra, Mood};
use crate::support::{CLIENT, DAY, HOUR, MINUTE, START, World, config, identity, mygame, player};

#[tokio::test]
async fn invariant_2_a_mass_failure_pauses_the_app_and_a_probe_resumes_it() {
    let world = World::new().await;
    world.proven(400).await;
    world.advance(DAY * 8).await;
    world.store.set(|store| store.mood = Mood::Refuse);
    world.advance(HOUR * 12).await;
    assert_eq!(world.paused().await.as_deref(), Some("guard"));
    assert!(world.metric("storekeeper_app_paused{app=\"mygame\",reason=\"guard\"}").await == 1.0);
    let counts = world.counts().await;
    assert_eq!((counts.active, counts.revoked), (400, 0), "{counts:?}");
    assert!(counts.refused <= 25, "few are tried before the guard holds: {counts:?}");
    for number in 0..400 {
        world.served(&player(number)).await;
    }
    world.store.take_log();
    world.advance(HOUR).await;
    let probes = world.store.renewals();
    assert!((10..=26).contains(&probes), "a paused app is probed every few minutes, with two tickets: {probes}");

    world.store.set(|store| store.mood = Mood::Renew);
    world.advance(MINUTE * 11).await;
    assert_eq!(world.paused().await, None);
    world.advance(DAY * 2).await;
    let counts = world.counts().await;
    assert_eq!((counts.refused, counts.due_backlog), (0, 0), "{counts:?}");
}

#[tokio::test]
async fn invariant_2_the_guard_outlives_a_restart() {
    let world = World::new().await;
    world.proven(400).await;
    world.advance(DAY * 8).await;
    world.store.set(|store| store.mood = Mood::Refuse);
    world.advance(HOUR * 12).await;
    assert_eq!(world.paused().await.as_deref(), Some("guard"));
    let next = world.another(config()).await;
    let paused = next.stats().await.unwrap().apps.remove(0).paused.unwrap();
    assert_eq!(paused.reason, "guard");
    world.advance(DAY).await;
    assert_eq!(world.counts().await.revoked, 0);
}

#[tokio::test]
async fn invariant_2_late_successes_do_not_end_a_pause() {
    let world = World::new().await;
    world.proven(400).await;
    world.advance(DAY * 8).await;
    world.store.set(|store| store.false_refusals = 0.85);
    world.advance(HOUR * 12).await;
    let pauses = world.events("app.paused").await;
    // Twelve hours hold 144 probes; what was under way at the pause ends none of them.
    assert!((1.0..=100.0).contains(&pauses), "{pauses}");
    assert_eq!(world.counts().await.revoked, 0);
}

/// A secret that an operator can change.
#[derive(Debug)]
struct Changing(Mutex<&'static str>);

impl CredentialSource for Changing {
    fn read(&self) -> Result<Secret<String>, storekeeper_keeper::SecretError> {
        Ok(Secret::new((*self.0.lock().unwrap()).to_owned()))
    }
}

#[tokio::test]
async fn invariant_2_a_wrong_secret_pauses_the_app_and_condemns_nobody() {
    let world = World::new().await;
    world.proven(100).await;
    world.advance(DAY * 8).await;
    world.store.set(|store| store.entra = Entra::Refuse);
    world.advance(DAY).await;
    let paused = world.app().await.paused.unwrap();
    assert_eq!(paused.reason, "credential");
    assert!(paused.detail.contains("AADSTS7000215") && !paused.detail.contains("Trace"), "{}", paused.detail);
    assert_eq!(world.metric("storekeeper_app_paused{app=\"mygame\",reason=\"credential\"}").await, 1.0);
    let counts = world.counts().await;
    assert_eq!((counts.active, counts.revoked, counts.refused), (100, 0, 0), "{counts:?}");
    let renewal = world.renew(&player(0)).await;
    assert!(matches!(renewal, Err(RenewError::Paused { reason }) if reason == "credential"));
    for number in 0..100 {
        world.served(&player(number)).await;
    }

    world.store.set(|store| store.entra = Entra::Issue);
    world.advance(MINUTE * 6).await;
    assert_eq!(world.paused().await, None, "without a hand");
    world.advance(DAY).await;
    assert_eq!(world.counts().await.due_backlog, 0);
    assert_eq!((world.events("app.paused").await, world.events("app.resumed").await), (1.0, 1.0));
}

#[tokio::test]
async fn invariant_2_the_second_credential_takes_over() {
    let mut config = config();
    let second = Arc::new(Changing(Mutex::new("the-second-secret")));
    config.apps[0].credentials.push(Arc::clone(&second) as _);
    let world = World::with(config).await;
    world.proven(10).await;
    world.store.set(|store| store.entra = Entra::Refuse);
    world.advance(HOUR * 2).await;
    world.enroll("ada", DAY * 11).await;
    world.rest().await;
    assert_eq!(world.paused().await.as_deref(), Some("credential"), "both are refused");
    assert!(world.store.tickets() >= 2, "each had its turn");
    *second.0.lock().unwrap() = "a-new-secret";
    world.store.set(|store| store.entra = Entra::Issue);
    world.advance(MINUTE * 6).await;
    assert_eq!(world.paused().await, None);
}

#[tokio::test]
async fn invariant_2_an_entra_that_is_down_pauses_nobody() {
    let world = World::new().await;
    world.proven(50).await;
    world.advance(DAY * 8).await;
    world.store.set(|store| store.entra = Entra::Unavailable);
    world.advance(DAY * 2).await;
    assert_eq!(world.paused().await, None);
    world.store.set(|store| store.entra = Entra::Issue);
    world.advance(HOUR).await;
    let counts = world.counts().await;
    assert_eq!((counts.active, counts.due_backlog, counts.refused), (50, 0, 0), "{counts:?}");
}

#[tokio::test]
async fn invariant_2_an_inconsistent_client_id_is_our_configuration() {
    let world = World::new().await;
    world.proven(20).await;
    world.advance(DAY * 7).await;
    world.store.set(|store| store.mood = Mood::WrongClient);
    world.advance(DAY * 2).await;
    assert_eq!(world.paused().await.as_deref(), Some("inconsistent_client_id"));
    let counts = world.counts().await;
    assert_eq!((counts.active, counts.revoked, counts.refused), (20, 0, 0), "{counts:?}");
    world.store.set(|store| store.mood = Mood::Renew);
    world.advance(MINUTE * 6).await;
    assert_eq!(world.paused().await, None);
}

#[tokio::test]
async fn invariant_2_what_was_held_against_keys_before_a_pause_proves_nothing_after_it() {
    let world = World::new().await;
    world.proven(60).await;
    let dead = world.served(&player(0)).await;
    world.store.kill(dead);
    while world.view(&player(0)).await.refused_since.is_none() {
        world.advance(HOUR).await;
    }
    world.advance(HOUR * 12).await;
    let before = world.row(&player(0)).await.state.refused().unwrap();
    assert!(before.count >= 2);
    world.keeper.pause(&mygame()).await.unwrap();
    world.advance(HOUR * 13).await;
    world.keeper.resume(&mygame(), false).await.unwrap();
    let resumed_at = world.now();
    world.advance(HOUR * 13).await;
    let after = world.row(&player(0)).await.state;
    assert!(!after.is_revoked() && after.refused().unwrap().since >= resumed_at, "counted anew: {after:?}");
}

#[tokio::test]
async fn invariant_2_an_operator_outranks_every_probe() {
    let world = World::new().await;
    world.proven(20).await;
    world.keeper.pause(&mygame()).await.unwrap();
    world.advance(DAY * 12).await;
    assert_eq!(world.paused().await.as_deref(), Some("operator"));
    assert_eq!(world.store.renewals(), 0);
    world.keeper.resume(&mygame(), false).await.unwrap();
    world.advance(HOUR).await;
    assert_eq!(world.counts().await.due_backlog, 0);
}

#[tokio::test]
async fn invariant_10_a_pause_for_an_unknown_reason_is_a_pause() {
    let world = World::new().await;
    world.enroll("ada", DAY).await;
    let row = AppRow {
        name: mygame(),
        client_id: ClientId::new(CLIENT),
        paused: Some(Paused { reason: String::from("of_tomorrow"), detail: String::new(), since: START }),
        evidence_since: Timestamp::EPOCH,
        condemned_day: 0,
        condemned: 0,
    };
    world.keyring.memory.save_app(&row).await.unwrap();
    let next = world.another(config()).await;
    assert!(matches!(next.renew(&identity("ada")).await, Err(RenewError::Paused { .. })));
    assert_eq!(next.resume(&mygame(), false).await.unwrap(), 0);
    let renewed = next.renew(&identity("ada")).await.unwrap();
    assert_ne!(renewed.fingerprint, Fingerprint::from_bytes([0; 16]));
}

/// An outage longer than keys live ends: nothing pauses, the keys that live are renewed, those that expired are given up.
#[tokio::test]
async fn invariant_2_refusals_of_expired_keys_pause_nothing() {
    let world = World::new().await;
    world.proven(300).await;
    // Some have a newcomer that waits for proof, and expires as well.
    world.advance(DAY).await;
    world.store.set(|store| store.mood = Mood::Silent);
    for number in 0..20 {
        world.enroll(&player(number), HOUR).await;
    }
    world.advance(DAY * 33).await;
    for number in 300..360 {
        world.enroll(&player(number), DAY * 11).await;
    }
    world.store.set(|store| store.mood = Mood::Renew);
    world.advance(HOUR).await;
    world.advance(DAY * 12).await;
    assert_eq!(world.events("app.paused").await, 0.0);
    let counts = world.counts().await;
    assert_eq!((counts.active, counts.lapsed, counts.due_backlog), (60, 300, 0), "{counts:?}");
    assert_eq!((counts.revoked, counts.refused), (0, 0), "{counts:?}");
    for number in 300..360 {
        assert!(world.view(&player(number)).await.key_version >= 3, "the keys that live are renewed on their schedule");
    }
    assert_eq!(world.events("key.reenroll_required").await, 300.0);
}

/// Keys that have just expired by the Store's clock, which is a little ahead, and not by ours yet.
#[tokio::test]
async fn invariant_2_refusals_of_keys_that_expire_meanwhile_pause_nothing() {
    let world = World::new().await;
    world.proven(20).await;
    world.advance(DAY).await;
    world.store.set(|store| store.mood = Mood::Silent);
    world.advance(DAY * 29 - MINUTE * 4).await;
    assert_eq!(world.counts().await.active, 20);
    world.store.set(|store| (store.mood, store.date_off) = (Mood::Refuse, 290));
    world.advance(MINUTE * 3).await;
    let asked = world.store.renewals();
    world.advance(HOUR).await;
    assert!(asked > 0, "they are tried before they expire by our clock");
    assert_eq!((world.events("app.paused").await, world.counts().await.lapsed), (0.0, 20));
    assert_eq!(world.events("key.reenroll_required").await, 20.0);
}
