//! What is written comes back, field by field.

use std::borrow::Cow;
use std::time::Duration;

use storekeeper_model::{CertificateId, Fingerprint, KeyKind, Lifetime, Timestamp};

use crate::conformance::Rows;
use crate::conformance::row::{DAY, NOW, enroll, found, identity, put};
use crate::{History, Keyring, Newcomer, Outcome, OutcomeResult, Record, Refused, Revision, Settled, State};

async fn comes_back(keyring: &dyn Keyring, record: Record) {
    enroll(keyring, std::slice::from_ref(&record)).await;
    assert_eq!(found(keyring, &record).await.as_ref(), Some(&record));
    // Also when it is put in the place of another.
    let mut rows = Rows::new(99);
    let between = Record { revision: record.revision.next(), ..rows.usual("other") };
    let between =
        Record { id: record.id, identity: record.identity.clone(), last_used_day: record.last_used_day, ..between };
    assert_eq!(put(keyring, &record, &between).await, Settled::Done(between.revision));
    assert_eq!(found(keyring, &record).await.as_ref(), Some(&between));
    let again = Record { revision: between.revision.next(), ..record };
    assert_eq!(put(keyring, &between, &again).await, Settled::Done(again.revision));
    assert_eq!(found(keyring, &again).await, Some(again));
}

/// Odd names, great numbers, every state.
pub async fn every_field_comes_back(keyring: &dyn Keyring) {
    let mut rows = Rows::new(1);
    let refused = Refused { since: NOW - DAY, count: u32::MAX };
    let states = [
        State::ACTIVE,
        State::Active { refused: Some(refused) },
        State::Revoked { at: NOW + Duration::from_millis(1), refused },
    ];
    let certificates = [
        "",
        "agA_pgJ7Twx_Ex2_rEeQ2o5fZ5g",
        "36d101af67a9f61b8017fb96f91edd4b22f05804",
        "36D101AF67A9F61B8017FB96F91EDD4B22F05804",
    ];
    let long = "\u{1f511}".repeat(64);
    let slot = "s".repeat(64);
    for (number, state) in states.into_iter().enumerate() {
        for (certificate, user) in certificates.iter().zip(["x'; --", "\0", " \n", long.as_str()]) {
            let mut record = rows.row("other.app-1_x", user, KeyKind::ALL[number % 2]);
            record.identity = identity("other.app-1_x", user, &slot[..number * 32], KeyKind::ALL[number % 2]);
            record.id = record.identity.key_id();
            record.revision = Revision::from_number(i64::MAX - 9);
            record.key_version = u32::MAX;
            record.key.certificate = CertificateId::new(certificate);
            record.key.sealed.root_generation = u16::MAX;
            record.key.sealed.format = u8::MAX;
            record.enrolled = Fingerprint::from_bytes([number as u8; 16]);
            record.state = state;
            record.proven = number % 2 == 0;
            record.failures = u32::MAX;
            record.next_attempt_at = (number > 0).then_some(Timestamp::from_millis(i64::MAX));
            record.last_used_day = (number > 1).then_some(20_000);
            comes_back(keyring, record).await;
        }
    }
}

/// Swapped times are kept as claimed.
pub async fn unusable_times_come_back(keyring: &dyn Keyring) {
    let mut record = Rows::new(2).usual("a");
    record.key.lifetime = Lifetime::new(NOW, NOW + 30 * DAY, NOW - Duration::from_secs(3600));
    assert_eq!(record.key.lifetime.expires_at(), None);
    comes_back(keyring, record).await;
}

/// With and without refusals, with usable and unusable times.
pub async fn a_newcomer_comes_back(keyring: &dyn Keyring) {
    let mut rows = Rows::new(3);
    let mut record = rows.usual("a");
    record.newcomer = Some(Newcomer { key: rows.key(NOW - DAY), refused: None });
    comes_back(keyring, record).await;
    let mut record = rows.usual("b");
    let mut key = rows.key(NOW);
    key.lifetime = Lifetime::new(NOW, NOW + DAY, NOW);
    key.certificate = CertificateId::new("");
    record.newcomer = Some(Newcomer { key, refused: Some(Refused { since: NOW, count: 7 }) });
    comes_back(keyring, record).await;
}

/// All results, with and without status and correlation ID, GUID or not, in any order of time.
pub async fn a_history_comes_back(keyring: &dyn Keyring) {
    let mut rows = Rows::new(4);
    let mut record = rows.usual("a");
    let outcomes = OutcomeResult::ALL.into_iter().enumerate().map(|(number, result)| {
        let mut outcome = rows.outcome(NOW - number as u32 * DAY, result);
        match number % 4 {
            0 => outcome.status = None,
            1 => outcome.correlation_id = None,
            2 => outcome.correlation_id = Some(String::from("NOT-a-guid \u{e4}")),
            _ => outcome.code = Cow::Borrowed("same"),
        }
        outcome
    });
    record.history = outcomes.collect();
    comes_back(keyring, record).await;
    let mut record = rows.usual("b");
    let wordless =
        Outcome { at: NOW, result: OutcomeResult::Failed, status: None, code: Cow::Borrowed(""), correlation_id: None };
    record.history = History::from_iter([wordless]);
    comes_back(keyring, record).await;
}
