//! Invariant 8: one clock. Decisions take `now`; waiting goes through an injected clock; a year passes in seconds.

use std::collections::HashMap;

use storekeeper_model::Timestamp;

use crate::support::store::What;
use crate::support::{DAY, World};

#[tokio::test]
async fn invariant_8_a_year_passes_in_seconds_and_every_key_is_renewed_in_its_window() {
    let world = World::new().await;
    world.proven(40).await;
    world.advance(DAY * 365).await;
    let counts = world.counts().await;
    assert_eq!((counts.active, counts.past_deadline), (40, 0), "{counts:?}");
    let mut renewed: HashMap<String, Vec<Timestamp>> = HashMap::new();
    for exchange in world.store.take_log() {
        if let What::Renewal { user, .. } = exchange.what {
            renewed.entry(user).or_default().push(exchange.at);
        }
    }
    assert_eq!(renewed.len(), 40);
    for (user, at) in renewed {
        assert!((33..=53).contains(&at.len()), "{user}: {}", at.len());
        for pair in at.windows(2) {
            let age = pair[1].since(pair[0]);
            // A scan takes what falls due until the next one.
            assert!(
                age + crate::support::MINUTE >= DAY * 7 && age <= DAY * 11 + crate::support::MINUTE,
                "{user}: {age:?}"
            );
        }
    }
}

#[tokio::test]
async fn invariant_8_while_the_clock_stands_still_nothing_falls_due() {
    let world = World::new().await;
    world.proven(20).await;
    for _ in 0..5_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.store.renewals(), 0);
    let at = world.everybody().await.iter().filter_map(|view| view.renew_at).min().unwrap();
    world.advance(at.since(world.now()) - crate::support::MINUTE * 2).await;
    assert_eq!(world.store.renewals(), 0, "not before its moment");
    world.advance(crate::support::MINUTE * 2).await;
    assert_eq!(world.store.renewals(), 1);
}
