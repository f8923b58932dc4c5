//! `Backlog`: when far more is due than is asked for, the order of risk is kept from one call to the next, so that
//! draining a backlog costs what is taken from it, not what is left.
//!
//! What is kept can be out of date in three ways. Time has gone on: what became due by that is found along the index
//! between the two instants. This keeper has written a row since: its writer tells. Another keeper has: then the row is no
//! longer due, which reading it shows; or it is due where it was not, and is found when the order is made anew, which is
//! soon, and no later than it would be its turn but for that little time.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use storekeeper_keyring::{Buckets, DueQuery, Record, Settled, Write};
use storekeeper_model::{KeyId, Timestamp};

use crate::names::Names;
use crate::row::kind_number;

/// A row in the order of risk: unusable times come first, then the soonest `exp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Risk {
    /// `exp`, where it is usable.
    pub(crate) expires_at: Option<Timestamp>,
    /// The row.
    pub(crate) id: KeyId,
}

/// The first of all due rows in the order of risk.
#[derive(Debug)]
pub(crate) struct Ranked {
    /// When the order was made: it holds what was due by then.
    made_at: Timestamp,
    /// What became due by this instant is ranked too.
    until: Timestamp,
    impossible_after: Timestamp,
    /// Apps and kinds that were left out.
    blocked: Vec<i32>,
    /// The buckets of which all rows are.
    buckets: Option<Arc<Buckets>>,
    rows: BTreeSet<Risk>,
    /// Rows that were given to who asks; until they are written they are still due.
    given: HashMap<KeyId, Risk>,
    /// Rows of this risk and greater ones are not ranked; `None`: all rows are.
    cut: Option<Risk>,
}

/// What a write says of a row: when it is due, if it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    risk: Risk,
    next_attempt_at: Option<Timestamp>,
    is_failing: bool,
    app_and_kind: i32,
}

impl Written {
    /// Of a write that was made; the app of its row has its number.
    pub(crate) fn of(write: &Write, names: &Names) -> Self {
        let (id, record) = (write.id(), put(write));
        let expires_at = record.and_then(|record| record.key.lifetime.expires_at());
        let app = record.and_then(|record| names.known(&record.identity.app)).unwrap_or_default();
        Self {
            risk: Risk { expires_at, id },
            next_attempt_at: record.and_then(|record| record.next_attempt_at),
            is_failing: record.is_some_and(Record::is_failing),
            app_and_kind: record.map_or(0, |record| app_and_kind(app, kind_number(record.identity.kind))),
        }
    }
}

fn put(write: &Write) -> Option<&Record> {
    match write {
        Write::Put { record, .. } => Some(record),
        Write::Forget { .. } => None,
    }
}

/// As it stands in [`crate::catalogue::DUE_WAITING`].
pub(crate) fn app_and_kind(app: i32, kind: i16) -> i32 {
    app * 2 + i32::from(kind)
}

impl Ranked {
    /// Ranks what was found; at most `rows_max` of it.
    pub(crate) fn fill(&mut self, found: impl IntoIterator<Item = Risk>, rows_max: usize) {
        self.rows.extend(found.into_iter().filter(|risk| self.cut.is_none_or(|cut| *risk < cut)));
        while self.rows.len() > rows_max {
            self.cut = self.rows.pop_last();
        }
    }

    /// The instant behind which nothing is ranked yet; from now on that is `until`.
    pub(crate) fn go_on(&mut self, until: Timestamp) -> Timestamp {
        std::mem::replace(&mut self.until, until)
    }

    /// Takes the first rows in order, at most so many, passing over those that the asker has.
    pub(crate) fn take(&mut self, most: usize, except: &HashSet<KeyId>) -> Vec<Risk> {
        let mut taken = Vec::with_capacity(most.min(self.rows.len()));
        while taken.len() < most
            && let Some(risk) = self.rows.pop_first()
        {
            if except.contains(&risk.id) {
                self.given.insert(risk.id, risk);
            } else {
                taken.push(risk);
            }
        }
        taken
    }

    /// Rows that were given, and that the asker no longer has although they were not written, take their places again.
    pub(crate) fn take_back(&mut self, except: &HashSet<KeyId>) {
        let back = self.given.extract_if(|id, _| !except.contains(id)).map(|(_, risk)| risk);
        self.rows.extend(back);
    }

    /// A row was not given after all.
    pub(crate) fn put_back(&mut self, risk: Risk) {
        self.rows.insert(risk);
    }

    /// A row is given to who asks.
    pub(crate) fn give(&mut self, risk: Risk) {
        self.given.insert(risk.id, risk);
    }

    /// Whether every due row is ranked.
    pub(crate) const fn is_complete(&self) -> bool {
        self.cut.is_none()
    }

    fn note(&mut self, written: &Written) {
        if let Some(before) = self.given.remove(&written.risk.id) {
            self.rows.remove(&before);
        }
        let is_due = written
            .next_attempt_at
            .is_some_and(|next| next <= self.until || written.is_failing && next > self.impossible_after);
        let is_within = self.buckets.as_ref().is_none_or(|buckets| buckets.contains_row(written.risk.id));
        let is_wanted = is_due && is_within && !self.blocked.contains(&written.app_and_kind);
        if is_wanted && self.cut.is_none_or(|cut| written.risk < cut) {
            self.rows.insert(written.risk);
        }
    }
}

/// Shared by who reads and who writes.
#[derive(Debug)]
pub(crate) struct Backlog {
    state: Mutex<State>,
    rows_max: usize,
    fresh: Duration,
}

#[derive(Debug, Default)]
struct State {
    kept: Option<Ranked>,
    /// A search is under way; what is written meanwhile is told to it at its end.
    is_searched: bool,
    written: Vec<Written>,
}

impl Backlog {
    /// Keeps at most this many rows, and makes their order anew when what is asked for has moved on by `fresh`.
    pub(crate) fn new(rows_max: usize, fresh: Duration) -> Self {
        Self { state: Mutex::new(State::default()), rows_max, fresh }
    }

    /// At most this many rows are ranked, unless more are asked for.
    pub(crate) const fn rows_max(&self) -> usize {
        self.rows_max
    }

    /// Writes were committed. Called before anybody is told of it.
    pub(crate) fn committed<'w>(&self, writes: impl Iterator<Item = (&'w Write, &'w Settled)>, names: &Names) {
        let mut state = self.lock();
        if state.kept.is_none() && !state.is_searched {
            return;
        }
        for (write, _) in writes.filter(|(_, settled)| matches!(settled, Settled::Done(_))) {
            let written = Written::of(write, names);
            match &mut state.kept {
                Some(kept) => kept.note(&written),
                None => state.written.push(written),
            }
        }
    }

    /// Begins to find what is due. Has to be called *before* anything is read: what is written from now on is told.
    pub(crate) fn search(&self) -> Search<'_> {
        let mut state = self.lock();
        let is_first = !std::mem::replace(&mut state.is_searched, true);
        if is_first {
            state.written.clear();
        }
        let kept = if is_first { state.kept.take() } else { None };
        Search { backlog: self, kept, is_first }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }
}

/// One search for what is due. A second one at the same time finds what it looks for, and keeps nothing.
#[derive(Debug)]
pub(crate) struct Search<'b> {
    backlog: &'b Backlog,
    kept: Option<Ranked>,
    is_first: bool,
}

impl Search<'_> {
    /// What was kept, if it still holds for this question.
    pub(crate) fn kept(&mut self, query: &DueQuery, blocked: &[i32]) -> Option<Ranked> {
        let kept = self.kept.take()?;
        let holds = kept.until <= query.until
            && query.until < kept.made_at + self.backlog.fresh
            && kept.impossible_after <= query.impossible_after
            && kept.blocked == blocked
            && kept.buckets == query.buckets;
        holds.then_some(kept)
    }

    /// An empty ranking, to be filled with all that is due.
    pub(crate) fn anew(&self, query: &DueQuery, blocked: &[i32]) -> Ranked {
        Ranked {
            made_at: query.until,
            until: query.until,
            impossible_after: query.impossible_after,
            blocked: blocked.to_vec(),
            buckets: query.buckets.clone(),
            rows: BTreeSet::new(),
            given: HashMap::new(),
            cut: None,
        }
    }

    /// Keeps a ranking for the next search, if anything is left of it.
    pub(crate) fn keep(mut self, ranked: Ranked) {
        self.kept = (!ranked.rows.is_empty()).then_some(ranked);
    }
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        if self.is_first {
            let mut state = self.backlog.lock();
            state.is_searched = false;
            let written = std::mem::take(&mut state.written);
            state.kept = self.kept.take().map(|mut kept| {
                written.iter().for_each(|written| kept.note(written));
                kept
            });
        }
    }
}

/// Whether a row that was ranked is still what it was ranked for.
pub(crate) fn still_holds(risk: &Risk, record: &Record, query: &DueQuery) -> bool {
    let is_due = |at: Timestamp| at <= query.until || record.is_failing() && at > query.impossible_after;
    record.key.lifetime.expires_at() == risk.expires_at && record.next_attempt_at.is_some_and(is_due)
}
