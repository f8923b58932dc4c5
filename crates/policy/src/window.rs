//! When a key should and must be renewed, from the times it names for itself.

use core::time::Duration;

use storekeeper_model::{KeyId, Lifetime, Timestamp};

use crate::{RenewalPolicy, offset_share};

/// The moment a key becomes due: `iat` + `target`, moved within ± `spread` by the key's identity; both spans shrink with
/// a life of less than 30 days. Always at or after `iat` and `nbf`, always before `exp`.
///
/// `None` when the key's times are unusable (store.md 3.4): it is due at once, and its successor will know better.
///
/// ```
/// use core::time::Duration;
/// use storekeeper_model::{KeyId, Lifetime, Timestamp};
/// use storekeeper_policy::{RenewalPolicy, renew_at};
/// let day = |n: i64| Timestamp::from_seconds(1_733_526_889 + n * 86_400);
/// let lifetime = Lifetime::new(day(0), day(0), day(30));
/// let earliest = renew_at(&RenewalPolicy::default(), KeyId::from_bytes([0; 16]), &lifetime);
/// assert_eq!(earliest, Some(day(7)));
/// ```
pub fn renew_at(policy: &RenewalPolicy, id: KeyId, lifetime: &Lifetime) -> Option<Timestamp> {
    let last_moment = lifetime.expires_at()? - Duration::from_millis(1);
    let offset = (offset_share(id) * millis(policy.spread) as f64) as i64;
    let age = millis(policy.target).saturating_add(offset).max(0);
    let at = lifetime.issued_at() + shrunk(age, lifetime);
    // A key that is not valid yet is refused (store.md 4.5, check 15).
    Some(at.max(lifetime.not_before()?).min(last_moment))
}

/// The moment past which somebody is paged, shrunk alike; never after `exp`. `None` when the key's times are unusable.
pub fn deadline_at(policy: &RenewalPolicy, lifetime: &Lifetime) -> Option<Timestamp> {
    let at = lifetime.issued_at() + shrunk(millis(policy.deadline), lifetime);
    Some(at.min(lifetime.expires_at()?))
}

/// Whether a key is still renewed under the policy's `retain`. `last_used_day` is the [`Timestamp::day`] on which it was
/// last read or enrolled.
///
/// Reads are remembered by day, so the key is kept through the whole of the last one.
pub fn is_retained(policy: &RenewalPolicy, last_used_day: i64, now: Timestamp) -> bool {
    let Some(span) = policy.retain else { return true };
    let days = i64::try_from(span.as_secs().div_ceil(86_400)).unwrap_or(i64::MAX);
    now.day().saturating_sub(last_used_day) <= days
}

/// `age` (milliseconds, not negative) times the key's length over 30 days, or as it is for a longer life.
///
/// Whole numbers, so that every node computes the same instant.
fn shrunk(age: i64, lifetime: &Lifetime) -> Duration {
    let life = RenewalPolicy::LIFE.as_millis();
    let length = lifetime.length().map_or(life, |length| length.as_millis().min(life));
    // Below 2^63 * 2^32, and the quotient is at most `age`.
    let age = u128::from(age.unsigned_abs()) * length / life;
    Duration::from_millis(u64::try_from(age).unwrap_or(u64::MAX))
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUED: i64 = 1_733_526_889;
    const DAY: i64 = 86_400;

    fn key(place: u64) -> KeyId {
        let mut bytes = [7; 16];
        bytes[8..].copy_from_slice(&place.to_be_bytes());
        KeyId::from_bytes(bytes)
    }

    fn check(place: u64, length: i64, renew_after: i64, deadline_after: i64) {
        let issued_at = Timestamp::from_seconds(ISSUED);
        let lifetime =
            Lifetime::new(issued_at, Timestamp::from_seconds(ISSUED - 3600), Timestamp::from_seconds(ISSUED + length));
        let policy = RenewalPolicy::default();
        assert_eq!(renew_at(&policy, key(place), &lifetime), Some(Timestamp::from_seconds(ISSUED + renew_after)));
        assert_eq!(deadline_at(&policy, &lifetime), Some(Timestamp::from_seconds(ISSUED + deadline_after)));
    }

    #[test]
    fn a_key_of_thirty_days() {
        check(0, 30 * DAY, 7 * DAY, 14 * DAY);
        check(1 << 63, 30 * DAY, 9 * DAY, 14 * DAY);
        check(3 << 62, 30 * DAY, 10 * DAY, 14 * DAY);
    }

    #[test]
    fn a_longer_life_changes_nothing_a_shorter_one_shrinks_the_spans() {
        check(1 << 63, 90 * DAY, 9 * DAY, 14 * DAY);
        check(1 << 63, 10 * DAY, 3 * DAY, 14 * DAY / 3);
        check(0, 3 * DAY, 7 * DAY / 10, 14 * DAY / 10);
    }

    #[test]
    fn swapped_times_are_due_at_once() {
        // store.md 3.4, the vendor's example since 2024.
        let swapped = Lifetime::new(
            Timestamp::from_seconds(1_733_526_889),
            Timestamp::from_seconds(1_736_118_889),
            Timestamp::from_seconds(1_733_523_289),
        );
        let policy = RenewalPolicy::default();
        assert_eq!(renew_at(&policy, key(0), &swapped), None);
        assert_eq!(deadline_at(&policy, &swapped), None);
    }

    #[test]
    fn a_key_valid_late_waits_for_nbf() {
        let at = |days: i64| Timestamp::from_seconds(ISSUED + days * DAY);
        let late = Lifetime::new(at(0), at(20), at(30));
        assert_eq!(renew_at(&RenewalPolicy::default(), key(0), &late), Some(at(20)));
    }

    #[test]
    fn a_read_key_is_retained_through_its_last_day() {
        let policy = RenewalPolicy { retain: Some(Duration::from_secs(60 * 86_400)), ..RenewalPolicy::default() };
        let at = |day: i64| Timestamp::from_seconds(day * DAY + 5);
        for (last_used_day, today, retained) in [(100, 100, true), (100, 160, true), (100, 161, false), (100, 60, true)]
        {
            assert_eq!(is_retained(&policy, last_used_day, at(today)), retained, "{last_used_day} on {today}");
        }
        assert!(is_retained(&RenewalPolicy::default(), 0, at(100_000)));
    }
}
