//! `Journal`: the writes between an answer and the disk. They go in groups, one at a time; a row whose write fails alone is
//! kept apart, so that it stops no other; and while commits fail or take long it says that nothing new may be tried.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use storekeeper_keyring::{Record, Successor, Write};
use storekeeper_model::{Fingerprint, KeyId, Timestamp};

use super::event::{Endangered, SettleFault};

/// While answers come in by the dozen, a write waits this long for others to share its flush. A successor that is not
/// durable is lost with the process, so this is kept short, and it is not done at all where it would save little.
const LINGER: Duration = Duration::from_millis(50);
/// Enough writes for one flush: more would make the next ones wait.
const GROUP: usize = 2048;
/// At most this many rows are somewhere between their answer and the disk.
const ROWS_MAX: usize = 8192;
/// While a commit takes longer than this, only [`SLOW_ROWS_MAX`] successors may be neither durable nor refused.
const SLOW: Duration = Duration::from_millis(500);
const SLOW_ROWS_MAX: usize = 256;
/// While a commit takes longer than this, nothing new is tried, and what waits is put into the rescue file.
const LATE: Duration = Duration::from_millis(1500);
/// So many rows that fail one by one are the keyring's fault.
const APART_MAX: usize = 256;
/// A commit that failed is repeated after this.
const PAUSE: Duration = Duration::from_secs(5);
/// The same while the keeper drains: its time is short.
const DRAINING_PAUSE: Duration = Duration::from_secs(1);
/// A row that fails alone is tried again after the pause, then twice that, up to this.
const APART_PAUSE_MAX: Duration = Duration::from_secs(300);

/// The group under way.
#[derive(Debug)]
struct Group {
    writes: Arc<Vec<Write>>,
    began_at: Timestamp,
}

/// A write that failed when it was made alone.
#[derive(Debug)]
struct Apart {
    write: Write,
    failures: u32,
    retry_at: Timestamp,
    /// No commit has succeeded since it failed last.
    is_recent: bool,
}

/// The writes between an answer and the disk.
#[derive(Debug)]
pub(super) struct Journal {
    /// To go with the next group, in order.
    pending: Vec<Write>,
    under_way: Option<Group>,
    apart: BTreeMap<KeyId, Apart>,
    /// No group is sent off before this instant.
    next_at: Option<Timestamp>,
    /// Until when the pending writes may wait for others, and whether a caller waits for one of them.
    linger_until: Option<Timestamp>,
    pub(super) is_awaited: bool,
    /// At most this many writes go in the next group; small after a failure, so that the row at fault is found.
    group_max: usize,
    /// How many rows failed alone since the last commit.
    failed_alone: usize,
    /// The last commit failed, and not for one row's sake.
    is_stuck: bool,
    /// Several rows were refused one after the other, and nothing else waits that could show that the keyring works.
    is_stuck_by_rows: bool,
    is_draining: bool,
    /// Successors that were handed over to be put into the rescue file.
    rescued: HashSet<Fingerprint>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            pending: Vec::new(),
            under_way: None,
            apart: BTreeMap::new(),
            next_at: None,
            linger_until: None,
            is_awaited: false,
            group_max: usize::MAX,
            failed_alone: 0,
            is_stuck: false,
            is_stuck_by_rows: false,
            is_draining: false,
            rescued: HashSet::new(),
        }
    }
}

impl Journal {
    /// Puts a write behind the others.
    pub(super) fn push(&mut self, write: Write) {
        self.pending.push(write);
    }

    /// Keeps a write apart that cannot be made now: it is made alone, a while later.
    pub(super) fn push_apart(&mut self, write: Write, now: Timestamp) {
        self.set_apart(write, now);
    }

    /// How many writes there are.
    pub(super) fn len(&self) -> usize {
        self.pending.len() + self.under_way.as_ref().map_or(0, |group| group.writes.len()) + self.apart.len()
    }

    /// Whether nothing waits and nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.under_way.is_none() && self.apart.is_empty()
    }

    /// Whether no more rows may be fetched.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= ROWS_MAX
    }

    /// Whether the successor of one more attempt, besides those in flight, would become durable soon.
    pub(super) fn has_room(&self, in_flight: usize, now: Timestamp) -> bool {
        if self.is_stuck && self.is_stuck_by_rows {
            // One attempt at a time finds out whether others can be written.
            let is_quiet = in_flight == 0 && self.pending.is_empty() && self.under_way.is_none();
            return is_quiet && self.apart.len() < APART_MAX && self.next_at.is_none_or(|at| at <= now);
        }
        let is_slow = self.has_taken(SLOW, now);
        let is_risky = is_slow && self.len() + in_flight >= SLOW_ROWS_MAX;
        !(self.is_full() || self.is_blocked(now) || is_risky)
    }

    /// Whether the keyring takes no writes at the moment, as far as is known.
    pub(super) fn is_blocked(&self, now: Timestamp) -> bool {
        self.is_stuck || self.apart.len() >= APART_MAX || self.has_taken(LATE, now)
    }

    /// When the next group is sent off after one that failed.
    pub(super) const fn next_at(&self) -> Option<Timestamp> {
        self.next_at
    }

    fn has_taken(&self, span: Duration, now: Timestamp) -> bool {
        self.under_way.as_ref().is_some_and(|group| group.began_at + span <= now)
    }

    /// When there is something to do although nothing happened.
    pub(super) fn wake_at(&self) -> impl Iterator<Item = Timestamp> {
        let late = self.under_way.as_ref().map(|group| group.began_at + LATE);
        let apart = self.apart.values().map(|apart| apart.retry_at).min();
        [late, apart, self.next_at, self.linger_until].into_iter().flatten()
    }

    /// A clock that went back leaves every instant in the future.
    pub(super) fn clock_went_back(&mut self, now: Timestamp) {
        self.next_at = self.next_at.map(|at| at.min(now));
        self.apart.values_mut().for_each(|apart| apart.retry_at = apart.retry_at.min(now));
        if let Some(group) = &mut self.under_way {
            group.began_at = group.began_at.min(now);
        }
        self.linger_until = None;
    }

    /// From now on time is short: what failed is tried again at once, and then every second.
    pub(super) fn drain(&mut self, now: Timestamp) {
        self.is_draining = true;
        self.next_at = None;
        self.apart.values_mut().for_each(|apart| apart.retry_at = now);
    }

    /// The group to be made durable now, when none is under way.
    pub(super) fn next_group(&mut self, is_busy: bool, now: Timestamp) -> Option<Arc<Vec<Write>>> {
        if self.under_way.is_some() || self.next_at.is_some_and(|at| at > now) {
            return None;
        }
        let writes = match self.take_apart(now) {
            Some(write) => vec![write],
            None if self.pending.is_empty() || self.lingers(is_busy, now) => return None,
            None if self.pending.len() <= self.group_max => std::mem::take(&mut self.pending),
            None => self.pending.drain(..self.group_max).collect(),
        };
        if self.pending.is_empty() {
            (self.linger_until, self.is_awaited) = (None, false);
        }
        let writes = Arc::new(writes);
        self.under_way = Some(Group { writes: Arc::clone(&writes), began_at: now });
        Some(writes)
    }

    /// Whether the pending writes wait for more: many attempts are under way, and no caller waits for one of them.
    fn lingers(&mut self, is_busy: bool, now: Timestamp) -> bool {
        let until = *self.linger_until.get_or_insert(now + LINGER);
        is_busy && !self.is_awaited && self.pending.len() < GROUP && until > now
    }

    /// A write that failed alone and is to be made again, alone. While nothing is known to succeed, others go first: they
    /// find out whether it is the row's fault.
    fn take_apart(&mut self, now: Timestamp) -> Option<Write> {
        let is_only = self.pending.is_empty();
        if self.is_stuck && !is_only {
            return None;
        }
        let first = self.apart.iter().min_by_key(|(_, apart)| apart.retry_at);
        first.filter(|(_, apart)| apart.retry_at <= now || self.is_stuck).map(|(_, apart)| apart.write.clone())
    }

    /// The group under way was judged. Returns its writes.
    pub(super) fn committed(&mut self, now: Timestamp) -> Arc<Vec<Write>> {
        let writes = self.under_way.take().map(|group| group.writes).unwrap_or_default();
        if !self.apart.is_empty() {
            writes.iter().for_each(|write| drop(self.apart.remove(&write.id())));
            self.sort_apart(now);
        }
        (self.is_stuck, self.next_at, self.failed_alone) = (false, None, 0);
        self.group_max = self.group_max.saturating_mul(2);
        if self.group_max >= GROUP {
            self.group_max = usize::MAX;
        }
        writes
    }

    /// A commit has succeeded: where several rows failed before it, it was not their fault.
    fn sort_apart(&mut self, now: Timestamp) {
        if self.failed_alone > 1 {
            let innocent = self.apart.extract_if(.., |_, apart| apart.is_recent);
            let innocent: Vec<Write> = innocent.map(|(_, apart)| apart.write).collect();
            self.pending.splice(0..0, innocent);
        }
        let soon = now + self.pause();
        for apart in self.apart.values_mut().filter(|apart| apart.is_recent) {
            (apart.is_recent, apart.retry_at) = (false, apart.retry_at.min(soon));
        }
    }

    /// The group under way could not be made durable: it is made later, before what came since, in smaller groups.
    pub(super) fn failed(&mut self, writes: Arc<Vec<Write>>, fault: SettleFault, now: Timestamp) {
        self.under_way = None;
        let mut writes = Arc::unwrap_or_clone(writes);
        let count = writes.len();
        let is_stuck = match (writes.pop(), fault) {
            (Some(write), _) if count == 1 => self.failed_alone(write, fault, now),
            (last, _) => {
                writes.extend(last);
                self.pending.splice(0..0, writes);
                self.group_max = (count / 2).max(1);
                fault == SettleFault::Keyring
            }
        };
        if is_stuck {
            (self.is_stuck, self.next_at, self.group_max) = (true, Some(now + self.pause()), 1);
            self.is_stuck_by_rows = fault == SettleFault::Row;
        }
    }

    /// Whether a write that failed alone failed for the keyring's sake, as far as is known.
    fn failed_alone(&mut self, write: Write, fault: SettleFault, now: Timestamp) -> bool {
        let (id, known) = (write.id(), self.apart.get(&write.id()).map(|apart| apart.is_recent));
        self.set_apart(write, now);
        if known == Some(false) {
            // Others have succeeded since it failed: that it fails again says nothing about the keyring.
            self.apart.entry(id).and_modify(|apart| apart.is_recent = false);
            return false;
        }
        self.failed_alone += usize::from(known.is_none());
        self.failed_alone > 1 || fault == SettleFault::Keyring
    }

    fn set_apart(&mut self, write: Write, now: Timestamp) {
        let failures = self.apart.get(&write.id()).map_or(0, |apart| apart.failures).saturating_add(1);
        let longer = self.pause().saturating_mul(1 << (failures - 1).min(10)).min(APART_PAUSE_MAX);
        let retry_at = now + if self.is_draining { self.pause() } else { longer };
        self.apart.insert(write.id(), Apart { write, failures, retry_at, is_recent: true });
    }

    const fn pause(&self) -> Duration {
        if self.is_draining { DRAINING_PAUSE } else { PAUSE }
    }

    /// Every write that is not durable.
    pub(super) fn unsettled(&self) -> impl Iterator<Item = &Write> {
        let under_way = self.under_way.iter().flat_map(|group| group.writes.iter());
        // What is tried again alone stands in both.
        let apart = self.apart.iter().filter(|(id, _)| !self.is_under_way_alone(**id)).map(|(_, apart)| &apart.write);
        under_way.chain(&self.pending).chain(apart)
    }

    fn is_under_way_alone(&self, id: KeyId) -> bool {
        let alone = self.under_way.as_ref().and_then(|group| group.writes.first().filter(|_| group.writes.len() == 1));
        alone.is_some_and(|write| write.id() == id)
    }

    /// How many rows failed when they were written alone, although others were written since.
    pub(super) fn failing_alone(&self) -> usize {
        self.apart.values().filter(|apart| !apart.is_recent).count()
    }

    /// Successors that are to be put into the rescue file now: commits fail or take long, or their rows fail alone.
    pub(super) fn take_endangered<'a>(
        &'a mut self,
        overtaken: impl Iterator<Item = (Fingerprint, &'a Record)>,
        now: Timestamp,
    ) -> Vec<Endangered> {
        let is_blocked = self.is_blocked(now);
        if !is_blocked && self.apart.is_empty() {
            return Vec::new();
        }
        let rescued = &mut self.rescued;
        let group = self.under_way.iter().flat_map(|group| group.writes.iter());
        let all = group.chain(&self.pending).filter(|_| is_blocked);
        let writes = all.chain(self.apart.values().map(|apart| &apart.write)).filter_map(Successor::of);
        let writes = writes.chain(overtaken.filter(|_| is_blocked));
        writes
            .filter(|(_, record)| rescued.insert(record.key.fingerprint))
            .map(|(predecessor, record)| Endangered::new(predecessor, record))
            .collect()
    }

    /// Whether everything that was put into the rescue file has become durable: it is needed no more. Says so once.
    pub(super) fn has_recovered(&mut self) -> bool {
        let has_recovered = !self.rescued.is_empty() && self.is_empty();
        if has_recovered {
            self.rescued.clear();
        }
        has_recovered
    }
}
