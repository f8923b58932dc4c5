//! What an answer means for the row it concerns: renewed, refused or nothing learnt. Every branch ends in one write, or
//! gives the row back untouched.

use std::borrow::Cow;
use std::time::Duration;

use storekeeper_keyring::{Expected, Newcomer, Outcome, OutcomeResult, Record, Refused, SealedKey, State, Write};
use storekeeper_model::Timestamp;
use storekeeper_policy::{BACKOFF_MAX, Evidence, Refusals, Verdict};

use super::clock_check::Source;
use super::event::{Action, Announcement, Answer, AppIndex, Asked, Finished, KeyEvent, Subject};
use super::line::{Candidate, Cause};
use super::{Engine, PauseReason};

/// A key that expired this long ago and still gets no answer is given up: nothing was ever heard to renew it.
const LAST_ATTEMPTS: Duration = Duration::from_secs(2 * 86_400);
/// A key that expired less than this long ago earns the retry with a fresh ticket like any other: the old era renewed such
/// keys. Of those that expired earlier there may be a whole population, and they must not hold up keys that live.
const JUST_EXPIRED: Duration = Duration::from_secs(3600);
/// Issued spans differ by less than this without anybody being told.
const LIFETIME_TOLERANCE: Duration = Duration::from_secs(3600);

impl Engine {
    /// An attempt came back.
    pub(super) fn finished(&mut self, finished: Finished, now: Timestamp, actions: &mut Vec<Action>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.compare_clocks(Source::Store, finished.store_date, now, actions);
        let known = self.attempts.get(&finished.record.id).map(|attempt| (attempt.app, attempt.lost_lease));
        let Some((app, lost_lease)) = known else { return };
        self.report_to_line(app, &finished, now, actions);
        let told = Told::of(&finished);
        let is_renewed = matches!(finished.answer, Answer::Renewed(_));
        let is_late = lost_lease || !self.holds(finished.record.id);
        if matches!(finished.answer, Answer::Unleased) || !is_renewed && is_late {
            // A successor is never thrown away; whatever else was learnt, the owner will learn by itself.
            self.leave_to_owner(finished.record.id, actions);
            if lost_lease && self.may_try(finished.record.id) {
                // The owner is this keeper once more, and no scan has found the row while it was tried.
                self.changed(now, now);
            }
            return;
        }
        let Finished { record, subject, answer, .. } = finished;
        // Nothing that was refused or missed is believed while one of the clocks is wrong; a refusal is repeated once all the
        // same, for it may be the ticket's.
        if self.is_skewed() && !matches!(answer, Answer::Renewed(_) | Answer::Refused) {
            return self.disbelieve(app, &record, subject, &answer, told.code, now, actions);
        }
        match answer {
            Answer::Renewed(key) => self.renewed(app, record, subject, key, &told, now, actions),
            Answer::Refused => self.refused(app, record, subject, &told, now, actions),
            Answer::WrongClient => {
                let detail =
                    String::from("the Store says that the keys' client ID is not the ticket's: check client_id");
                self.pause(app, PauseReason::InconsistentClientId, detail, now, actions);
                self.release(record.id, &Asked::Paused(String::from("inconsistent_client_id")), actions);
            }
            Answer::BadRequest | Answer::Unsealable | Answer::Unleased => {
                let jitter = self.jitter();
                let at =
                    storekeeper_policy::after_bad_request(now, tried(&record, subject).lifetime.expires_at(), jitter);
                self.failed(app, record, at, None, &told, now, actions);
            }
            Answer::Silent(silence) => {
                let (failures, jitter) = (record.failures.saturating_add(1), self.jitter());
                let expires_at = record.key.lifetime.expires_at();
                let at = storekeeper_policy::after_failure(now, failures, silence.retry_after, expires_at, jitter);
                self.failed(app, record, at, silence.retry_after, &told, now, actions);
            }
        }
    }

    fn report_to_line(&mut self, app: AppIndex, finished: &Finished, now: Timestamp, actions: &mut Vec<Action>) {
        let kind = finished.record.identity.kind;
        let jitter = self.jitter();
        let line = self.routes[&(app, kind)];
        if let Some(restored) = self.lines[line].report(finished, now, jitter) {
            actions.push(Action::Announce(Announcement::Store { restored, kind, app }));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "an outcome concerns the app, the row, the key and the moment")]
    fn renewed(
        &mut self,
        app: AppIndex,
        mut record: Box<Record>,
        subject: Subject,
        key: SealedKey,
        told: &Told,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let expected = Expected::of(&record);
        let was_refused = record.state.refused().is_some() && subject == Subject::Held;
        self.learn_from_success(app, &record, subject, &key, now, actions);
        self.set_aside.remove(record.id);
        self.clock_check.issued(key.lifetime.issued_at(), now);
        if !record.proven || subject == Subject::Newcomer {
            actions.push(announce(KeyEvent::Proven, app, &record, key.fingerprint, "renewed"));
        } else if was_refused {
            actions.push(announce(KeyEvent::Recovered, app, &record, key.fingerprint, "renewed"));
        }
        record.key = key;
        record.key_version += 1;
        record.proven = true;
        record.state = State::ACTIVE;
        record.failures = 0;
        if subject == Subject::Newcomer {
            record.newcomer = None;
        }
        self.apps[app.0].awaiting_operator.remove(&record.id);
        record.next_attempt_at = Some(self.next_regular(app, &record, now));
        self.write(expected, record, OutcomeResult::Renewed, told, None, now);
    }

    /// When a row is tried next: at its held key's moment, which for a refused one is that of its back-off; or before
    /// that for the newcomer's sake, at once if it waits untried.
    pub(super) fn next_regular(&mut self, app: AppIndex, record: &Record, now: Timestamp) -> Timestamp {
        let policy = &self.apps[app.0].policy;
        let moment = storekeeper_policy::renew_at(policy, record.id, &record.key.lifetime);
        let regular = match record.state.refused() {
            Some(refused) => self.after_refusal(app, refused, record.key.lifetime.expires_at(), now),
            None => moment.unwrap_or(now),
        };
        match &record.newcomer {
            // Never later than the held key's own moment, lest a clock that runs ahead buries both.
            Some(Newcomer { refused: None, .. }) => moment.map_or(now, |moment| moment.min(now)),
            Some(Newcomer { refused: Some(refused), key }) => {
                regular.min(self.after_refusal(app, *refused, key.lifetime.expires_at(), now))
            }
            None => regular,
        }
    }

    fn learn_from_success(
        &mut self,
        index: AppIndex,
        record: &Record,
        subject: Subject,
        key: &SealedKey,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let is_probe = self.attempts.get(&record.id).is_some_and(|attempt| attempt.cause == Cause::Probe);
        let skewed = self.is_skewed();
        let app = &mut self.apps[index.0];
        if record.proven && subject == Subject::Held {
            app.guard.record(record.id, false);
            if !skewed {
                // An instant of a wrong clock could bear witness against keys that are refused long after it.
                app.witness_at = Some(now);
            }
        }
        if let Some(length) = key.lifetime.length() {
            let known = app.lifetimes.insert(record.identity.kind, length);
            let before = known.or_else(|| tried(record, subject).lifetime.length());
            if let Some(before) = before.filter(|before| before.abs_diff(length) > LIFETIME_TOLERANCE) {
                actions.push(Action::Announce(Announcement::LifetimeChanged { app: index, before, after: length }));
            }
        }
        // What was sent before the pause and comes back well says no more than the others that did not.
        if is_probe && matches!(app.reason, Some(PauseReason::Guard | PauseReason::InconsistentClientId)) {
            self.resume(index, now, actions);
        }
    }

    fn refused(
        &mut self,
        app: AppIndex,
        record: Box<Record>,
        subject: Subject,
        told: &Told,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let expires_at = tried(&record, subject).lifetime.expires_at();
        let is_past_retry = expires_at.is_some_and(|at| at + JUST_EXPIRED <= self.earliest(now));
        let skewed = self.is_skewed();
        let attempt = self.attempts.get_mut(&record.id).expect("looked up by the caller");
        if skewed && attempt.cause == Cause::Asked {
            // The caller would wait for a fresh ticket, and the refusal would not be believed.
            return self.release(record.id, &Asked::Failed("clock_skewed", None), actions);
        }
        if attempt.refused_at.is_none() && !is_past_retry {
            attempt.refused_at = Some(now);
            if !self.may_try(record.id) {
                return self.leave_to_owner(record.id, actions);
            }
            let cause = self.attempts[&record.id].cause;
            let candidate = Candidate::again(record, app, cause, subject);
            let place = self.apps[app.0].ticket;
            self.fresh_waiting.entry(place).or_default().push(candidate);
            return;
        }
        if skewed {
            return self.disbelieve(app, &record, subject, &Answer::Refused, told.code, now, actions);
        }
        // A key whose time is over is refused for that alone, which says nothing about the ticket, the app or the Store.
        let is_evidence = expires_at.is_none_or(|at| at > self.latest(now));
        if is_evidence && subject == Subject::Held && record.proven {
            self.apps[app.0].guard.record(record.id, true);
        }
        if self.apps[app.0].guard.trips() && !self.apps[app.0].is_paused() {
            let counts = self.apps[app.0].guard.counts();
            let detail = format!("{} of the last {} proven keys tried were refused", counts.refused, counts.tried);
            self.pause(app, PauseReason::Guard, detail, now, actions);
        }
        if let Some(paused) = &self.apps[app.0].paused {
            let verdict = Asked::Paused(paused.reason.clone());
            return self.release(record.id, &verdict, actions);
        }
        match subject {
            Subject::Held if expires_at.is_some_and(|at| at <= now) => {
                self.expired_refused(app, record, told, now, actions)
            }
            Subject::Held => self.held_refused(app, record, is_evidence, told, now, actions),
            Subject::Newcomer => self.newcomer_refused(app, record, is_evidence, told, now, actions),
        }
    }

    /// The held key was tried after its `exp` and refused: it is past saving, and nothing was learnt about any other.
    fn expired_refused(
        &mut self,
        app: AppIndex,
        mut record: Box<Record>,
        told: &Told,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let expected = Expected::of(&record);
        let waiting = record.newcomer.as_ref().map(|newcomer| (newcomer.refused, newcomer.key.lifetime.expires_at()));
        // The newcomer's turn comes next (`Engine::subject` goes by the failures), and it may do instead.
        record.failures = u32::from(matches!(waiting, Some((Some(_), _))));
        record.next_attempt_at = match waiting {
            Some((Some(refused), expires_at)) => Some(self.after_refusal(app, refused, expires_at, now)),
            Some((None, _)) => Some(now),
            None => None,
        };
        if waiting.is_none() {
            actions.push(announce(KeyEvent::ReenrollRequired, app, &record, record.key.fingerprint, "lapsed"));
        }
        self.write(expected, record, OutcomeResult::Refused, told, Some(Asked::Refused), now);
    }

    fn held_refused(
        &mut self,
        app: AppIndex,
        mut record: Box<Record>,
        is_evidence: bool,
        told: &Told,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let expected = Expected::of(&record);
        let earlier = record.state.refused();
        let refused = self.count_refusal(app, earlier, now);
        let condemns = is_evidence && self.judge(app, &record, refused, now, actions) == Verdict::Condemn;
        record.next_attempt_at = Some(self.after_refusal(app, refused, record.key.lifetime.expires_at(), now));
        record.failures = 0;
        record.state = State::Active { refused: Some(refused) };
        if condemns {
            if self.apps[app.0].may_condemn(now) {
                return self.condemn(app, expected, record, refused, told, now, actions);
            }
            self.apps[app.0].await_operator(record.id);
        }
        if earlier.is_none() {
            actions.push(announce(KeyEvent::Refused, app, &record, record.key.fingerprint, told.code));
        }
        self.write(expected, record, OutcomeResult::Refused, told, Some(Asked::Refused), now);
    }

    #[expect(clippy::too_many_arguments, reason = "an outcome concerns the app, the row, the key and the moment")]
    fn condemn(
        &mut self,
        app: AppIndex,
        expected: Expected,
        mut record: Box<Record>,
        refused: Refused,
        told: &Told,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        record.state = State::Revoked { at: now, refused };
        record.next_attempt_at = record.newcomer.is_some().then_some(now);
        self.apps[app.0].awaiting_operator.remove(&record.id);
        self.save_app(app, now, actions);
        actions.push(announce(KeyEvent::ReenrollRequired, app, &record, record.key.fingerprint, "revoked"));
        self.write(expected, record, OutcomeResult::Revoked, told, Some(Asked::Refused), now);
    }

    fn newcomer_refused(
        &mut self,
        app: AppIndex,
        mut record: Box<Record>,
        is_evidence: bool,
        told: &Told,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let expected = Expected::of(&record);
        let Some(mut newcomer) = record.newcomer.take() else {
            return self.release(record.id, &Asked::Overtaken, actions);
        };
        let refused = self.count_refusal(app, newcomer.refused, now);
        let condemns = is_evidence && self.judge(app, &record, refused, now, actions) == Verdict::Condemn;
        let expired = newcomer.key.lifetime.expires_at().is_some_and(|at| at <= now);
        let result = if condemns || expired {
            let fingerprint = newcomer.key.fingerprint;
            actions.push(announce(KeyEvent::EnrollmentRefused, app, &record, fingerprint, told.code));
            // Only a key that is held is known; the one dropped may be handed in again.
            record.enrolled = record.key.fingerprint;
            OutcomeResult::Dropped
        } else {
            newcomer.refused = Some(refused);
            record.newcomer = Some(newcomer);
            OutcomeResult::Refused
        };
        record.next_attempt_at = if record.state.is_revoked() && record.newcomer.is_none() {
            None
        } else {
            Some(self.next_regular(app, &record, now))
        };
        self.write(expected, record, result, told, Some(Asked::Refused), now);
    }

    fn count_refusal(&self, app: AppIndex, earlier: Option<Refused>, now: Timestamp) -> Refused {
        let earlier = earlier.map(|refused| Refusals { count: refused.count, since: refused.since });
        let counted = storekeeper_policy::count_refusal(earlier, self.apps[app.0].evidence_since, now);
        Refused { since: counted.since, count: counted.count }
    }

    fn after_refusal(
        &mut self,
        app: AppIndex,
        refused: Refused,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Timestamp {
        let (condemn_after, jitter) = (self.apps[app.0].policy.condemn_after, self.jitter());
        storekeeper_policy::after_refusal(now, refused.count, condemn_after, expires_at, jitter)
    }

    /// Judges a refusal, and has witnesses heard when nobody else succeeded since the first one.
    fn judge(
        &mut self,
        index: AppIndex,
        record: &Record,
        refused: Refused,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) -> Verdict {
        let app = &mut self.apps[index.0];
        let evidence = Evidence {
            refusals: refused.count,
            refused_since: refused.since,
            witness_at: app.witness_at,
            evidence_since: app.evidence_since,
            skewed: self.clock_check.is_skewed(),
            guarded: app.is_paused() || app.guard.trips(),
        };
        let (verdict, reason) = storekeeper_policy::judge(&app.policy, &evidence, now);
        let unheard = app.witness_at.is_none_or(|at| at < refused.since);
        if (verdict == Verdict::SeekWitness || unheard) && app.may_seek_witnesses(now) {
            actions.push(Action::FindWitnesses(index, record.id));
        }
        tracing::debug!(key = %record.key.fingerprint, app = %app.name, ?verdict, reason = reason.as_str(), "verdict");
        verdict
    }

    /// Nothing was learnt about the key: try again at `at`.
    #[expect(clippy::too_many_arguments, reason = "an outcome concerns the app, the row, the key and the moment")]
    fn failed(
        &mut self,
        app: AppIndex,
        mut record: Box<Record>,
        at: Timestamp,
        retry_after: Option<Duration>,
        told: &Told,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let verdict = Asked::Failed(told.code, retry_after);
        let cause = self.attempts.get(&record.id).map(|attempt| attempt.cause);
        let due_at = record.next_attempt_at;
        let is_due = due_at.is_some_and(|due_at| due_at <= now + super::scan::TICK);
        if self.apps[app.0].is_paused() || (cause != Some(Cause::Due) && !is_due) {
            return self.release(record.id, &verdict, actions);
        }
        let expected = Expected::of(&record);
        record.failures = record.failures.saturating_add(1);
        let expires_at = record.key.lifetime.expires_at();
        let hopeless = expires_at.is_some_and(|expires_at| self.has_surely_come(expires_at + LAST_ATTEMPTS, now));
        record.next_attempt_at = (!hopeless || record.newcomer.is_some()).then_some(at);
        // No answer has told whether our clock is right. If it runs ahead by hours, a back-off by it is as much too long, and
        // others would believe it: a key that expires within such a time stays due for them.
        if !hopeless && !told.is_dated && expires_at.is_some_and(|expires_at| expires_at <= now + BACKOFF_MAX) {
            record.next_attempt_at = due_at.map(|due_at| due_at.min(at));
            if let Some(attempt) = self.attempts.get_mut(&record.id) {
                attempt.waits_until = Some(at);
            }
        }
        if record.next_attempt_at.is_none() {
            actions.push(announce(KeyEvent::ReenrollRequired, app, &record, record.key.fingerprint, "lapsed"));
        }
        self.write(expected, record, OutcomeResult::Failed, told, Some(verdict), now);
    }

    /// Puts a row's new state among the writes of the next group.
    fn write(
        &mut self,
        expected: Expected,
        mut record: Box<Record>,
        result: OutcomeResult,
        told: &Told,
        verdict: Option<Asked>,
        now: Timestamp,
    ) {
        record.revision = record.revision.next();
        record.history.push(Outcome {
            at: now,
            result,
            status: told.status,
            code: Cow::Borrowed(told.code),
            correlation_id: told.correlation_id.clone(),
        });
        if let Some(attempt) = self.attempts.get_mut(&record.id) {
            attempt.verdict = verdict;
            self.journal.is_awaited |= !attempt.waiters.is_empty();
        }
        self.journal.push(Write::Put { expected, record });
    }
}

/// What of an answer goes into the history.
struct Told {
    status: Option<u16>,
    code: &'static str,
    correlation_id: Option<String>,
    /// It bears the Store's time, which agrees with ours.
    is_dated: bool,
}

impl Told {
    fn of(finished: &Finished) -> Self {
        Self {
            status: finished.status,
            code: finished.code,
            correlation_id: finished.correlation_id.clone(),
            is_dated: finished.store_date.is_some(),
        }
    }
}

pub(super) fn tried(record: &Record, subject: Subject) -> &SealedKey {
    match (&record.newcomer, subject) {
        (Some(newcomer), Subject::Newcomer) => &newcomer.key,
        _ => &record.key,
    }
}

fn announce(
    event: KeyEvent,
    app: AppIndex,
    record: &Record,
    fingerprint: storekeeper_model::Fingerprint,
    reason: &'static str,
) -> Action {
    Action::Announce(Announcement::Key { event, app, kind: record.identity.kind, fingerprint, reason })
}
