//! `KnownSignatures`: keys whose signature was made or verified here, by fingerprint, so that none is verified twice.

use std::collections::HashSet;
use std::sync::Mutex;

use storekeeper_model::Fingerprint;

use crate::sync::lock;

/// How many keys a generation holds; at most two generations are remembered.
const GENERATION_MAX: usize = 65_536;

/// Remembers good signatures, as [`TicketCache`](crate::ticket::TicketCache) remembers those of tickets. A fingerprint
/// covers every byte of a key, so whoever has one of these carries the very signature that was good. Everything that
/// time or an order may change (times, certificates, revocations) is judged at every use.
#[derive(Debug, Default)]
pub(crate) struct KnownSignatures(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashSet<Fingerprint>,
    old: HashSet<Fingerprint>,
}

impl KnownSignatures {
    /// Whether this key's signature is known to be good.
    pub(crate) fn contains(&self, fingerprint: Fingerprint) -> bool {
        let generations = lock(&self.0);
        generations.young.contains(&fingerprint) || generations.old.contains(&fingerprint)
    }

    /// This key's signature is good.
    pub(crate) fn insert(&self, fingerprint: Fingerprint) {
        let mut generations = lock(&self.0);
        if generations.young.len() >= GENERATION_MAX {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(fingerprint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(number: usize) -> Fingerprint {
        Fingerprint::of(&number.to_string())
    }

    #[test]
    fn the_latest_are_remembered_and_the_number_is_bounded() {
        let known = KnownSignatures::default();
        for number in 0..GENERATION_MAX * 3 {
            known.insert(named(number));
        }
        assert!(known.contains(named(GENERATION_MAX * 3 - 1)) && known.contains(named(GENERATION_MAX * 2)));
        assert!(!known.contains(named(0)));
        let generations = lock(&known.0);
        assert!(generations.young.len() + generations.old.len() <= GENERATION_MAX * 2);
    }
}
