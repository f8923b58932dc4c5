//! Lines of a hand-over, and rows that were handed over: exactly one keeper renews a key, whichever way it went.
//!
//! The keeper that writes a line marks its row before the line is imported, or never, and the keeper that imports the line
//! takes a mark away only if the line was written after that mark was set. Otherwise the line was overtaken: its key has
//! been handed on since, and may be renewed elsewhere. The rows' revisions say which came first:
//! they rise from one keeper to the next. No clock is asked.

use storekeeper_keyring::{Record, Revision};
use storekeeper_model::Timestamp;

use super::{Checked, Intake, outcome};
use crate::import::{Facts, put_beside};

impl Intake<'_> {
    /// What becomes of a row that knows the key: `None` where nothing changes.
    pub(super) fn known(&self, checked: &Checked, row: &Record, now: Timestamp) -> Option<Record> {
        let facts = checked.facts.as_ref().filter(|facts| facts.hands_over())?;
        let is_held = row.key.fingerprint == checked.key.fingerprint();
        let is_waiting =
            row.newcomer.as_ref().is_some_and(|newcomer| newcomer.key.fingerprint == checked.key.fingerprint());
        if !row.is_handed_over() {
            return self.renewed_here(facts, row, is_held, now);
        }
        // A row that holds a successor of the line's key was not handed over to the keeper that wrote the line.
        if facts.is_overtaken_by(row) || !(is_held || is_waiting) {
            return None;
        }
        let revision = facts.revision(row.revision.next());
        Some(if is_held && facts.is_keepers() {
            self.taken_up(checked, facts, row, revision, now)
        } else {
            self.unmarked(row, revision, now)
        })
    }

    /// The row as the line's writer knew its key, with the mark gone.
    fn taken_up(&self, checked: &Checked, facts: &Facts, row: &Record, revision: Revision, now: Timestamp) -> Record {
        let mut record = self.fresh(checked, revision, facts.key_version(row.key_version), now);
        record.proven |= row.proven;
        record.last_used_day = record.last_used_day.max(row.last_used_day);
        record.history = row.history.iter().chain(record.history.iter()).collect();
        if record.newcomer.is_none() && row.newcomer.is_some() {
            // Refused there, or never arrived there: the Store says which.
            (record.newcomer, record.enrolled) = (row.newcomer.clone(), row.enrolled);
            record.next_attempt_at = Some(record.next_attempt_at.map_or(now, |at| at.min(now)));
        }
        record
    }

    /// The row with its mark gone, and otherwise as it was.
    fn unmarked(&self, row: &Record, revision: Revision, now: Timestamp) -> Record {
        let policy = &self.apps[&row.identity.app].policy;
        let moment = storekeeper_policy::renew_at(policy, row.id, &row.key.lifetime);
        let next_attempt_at = Some(moment.filter(|_| row.newcomer.is_none()).unwrap_or(now));
        let mut record = Record { revision, next_attempt_at, ..row.clone() };
        record.history.push(outcome(storekeeper_keyring::OutcomeResult::Enrolled, now));
        record
    }

    /// A row that this keeper renews all the while learns of a newcomer that only the line's writer had, and of its
    /// revision, so that a later hand-over from here is known to be a later one.
    fn renewed_here(&self, facts: &Facts, row: &Record, is_held: bool, now: Timestamp) -> Option<Record> {
        let newcomer = facts.unknown_newcomer(row).filter(|_| is_held && !row.state.is_revoked());
        let is_behind = facts.revision(row.revision) > row.revision;
        (newcomer.is_some() || is_behind).then(|| {
            let mut record = Record { revision: facts.revision(row.revision.next()), ..row.clone() };
            if let Some(newcomer) = newcomer {
                put_beside(&mut record, newcomer, self.sealer, now);
            }
            record
        })
    }
}

/// A later key from a keeper that renews it does not make this one renew it too.
pub(super) fn keep_mark(checked: &Checked, row: &Record, record: &mut Record) {
    let is_renewed_there = checked.facts.as_ref().is_some_and(Facts::is_renewed_there);
    if row.is_handed_over() && is_renewed_there && record.next_attempt_at.is_some() {
        record.next_attempt_at = Some(Record::HANDED_OVER);
    }
}
