//! Which row is tried next, and whether any may be tried at all: room, ticket, breaker and pace.

use std::sync::Arc;

use storekeeper_model::{ServiceTicket, Timestamp};

use super::event::{Action, AppIndex, Asked, Call, Subject};
use super::line::{Candidate, Cause};
use super::tickets::Demand;
use super::{Engine, FRESH_WAITING_MAX};

impl Engine {
    fn has_room(&self, now: Timestamp) -> bool {
        self.in_flight < self.concurrency && self.journal.has_room(self.in_flight, now)
    }

    /// Starts attempts, one line after the other in turn, so that a long queue starves nobody.
    pub(super) fn start(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let mut open: Vec<usize> = (0..self.lines.len()).collect();
        open.rotate_left(self.turn % self.lines.len().max(1));
        self.turn = self.turn.wrapping_add(1);
        while self.has_room(now) && !open.is_empty() {
            open.retain(|line| self.start_one(*line, now, actions));
        }
    }

    /// Starts, or gives back, the riskiest row of a line; `false` when the line can start no more now.
    fn start_one(&mut self, line: usize, now: Timestamp, actions: &mut Vec<Action>) -> bool {
        if !self.has_room(now) {
            return false;
        }
        let Some(candidate) = self.lines[line].queue.peek() else { return false };
        let (app, cause) = (candidate.app, candidate.cause);
        if self.apps[app.0].is_paused() && cause != Cause::Probe {
            let candidate = self.lines[line].queue.pop().expect("just peeked");
            self.refuse_start(&candidate, actions);
            return true;
        }
        let Some(ticket) = self.leave_to_start(line, app, now, actions) else { return false };
        let candidate = self.lines[line].queue.pop().expect("just peeked");
        let subject = candidate.again.unwrap_or_else(|| self.subject(&candidate, now));
        self.in_flight += 1;
        actions.push(Action::Renew(Box::new(Call { record: candidate.record, subject, app, ticket })));
        true
    }

    /// Whether one more attempt may be made on this line now: ticket, breaker and pace agree.
    fn leave_to_start(
        &mut self,
        line: usize,
        app: AppIndex,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) -> Option<Arc<ServiceTicket>> {
        let place = self.apps[app.0].ticket;
        if self.fresh_waiting.get(&place).is_some_and(|waiting| waiting.len() >= FRESH_WAITING_MAX) {
            return None;
        }
        let Demand::Use(ticket) = self.tickets.get_mut(place).demand(place, None, now, actions) else { return None };
        if !self.lines[line].admit(now) {
            return None;
        }
        Some(ticket)
    }

    /// The newcomer waits for proof, so it goes first; but once the held key's own moment has come, neither may starve
    /// the other, whatever the Store says to one of them.
    fn subject(&self, candidate: &Candidate, now: Timestamp) -> Subject {
        let record = &candidate.record;
        let Some(newcomer) = record.newcomer.as_ref().filter(|_| candidate.cause == Cause::Due) else {
            return Subject::Held;
        };
        let policy = &self.apps[candidate.app.0].policy;
        let held_at = storekeeper_policy::renew_at(policy, record.id, &record.key.lifetime);
        let is_expired = record.key.lifetime.expires_at().is_some_and(|at| at <= now);
        let is_past_saving = record.state.is_revoked() || (is_expired && record.state.refused().is_some());
        if is_past_saving || held_at.is_some_and(|at| at > now) {
            return Subject::Newcomer;
        }
        let is_others_turn = record.failures % 2 == 1;
        let newcomer_first = match (newcomer.refused, record.state.refused()) {
            (None, _) => !is_others_turn,
            (Some(_), None) => is_others_turn,
            (Some(newcomer), Some(held)) => newcomer.count <= held.count,
        };
        if newcomer_first { Subject::Newcomer } else { Subject::Held }
    }

    /// Gives a queued row back because its app is paused.
    fn refuse_start(&mut self, candidate: &Candidate, actions: &mut Vec<Action>) {
        let reason =
            self.apps[candidate.app.0].paused.as_ref().map_or_else(String::new, |paused| paused.reason.clone());
        self.release(candidate.record.id, &Asked::Paused(reason), actions);
    }
}
