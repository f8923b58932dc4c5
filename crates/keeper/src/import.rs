//! Import: a key that another keeper has kept is taken up as it was there, instead of as a stranger.

use storekeeper_keyring::seal::{Role, Sealer};
use storekeeper_keyring::{Newcomer, Record, Refused, Revision, SealedKey, State};
use storekeeper_model::{Fingerprint, Secret, StoreIdKey, Timestamp};
use storekeeper_policy::{Enrollment, Standing};

use crate::engine::Event;
use crate::error::EnrollError;
use crate::intake::{Intake, NEWCOMER_VERSION};
use crate::keeper::Keeper;
use crate::shell::Message;
use crate::view::{EnrollRequest, Enrolled};

/// A key handed in by who kept it until now. What is not known of it is left out; then it is enrolled like any other.
#[derive(Debug, Clone)]
pub struct ImportRequest {
    /// The key, and whose it is.
    pub request: EnrollRequest,
    /// What was known of it.
    pub facts: ImportFacts,
}

/// What the former keeper knew of a key. Its times are never among it: those are the key's own.
#[derive(Debug, Clone, Default)]
pub struct ImportFacts {
    /// What the key was worth there; `None` in a line that no keeper wrote.
    pub standing: Option<Standing>,
    /// Whether the Store has renewed this line at least once.
    pub proven: bool,
    /// Of the key as it was exported; it must be that of the key that is handed in.
    pub fingerprint: Option<Fingerprint>,
    /// Changes only with the key.
    pub key_version: Option<u32>,
    /// The key last handed in.
    pub enrolled: Option<Fingerprint>,
    /// What was held against it.
    pub refused: Option<Refused>,
    /// When it was condemned.
    pub revoked_at: Option<Timestamp>,
    /// The last day (since the epoch) on which somebody read it.
    pub last_used_day: Option<i64>,
    /// A key that waited beside it.
    pub newcomer: Option<Secret<String>>,
    /// The row's write counter there. With [`ImportFacts::handing_over`] it distinguishes a line that is imported for
    /// the first time from one that was overtaken.
    pub revision: Option<Revision>,
    /// The keeper that wrote the line gives the key up: from here on this one renews it.
    pub handing_over: bool,
}

/// Facts that were checked against the key.
#[derive(Debug)]
pub(crate) struct Facts {
    facts: ImportFacts,
    newcomer: Option<StoreIdKey>,
}

impl Facts {
    /// Checks what is told of a key against the key.
    pub(crate) fn check(mut facts: ImportFacts, key: &StoreIdKey) -> Result<Self, EnrollError> {
        if facts.fingerprint.is_some_and(|told| told != key.fingerprint()) {
            return Err(EnrollError::Altered);
        }
        let newcomer = facts.newcomer.take().map(StoreIdKey::parse).transpose()?;
        if let Some(newcomer) = &newcomer {
            if newcomer.kind() != key.kind() {
                return Err(EnrollError::WrongKind { found: newcomer.kind() });
            }
            if newcomer.client_id() != key.client_id() {
                return Err(EnrollError::WrongClient);
            }
        }
        Ok(Self { facts, newcomer })
    }

    /// What an enrollment's verdict becomes for a key that another keeper vouches for.
    pub(crate) fn verdict(&self, verdict: Enrollment, holds_row: bool) -> Enrollment {
        let is_dead = matches!(self.facts.standing, Some(Standing::Revoked | Standing::Lapsed));
        match verdict {
            // Dead there, dead here: it is kept so that whoever asks hears why, and who must act.
            Enrollment::Expired if self.facts.standing.is_some() && !holds_row => Enrollment::New,
            Enrollment::Replace | Enrollment::AwaitProof if is_dead => Enrollment::SameDead(Standing::Revoked),
            // A key that the Store itself has made of another is proven by that.
            Enrollment::AwaitProof if self.facts.proven => Enrollment::Replace,
            // Taken up before, by an import that was interrupted.
            Enrollment::SameDead(_) if is_dead => Enrollment::Known,
            other => other,
        }
    }

    /// Whether the keeper that wrote the line gives the key up.
    pub(crate) fn hands_over(&self) -> bool {
        self.facts.handing_over
    }

    /// Whether a keeper wrote the line, and goes on renewing the key.
    pub(crate) fn is_renewed_there(&self) -> bool {
        self.facts.standing.is_some() && !self.facts.handing_over
    }

    /// Whether a keeper wrote the line.
    pub(crate) fn is_keepers(&self) -> bool {
        self.facts.standing.is_some()
    }

    /// Whether the line was written before this keeper handed the row's key over itself: by now it may be another
    /// keeper's, also the one's that wrote the line. Revisions rise from one keeper to the next.
    pub(crate) fn is_overtaken_by(&self, row: &Record) -> bool {
        self.facts.revision.is_some_and(|revision| revision <= row.revision)
    }

    /// The revision of a row that takes the line up, where `next` is the lowest. It is beyond that of the mark which the
    /// line's writer sets.
    pub(crate) fn revision(&self, next: Revision) -> Revision {
        match self.facts.revision {
            Some(revision) if self.facts.handing_over => next.max(revision.next().next()),
            _ => next,
        }
    }

    /// The line's newcomer, if the row knows nothing of it.
    pub(crate) fn unknown_newcomer(&self, row: &Record) -> Option<&StoreIdKey> {
        let newcomer = self.newcomer.as_ref()?;
        let is_known = [row.key.fingerprint, row.enrolled].contains(&newcomer.fingerprint());
        let is_older = newcomer.lifetime().issued_at() < row.key.lifetime.issued_at();
        (row.newcomer.is_none() && !is_known && !is_older).then_some(newcomer)
    }

    /// The key's version in a row where `next` would be the lowest.
    pub(crate) fn key_version(&self, next: u32) -> u32 {
        self.facts.key_version.map_or(next, |version| version.max(next))
    }

    /// Puts into a fresh row what was known of the key.
    pub(crate) fn apply(&self, record: &mut Record, sealer: &Sealer, now: Timestamp) {
        let facts = &self.facts;
        record.proven |= facts.proven;
        record.enrolled = facts.enrolled.unwrap_or(record.enrolled);
        record.last_used_day = facts.last_used_day.or(record.last_used_day);
        record.state = match (facts.standing, facts.refused) {
            (Some(Standing::Revoked), refused) => {
                let at = facts.revoked_at.unwrap_or(now);
                State::Revoked { at, refused: refused.unwrap_or(Refused { since: at, count: 1 }) }
            }
            (_, refused) => State::Active { refused },
        };
        let is_expired = record.key.lifetime.expires_at().is_some_and(|at| at <= now);
        if record.state.is_revoked() || is_expired {
            record.next_attempt_at = None;
        }
        if let Some(newcomer) = &self.newcomer {
            put_beside(record, newcomer, sealer, now);
        }
    }
}

/// Puts a key that waits for proof beside the held one, due at once.
pub(crate) fn put_beside(record: &mut Record, newcomer: &StoreIdKey, sealer: &Sealer, now: Timestamp) {
    let sealed = sealer.seal(&record.identity, record.id, Role::Newcomer, NEWCOMER_VERSION, newcomer.jwt());
    record.newcomer = Some(Newcomer { key: SealedKey::new(newcomer, sealed), refused: None });
    record.enrolled = newcomer.fingerprint();
    record.next_attempt_at = Some(record.next_attempt_at.map_or(now, |at| at.min(now)));
}

impl Keeper {
    /// Takes up keys that were kept elsewhere, in order; each answers for itself, and an `Ok` is durable. To repeat it
    /// changes nothing.
    pub async fn import(&self, requests: Vec<ImportRequest>) -> Vec<Result<Enrolled, EnrollError>> {
        let keeper = self.clone();
        let hold = self.clock().hold("an import");
        let count = requests.len();
        let work = async move {
            let inner = &keeper.inner;
            let intake = Intake { apps: &inner.apps, keyring: &inner.tools.keyring, sealer: &inner.sealer };
            let checked = intake.check_imports(requests);
            keeper.wait_for_the_time(intake.depends_on_clock(&checked, keeper.clock().now())).await;
            let (now, clock) = (keeper.clock().now(), inner.tools.our_clock());
            let (answers, due_at) = intake.take_in(checked, now, clock).await;
            if let Some(due_at) = due_at {
                inner.postbox.send(Message::Event(Event::Changed(due_at)));
            }
            drop(hold);
            answers
        };
        // In a task of its own, so that a caller who goes away undoes nothing half-way.
        let answers = tokio::spawn(work).await;
        answers.unwrap_or_else(|_| (0..count).map(|_| Err(EnrollError::ShuttingDown)).collect())
    }
}
