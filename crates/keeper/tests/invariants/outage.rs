//! An outage of days ends with the backlog drained in the order of risk, never above the pace.

use std::collections::BTreeMap;

use storekeeper_model::Timestamp;

use crate::support::store::{Mood, What};
use crate::support::{DAY, HOUR, MINUTE, World, config};

async fn four_days(mood: Mood) {
    let mut config = config();
    (config.apps[0].policy.pace_start, config.apps[0].policy.pace_max) = (1.0, 2.0);
    let world = World::with(config).await;
    world.proven(900).await;
    world.advance(DAY * 7).await;
    world.store.set(|store| store.mood = mood);
    world.advance(DAY * 4).await;
    let asked = world.store.take_log().len();
    assert!(asked < 4_000, "{asked} requests to a Store that is down");
    world.store.set(|store| store.mood = Mood::Renew);
    world.advance(HOUR * 6).await;
    let counts = world.counts().await;
    assert_eq!((counts.active, counts.revoked, counts.due_backlog), (900, 0, 0), "{mood:?}: {counts:?}");
    assert!(world.everybody().await.iter().all(|view| view.key_version >= 3));

    let mut expiries: Vec<Timestamp> = Vec::new();
    let mut per_minute: BTreeMap<i64, u32> = BTreeMap::new();
    for exchange in world.store.take_log() {
        if let What::Renewal { expires_at, .. } = exchange.what {
            expiries.push(expires_at.unwrap());
            *per_minute.entry(exchange.at.seconds() / 60).or_default() += 1;
        }
    }
    assert!(expiries.len() > 800, "{}", expiries.len());
    assert!(per_minute.values().all(|count| *count <= 122), "{per_minute:?}");
    // What backs off comes back by and by, so the order holds within what is due at a time.
    let out_of_order = expiries.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!(out_of_order * 3 < expiries.len(), "{out_of_order} of {}", expiries.len());
}

#[tokio::test]
async fn an_outage_of_four_days_is_survived_when_the_store_is_unavailable() {
    four_days(Mood::Unavailable).await;
}

#[tokio::test]
async fn an_outage_of_four_days_is_survived_when_the_store_is_silent() {
    four_days(Mood::Silent).await;
}

#[tokio::test]
async fn an_outage_of_four_days_is_survived_when_the_store_calls_its_fault_unauthorized() {
    four_days(Mood::WrappedFault).await;
}

#[tokio::test]
async fn a_backlog_is_drained_soonest_exp_first() {
    let mut config = config();
    (config.apps[0].policy.pace_start, config.apps[0].policy.pace_max) = (1.0, 1.0);
    config.concurrency = 1;
    let world = World::with(config).await;
    world.keeper.pause(&crate::support::mygame()).await.unwrap();
    // In no order at all, all of them due.
    for number in 0..300_u32 {
        world.enroll(&format!("player-{number}"), DAY * 11 + HOUR * (number * 7919 % 300)).await;
    }
    world.keeper.resume(&crate::support::mygame(), false).await.unwrap();
    world.advance(MINUTE * 6).await;
    let expiries: Vec<Timestamp> = world
        .store
        .take_log()
        .into_iter()
        .filter_map(|one| match one.what {
            What::Renewal { expires_at, .. } => expires_at,
            What::Ticket => None,
        })
        .collect();
    assert_eq!(expiries.len(), 300);
    assert!(expiries.is_sorted(), "the key that expires soonest goes first");
}
