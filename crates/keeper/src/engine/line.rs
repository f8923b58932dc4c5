//! `Line`: the way to one host for one client ID, with its pace, its breaker and what waits for it in the order of risk.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use storekeeper_keyring::Record;
use storekeeper_model::{ClientId, KeyId, KeyKind, Timestamp};
use storekeeper_policy::{Breaker, Pace};

use super::event::{Answer, AppIndex, Finished, Silence, Subject};
use super::latency::Latency;

/// Why a row is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its moment has come.
    Due,
    /// Somebody asked.
    Asked,
    /// To learn whether a paused app works again.
    Probe,
    /// To learn whose fault another key's refusal is.
    Witness,
}

/// A row that is going to be tried.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) record: Box<Record>,
    pub(super) app: AppIndex,
    pub(super) cause: Cause,
    /// Tried already with this one of its keys and refused; to be tried again with a fresh ticket.
    pub(super) again: Option<Subject>,
    /// The smaller, the sooner: who asked goes first, and what was begun; then the soonest `exp`.
    risk: (u8, Timestamp, KeyId),
}

impl Candidate {
    /// A row to be tried for the first time.
    pub(super) fn new(record: Box<Record>, app: AppIndex, cause: Cause) -> Self {
        let class = u8::from(cause == Cause::Due);
        // A key without usable times knows no safety.
        let risk = (class, record.key.lifetime.expires_at().unwrap_or(Timestamp::MIN), record.id);
        Self { record, app, cause, again: None, risk }
    }

    /// A row to be tried again with this one of its keys.
    pub(super) fn again(record: Box<Record>, app: AppIndex, cause: Cause, subject: Subject) -> Self {
        let first = Self::new(record, app, cause);
        Self { again: Some(subject), risk: (0, first.risk.1, first.risk.2), ..first }
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    /// The riskiest is the greatest, since a heap gives its greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.risk.cmp(&self.risk)
    }
}

/// The way to one host for one client ID.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) kind: KeyKind,
    pub(super) client_id: ClientId,
    pub(super) pace: Option<Pace>,
    pub(super) breaker: Option<Breaker>,
    pub(super) queue: BinaryHeap<Candidate>,
    /// How long the Store took for the last answers.
    pub(super) latency: Latency,
    /// Nothing is sent before this instant: the pace or the breaker said so.
    pub(super) held_until: Option<Timestamp>,
    /// The keyring may hold more due rows of this line than were fetched.
    pub(super) more: bool,
}

/// When a line has fewer waiting rows than this, rows are fetched: for it, and for every line that has room for more. (A
/// keyring goes on where it stopped when it is asked for the same lines again.)
const LOW_WATER: usize = 512;

impl Line {
    /// A line without limits, when `pace` and `breaker` are `None`.
    pub(super) fn new(kind: KeyKind, client_id: ClientId, pace: Option<Pace>, breaker: Option<Breaker>) -> Self {
        Self {
            kind,
            client_id,
            pace,
            breaker,
            queue: BinaryHeap::new(),
            latency: Latency::default(),
            held_until: None,
            more: true,
        }
    }

    /// Whether one more attempt may be sent now; if not, `held_until` says when to ask again.
    pub(super) fn admit(&mut self, now: Timestamp) -> bool {
        if self.held_until.is_some_and(|at| at > now) {
            return false;
        }
        let allowed = match (&mut self.breaker, &mut self.pace) {
            (Some(breaker), Some(pace)) => pace.take(now).and_then(|()| breaker.allow(now)),
            _ => Ok(()),
        };
        self.held_until = allowed.err();
        self.held_until.is_none()
    }

    /// An attempt came back. Returns whether the host is asked again, if that has changed.
    pub(super) fn report(&mut self, finished: &Finished, now: Timestamp, jitter: f64) -> Option<bool> {
        if let Some(took) = finished.took {
            self.latency.note(took, finished.code == "timed_out", now);
        }
        let (Some(pace), Some(breaker)) = (&mut self.pace, &mut self.breaker) else { return None };
        let before = breaker.state();
        match &finished.answer {
            Answer::Silent(Silence { congested, broken, .. }) => {
                if *congested {
                    pace.on_congestion(now);
                }
                if *broken {
                    breaker.on_failure(now, jitter);
                } else {
                    breaker.on_success();
                }
            }
            Answer::Unsealable | Answer::Unleased => {}
            Answer::Renewed(_) => {
                pace.on_success(now);
                breaker.on_success();
            }
            Answer::Refused | Answer::WrongClient | Answer::BadRequest => breaker.on_success(),
        }
        let after = breaker.state();
        let has_changed = (before == "closed") != (after == "closed");
        if has_changed {
            self.held_until = None;
        }
        has_changed.then_some(after == "closed")
    }

    /// Whether due rows of this line could be fetched now.
    pub(super) fn takes_rows(&self, now: Timestamp) -> bool {
        self.more && self.queue.len() < super::scan::SCAN_LIMIT && !self.is_cut_off(now)
    }

    /// Whether it runs out of rows to try.
    pub(super) fn is_low(&self) -> bool {
        self.queue.len() < LOW_WATER
    }

    /// Whether the breaker holds everything back.
    fn is_cut_off(&self, now: Timestamp) -> bool {
        self.breaker.as_ref().is_some_and(|breaker| breaker.state() == "open")
            && self.held_until.is_some_and(|at| at > now)
    }

    /// Until when the host is not asked at all.
    pub(super) fn cut_off_until(&self, now: Timestamp) -> Option<Timestamp> {
        let breaker = self.breaker.as_ref().filter(|breaker| breaker.state() != "closed")?;
        // A copy: nobody takes the leave that it may give.
        breaker.clone().allow(now).err()
    }

    /// When it wants to be looked at again although nothing happened.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.held_until.filter(|_| self.more || !self.queue.is_empty())
    }

    /// The clock went back: what was to be waited for may lie far ahead.
    pub(super) fn clock_went_back(&mut self) {
        self.held_until = None;
    }
}
