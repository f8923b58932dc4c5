//! `Risk`: in which order rows that are due should be tried. Keys that expire sooner go first.

use std::time::Duration;

use storekeeper_model::Timestamp;

/// The smaller, the sooner the row should be tried.
///
/// Rows of equal risk may come in whatever order costs least. A key with weeks to live is in no more danger than one with
/// a day more, and whoever reads such rows as they lie reads and writes each page once.
///
/// ```
/// use std::time::Duration;
/// use storekeeper_keyring::Risk;
/// use storekeeper_model::Timestamp;
/// let now = Timestamp::from_seconds(1_800_000_000);
/// let risk = |hours: u32| Risk::of(Some(now + Duration::from_secs(3600) * hours), now);
/// assert!(risk(1) < risk(2), "whoever expires within two days goes in the very order");
/// assert!(risk(47) < risk(24 * 30));
/// assert!(Risk::of(None, now) < risk(1), "a key without usable times knows no safety");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Risk(i64);

impl Risk {
    /// Keys that expire within this span are told apart to the millisecond.
    pub const EXACT: Duration = Duration::from_secs(2 * 86_400);
    /// All others are told apart by periods of 2^27 ms, which is 37 hours.
    pub const PERIOD_BITS: u32 = 27;

    /// The risk of a key that expires then (`None`: its times are unusable), to who asks for what is due by `until`.
    pub fn of(expires_at: Option<Timestamp>, until: Timestamp) -> Self {
        let exact_until = (until + Self::EXACT).millis();
        Self(match expires_at.map(Timestamp::millis) {
            None => i64::MIN,
            Some(at) if at <= exact_until => at,
            Some(at) => (at >> Self::PERIOD_BITS << Self::PERIOD_BITS).max(exact_until),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whoever_expires_sooner_is_never_at_less_risk(until in 0i64..1 << 42, a in 0i64..1 << 42, b in 0i64..1 << 42) {
            let risk = |at| Risk::of(Some(Timestamp::from_millis(at)), Timestamp::from_millis(until));
            prop_assert!(risk(a.min(b)) <= risk(a.max(b)));
        }

        /// An order that was made a while ago is still one, for whoever asks now.
        #[test]
        fn who_asks_later_tells_no_more_apart(asked in 0i64..1 << 40, later in 0i64..1 << 30, ahead in 0i64..1 << 40, apart in 0i64..1 << 28) {
            let [first, second] = [ahead, ahead + apart].map(|ahead| Some(Timestamp::from_millis(asked + ahead)));
            let risks = |asked| [first, second].map(|at| Risk::of(at, Timestamp::from_millis(asked)));
            let [[coarse, other_coarse], [fine, other_fine]] = [risks(asked), risks(asked + later)];
            prop_assert!(fine != other_fine || coarse == other_coarse);
        }
    }
}
