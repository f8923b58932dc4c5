//! `Latency`: how long a host took for its last answers, and how many requests it did not answer.

use std::collections::VecDeque;
use std::time::Duration;

use storekeeper_model::Timestamp;

/// At most this many requests are remembered.
const REMEMBERED_MAX: usize = 32;
/// Older ones say nothing about the host any more.
const RECENT: Duration = Duration::from_secs(10 * 60);

/// The last requests to one host.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// When each ended, how long it took, and whether its time was up.
    requests: VecDeque<(Timestamp, Duration, bool)>,
}

/// How a host answered within the last ten minutes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LatencyObservation {
    /// How many requests were made, of the last 32.
    pub requests: usize,
    /// How many of them were not answered in time.
    pub timed_out: usize,
    /// Half of them took at least this long.
    pub median: Option<Duration>,
}

impl Latency {
    /// A request ended.
    pub(super) fn note(&mut self, took: Duration, timed_out: bool, now: Timestamp) {
        if self.requests.len() == REMEMBERED_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back((now, took, timed_out));
    }

    /// What is to be seen at `now`.
    pub(super) fn observe(&self, now: Timestamp) -> LatencyObservation {
        let recent: Vec<_> = self.requests.iter().filter(|(at, ..)| at.distance(now) <= RECENT).collect();
        let mut spans: Vec<Duration> = recent.iter().map(|(_, took, _)| *took).collect();
        spans.sort_unstable();
        LatencyObservation {
            requests: recent.len(),
            timed_out: recent.iter().filter(|(.., timed_out)| *timed_out).count(),
            median: spans.get(spans.len() / 2).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_median_is_that_of_the_recent_requests() {
        let (mut latency, began) = (Latency::default(), Timestamp::from_seconds(1_000_000));
        assert_eq!(latency.observe(began), LatencyObservation::default());
        for _ in 0..100 {
            latency.note(SECOND * 9, false, began);
        }
        let seen = latency.observe(began + SECOND);
        assert_eq!((seen.requests, seen.timed_out, seen.median), (32, 0, Some(SECOND * 9)));
        for _ in 0..17 {
            latency.note(SECOND * 30, true, began + SECOND * 300);
        }
        let seen = latency.observe(began + SECOND * 300);
        assert_eq!((seen.requests, seen.timed_out, seen.median), (32, 17, Some(SECOND * 30)));
        assert_eq!(latency.observe(began + SECOND * 700).requests, 17);
        assert_eq!(latency.observe(began + SECOND * 901), LatencyObservation::default());
    }
}
