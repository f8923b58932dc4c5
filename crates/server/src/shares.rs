//! `Shares`: a limited number of things, such as requests under way, of which no caller may have so many that the others
//! get none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much is taken, and by whom. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Shares(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_caller: HashMap<Arc<str>, usize>,
}

impl Shares {
    /// This many in all.
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Inner { max, taken: Mutex::default() }))
    }

    /// One more for a caller, while the caller has fewer than are free: one caller alone gets half, a second one half of
    /// the rest, and so on.
    pub(crate) fn take(&self, caller: &Arc<str>) -> Option<ShareGuard> {
        let mut taken = self.0.taken();
        let free = self.0.max.saturating_sub(taken.all);
        if taken.by_caller.get(caller).copied().unwrap_or(0) >= free {
            return None;
        }
        taken.all += 1;
        *taken.by_caller.entry(Arc::clone(caller)).or_default() += 1;
        Some(ShareGuard { shares: self.clone(), caller: Arc::clone(caller) })
    }
}

impl Inner {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct ShareGuard {
    shares: Shares,
    caller: Arc<str>,
}

impl Drop for ShareGuard {
    fn drop(&mut self) {
        let mut taken = self.shares.0.taken();
        taken.all -= 1;
        let Some(own) = taken.by_caller.get_mut(&self.caller) else { return };
        *own -= 1;
        if *own == 0 {
            taken.by_caller.remove(&self.caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(shares: &Shares, caller: &str) -> Vec<ShareGuard> {
        let caller = caller.into();
        std::iter::from_fn(|| shares.take(&caller)).collect()
    }

    #[test]
    fn no_caller_takes_what_the_others_need() {
        let shares = Shares::new(16);
        let first = take_all(&shares, "first");
        let second = take_all(&shares, "second");
        let third = take_all(&shares, "third");
        assert_eq!((first.len(), second.len(), third.len()), (8, 4, 2));
        drop(first);
        assert_eq!(take_all(&shares, "second").len(), 3, "half of the 14 that the third leaves");
        drop((second, third));
        assert_eq!(shares.0.taken().by_caller.len(), 0);
        assert_eq!(take_all(&Shares::new(1), "first").len(), 1);
    }
}
