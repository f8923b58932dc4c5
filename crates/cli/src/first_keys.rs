//! `FirstKeys`: what would be alive without storekeeper, told from the keys that `dev`'s players were enrolled with.

use std::path::Path;

use serde::{Deserialize, Serialize};
use storekeeper_model::Timestamp;

/// The players' first keys, as many of them as share an `exp`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstKeys {
    /// `exp`, and how many keys have it.
    pub expiries: Vec<(Timestamp, u64)>,
}

impl FirstKeys {
    /// Reads what `dev` wrote; `None` where there is nothing that can be understood.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// One more key with this `exp`.
    pub fn add(&mut self, expires_at: Timestamp) {
        match self.expiries.iter_mut().find(|(at, _)| *at == expires_at) {
            Some((_, count)) => *count += 1,
            None => self.expiries.push((expires_at, 1)),
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.expiries.iter().map(|(_, count)| count).sum()
    }

    /// How many of them are alive at `now`.
    pub fn alive_at(&self, now: Timestamp) -> u64 {
        self.expiries.iter().filter(|(expires_at, _)| *expires_at > now).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_die_at_their_exp() {
        let at = Timestamp::from_seconds;
        let mut keys = FirstKeys::default();
        [10, 10, 20].into_iter().for_each(|seconds| keys.add(at(seconds)));
        assert_eq!(keys.count(), 3);
        for (now, alive) in [(9, 3), (10, 1), (19, 1), (20, 0)] {
            assert_eq!(keys.alive_at(at(now)), alive, "{now}");
        }
    }
}
