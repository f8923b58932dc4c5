//! Finding what is due: when the keyring is looked at, for which lines, and what becomes of the rows that it names.

use std::collections::HashSet;
use std::time::Duration;

use storekeeper_keyring::{Due, DueQuery, Expected, Record, Write};
use storekeeper_model::{AppName, KeyId, KeyKind, Timestamp};
use storekeeper_policy::BACKOFF_MAX;

use super::event::{Action, AppIndex};
use super::line::{Candidate, Cause};
use super::{Attempt, Engine};

/// A regular scan takes what is due until the next one, this much later. Against a window of days it is nothing, and a
/// keeper of few keys wakes, commits and flushes for several of them at once. What backs off waits for its very second.
pub const TICK: Duration = Duration::from_secs(300);
/// How many rows one scan fetches at most.
pub(super) const SCAN_LIMIT: usize = 2048;

/// What of the keyring is being scanned, and when it is looked at next.
#[derive(Debug, Default)]
pub(super) struct Scanning {
    pub(super) under_way: bool,
    /// Rows that were handed over since the scan under way began: it may have read them before.
    pub(super) handed_over: HashSet<KeyId>,
    /// Which lines the scan under way, or the last one, fetched for.
    pub(super) asked: Vec<usize>,
    /// When to look again at everything.
    pub(super) at: Option<Timestamp>,
    /// The last scan failed: nothing is fetched before this instant.
    pub(super) retry_at: Option<Timestamp>,
    /// Until when the rows of the last regular scan were taken.
    pub(super) until: Option<Timestamp>,
}

impl Engine {
    pub(super) fn scanned(&mut self, due: Due, now: Timestamp) {
        self.scanning.under_way = false;
        let handed_over = std::mem::take(&mut self.scanning.handed_over);
        for line in std::mem::take(&mut self.scanning.asked) {
            self.lines[line].more = due.more;
        }
        self.scanned_at = Some(now);
        // No sooner than a tick: what falls due before then was taken by this scan.
        let next = self.scanning.until.map_or(now + TICK, |until| until.max(now));
        if let Some(at) = due.next_due_at {
            self.look_at(at.max(next));
        }
        if self.is_skewed() {
            // Which row comes next, and when, no clock shows.
            self.look_again();
        }
        for record in due.records {
            if !self.may_try(record.id) || handed_over.contains(&record.id) {
                continue;
            }
            let Some(app) = self.names.get(&record.identity.app).copied() else { continue };
            if self.is_abandoned(app, &record, now) {
                self.lay_aside(app, record);
            } else {
                self.enqueue(Candidate::new(Box::new(record), app, Cause::Due), now);
            }
        }
        self.queue_what_came_due(now);
    }

    /// What backs off was told to wait, by the Store or by us: it is not a tick too early as a key in its window may be.
    pub(super) fn queue_what_came_due(&mut self, now: Timestamp) {
        while let Some(entry) = self.backing_off.first_entry().filter(|entry| entry.key().0 <= now) {
            let candidate = entry.remove();
            let line = self.routes[&(candidate.app, candidate.record.identity.kind)];
            self.lines[line].queue.push(candidate);
        }
    }

    /// Leaves a row alone that is due for everybody else: until this instant, or, lest many that wait keep others from being
    /// fetched, until the next regular scan.
    pub(super) fn hold_back(&mut self, app: AppIndex, record: &Record, at: Timestamp, now: Timestamp) {
        let id = record.id;
        if at > now + TICK || !self.may_try(id) {
            self.released.insert(id);
            return self.look_again();
        }
        self.attempts.insert(id, Attempt::new(app, Cause::Due));
        self.backing_off.insert((at, id), Candidate::new(Box::new(record.clone()), app, Cause::Due));
    }

    /// Looks at everything at this instant, if not sooner. A scan under way may have missed what it is for.
    fn look_at(&mut self, at: Timestamp) {
        self.scanning.at = Some(self.scanning.at.map_or(at, |known| known.min(at)));
    }

    /// Other keepers may have made rows due that no scan has told of. While more is known to be due than was fetched,
    /// they wait their turn.
    pub(super) fn look_for_what_others_wrote(&mut self) {
        if !self.scanning.under_way && self.lines.iter().all(|line| !line.more) {
            self.lines.iter_mut().for_each(|line| line.more = true);
        }
    }

    /// The last scan told when the next row falls due, and that is to come; or every row is another keeper's.
    pub(super) fn has_nothing_to_look_for(&self, now: Timestamp) -> bool {
        if self.has_nothing() {
            return true;
        }
        let scanning = &self.scanning;
        let is_scanning = scanning.under_way || scanning.retry_at.is_some();
        self.scanned_at.is_some() && !is_scanning && scanning.at.is_none_or(|at| at > now)
    }

    /// A row was written that is due at this instant: no scan so far has told of it.
    pub(super) fn changed(&mut self, due_at: Timestamp, now: Timestamp) {
        let until = self.scanning.until.unwrap_or(now);
        self.look_at(if due_at <= self.clock_check.due_now(now) { now } else { due_at.max(until) });
    }

    /// A row was given back and may be due still; the keyring would name only what falls due later.
    pub(super) fn look_again(&mut self) {
        let until = self.scanning.until.unwrap_or(self.last_now);
        self.look_at(until.max(self.last_now));
    }

    /// Whether nobody has read a key for longer than the app's policy retains it, by whichever clock is behind.
    fn is_abandoned(&self, app: AppIndex, record: &Record, now: Timestamp) -> bool {
        let (Some(theirs), Some(day)) = (self.clock_check.theirs(), record.last_used_day) else { return false };
        let is_retained = |at| storekeeper_policy::is_retained(&self.apps[app.0].policy, day, at);
        record.newcomer.is_none() && !is_retained(now) && !is_retained(theirs)
    }

    /// Leaves a key to expire: no attempt is made until somebody reads it.
    fn lay_aside(&mut self, app: AppIndex, mut record: Record) {
        if self.attempts.contains_key(&record.id) {
            return;
        }
        self.attempts.insert(record.id, Attempt::new(app, Cause::Due));
        let expected = Expected::of(&record);
        record.revision = record.revision.next();
        record.next_attempt_at = None;
        self.journal.push(Write::Put { expected, record: Box::new(record) });
    }

    pub(super) fn scan_if_needed(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let is_full = self.journal.is_full() || self.backing_off.len() >= SCAN_LIMIT;
        let waits = self.scanning.retry_at.is_some_and(|at| at > now);
        if self.scanning.under_way || is_full || waits || self.has_nothing() {
            return;
        }
        let failed = self.scanning.retry_at.take().is_some();
        if let Some(at) = self.scanning.at.filter(|at| *at <= now) {
            if !failed {
                // Until then there was nothing to look for.
                self.scanned_at = self.scanned_at.map(|scanned_at| scanned_at.max(at));
            }
            self.released.clear();
            self.scanning.until = Some(now + TICK);
            self.scanning.at = None;
            self.lines.iter_mut().for_each(|line| line.more = true);
        }
        let asked: Vec<usize> = (0..self.lines.len()).filter(|line| self.lines[*line].takes_rows(now)).collect();
        let mut blocked = self.blocked(&asked);
        if !asked.iter().any(|line| self.lines[*line].is_low()) || blocked.len() == self.routes.len() {
            return;
        }
        blocked.extend(self.orphans.iter().flat_map(|app| KeyKind::ALL.map(|kind| (app.clone(), kind))));
        self.scanning.under_way = true;
        self.scanning.asked = asked;
        let mut except = self.released.clone();
        except.extend(self.attempts.keys().copied());
        except.extend(self.set_aside.waiting(now));
        let until = self.scanning.until.map_or(now + TICK, |until| until.max(now));
        let due_now = self.clock_check.due_now(now);
        actions.push(Action::Scan(DueQuery {
            until: due_now + until.since(now),
            impossible_after: due_now + BACKOFF_MAX,
            except,
            blocked,
            buckets: self.starting(),
            limit: SCAN_LIMIT,
        }));
    }

    /// What is not to be fetched: apps that are paused, and lines that do not want rows.
    fn blocked(&self, asked: &[usize]) -> Vec<(AppName, KeyKind)> {
        let unwanted =
            |((app, _), line): (&(AppIndex, KeyKind), &usize)| self.apps[app.0].is_paused() || !asked.contains(line);
        let blocked = self.routes.iter().filter(|(route, line)| unwanted((route, line)));
        blocked.map(|((app, kind), _)| (self.apps[app.0].name.clone(), *kind)).collect()
    }
}

/// Until when a row that failed or was refused wants to be left alone. Not one that somebody asked for, nor one whose
/// time no back-off could have told (the scan found it because a wrong clock wrote it).
pub(super) fn backs_off_until(candidate: &Candidate, now: Timestamp) -> Option<Timestamp> {
    let record = &candidate.record;
    let backs_off = record.failures > 0 || record.state.refused().is_some();
    let within_a_tick = |at: &Timestamp| *at > now && *at <= now + TICK;
    record.next_attempt_at.filter(within_a_tick).filter(|_| backs_off && candidate.cause == Cause::Due)
}
