//! How outcomes become durable: in groups, each row compare-and-set. What could not be stored is stored later; what was
//! overtaken changes nothing, but for a successor, which is never thrown away while its predecessor is still held.

use storekeeper_keyring::{Expected, Record, Settled, Write};
use storekeeper_model::{Fingerprint, KeyId, Timestamp};

use super::Engine;
use super::event::{Action, Asked, Endangered};
use crate::view::KeyView;

impl Engine {
    /// Sends the pending writes off as one group, when none is under way.
    pub(super) fn flush(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let is_busy = self.in_flight * 2 >= self.concurrency;
        if let Some(writes) = self.journal.next_group(is_busy, now) {
            actions.push(Action::Settle(writes));
        }
    }

    /// Has successors put into the rescue file that do not become durable, and the file emptied when all have.
    pub(super) fn rescue(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let overtaken = self.successors.values().map(|one| (one.predecessor, &*one.record));
        let endangered = self.journal.take_endangered(overtaken, now);
        if !endangered.is_empty() {
            actions.push(Action::Rescue(endangered));
        } else if self.successors.is_empty() && self.journal.has_recovered() {
            actions.push(Action::EndRescue);
        }
    }

    /// Takes out every successor that is not durable: the engine is about to end.
    pub fn take_unsettled(&mut self) -> Vec<Endangered> {
        let journal = std::mem::take(&mut self.journal);
        let overtaken = std::mem::take(&mut self.successors);
        let overtaken = overtaken.values().map(|one| (one.predecessor, &*one.record));
        let writes = journal.unsettled().filter_map(storekeeper_keyring::Successor::of);
        writes.chain(overtaken).map(|(predecessor, record)| Endangered::new(predecessor, record)).collect()
    }

    /// How many attempts are under way without an answer.
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A group was judged, write by write.
    pub(super) fn settled(&mut self, results: &[Settled], now: Timestamp, actions: &mut Vec<Action>) {
        let writes = self.journal.committed(now);
        for (write, result) in writes.iter().zip(results) {
            let Write::Put { expected, record } = write else { continue };
            match result {
                Settled::Done(_) => self.stored(record, now, actions),
                Settled::Conflict => self.overtaken(*expected, record, now, actions),
            }
        }
    }

    fn stored(&mut self, record: &Record, now: Timestamp, actions: &mut Vec<Action>) {
        let waits_until = self.attempts.get(&record.id).and_then(|attempt| attempt.waits_until);
        if let (Some(at), None) = (record.next_attempt_at, waits_until) {
            // Our clock may have been set right since this was decided: what no back-off could have told is due now.
            let is_impossible = record.is_failing() && !storekeeper_policy::is_believable(at, now);
            self.changed(if is_impossible { now } else { at }, now);
        }
        let Some(attempt) = self.attempts.remove(&record.id) else { return };
        if let Some(at) = waits_until {
            self.hold_back(attempt.app, record, at, now);
        }
        if attempt.waiters.is_empty() {
            return;
        }
        let verdict = attempt.verdict.unwrap_or_else(|| Asked::Renewed(Box::new(KeyView::of(record, now))));
        for waiter in attempt.waiters {
            actions.push(Action::Reply(waiter, verdict.clone()));
        }
    }

    fn overtaken(&mut self, expected: Expected, record: &Record, now: Timestamp, actions: &mut Vec<Action>) {
        self.conflicts += 1;
        match expected {
            Expected::Row { fingerprint, .. } if fingerprint != record.key.fingerprint => {
                let successor = Successor { predecessor: fingerprint, expected, record: Box::new(record.clone()) };
                self.successors.insert(record.id, successor);
                actions.push(Action::Reread(record.id));
            }
            _ => self.give_way(record.id, now, actions),
        }
    }

    /// Whoever wrote the row may have made it due; while it was being tried no scan would have found it.
    fn give_way(&mut self, id: KeyId, now: Timestamp, actions: &mut Vec<Action>) {
        self.changed(now, now);
        let Some(attempt) = self.attempts.remove(&id) else { return };
        for waiter in attempt.waiters {
            actions.push(Action::Reply(waiter, Asked::Overtaken));
        }
    }

    /// What stands where a successor was to be written. If that is its predecessor still (a newcomer came to wait beside
    /// it, say), the successor takes its place all the same: the Store may take the predecessor for superseded.
    pub(super) fn reread(&mut self, id: KeyId, row: Option<Box<Record>>, now: Timestamp, actions: &mut Vec<Action>) {
        let (Some(successor), Some(app)) = (self.successors.remove(&id), self.attempts.get(&id).map(|one| one.app))
        else {
            return;
        };
        let Some(mut row) = row.filter(|row| successor.fits(row)) else { return self.give_way(id, now, actions) };
        let expected = Expected::of(&row);
        let ours = *successor.record;
        if row.newcomer.as_ref().is_some_and(|newcomer| newcomer.key.fingerprint == ours.enrolled) {
            row.newcomer = ours.newcomer;
        }
        if let Some(outcome) = ours.history.iter().last() {
            row.history.push(outcome.clone());
        }
        (row.key, row.key_version, row.proven, row.state) = (ours.key, ours.key_version, true, ours.state);
        (row.failures, row.revision) = (0, row.revision.next());
        row.next_attempt_at = Some(self.next_regular(app, &row, now));
        self.journal.push(Write::Put { expected, record: row });
    }

    /// The row cannot be read at the moment: the write is made again later, alone, and found overtaken again.
    pub(super) fn reread_failed(&mut self, id: KeyId, now: Timestamp) {
        let Some(Successor { expected, record, .. }) = self.successors.remove(&id) else { return };
        self.journal.push_apart(Write::Put { expected, record }, now);
    }
}

/// A successor whose row was written by somebody else before it.
#[derive(Debug)]
pub(super) struct Successor {
    /// The key it came of, or beside which the key stood that it came of.
    predecessor: Fingerprint,
    expected: Expected,
    /// The row as it was to be.
    record: Box<Record>,
}

impl Successor {
    fn fits(&self, row: &Record) -> bool {
        row.key.fingerprint == self.predecessor
            && row.key_version.checked_add(1) == Some(self.record.key_version)
            && !row.state.is_revoked()
    }
}
