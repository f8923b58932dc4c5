//! Intake: how a key handed in becomes a row. Checked, decided by policy, sealed, written compare-and-set.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use storekeeper_keyring::seal::{Role, Sealer};
use storekeeper_keyring::{
    Expected, History, Keyring, KeyringError, Newcomer, Outcome, OutcomeResult, Record, Revision, SealedKey, Settled,
    State, Write,
};
use storekeeper_model::{AppName, Identity, KeyId, StoreIdKey, Timestamp};
use storekeeper_policy::{Enrollment, HeldKey, NewKey, Standing};

use crate::config::{AppConfig, UserClaim};
use crate::error::EnrollError;
use crate::import::{Facts, ImportRequest};
use crate::view::{EnrollOutcome, EnrollRequest, Enrolled, KeyView};
use handed_over::keep_mark;

mod handed_over;

/// A row that many callers write at once is tried this often.
const ROUNDS_MAX: usize = 8;

/// The newcomer's text keeps its seal while the held key beside it is renewed, so it is not bound to the row's version.
pub(crate) const NEWCOMER_VERSION: u32 = 0;

/// What intake needs.
pub struct Intake<'a> {
    /// The configured apps.
    pub apps: &'a BTreeMap<AppName, AppConfig>,
    /// Where rows are kept.
    pub keyring: &'a dyn Keyring,
    /// What keys are sealed with.
    pub sealer: &'a Sealer,
}

/// Whether what our clock alone says of a key is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OurClock {
    /// A response of the Store or Entra ID has been dated since the start, and agrees with it; or they do not date their
    /// responses.
    Trusted,
    /// No response has been dated yet. What speaks against a key by our clock alone is not held against the key.
    Unverified,
    /// It and the Store's disagree: no key is refused for its times, and none takes the place of one that only seems to
    /// have expired.
    Doubted,
}

/// A key that passed every check that needs no row.
pub(crate) struct Checked {
    id: KeyId,
    identity: Identity,
    key: StoreIdKey,
    /// What another keeper knew of it.
    facts: Option<Facts>,
}

/// What is to be done for one key.
enum Step {
    Answer(Result<Enrolled, EnrollError>),
    Write(Box<Write>, Enrolled),
}

impl Intake<'_> {
    /// Takes keys in, in order. Returns the answers and the earliest instant at which one of them is due.
    pub async fn enroll(
        &self,
        requests: Vec<EnrollRequest>,
        now: Timestamp,
    ) -> (Vec<Result<Enrolled, EnrollError>>, Option<Timestamp>) {
        self.enroll_by(requests, now, OurClock::Trusted).await
    }

    /// As [`Intake::enroll`], with as much trust in `now` as it deserves.
    pub async fn enroll_by(
        &self,
        requests: Vec<EnrollRequest>,
        now: Timestamp,
        clock: OurClock,
    ) -> (Vec<Result<Enrolled, EnrollError>>, Option<Timestamp>) {
        self.take_in(self.check_all(requests), now, clock).await
    }

    /// Keys as they were handed in, checked as far as that needs no row.
    pub(crate) fn check_all(&self, requests: Vec<EnrollRequest>) -> Vec<Result<Checked, EnrollError>> {
        requests.into_iter().map(|request| self.check(request)).collect()
    }

    /// The same for keys that another keeper has kept.
    pub(crate) fn check_imports(&self, requests: Vec<ImportRequest>) -> Vec<Result<Checked, EnrollError>> {
        let check = |ImportRequest { request, facts }| {
            let checked = self.check(request)?;
            let facts = Facts::check(facts, &checked.key)?;
            Ok(Checked { facts: Some(facts), ..checked })
        };
        requests.into_iter().map(check).collect()
    }

    /// Whether the times of one of these keys speak against it by our clock.
    pub(crate) fn depends_on_clock(&self, checked: &[Result<Checked, EnrollError>], now: Timestamp) -> bool {
        checked.iter().flatten().any(|checked| {
            let lifetime = checked.key.lifetime();
            let is_over = lifetime.expires_at().is_some_and(|at| at <= now);
            is_over || lifetime.issued_at() > now || lifetime.not_before().is_some_and(|at| at > now)
        })
    }

    /// Takes keys in that were checked. Returns the answers and the earliest instant at which one of them is due.
    pub(crate) async fn take_in(
        &self,
        requests: Vec<Result<Checked, EnrollError>>,
        now: Timestamp,
        clock: OurClock,
    ) -> (Vec<Result<Enrolled, EnrollError>>, Option<Timestamp>) {
        let mut answers: Vec<Option<Result<Enrolled, EnrollError>>> = Vec::with_capacity(requests.len());
        let mut open: Vec<(usize, Checked)> = Vec::with_capacity(requests.len());
        for (place, checked) in requests.into_iter().enumerate() {
            match checked {
                Ok(checked) => {
                    open.push((place, checked));
                    answers.push(None);
                }
                Err(error) => answers.push(Some(Err(error))),
            }
        }
        let mut due_at: Option<Timestamp> = None;
        for _ in 0..ROUNDS_MAX {
            if open.is_empty() {
                break;
            }
            open = match self.round(open, &mut answers, &mut due_at, now, clock).await {
                Ok(overtaken) => overtaken,
                Err((error, unanswered)) => {
                    let text = error.to_string();
                    for place in unanswered {
                        let error = KeyringError::Unavailable(text.clone());
                        answers[place] = Some(Err(EnrollError::Keyring(error)));
                    }
                    Vec::new()
                }
            };
        }
        let answers = answers.into_iter().map(|answer| answer.unwrap_or(Err(EnrollError::TooBusy))).collect();
        (answers, due_at)
    }

    fn check(&self, request: EnrollRequest) -> Result<Checked, EnrollError> {
        let app = self.apps.get(&request.app).ok_or(EnrollError::AppUnknown)?;
        let key = StoreIdKey::parse(request.key)?;
        if request.kind.is_some_and(|kind| kind != key.kind()) {
            return Err(EnrollError::WrongKind { found: key.kind() });
        }
        if *key.client_id() != app.client_id {
            return Err(EnrollError::WrongClient);
        }
        if app.user_claim == UserClaim::Equal && key.user_id().as_str() != request.user.as_str() {
            return Err(EnrollError::WrongUser);
        }
        let identity = Identity { app: request.app, user: request.user, slot: request.slot, kind: key.kind() };
        Ok(Checked { id: identity.key_id(), identity, key, facts: None })
    }

    /// Reads the rows, decides, writes. Returns those whose row changed meanwhile.
    async fn round(
        &self,
        open: Vec<(usize, Checked)>,
        answers: &mut [Option<Result<Enrolled, EnrollError>>],
        due_at: &mut Option<Timestamp>,
        now: Timestamp,
        clock: OurClock,
    ) -> Result<Vec<(usize, Checked)>, (KeyringError, Vec<usize>)> {
        let places = || open.iter().map(|(place, _)| *place).collect::<Vec<_>>();
        let ids: Vec<KeyId> = open.iter().map(|(_, checked)| checked.id).collect();
        let rows = self.keyring.find(&ids).await.map_err(|error| (error, places()))?;
        let mut writes = Vec::new();
        let mut written = Vec::new();
        for ((place, checked), row) in open.into_iter().zip(rows) {
            match self.decide(&checked, row, now, clock) {
                Step::Answer(answer) => answers[place] = Some(answer),
                Step::Write(write, enrolled) => {
                    writes.push(*write);
                    written.push((place, checked, enrolled));
                }
            }
        }
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let settled = self.keyring.settle(Arc::new(writes)).await;
        let settled = settled.map_err(|error| (error, written.iter().map(|(place, ..)| *place).collect()))?;
        let mut overtaken = Vec::new();
        for ((place, checked, enrolled), settled) in written.into_iter().zip(settled) {
            match settled {
                Settled::Done(_) => {
                    *due_at = [*due_at, enrolled.view.renew_at].into_iter().flatten().min();
                    answers[place] = Some(Ok(enrolled));
                }
                Settled::Conflict => overtaken.push((place, checked)),
            }
        }
        Ok(overtaken)
    }

    fn decide(&self, checked: &Checked, row: Option<Record>, now: Timestamp, clock: OurClock) -> Step {
        let fingerprint = checked.key.fingerprint();
        let new = NewKey::new(fingerprint, checked.key.lifetime());
        let mut verdict = storekeeper_policy::enroll(row.as_ref().map(held).as_ref(), &new, now);
        if clock != OurClock::Trusted {
            verdict = match verdict {
                Enrollment::Expired | Enrollment::NotYetValid | Enrollment::SameDead(Standing::Lapsed) => {
                    let is_unverified = clock == OurClock::Unverified;
                    let error = if is_unverified { EnrollError::ClockUnverified } else { EnrollError::ClockSkewed };
                    return Step::Answer(Err(error));
                }
                Enrollment::Replace if row.as_ref().is_some_and(|row| row.proven && !row.state.is_revoked()) => {
                    Enrollment::AwaitProof
                }
                sound => sound,
            };
        }
        if let Some(facts) = &checked.facts {
            verdict = facts.verdict(verdict, row.is_some());
        }
        let version = |next| checked.facts.as_ref().map_or(next, |facts| facts.key_version(next));
        let revision = |next| checked.facts.as_ref().map_or(next, |facts| facts.revision(next));
        let answer = |record: &Record, outcome| Enrolled { outcome, fingerprint, view: KeyView::of(record, now) };
        let (record, expected, outcome) = match (verdict, row) {
            (Enrollment::Known, Some(row)) => match self.known(checked, &row, now) {
                Some(record) => (record, Expected::of(&row), EnrollOutcome::Known),
                None => return Step::Answer(Ok(answer(&row, EnrollOutcome::Known))),
            },
            (Enrollment::New, row) => {
                let expected = row.as_ref().map_or(Expected::Absent, Expected::of);
                (self.fresh(checked, revision(Revision::first(now)), version(1), now), expected, EnrollOutcome::New)
            }
            (Enrollment::Replace, Some(row)) => {
                let mut record = self.fresh(checked, revision(row.revision.next()), version(row.key_version + 1), now);
                record.history = row.history.iter().chain(record.history.iter()).collect();
                keep_mark(checked, &row, &mut record);
                (record, Expected::of(&row), EnrollOutcome::Replaced)
            }
            (Enrollment::AwaitProof, Some(row)) => {
                let mut record = self.beside(checked, row.clone(), now);
                record.revision = revision(record.revision);
                keep_mark(checked, &row, &mut record);
                (record, Expected::of(&row), EnrollOutcome::Waiting)
            }
            (verdict, _) => return Step::Answer(Err(refusal(verdict, checked, now))),
        };
        let enrolled = answer(&record, outcome);
        Step::Write(Box::new(Write::Put { expected, record: Box::new(record) }), enrolled)
    }

    /// A row that holds nothing but this key.
    fn fresh(&self, checked: &Checked, revision: Revision, key_version: u32, now: Timestamp) -> Record {
        let Checked { id, identity, key, facts } = checked;
        let sealed = self.sealer.seal(identity, *id, Role::Held, key_version, key.jwt());
        let policy = &self.apps[&identity.app].policy;
        // A key without usable times is due at once, by whatever clock: its successor will know better.
        let renew_at = storekeeper_policy::renew_at(policy, *id, key.lifetime());
        let mut history = History::default();
        history.push(outcome(OutcomeResult::Enrolled, now));
        let mut record = Record {
            id: *id,
            identity: identity.clone(),
            revision,
            key_version,
            key: SealedKey::new(key, sealed),
            enrolled: key.fingerprint(),
            state: State::ACTIVE,
            proven: false,
            failures: 0,
            next_attempt_at: Some(renew_at.unwrap_or(key.lifetime().issued_at().min(now))),
            history,
            last_used_day: Some(now.day()),
            newcomer: None,
        };
        if let Some(facts) = facts {
            facts.apply(&mut record, self.sealer, now);
        }
        record
    }

    /// The row with this key waiting beside the held one, due at once.
    fn beside(&self, checked: &Checked, mut row: Record, now: Timestamp) -> Record {
        let Checked { id, identity, key, .. } = checked;
        let sealed = self.sealer.seal(identity, *id, Role::Newcomer, NEWCOMER_VERSION, key.jwt());
        row.revision = row.revision.next();
        row.enrolled = key.fingerprint();
        row.newcomer = Some(Newcomer { key: SealedKey::new(key, sealed), refused: None });
        // At once; but never later than the held key's own moment, lest a clock that runs ahead buries both.
        let policy = &self.apps[&identity.app].policy;
        let moment = storekeeper_policy::renew_at(policy, *id, &row.key.lifetime);
        row.next_attempt_at = Some(moment.map_or(now, |moment| moment.min(now)));
        row.history.push(outcome(OutcomeResult::Waiting, now));
        row
    }
}

fn outcome(result: OutcomeResult, now: Timestamp) -> Outcome {
    Outcome { at: now, result, status: None, code: Cow::Borrowed("enrolled"), correlation_id: None }
}

fn held(record: &Record) -> HeldKey {
    HeldKey {
        fingerprint: record.key.fingerprint,
        enrolled_fingerprint: record.enrolled,
        issued_at: record.key.lifetime.issued_at(),
        expires_at: record.key.lifetime.expires_at(),
        proven: record.proven,
        revoked: record.state.is_revoked(),
        newcomer: record.newcomer.as_ref().map(|newcomer| storekeeper_policy::Newcomer {
            fingerprint: newcomer.key.fingerprint,
            issued_at: newcomer.key.lifetime.issued_at(),
        }),
    }
}

fn refusal(verdict: Enrollment, checked: &Checked, now: Timestamp) -> EnrollError {
    let lifetime = checked.key.lifetime();
    match verdict {
        Enrollment::Older => EnrollError::Older,
        Enrollment::SameDead(Standing::Lapsed) => EnrollError::Lapsed,
        Enrollment::SameDead(_) => EnrollError::Revoked,
        Enrollment::Expired => EnrollError::Expired { expires_at: lifetime.expires_at().unwrap_or(now) },
        Enrollment::NotYetValid => {
            let valid_at = lifetime.not_before().map_or(lifetime.issued_at(), |at| at.max(lifetime.issued_at()));
            EnrollError::NotYetValid { valid_at }
        }
        // Every verdict that takes the key was handled; these need a row that is not there.
        Enrollment::New | Enrollment::Known | Enrollment::Replace | Enrollment::AwaitProof => EnrollError::TooBusy,
    }
}
