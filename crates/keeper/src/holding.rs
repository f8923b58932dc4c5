//! `Holding`: whose the buckets are at this very moment, for whoever is about to send something.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use storekeeper_keyring::Buckets;
use storekeeper_model::{Bucket, KeyId};

/// The leases as they were last known, and until when they are ours.
#[derive(Debug)]
pub(crate) struct Holding {
    /// `None` where nobody else is: then everything is ours for ever.
    leases: Option<RwLock<(Buckets, Duration)>>,
    /// How many living nodes share the buckets, this one among them.
    renewing_nodes: RwLock<Option<usize>>,
}

impl Holding {
    /// One keeper alone holds the keyring.
    pub(crate) fn alone() -> Self {
        Self { leases: None, renewing_nodes: RwLock::default() }
    }

    /// Several share it; nothing is ours yet.
    pub(crate) fn shared() -> Self {
        Self { leases: Some(RwLock::new((Buckets::none(), Duration::ZERO))), renewing_nodes: RwLock::default() }
    }

    /// Whether several share the keyring.
    pub(crate) fn is_shared(&self) -> bool {
        self.leases.is_some()
    }

    pub(crate) fn set(&self, held: Buckets, until: Duration) {
        if let Some(leases) = &self.leases {
            *leases.write().unwrap_or_else(PoisonError::into_inner) = (held, until);
        }
    }

    /// How many living nodes are not draining; `None` where one keeper alone holds the keyring, or before the nodes are known.
    pub(crate) fn renewing_nodes(&self) -> Option<usize> {
        *self.renewing_nodes.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_renewing_nodes(&self, count: Option<usize>) {
        *self.renewing_nodes.write().unwrap_or_else(PoisonError::into_inner) = count;
    }

    /// Whether the row's lease is ours for so much longer.
    pub(crate) fn outlives(&self, id: KeyId, elapsed: Duration, span: Duration) -> bool {
        self.leases.as_ref().is_none_or(|leases| {
            let leases = leases.read().unwrap_or_else(PoisonError::into_inner);
            leases.0.contains_row(id) && elapsed.saturating_add(span) < leases.1
        })
    }

    /// Whether every lease is ours now, so that nobody else has anything under way: leases are given back only where nothing is.
    pub(crate) fn is_everything(&self, elapsed: Duration) -> bool {
        self.leases.as_ref().is_none_or(|leases| {
            let leases = leases.read().unwrap_or_else(PoisonError::into_inner);
            leases.0.len() == usize::from(Bucket::COUNT) && elapsed < leases.1
        })
    }

    /// Whether the row's lease is ours now.
    pub(crate) fn contains(&self, id: KeyId, elapsed: Duration) -> bool {
        self.outlives(id, elapsed, Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_ours_until_its_time_is_up() {
        let (ours, theirs) = (KeyId::from_bytes([1; 16]), KeyId::from_bytes([2; 16]));
        let second = Duration::from_secs(1);
        assert!(Holding::alone().outlives(theirs, second, Duration::MAX));
        let holding = Holding::shared();
        assert!(!holding.contains(ours, Duration::ZERO), "nothing yet");
        holding.set([ours.bucket()].into_iter().collect(), second * 10);
        assert!(holding.outlives(ours, second * 2, second * 7) && !holding.outlives(ours, second * 2, second * 8));
        assert!(!holding.contains(theirs, second) && !holding.contains(ours, second * 10));
    }

    #[test]
    fn everything_is_every_lease_and_in_time() {
        let second = Duration::from_secs(1);
        assert!(Holding::alone().is_everything(Duration::MAX));
        let holding = Holding::shared();
        let mut all = Buckets::all();
        holding.set(all.clone(), second);
        assert!(holding.is_everything(Duration::ZERO) && !holding.is_everything(second));
        all.remove(KeyId::from_bytes([1; 16]).bucket());
        holding.set(all, second);
        assert!(!holding.is_everything(Duration::ZERO));
    }
}
