//! `StoreTime`: what time it is at the Store, as its last dated answer told and a clock that never steps has carried on.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use storekeeper_model::Timestamp;

/// The Store's time at the instant from which [`Clock::elapsed`](storekeeper_clock::Clock::elapsed) counts.
#[derive(Debug)]
pub(crate) struct StoreTime(AtomicI64);

/// No answer was dated yet.
const UNKNOWN: i64 = i64::MIN;

impl StoreTime {
    pub(crate) fn new() -> Self {
        Self(AtomicI64::new(UNKNOWN))
    }

    /// An answer was dated `theirs`.
    pub(crate) fn note(&self, theirs: Timestamp, elapsed: Duration) {
        self.0.store((theirs - elapsed).millis(), Ordering::Relaxed);
    }

    /// Whether our clock has left the Store's by more than five minutes since the last dated answer: somebody has set it.
    pub(crate) fn disagrees_with(&self, ours: Timestamp, elapsed: Duration) -> bool {
        let start = self.0.load(Ordering::Relaxed);
        start != UNKNOWN && storekeeper_policy::is_skewed(ours, Timestamp::from_millis(start) + elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_noticed_without_an_answer() {
        let at = |seconds: i64| Timestamp::from_seconds(1_700_000_000 + seconds);
        let time = StoreTime::new();
        assert!(!time.disagrees_with(at(0), Duration::ZERO), "nothing is known");
        time.note(at(10), Duration::from_secs(100));
        for (ours, elapsed, expected) in
            [(10, 100, false), (3_610, 3_700, false), (3_910, 3_700, false), (3_911, 3_700, true), (-3_600, 100, true)]
        {
            assert_eq!(time.disagrees_with(at(ours), Duration::from_secs(elapsed)), expected, "{ours} {elapsed}");
        }
    }
}
