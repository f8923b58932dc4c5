//! The guard agrees with a plain reading of its rule and never grows; the cap is never exceeded on any day.

use proptest::prelude::*;
use storekeeper_model::{KeyId, Timestamp};
use storekeeper_policy::{CondemnationCap, Guard};

use crate::moved;

fn key(number: u8) -> KeyId {
    KeyId::from_bytes([number; 16])
}

/// Whether the last 50 distinct keys of `history` trip, worked out from scratch.
fn trips(history: &[(u8, bool)]) -> bool {
    let mut latest: Vec<(u8, bool)> = Vec::new();
    for &(number, refused) in history.iter().rev() {
        if latest.len() < Guard::WINDOW && latest.iter().all(|(known, _)| *known != number) {
            latest.push((number, refused));
        }
    }
    let refused = latest.iter().filter(|(_, refused)| *refused).count();
    latest.len() >= Guard::TRIED_MIN && refused * 2 >= latest.len()
}

proptest! {
    #[test]
    fn trips_exactly_when_half_of_the_last_distinct_keys_were_refused(
        history in prop::collection::vec((0_u8..80, any::<bool>()), 0..300),
    ) {
        let mut guard = Guard::new();
        for (at, &(number, refused)) in history.iter().enumerate() {
            guard.record(key(number), refused);
            prop_assert_eq!(guard.trips(), trips(&history[..=at]));
            let counts = guard.counts();
            prop_assert!(counts.tried <= Guard::WINDOW && counts.refused <= counts.tried);
        }
    }

    #[test]
    fn the_cap_holds_on_every_day(
        steps in prop::collection::vec(0_i64..86_400_000, 1..30),
        population in 0_u64..3_000_000,
    ) {
        let mut cap = CondemnationCap::new();
        let mut now = Timestamp::from_seconds(1_733_526_889);
        let mut taken = std::collections::BTreeMap::<i64, u64>::new();
        for step in steps {
            now = moved(now, step);
            for _ in 0..1500 {
                *taken.entry(now.day()).or_default() += u64::from(cap.try_take(now, population));
            }
        }
        let allowance = CondemnationCap::allowance(population);
        prop_assert!(allowance >= 1000 && allowance >= population / 1000);
        prop_assert!(taken.values().all(|count| *count <= allowance), "{taken:?}");
    }
}
