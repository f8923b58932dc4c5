//! `StoreTime`: what time it is at the Store, as the last dated response of the Store or Entra ID showed and a clock that
//! never steps has carried on.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use storekeeper_keyring::ClockReport;
use storekeeper_model::Timestamp;
use tokio::sync::watch;

use crate::intake::OurClock;
use crate::shell::Tools;

/// The Store's time at the instant from which [`Clock::elapsed`](storekeeper_clock::Clock::elapsed) counts.
#[derive(Debug)]
pub(crate) struct StoreTime {
    start: AtomicI64,
    /// A response came that does not say what time it is: there is nothing to compare our clock with.
    is_undated: AtomicBool,
    /// Whether the first request has shown what time it is, or that nothing can show it for now.
    is_asked: watch::Sender<bool>,
}

/// No response was dated yet.
const UNKNOWN: i64 = i64::MIN;
/// How long a caller waits for the first request, in the operating system's time: longer than a request may take.
const FIRST_WORD_MAX: Duration = Duration::from_secs(12);

impl StoreTime {
    pub(crate) fn new() -> Self {
        Self { start: AtomicI64::new(UNKNOWN), is_undated: AtomicBool::new(false), is_asked: watch::Sender::new(false) }
    }

    /// A response was dated `theirs`.
    pub(crate) fn note(&self, theirs: Timestamp, elapsed: Duration) {
        self.start.store((theirs - elapsed).millis(), Ordering::Relaxed);
        self.is_asked.send_replace(true);
    }

    /// A service answered and did not say what time it is, so our clock is all there is.
    pub(crate) fn note_undated(&self) {
        self.is_undated.store(true, Ordering::Relaxed);
        self.is_asked.send_replace(true);
    }

    /// A request failed that would have shown the time.
    pub(crate) fn give_up(&self) {
        self.is_asked.send_replace(true);
    }

    /// Waits until the first request since the start has been answered, or has failed.
    pub(crate) async fn first_word(&self) {
        let mut is_asked = self.is_asked.subscribe();
        #[expect(clippy::disallowed_methods, reason = "a guard against a request that does not end")]
        let asked = tokio::time::timeout(FIRST_WORD_MAX, is_asked.wait_for(|is_asked| *is_asked)).await;
        drop(asked);
    }

    /// What time it is there now; `None` until a response was dated.
    pub(crate) fn at(&self, elapsed: Duration) -> Option<Timestamp> {
        let start = self.start.load(Ordering::Relaxed);
        (start != UNKNOWN).then(|| Timestamp::from_millis(start) + elapsed)
    }

    /// Whether our clock agrees with the Store's.
    pub(crate) fn judge(&self, ours: Timestamp, elapsed: Duration) -> OurClock {
        match self.at(elapsed) {
            None if self.is_undated.load(Ordering::Relaxed) => OurClock::Trusted,
            None => OurClock::Unverified,
            Some(theirs) if storekeeper_policy::is_skewed(ours, theirs) => OurClock::Doubted,
            Some(_) => OurClock::Trusted,
        }
    }
}

impl Tools {
    /// What is known of our clock. What rests on it alone is said for good only while it is trusted.
    pub(crate) fn our_clock(&self) -> OurClock {
        self.store_time.judge(self.clock.now(), self.clock.elapsed())
    }

    /// What the other keepers are shown of it: a clock that no response has dated may be trusted, and is no better for that.
    pub(crate) fn clock_report(&self) -> ClockReport {
        match (self.store_time.at(self.clock.elapsed()), self.our_clock()) {
            (None, _) => ClockReport::Unknown,
            (Some(_), OurClock::Doubted) => ClockReport::Skewed,
            (Some(_), OurClock::Trusted | OurClock::Unverified) => ClockReport::Agrees,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_noticed_without_an_answer() {
        use OurClock::{Doubted, Trusted, Unverified};
        let at = |seconds: i64| Timestamp::from_seconds(1_700_000_000 + seconds);
        let time = StoreTime::new();
        assert_eq!(time.judge(at(0), Duration::ZERO), Unverified);
        time.note(at(10), Duration::from_secs(100));
        for (ours, elapsed, expected) in [
            (10, 100, Trusted),
            (3_610, 3_700, Trusted),
            (3_910, 3_700, Trusted),
            (3_911, 3_700, Doubted),
            (-3_600, 100, Doubted),
        ] {
            assert_eq!(time.judge(at(ours), Duration::from_secs(elapsed)), expected, "{ours} {elapsed}");
        }
    }
}
