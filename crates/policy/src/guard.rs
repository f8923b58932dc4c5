//! `Guard`: notices when so many keys are refused that the fault must lie with us or the Store.

use alloc::collections::VecDeque;

use storekeeper_model::KeyId;

/// The last distinct proven keys of an app that were tried, and how many of them were refused (life.md 2, rule 4).
///
/// Bounded: it remembers [`Guard::WINDOW`] keys, whatever the population. A key tried again counts once, with its latest
/// outcome.
///
/// ```
/// use storekeeper_model::KeyId;
/// use storekeeper_policy::Guard;
/// let mut guard = Guard::new();
/// for key in 0..5 {
///     assert!(!guard.trips());
///     guard.record(KeyId::from_bytes([key; 16]), true);
/// }
/// assert!(guard.trips());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Oldest first. Short enough that looking through it costs less than any index would.
    tried: VecDeque<(KeyId, bool)>,
    refused: usize,
}

/// What a [`Guard`] remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardCounts {
    /// Distinct keys tried.
    pub tried: usize,
    /// Those of them that were refused when last tried.
    pub refused: usize,
}

impl Guard {
    /// How many keys are remembered.
    pub const WINDOW: usize = 50;
    /// With fewer keys tried than this nothing is concluded.
    pub const TRIED_MIN: usize = 5;

    /// Remembers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records what became of an attempt on a proven key. Outcomes that say nothing about the key are not recorded.
    pub fn record(&mut self, id: KeyId, refused: bool) {
        let known = self.tried.iter().position(|(tried, _)| *tried == id);
        let leaving = match known {
            Some(at) => self.tried.remove(at),
            None if self.tried.len() == Self::WINDOW => self.tried.pop_front(),
            None => None,
        };
        if leaving.is_some_and(|(_, was_refused)| was_refused) {
            self.refused -= 1;
        }
        self.tried.push_back((id, refused));
        self.refused += usize::from(refused);
    }

    /// Whether enough keys were tried and at least half of them were refused: the app has to be paused.
    pub fn trips(&self) -> bool {
        self.tried.len() >= Self::TRIED_MIN && self.refused * 2 >= self.tried.len()
    }

    /// Forgets everything, as when the app is resumed.
    pub fn clear(&mut self) {
        self.tried.clear();
        self.refused = 0;
    }

    /// What is remembered.
    pub fn counts(&self) -> GuardCounts {
        GuardCounts { tried: self.tried.len(), refused: self.refused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> KeyId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        KeyId::from_bytes(bytes)
    }

    fn recorded(outcomes: impl IntoIterator<Item = (u64, bool)>) -> Guard {
        let mut guard = Guard::new();
        outcomes.into_iter().for_each(|(number, refused)| guard.record(key(number), refused));
        guard
    }

    #[test]
    fn half_of_at_least_five_trips() {
        for (tried, refused, trips) in
            [(0, 0, false), (4, 4, false), (5, 2, false), (5, 3, true), (6, 3, true), (50, 24, false), (50, 25, true)]
        {
            let guard = recorded((0..tried).map(|number| (number, number < refused)));
            assert_eq!(guard.trips(), trips, "{refused} of {tried}");
        }
    }

    #[test]
    fn one_key_refused_often_is_one_key() {
        let guard = recorded((0..100).map(|_| (1, true)));
        assert_eq!(guard.counts(), GuardCounts { tried: 1, refused: 1 });
        assert!(!guard.trips());
    }

    #[test]
    fn the_latest_outcome_of_a_key_counts() {
        let mut guard = recorded((0..6).map(|number| (number, true)));
        (0..4).for_each(|number| guard.record(key(number), false));
        assert_eq!(guard.counts(), GuardCounts { tried: 6, refused: 2 });
        assert!(!guard.trips());
    }

    #[test]
    fn only_the_last_fifty_are_remembered() {
        let mut guard = recorded((0..50).map(|number| (number, true)));
        (50..76).for_each(|number| guard.record(key(number), false));
        assert_eq!(guard.counts(), GuardCounts { tried: 50, refused: 24 });
        // A key tried again is the newest, so the next one to be forgotten is another.
        guard.record(key(26), true);
        guard.record(key(100), true);
        assert_eq!(guard.counts(), GuardCounts { tried: 50, refused: 24 });
    }

    #[test]
    fn clearing_forgets() {
        let mut guard = recorded((0..50).map(|number| (number, true)));
        guard.clear();
        assert_eq!(guard.counts(), GuardCounts { tried: 0, refused: 0 });
        assert!(!guard.trips());
    }
}
