//! Made-up rows, and short ways to write them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storekeeper_model::{AppName, CertificateId, Fingerprint, Identity, KeyKind, Lifetime, Slot, Timestamp, UserName};

use crate::{
    Expected, History, Keyring, Newcomer, Outcome, OutcomeResult, Record, Refused, Revision, Sealed, SealedKey,
    Settled, State, Write,
};

/// One day.
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// The instant at which made-up rows are enrolled.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// Makes rows up, from a seed.
#[derive(Debug)]
pub struct Rows(ChaCha8Rng);

impl Rows {
    /// Starts at a seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// The generator, for choices besides.
    pub fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.0
    }

    /// A row as most are: active, proven, issued at [`NOW`] for 30 days, its next attempt after 9.
    pub fn row(&mut self, app: &str, user: &str, kind: KeyKind) -> Record {
        let identity = identity(app, user, "", kind);
        let key = self.key(NOW);
        Record {
            id: identity.key_id(),
            identity,
            revision: Revision::first(NOW),
            key_version: 1,
            enrolled: key.fingerprint,
            key,
            state: State::ACTIVE,
            proven: true,
            failures: 0,
            next_attempt_at: Some(NOW + 9 * DAY),
            history: History::default(),
            last_used_day: None,
            newcomer: None,
        }
    }

    /// The same of `mygame` for its Collections.
    pub fn usual(&mut self, user: &str) -> Record {
        self.row("mygame", user, KeyKind::Collections)
    }

    /// A key of 30 days; its sealed text is random bytes, since no keyring looks into it.
    pub fn key(&mut self, issued_at: Timestamp) -> SealedKey {
        let mut bytes = vec![0; self.0.random_range(600..660)];
        self.0.fill(bytes.as_mut_slice());
        SealedKey {
            fingerprint: Fingerprint::from_bytes(self.0.random()),
            certificate: CertificateId::new("36D101AF67A9F61B8017FB96F91EDD4B22F05804"),
            lifetime: Lifetime::new(issued_at, issued_at - Duration::from_secs(3600), issued_at + 30 * DAY),
            sealed: Sealed { root_generation: 1, format: 1, bytes },
        }
    }

    /// What a renewal at `now` makes of a row.
    pub fn renewed(&mut self, before: &Record, now: Timestamp) -> Record {
        let mut after = before.clone();
        after.revision = before.revision.next();
        after.key_version += 1;
        after.key = self.key(now);
        after.proven = true;
        (after.state, after.failures) = (State::ACTIVE, 0);
        after.next_attempt_at = Some(now + 7 * DAY + self.0.random_range(0..4 * 86_400) * Duration::from_secs(1));
        after.history.push(self.outcome(now, OutcomeResult::Renewed));
        after
    }

    /// An outcome as the Store's answers make them.
    pub fn outcome(&mut self, at: Timestamp, result: OutcomeResult) -> Outcome {
        let [one, two]: [u64; 2] = self.0.random();
        let digits = format!("{one:016x}{two:016x}");
        let (a, b, c, d, e) = (&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]);
        Outcome {
            at,
            result,
            status: Some(200),
            code: Cow::Borrowed(result.as_str()),
            correlation_id: Some(format!("{a}-{b}-{c}-{d}-{e}")),
        }
    }

    /// Any state of affairs a row can be in around [`NOW`], in the place of what it was.
    pub fn scramble(&mut self, record: &mut Record) {
        let issued_at = self.instant();
        record.key = self.key(issued_at);
        if self.0.random_bool(0.1) {
            record.key.lifetime = Lifetime::new(issued_at, issued_at + DAY, issued_at - DAY);
        }
        let refused = self.refused();
        record.state = match (self.0.random_range(0..4), refused) {
            (0, Some(refused)) => State::Revoked { at: self.instant(), refused },
            _ => State::Active { refused },
        };
        record.proven = self.0.random();
        record.failures = if self.0.random_bool(0.7) { 0 } else { self.0.random_range(1..9) };
        record.next_attempt_at = match self.0.random_range(0..10) {
            0 | 1 => None,
            2 => Some(Record::HANDED_OVER),
            _ => Some(self.instant()),
        };
        record.newcomer = self.0.random_bool(0.1).then(|| Newcomer { key: self.key(NOW), refused: self.refused() });
    }

    fn refused(&mut self) -> Option<Refused> {
        let refused = Refused { since: self.instant(), count: self.0.random_range(1..5) };
        self.0.random_bool(0.4).then_some(refused)
    }

    /// Some instant within forty days of [`NOW`]; few enough different ones that some meet.
    pub fn instant(&mut self) -> Timestamp {
        NOW - 40 * DAY + self.0.random_range(0..80) * DAY
    }
}

/// Who a made-up row belongs to.
pub(crate) fn identity(app: &str, user: &str, slot: &str, kind: KeyKind) -> Identity {
    Identity {
        app: AppName::new(app).expect("a valid name"),
        user: UserName::from_bytes(user.as_bytes()).expect("a valid name"),
        slot: Slot::new(slot).expect("a valid name"),
        kind,
    }
}

/// Writes new rows in one group, and demands that all are new.
pub async fn enroll(keyring: &dyn Keyring, records: &[Record]) {
    let write = |record: &Record| Write::Put { expected: Expected::Absent, record: Box::new(record.clone()) };
    let settled =
        keyring.settle(Arc::new(records.iter().map(write).collect())).await.expect("the keyring is available");
    let done: Vec<Settled> = records.iter().map(|record| Settled::Done(record.revision)).collect();
    assert_eq!(settled, done, "new rows are new");
}

/// Writes one row in the place of `before`.
pub async fn put(keyring: &dyn Keyring, before: &Record, after: &Record) -> Settled {
    let write = Write::Put { expected: Expected::of(before), record: Box::new(after.clone()) };
    settle_one(keyring, write).await
}

/// Removes a row.
pub(crate) async fn forget(keyring: &dyn Keyring, before: &Record) -> Settled {
    let (id, identity) = (before.id, before.identity.clone());
    settle_one(keyring, Write::Forget { id, identity, expected: Expected::of(before) }).await
}

pub(crate) async fn settle_one(keyring: &dyn Keyring, write: Write) -> Settled {
    let settled = keyring.settle(Arc::new(vec![write])).await.expect("the keyring is available");
    assert_eq!(settled.len(), 1, "one answer per write");
    settled[0]
}

/// Reads one row.
pub(crate) async fn found(keyring: &dyn Keyring, record: &Record) -> Option<Record> {
    let mut records = keyring.find(&[record.id]).await.expect("the keyring is available");
    assert_eq!(records.len(), 1, "one answer per id");
    records.pop().flatten()
}

/// Reads every row, page by page.
pub(crate) async fn all(keyring: &dyn Keyring, query: crate::PageQuery) -> Vec<Record> {
    let mut query = query;
    let mut records = Vec::new();
    loop {
        let page = keyring.page(query.clone()).await.expect("the keyring is available");
        assert!(page.records.len() <= query.limit, "a page is not longer than asked for");
        assert!(page.next.is_none_or(|next| query.after.is_none_or(|after| next > after)), "a cursor goes on");
        records.extend(page.records);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return records,
        }
    }
}
