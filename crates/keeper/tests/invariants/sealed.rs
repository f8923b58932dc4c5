//! Invariant 7: keys at rest are sealed.

use storekeeper_keyring::{Keyring, PageQuery};
use storekeeper_model::Fingerprint;

use crate::support::store::Mood;
use crate::support::{DAY, SECOND, World, player};

#[tokio::test]
async fn invariant_7_keys_at_rest_are_sealed_and_tickets_are_not_at_rest() {
    let world = World::new().await;
    world.proven(3).await;
    world.advance(DAY).await;
    let newcomer = world.mint(&player(0), SECOND);
    world.store.set(|store| store.mood = Mood::Unavailable);
    world.try_enroll(&player(0), &newcomer).await.unwrap();
    let query = PageQuery { limit: 100, ..PageQuery::default() };
    let rows = world.keyring.memory.page(query).await.unwrap().records;
    assert_eq!(rows.len(), 3);
    let mut all = format!("{rows:?}{:?}", world.keyring.memory.apps().await).into_bytes();
    for row in &rows {
        all.extend_from_slice(&row.key.sealed.bytes);
        all.extend(row.newcomer.iter().flat_map(|newcomer| newcomer.key.sealed.bytes.clone()));
    }
    for root in world.keyring.memory.roots().await.unwrap() {
        assert!(!world.master.to_text().expose().is_empty() && root.wrapped.len() > 32);
        all.extend_from_slice(&root.wrapped);
    }
    let mut plain = vec![newcomer];
    for number in 0..3 {
        plain.push(world.get(&player(number)).await.unwrap().key.expose().clone());
    }
    for text in plain {
        let held = Fingerprint::of(&text);
        for part in text.split('.') {
            for piece in part.as_bytes().chunks(24).filter(|piece| piece.len() == 24) {
                assert!(!all.windows(24).any(|window| window == piece), "a piece of {held} lies open");
            }
        }
    }
}
