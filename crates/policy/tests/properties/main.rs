//! What holds for every input: the promises of each decision, tried on generated records, instants and clock jumps.

mod backoff;
mod breaker;
mod guard;
mod lifecycle;
mod pace;
mod verdict;
mod window;

use std::time::Duration;

use proptest::prelude::*;
use storekeeper_model::{KeyId, Timestamp};

/// An instant between 1970 and 2100, to the millisecond.
fn instant() -> impl Strategy<Value = Timestamp> {
    (0_i64..4_102_444_800_000).prop_map(Timestamp::from_millis)
}

/// Any instant at all, the ends of the scale included.
fn any_instant() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        instant(),
        any::<i64>().prop_map(Timestamp::from_millis),
        Just(Timestamp::MIN),
        Just(Timestamp::MAX),
        Just(Timestamp::EPOCH),
    ]
}

fn key_id() -> impl Strategy<Value = KeyId> {
    any::<[u8; 16]>().prop_map(KeyId::from_bytes)
}

/// A span up to 400 days, to the millisecond, short ones as likely as long ones.
fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![0_u64..120_000, 0_u64..172_800_000, 0_u64..34_560_000_000].prop_map(Duration::from_millis)
}

/// From 0 to 1, the ends included.
fn jitter() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0), 0.0..1.0]
}

/// How a clock moves between two looks at it, in milliseconds: mostly a little forward, sometimes far either way.
fn clock_step() -> impl Strategy<Value = i64> {
    const FORTY_DAYS: i64 = 40 * 86_400_000;
    prop_oneof![8 => 0_i64..200, 3 => 0_i64..90_000, 1 => -FORTY_DAYS..FORTY_DAYS]
}

fn moved(at: Timestamp, millis: i64) -> Timestamp {
    Timestamp::from_millis(at.millis().saturating_add(millis))
}
