//! Invariant 4: newest proven wins.

use storekeeper_keeper::{EnrollError, EnrollOutcome, ReadError};
use storekeeper_model::Fingerprint;
use storekeeper_policy::Standing;

use crate::support::store::{Mood, What};
use crate::support::{DAY, HOUR, MINUTE, SECOND, World, identity, player};

#[tokio::test]
async fn invariant_4_a_newcomer_takes_its_place_only_once_the_store_has_accepted_it() {
    let world = World::new().await;
    world.proven(1).await;
    world.advance(DAY).await;
    let held = world.served(&player(0)).await;
    world.store.shut();
    let newcomer = world.mint(&player(0), SECOND);
    let enrolled = world.try_enroll(&player(0), &newcomer).await.unwrap();
    assert_eq!((enrolled.outcome, enrolled.view.fingerprint), (EnrollOutcome::Waiting, held));
    world.until("the Store was asked", || world.store.renewals() == 1).await;
    assert_eq!(world.served(&player(0)).await, held, "the Store has not answered");
    let log = world.store.take_log();
    let What::Renewal { key, successor, .. } = &log.last().unwrap().what else { panic!("{log:?}") };
    assert_eq!(*key, Fingerprint::of(&newcomer));
    world.store.open();
    world.rest().await;
    assert_eq!(Some(world.served(&player(0)).await), *successor);
    assert_eq!(world.view(&player(0)).await.newcomer, None);
    // The same key again is the one last enrolled.
    assert_eq!(world.try_enroll(&player(0), &newcomer).await.unwrap().outcome, EnrollOutcome::Known);
}

#[tokio::test]
async fn invariant_4_a_refused_newcomer_is_dropped_and_the_held_key_lives_on() {
    let world = World::new().await;
    world.proven(40).await;
    world.advance(DAY).await;
    let forged = world.mint(&player(0), SECOND);
    world.store.kill(Fingerprint::of(&forged));
    let held = world.served(&player(0)).await;
    assert_eq!(world.try_enroll(&player(0), &forged).await.unwrap().outcome, EnrollOutcome::Waiting);
    world.advance(DAY * 3).await;
    assert_eq!(world.served(&player(0)).await, held);
    // A witness comes with the others' moments.
    world.advance(DAY * 8).await;
    let view = world.view(&player(0)).await;
    assert_eq!((view.newcomer, view.standing), (None, Standing::Active));
    assert_eq!(world.events("key.enrollment_refused").await, 1.0);
    assert!(world.row(&player(0)).await.key_version > 2, "the held key was renewed meanwhile");
    assert_eq!(world.counts().await.revoked, 0);
}

#[tokio::test]
async fn invariant_4_a_newcomer_that_gets_nowhere_does_not_starve_the_held_key() {
    for mood in [Mood::BadRequest, Mood::Broken, Mood::Unavailable, Mood::Empty, Mood::Refuse] {
        let world = World::new().await;
        world.proven(1).await;
        world.advance(DAY).await;
        let newcomer = world.mint(&player(0), SECOND);
        world.try_enroll(&player(0), &newcomer).await.unwrap();
        // The Store treats this one text so, and every other well.
        let fingerprint = Fingerprint::of(&newcomer);
        world.store.treat_key(fingerprint, mood);
        world.advance(DAY * 60).await;
        let view = world.view(&player(0)).await;
        assert!(view.issued_at > world.now() - DAY * 14, "{mood:?}: {view:?}");
        assert_eq!(view.standing, Standing::Active);
    }
}

#[tokio::test]
async fn invariant_4_a_row_whose_keys_are_both_refused_is_tried_with_patience() {
    let world = World::new().await;
    world.proven(30).await;
    let held = world.served(&player(0)).await;
    let newcomer = world.mint(&player(0), SECOND);
    world.store.set(|store| store.dead.extend([held, Fingerprint::of(&newcomer)]));
    world.advance(DAY * 11).await;
    world.store.take_log();
    let _ = world.try_enroll(&player(0), &newcomer).await;
    world.advance(DAY * 2).await;
    let user = player(0);
    let tries = world.store.take_log();
    let tries = tries.iter().filter(|one| matches!(&one.what, What::Renewal { user: tried, .. } if *tried == user));
    let tries = tries.count();
    assert!(tries <= 24, "{tries} requests in two days for one row");
    world.advance(DAY * 8).await;
    assert!(matches!(world.get(&user).await, Err(ReadError::Revoked)));
}

#[tokio::test]
async fn invariant_4_a_key_enrolled_while_its_predecessor_is_renewed_is_not_overwritten() {
    let world = World::new().await;
    world.enroll("ada", DAY * 2).await;
    world.store.shut();
    let keeper = world.keeper.clone();
    let renewing = tokio::spawn(async move { keeper.renew(&identity("ada")).await });
    world.until("the Store was asked", || world.store.renewals() == 1).await;
    let newer = world.mint("ada", SECOND);
    assert_eq!(world.try_enroll("ada", &newer).await.unwrap().outcome, EnrollOutcome::Replaced);
    world.store.open();
    world.rest().await;
    assert_eq!(world.served("ada").await, Fingerprint::of(&newer));
    assert_eq!(renewing.await.unwrap().unwrap().fingerprint, Fingerprint::of(&newer));
    assert_eq!(world.metric("storekeeper_outcomes_overtaken_total").await, 1.0, "harmless, and counted");
}

#[tokio::test]
async fn invariant_4_a_successor_is_not_lost_because_a_newcomer_came_meanwhile() {
    let world = World::new().await;
    world.store.set(|store| store.refuses_superseded = true);
    world.proven(20).await;
    world.advance(DAY).await;
    let held = world.served(&player(0)).await;
    world.store.shut();
    let keeper = world.keeper.clone();
    let renewing = tokio::spawn(async move { keeper.renew(&identity(&player(0))).await });
    world.until("the Store was asked", || world.store.renewals() == 1).await;
    let log = world.store.take_log();
    let What::Renewal { successor, .. } = log.last().unwrap().what else { panic!("{log:?}") };
    let forged = world.mint(&player(0), SECOND);
    world.store.kill(Fingerprint::of(&forged));
    assert_eq!(world.try_enroll(&player(0), &forged).await.unwrap().outcome, EnrollOutcome::Waiting);
    world.store.open();
    world.rest().await;
    assert_eq!(Some(renewing.await.unwrap().unwrap().fingerprint), successor);
    assert_eq!(Some(world.served(&player(0)).await), successor, "the predecessor {held} is worth nothing any more");
    let view = world.view(&player(0)).await;
    assert_eq!(view.newcomer, Some(Fingerprint::of(&forged)), "and the newcomer still waits");
    world.advance(DAY * 30).await;
    assert_eq!(world.view(&player(0)).await.standing, Standing::Active);
}

#[tokio::test]
async fn invariant_4_a_newcomer_that_came_during_an_attempt_is_tried_soon_after() {
    // One key alone: nobody else's moment makes the keeper look.
    let world = World::new().await;
    world.proven(1).await;
    world.advance(DAY).await;
    world.store.shut();
    let keeper = world.keeper.clone();
    let renewing = tokio::spawn(async move { keeper.renew(&identity(&player(0))).await });
    world.until("the Store was asked", || world.store.renewals() == 1).await;
    let newcomer = world.mint(&player(0), SECOND);
    world.try_enroll(&player(0), &newcomer).await.unwrap();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    world.store.open();
    world.advance(MINUTE * 2).await;
    renewing.await.unwrap().unwrap();
    assert_eq!(world.view(&player(0)).await.newcomer, None, "the newcomer was tried");
}

#[tokio::test]
async fn invariant_4_an_older_key_displaces_nothing() {
    let world = World::new().await;
    world.proven(1).await;
    let key = world.enroll("ada", DAY * 2).await;
    let older = world.mint("ada", DAY * 3);
    assert!(matches!(world.try_enroll("ada", &older).await, Err(EnrollError::Older)));
    assert_eq!(world.served("ada").await, Fingerprint::of(&key));
    let older = world.mint(&player(0), HOUR * 3);
    assert!(matches!(world.try_enroll(&player(0), &older).await, Err(EnrollError::Older)));
}

#[tokio::test]
async fn invariant_4_a_clock_that_runs_ahead_gives_a_newcomer_nobodys_place() {
    let world = World::new().await;
    world.proven(3).await;
    world.advance(DAY * 6).await;
    let held = world.served(&player(0)).await;
    // By our clock the held key has expired, and the newcomer has not.
    world.ours.set_wrong_by(25 * 86_400);
    world.advance(MINUTE * 2).await;
    let forged = world.mint(&player(0), SECOND);
    world.store.kill(Fingerprint::of(&forged));
    let enrolled = world.try_enroll(&player(0), &forged).await.unwrap();
    assert_eq!(enrolled.outcome, EnrollOutcome::Waiting);
    world.ours.set_wrong_by(0);
    world.rest().await;
    assert_ne!(world.served(&player(0)).await, Fingerprint::of(&forged), "in place of {held} or its successor");
    world.advance(DAY * 40).await;
    assert_eq!(world.view(&player(0)).await.standing, Standing::Active);
}
