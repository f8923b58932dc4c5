//! `CondemnationCap`: how many keys of an app may be condemned in one day before an operator has to look.

use storekeeper_model::Timestamp;

/// The condemnations of one app on one UTC day (life.md 2, rule 5).
///
/// A clock that is set back finds what was taken still taken; only a later day starts afresh.
///
/// ```
/// use storekeeper_model::Timestamp;
/// use storekeeper_policy::CondemnationCap;
/// let now = Timestamp::from_seconds(1_000_000);
/// let mut cap = CondemnationCap::new();
/// assert_eq!((0..5_000).filter(|_| cap.try_take(now, 40_000)).count(), 1_000);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CondemnationCap {
    day: i64,
    taken: u64,
}

impl CondemnationCap {
    /// What every app may lose in a day, however small.
    pub const ALLOWANCE_MIN: u64 = 1_000;

    /// Nothing taken yet.
    pub const fn new() -> Self {
        Self { day: 0, taken: 0 }
    }

    /// As it was before a restart: `taken` keys were condemned on the day of `now`.
    pub const fn restored(now: Timestamp, taken: u64) -> Self {
        Self { day: now.day(), taken }
    }

    /// How many keys an app with `population` keys may lose in a day: 0.1 %, but at least [`Self::ALLOWANCE_MIN`].
    pub const fn allowance(population: u64) -> u64 {
        if population / 1_000 > Self::ALLOWANCE_MIN { population / 1_000 } else { Self::ALLOWANCE_MIN }
    }

    /// Takes one condemnation from today's allowance. `false`: the key has to wait for an operator.
    pub fn try_take(&mut self, now: Timestamp, population: u64) -> bool {
        if now.day() > self.day {
            self.taken = 0;
        }
        self.day = now.day();
        let allowed = self.taken < Self::allowance(population);
        self.taken += u64::from(allowed);
        allowed
    }

    /// How many were taken on the day of `now`.
    pub const fn taken_on(&self, now: Timestamp) -> u64 {
        if now.day() > self.day { 0 } else { self.taken }
    }

    /// How many were taken on the day of the last [`Self::try_take`].
    pub const fn taken(&self) -> u64 {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: i64) -> Timestamp {
        Timestamp::from_seconds(number * 86_400 + 40_000)
    }

    fn drain(cap: &mut CondemnationCap, now: Timestamp, population: u64) -> u64 {
        (0..10_000).map(|_| u64::from(cap.try_take(now, population))).sum()
    }

    #[test]
    fn a_thousand_or_a_thousandth() {
        for (population, allowed) in
            [(0, 1_000), (999, 1_000), (1_000_000, 1_000), (1_001_000, 1_001), (5_000_000, 5_000)]
        {
            assert_eq!(drain(&mut CondemnationCap::new(), day(20_000), population), allowed, "{population}");
        }
    }

    #[test]
    fn the_next_day_starts_afresh_an_earlier_one_does_not() {
        let mut cap = CondemnationCap::new();
        assert_eq!(drain(&mut cap, day(20_000), 1), 1_000);
        assert_eq!(drain(&mut cap, day(20_000), 1), 0);
        assert_eq!(drain(&mut cap, day(19_960), 1), 0);
        assert_eq!(drain(&mut cap, day(19_961), 1), 1_000);
        assert_eq!(cap.taken(), 1_000);
    }

    #[test]
    fn a_restart_forgets_nothing() {
        let mut cap = CondemnationCap::restored(day(20_000), 990);
        assert_eq!(drain(&mut cap, day(20_000), 1), 10);
    }
}
