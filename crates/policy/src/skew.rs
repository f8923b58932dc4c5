//! When our clock and the Store's are too far apart for anything terminal to be decided.

use core::time::Duration;

use storekeeper_model::Timestamp;

/// The largest difference between our clock and the Store's `Date` under which verdicts are reached (invariant 11).
pub const SKEW_MAX: Duration = Duration::from_secs(300);

/// Whether the clocks differ by more than [`SKEW_MAX`], whichever is ahead.
///
/// ```
/// use storekeeper_model::Timestamp;
/// use storekeeper_policy::{SKEW_MAX, is_skewed};
/// let ours = Timestamp::from_seconds(1_000_000);
/// assert!(!is_skewed(ours, ours + SKEW_MAX));
/// assert!(is_skewed(ours, Timestamp::from_seconds(1_000_301)));
/// ```
pub fn is_skewed(ours: Timestamp, theirs: Timestamp) -> bool {
    ours.distance(theirs) > SKEW_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_and_the_edge() {
        let ours = Timestamp::from_seconds(1_442_395_542);
        let past_edge = SKEW_MAX + Duration::from_millis(1);
        assert!(!is_skewed(ours, ours));
        assert!(!is_skewed(ours, ours - SKEW_MAX));
        assert!(is_skewed(ours, ours + past_edge));
        assert!(is_skewed(ours, ours - past_edge));
        assert!(is_skewed(Timestamp::MIN, Timestamp::MAX));
    }
}
