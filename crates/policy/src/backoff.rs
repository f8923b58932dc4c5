//! When to try again after an attempt that did not renew: later each time, sooner as `exp` nears, never past it.

use core::time::Duration;

use storekeeper_model::Timestamp;

use crate::span::{between, scaled};

/// No function here returns an instant later than `now` + this; what lies further ahead was written by a wrong clock
/// (see [`is_believable`]).
pub const BACKOFF_MAX: Duration = Duration::from_secs(25 * 3600);

/// When to try again after an attempt that says nothing about the key (life.md 2, rule 6).
///
/// `failures` counts them in a row, 1 being the first. Full jitter (`jitter` from 0 to 1) over a span of one minute that
/// doubles up to an hour, never less than 30 seconds; `retry_after` is obeyed up to six hours, a little jitter added.
/// As `exp` nears, at most a quarter of what is left (but 30 seconds) is waited, `retry_after` included; the last
/// attempt falls on `exp` itself.
///
/// ```
/// use core::time::Duration;
/// use storekeeper_model::Timestamp;
/// use storekeeper_policy::after_failure;
/// let now = Timestamp::from_seconds(1_000_000);
/// assert_eq!(after_failure(now, 3, None, None, 1.0), now + Duration::from_secs(240));
/// let asked = Some(Duration::from_secs(900));
/// assert!(after_failure(now, 1, asked, None, 0.0) >= now + Duration::from_secs(900));
/// ```
pub fn after_failure(
    now: Timestamp,
    failures: u32,
    retry_after: Option<Duration>,
    expires_at: Option<Timestamp>,
    jitter: f64,
) -> Timestamp {
    let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
    // Shortened before the jitter is applied: keys that near `exp` together stay apart.
    let longest = (FAILURE_BASE * (1 << doublings)).min(FAILURE_MAX).min(patience(now, expires_at));
    let wait = between(WAIT_MIN, longest, jitter);
    let asked = retry_after.map_or(Duration::ZERO, |span| obeyed(span, jitter));
    next(now, wait.max(asked), expires_at)
}

/// When to try again after a refusal; `refusals` counts them, 1 being the first.
///
/// Spaced so that the third falls a little after `condemn_after` from the first (when that is at most 28 hours: longer
/// waits are cut at [`BACKOFF_MAX`]), later ones every half of it; ± 10 % jitter. The rules about `exp` are those of
/// [`after_failure`].
pub fn after_refusal(
    now: Timestamp,
    refusals: u32,
    condemn_after: Duration,
    expires_at: Option<Timestamp>,
    jitter: f64,
) -> Timestamp {
    let share = match refusals {
        0 | 1 => 1.0 / 3.0,
        // With the third before it and both jitters at their lowest: 0.9 * (1/3 + 4/5) = 1.02.
        2 => 4.0 / 5.0,
        _ => 1.0 / 2.0,
    };
    let wobble = 0.9 + 0.2 * jitter.clamp(0.0, 1.0);
    next(now, scaled(condemn_after, share * wobble), expires_at)
}

/// When to try again after a 400: daily (23 to 25 hours), for the fault is ours and somebody has to mend it. The rules
/// about `exp` are those of [`after_failure`].
pub fn after_bad_request(now: Timestamp, expires_at: Option<Timestamp>, jitter: f64) -> Timestamp {
    next(now, between(BAD_REQUEST_MIN, BACKOFF_MAX, jitter), expires_at)
}

/// Whether the stored `next_attempt_at` of a key in back-off can have been written by a clock like ours. If not, the
/// key is due at once.
pub fn is_believable(next_attempt_at: Timestamp, now: Timestamp) -> bool {
    next_attempt_at <= now + BACKOFF_MAX
}

/// `now` + `wait`, held within what this file promises.
fn next(now: Timestamp, wait: Duration, expires_at: Option<Timestamp>) -> Timestamp {
    let wait = wait.max(WAIT_MIN).min(patience(now, expires_at));
    let at = now + wait;
    match expires_at {
        Some(expires_at) if expires_at > now => at.min(expires_at),
        _ => at,
    }
}

/// The most that may be waited.
fn patience(now: Timestamp, expires_at: Option<Timestamp>) -> Duration {
    match expires_at {
        Some(expires_at) if expires_at > now => (expires_at.since(now) / 4).clamp(WAIT_MIN, BACKOFF_MAX),
        _ => BACKOFF_MAX,
    }
}

/// What the server asked for, up to a tenth more so that all who heard it do not return as one.
fn obeyed(retry_after: Duration, jitter: f64) -> Duration {
    between(retry_after, retry_after.saturating_add(retry_after / 10), jitter).min(RETRY_AFTER_MAX)
}

const WAIT_MIN: Duration = Duration::from_secs(30);
const FAILURE_BASE: Duration = Duration::from_secs(60);
const FAILURE_MAX: Duration = Duration::from_secs(3600);
/// 2^6 minutes are more than [`FAILURE_MAX`].
const DOUBLINGS_MAX: u32 = 6;
const RETRY_AFTER_MAX: Duration = Duration::from_secs(6 * 3600);
const BAD_REQUEST_MIN: Duration = Duration::from_secs(23 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_733_526_889);
    const HOUR: u64 = 3600;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn failures_double_up_to_an_hour() {
        for (failures, longest) in
            [(0, 60), (1, 60), (2, 120), (3, 240), (4, 480), (5, 960), (6, 1920), (7, 3600), (u32::MAX, 3600)]
        {
            assert_eq!(after_failure(NOW, failures, None, None, 1.0), NOW + seconds(longest), "{failures}");
            assert_eq!(after_failure(NOW, failures, None, None, 0.0), NOW + seconds(30), "{failures}");
        }
    }

    #[test]
    fn retry_after_is_obeyed_up_to_six_hours() {
        for (asked, jitter, waited) in
            [(0, 1.0, 60), (600, 0.0, 600), (600, 1.0, 660), (6 * HOUR, 1.0, 6 * HOUR), (u64::MAX, 0.5, 6 * HOUR)]
        {
            let at = after_failure(NOW, 1, Some(seconds(asked)), None, jitter);
            assert_eq!(at, NOW + seconds(waited), "{asked}");
        }
    }

    #[test]
    fn a_quarter_of_the_remaining_life_is_the_most() {
        for (remaining, waited) in [(100 * HOUR, HOUR), (2 * HOUR, HOUR / 2), (240, 60), (100, 30), (30, 30), (7, 7)] {
            let at = after_failure(NOW, 9, None, Some(NOW + seconds(remaining)), 1.0);
            assert_eq!(at, NOW + seconds(waited), "{remaining}");
        }
    }

    #[test]
    fn the_last_attempt_falls_on_exp() {
        let expires_at = NOW + seconds(40 * HOUR);
        let (mut now, mut attempts) = (NOW, 0);
        while now < expires_at {
            now = after_failure(now, 20, Some(seconds(HOUR)), Some(expires_at), 0.5);
            attempts += 1;
        }
        assert_eq!(now, expires_at);
        assert!(attempts < 100, "{attempts}");
    }

    #[test]
    fn past_exp_the_usual_spans_hold() {
        let expired_at = Some(NOW - seconds(1));
        assert_eq!(after_failure(NOW, 2, None, expired_at, 1.0), NOW + seconds(120));
        assert_eq!(after_failure(NOW, 2, None, Some(NOW), 1.0), NOW + seconds(120));
    }

    #[test]
    fn the_third_refusal_comes_a_little_after_condemn_after() {
        let condemn_after = seconds(24 * HOUR);
        for (first, second) in [(0.0, 0.0), (0.0, 1.0), (0.5, 0.5), (1.0, 1.0)] {
            let again = after_refusal(NOW, 1, condemn_after, None, first);
            let third = after_refusal(again, 2, condemn_after, None, second);
            assert!(again >= NOW + seconds(7 * HOUR) && again <= NOW + seconds(9 * HOUR), "{again}");
            assert!(third > NOW + condemn_after && third < NOW + seconds(30 * HOUR), "{third}");
        }
        let later = after_refusal(NOW, 7, condemn_after, None, 0.5);
        assert!(later.distance(NOW + seconds(12 * HOUR)) <= Duration::from_millis(1), "{later}");
    }

    #[test]
    fn a_bad_request_is_tried_daily() {
        assert_eq!(after_bad_request(NOW, None, 0.0), NOW + seconds(23 * HOUR));
        assert_eq!(after_bad_request(NOW, None, 1.0), NOW + BACKOFF_MAX);
        assert_eq!(after_bad_request(NOW, Some(NOW + seconds(8 * HOUR)), 1.0), NOW + seconds(2 * HOUR));
    }

    #[test]
    fn an_instant_too_far_ahead_is_not_believed() {
        assert!(is_believable(NOW - seconds(HOUR), NOW));
        assert!(is_believable(NOW + BACKOFF_MAX, NOW));
        assert!(!is_believable(NOW + BACKOFF_MAX + Duration::from_millis(1), NOW));
        assert!(is_believable(Timestamp::MAX, Timestamp::MAX));
    }
}
