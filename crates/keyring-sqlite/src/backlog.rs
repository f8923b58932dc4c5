//! `Backlog`: when far more is due than is asked for, the order of risk is kept from one call to the next, so that
//! draining a backlog costs what is taken from it, not what is left.
//!
//! What is kept can only be out of date in three ways. A row may have been written since, and then either is no longer
//! due, which reading it shows, or is due earlier than it was, which the writer tells. And time has gone on: what became
//! due by that is found along the index between the two instants. And rows that were all far from expiring may no longer
//! be, so that the order is made anew after an hour.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use storekeeper_keyring::Risk;
use storekeeper_model::{KeyId, Timestamp};

/// How long an order is kept, in milliseconds.
const KEPT_MAX: i64 = 3_600_000;

/// A row's place in the order of risk; rows of one risk come as they lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    risk: Risk,
    /// The row's place in the table.
    pub(crate) place: i64,
}

/// What is known of a ranked row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// `exp`, where it is usable.
    pub(crate) expires_at: Option<i64>,
    /// Its id, once it was read.
    pub(crate) id: Option<KeyId>,
}

/// The first of all due rows in the order of risk.
#[derive(Debug)]
pub(crate) struct Ranked {
    /// Ranked for whoever asks until this instant.
    holds_until: i64,
    /// What is due before this instant is ranked.
    from: i64,
    /// Apps and kinds that were left out.
    blocked: Vec<(i64, i64)>,
    rows: BTreeMap<Rank, Seen>,
    /// Rows of this rank and later ones are not ranked; `None`: all rows are.
    cut: Option<Rank>,
    rows_max: usize,
    early: u64,
}

impl Ranked {
    /// Ranks the row at a place, unless it comes behind those that are kept, or is blocked.
    pub(crate) fn add(&mut self, place: i64, expires_at: Option<i64>, app_and_kind: (i64, i64)) {
        let until = Timestamp::from_millis(self.holds_until);
        let rank = Rank { risk: Risk::of(expires_at.map(Timestamp::from_millis), until), place };
        if self.cut.is_some_and(|cut| rank >= cut) || self.blocked.contains(&app_and_kind) {
            return;
        }
        self.rows.entry(rank).or_insert(Seen { expires_at, id: None });
        if self.rows.len() > self.rows_max
            && let Some((last, _)) = self.rows.pop_last()
        {
            self.cut = Some(last);
        }
    }

    /// The instant from which on nothing is ranked yet; from now on that is what lies behind `until`.
    pub(crate) fn go_on(&mut self, until: i64) -> i64 {
        std::mem::replace(&mut self.from, until.saturating_add(1))
    }

    /// How many rows are ranked.
    pub(crate) fn count(&self) -> usize {
        self.rows.len()
    }

    /// The ranked rows in order.
    pub(crate) fn rows(&mut self) -> impl Iterator<Item = (Rank, &mut Seen)> {
        self.rows.iter_mut().map(|(rank, seen)| (*rank, seen))
    }

    /// Drops rows that are no longer due.
    pub(crate) fn remove(&mut self, gone: &[Rank]) {
        for rank in gone {
            self.rows.remove(rank);
        }
    }

    /// Whether every due row is ranked.
    pub(crate) const fn is_complete(&self) -> bool {
        self.cut.is_none()
    }
}

/// Shared by the threads that read and the one that writes.
#[derive(Debug)]
pub(crate) struct Backlog {
    kept: Mutex<Option<Ranked>>,
    /// Writes due at or before this instant have to be told.
    horizon: AtomicI64,
    /// How many commits held such a write.
    early: AtomicU64,
    rows_max: usize,
}

impl Backlog {
    /// Keeps at most this many rows.
    pub(crate) fn new(rows_max: usize) -> Self {
        let (kept, horizon) = (Mutex::new(None), AtomicI64::new(i64::MIN));
        Self { kept, horizon, early: AtomicU64::new(0), rows_max }
    }

    /// A commit is made, in which this is the earliest next attempt. Called before anybody is told of the commit.
    pub(crate) fn committed(&self, earliest: Option<i64>) {
        if earliest.is_some_and(|earliest| earliest <= self.horizon.load(Ordering::SeqCst)) {
            self.early.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Begins to find what is due by `until`; one at a time. Has to be called *before* the snapshot is taken that is
    /// read from: a commit that is not in the snapshot then looks at the new horizon, and is counted as early.
    pub(crate) fn search(&self, until: i64, enough: usize, blocked: Vec<(i64, i64)>) -> Search<'_> {
        let kept = self.kept.lock().expect(UNPOISONED);
        self.horizon.store(until, Ordering::SeqCst);
        let early = self.early.load(Ordering::SeqCst);
        Search { kept, until, enough, blocked, early, rows_max: self.rows_max }
    }
}

/// One search for what is due.
#[derive(Debug)]
pub(crate) struct Search<'b> {
    kept: MutexGuard<'b, Option<Ranked>>,
    until: i64,
    enough: usize,
    blocked: Vec<(i64, i64)>,
    early: u64,
    rows_max: usize,
}

impl Search<'_> {
    /// What was kept, if it still holds; it is up to date but for what became due since.
    pub(crate) fn kept(&mut self) -> Option<Ranked> {
        let kept = self.kept.take()?;
        let is_of_now = kept.from <= self.until.saturating_add(1) && self.until <= kept.holds_until;
        (kept.early == self.early && is_of_now && kept.blocked == self.blocked).then_some(kept)
    }

    /// An empty ranking, to be filled with all that is due.
    pub(crate) fn anew(&self) -> Ranked {
        Ranked {
            holds_until: self.until.saturating_add(KEPT_MAX),
            from: i64::MIN,
            blocked: self.blocked.clone(),
            rows: BTreeMap::new(),
            cut: None,
            rows_max: self.rows_max.max(self.enough),
            early: self.early,
        }
    }

    /// Keeps a ranking for the next search, if that is worth its memory.
    pub(crate) fn keep(mut self, ranked: Ranked) {
        if ranked.rows.len() > self.enough && ranked.rows_max <= self.rows_max {
            *self.kept = Some(ranked);
        }
    }
}

const UNPOISONED: &str = "nothing panics while it holds the lock";
