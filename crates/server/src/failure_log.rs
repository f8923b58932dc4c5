//! `FailureLog`: failed requests in the log, so that an outage, in which every request fails, does not flood it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures of one code are logged at most this often; those in between are counted.
const PAUSE: Duration = Duration::from_secs(10);

/// When each code was logged last, and how often it came since.
#[derive(Debug, Default)]
pub(crate) struct FailureLog(Mutex<HashMap<&'static str, (Instant, u64)>>);

impl FailureLog {
    /// How many failures of this code were not logged since the last one that was; `None` while this one is only counted.
    pub(crate) fn admit(&self, code: &'static str, now: Instant) -> Option<u64> {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match codes.get_mut(code) {
            Some((at, unlogged)) if now.duration_since(*at) < PAUSE => {
                *unlogged += 1;
                None
            }
            Some(logged) => Some(std::mem::replace(logged, (now, 0)).1),
            None => {
                codes.insert(code, (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an instant to start from; nothing waits")]
    fn failures_of_one_code_are_counted_between_their_lines() {
        let (log, now) = (FailureLog::default(), Instant::now());
        assert_eq!(log.admit("keyring_unavailable", now), Some(0));
        assert_eq!(log.admit("keyring_unavailable", now + PAUSE / 2), None);
        assert_eq!(log.admit("internal", now + PAUSE / 2), Some(0), "each code counts for itself");
        assert_eq!(log.admit("keyring_unavailable", now + PAUSE), Some(1));
        assert_eq!(log.admit("keyring_unavailable", now + PAUSE * 2), Some(0));
    }
}
