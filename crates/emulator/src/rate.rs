//! How many calls one publisher user has made: a sliding window per {userId; publisherId} (store.md 4.4, 5.5).

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::time::Duration;

use storekeeper_model::{ClientId, Timestamp};

use crate::RateLimit;
use crate::sync::lock;

const SHARDS: usize = 16;

/// The calls of the recent past, sharded by user; users who are silent for a span are forgotten.
#[derive(Default)]
pub(crate) struct RateBuckets {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    calls: HashMap<u64, VecDeque<Timestamp>>,
    sweep_at: usize,
}

impl RateBuckets {
    /// Counts a call.
    ///
    /// # Errors
    /// Whole seconds to wait, at least one, when the limit is reached; the call is not counted then.
    pub(crate) fn take(&self, user: &str, client: &ClientId, limit: RateLimit, now: Timestamp) -> Result<(), u64> {
        let mut hasher = DefaultHasher::new();
        (user, client).hash(&mut hasher);
        let user = hasher.finish();
        let index = usize::try_from(user % SHARDS as u64).unwrap_or_default();
        lock(&self.shards[index]).take(user, limit, now)
    }
}

impl Shard {
    fn take(&mut self, user: u64, limit: RateLimit, now: Timestamp) -> Result<(), u64> {
        let span = Duration::from_secs(limit.seconds.into());
        self.sweep(span, now);
        let calls = self.calls.entry(user).or_default();
        // A call later than now was made before the clock was set back: it belongs to no span.
        calls.retain(|at| *at <= now && *at + span > now);
        let operations = usize::try_from(limit.operations).unwrap_or(usize::MAX);
        if calls.len() < operations {
            calls.push_back(now);
            return Ok(());
        }
        let frees = calls.get(calls.len() - operations).map_or(now, |oldest| *oldest + span);
        Err(frees.since(now).as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1))
    }

    /// Forgets silent users whenever their number has doubled, so that memory follows the traffic of one span.
    fn sweep(&mut self, span: Duration, now: Timestamp) {
        if self.calls.len() < self.sweep_at.max(64) {
            return;
        }
        self.calls.retain(|_, calls| calls.back().is_some_and(|last| *last <= now && *last + span > now));
        self.sweep_at = self.calls.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: RateLimit = RateLimit { operations: 3, seconds: 300 };

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + millis)
    }

    #[test]
    fn calls_in_a_row() {
        let buckets = RateBuckets::default();
        let client = ClientId::new("c");
        let check =
            |user, millis, expected| assert_eq!(buckets.take(user, &client, LIMIT, at(millis)), expected, "{millis}");
        check("a", 0, Ok(()));
        check("a", 1000, Ok(()));
        check("a", 1001, Ok(()));
        check("a", 1002, Err(299));
        check("b", 1002, Ok(()));
        check("a", 299_001, Err(1));
        check("a", 299_999, Err(1));
        check("a", 300_000, Ok(()));
        check("a", 300_000, Err(1));
        check("a", 301_000, Ok(()));
        assert_eq!(buckets.take("a", &ClientId::new("d"), LIMIT, at(301_000)), Ok(()), "another publisher");
    }

    #[test]
    fn waiting_as_told_always_helps() {
        let (buckets, client) = (RateBuckets::default(), ClientId::new("c"));
        let mut now = at(0);
        for step in 0..500 {
            if let Err(seconds) = buckets.take("a", &client, LIMIT, now) {
                now = now + Duration::from_secs(seconds);
                assert_eq!(buckets.take("a", &client, LIMIT, now), Ok(()), "step {step}");
            }
            now = now + Duration::from_millis(step * 7 % 1300);
        }
    }

    #[test]
    fn a_clock_set_back_does_not_lock_anybody_out() {
        let (buckets, client) = (RateBuckets::default(), ClientId::new("c"));
        for _ in 0..3 {
            buckets.take("a", &client, LIMIT, at(0)).unwrap();
        }
        assert_eq!(buckets.take("a", &client, LIMIT, at(-86_400_000)), Ok(()));
    }

    #[test]
    fn silent_users_are_forgotten() {
        let (buckets, client) = (RateBuckets::default(), ClientId::new("c"));
        for user in 0..20_000_i64 {
            buckets.take(&user.to_string(), &client, LIMIT, at(user * 1000)).unwrap();
        }
        let kept: usize = buckets.shards.iter().map(|shard| lock(shard).calls.len()).sum();
        assert!(kept < 3000, "{kept}");
    }
}
