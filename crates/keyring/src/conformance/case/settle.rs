//! Writes are compare-and-set.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::join_all;

use crate::conformance::Rows;
use crate::conformance::row::{DAY, NOW, enroll, forget, found, put, settle_one};
use crate::{Expected, Keyring, Record, Revision, Settled, Write};

fn absent(record: &Record) -> Write {
    Write::Put { expected: Expected::Absent, record: Box::new(record.clone()) }
}

/// `Absent` means absent; a row is expected by revision and fingerprint.
pub async fn a_key_is_enrolled_where_none_is_and_nowhere_else(keyring: &dyn Keyring) {
    let mut rows = Rows::new(1);
    let first = rows.usual("a");
    assert_eq!(put(keyring, &first, &rows.renewed(&first, NOW)).await, Settled::Conflict, "there is no row yet");
    assert_eq!(forget(keyring, &first).await, Settled::Conflict, "there is no row yet");
    enroll(keyring, std::slice::from_ref(&first)).await;
    let second = rows.usual("a");
    assert_eq!(settle_one(keyring, absent(&second)).await, Settled::Conflict);
    let forget_absent = Write::Forget { id: first.id, identity: first.identity.clone(), expected: Expected::Absent };
    assert_eq!(settle_one(keyring, forget_absent).await, Settled::Conflict);
    assert_eq!(found(keyring, &first).await, Some(first));
}

/// What was written by somebody else in between stands, whichever of revision and fingerprint it changed.
pub async fn a_late_owner_changes_nothing(keyring: &dyn Keyring) {
    let mut rows = Rows::new(2);
    let read = rows.usual("a");
    enroll(keyring, std::slice::from_ref(&read)).await;
    let other = rows.renewed(&read, NOW);
    assert_eq!(put(keyring, &read, &other).await, Settled::Done(other.revision));

    assert_eq!(put(keyring, &read, &rows.renewed(&read, NOW)).await, Settled::Conflict);
    assert_eq!(forget(keyring, &read).await, Settled::Conflict);
    let same_revision = Record { revision: other.revision, ..read.clone() };
    assert_eq!(
        put(keyring, &same_revision, &rows.renewed(&other, NOW)).await,
        Settled::Conflict,
        "another key is held"
    );
    let same_key = Record { revision: read.revision, ..other.clone() };
    assert_eq!(forget(keyring, &same_key).await, Settled::Conflict, "it was written since");
    assert_eq!(found(keyring, &read).await, Some(other.clone()));
    assert_eq!(forget(keyring, &other).await, Settled::Done(other.revision));
    assert_eq!(found(keyring, &read).await, None);
}

/// A row enrolled anew starts at the time of its enrollment, so a write meant for its former self finds nothing.
pub async fn forget_and_enroll_again_never_meet_an_old_write(keyring: &dyn Keyring) {
    let mut rows = Rows::new(3);
    let former = rows.usual("a");
    enroll(keyring, std::slice::from_ref(&former)).await;
    assert_eq!(forget(keyring, &former).await, Settled::Done(former.revision));
    // The very same key, a day later.
    let anew = Record { revision: Revision::first(NOW + DAY), ..former.clone() };
    enroll(keyring, std::slice::from_ref(&anew)).await;
    assert_eq!(put(keyring, &former, &rows.renewed(&former, NOW + DAY)).await, Settled::Conflict);
    assert_eq!(forget(keyring, &former).await, Settled::Conflict);
    assert_eq!(found(keyring, &anew).await, Some(anew));
}

/// The second sees what the first left.
pub async fn two_writes_of_one_group_are_judged_in_order(keyring: &dyn Keyring) {
    let mut rows = Rows::new(4);
    let first = rows.usual("a");
    let (second, third) = (rows.renewed(&first, NOW), rows.renewed(&first, NOW));
    let fourth = rows.renewed(&second, NOW);
    let after = |before: &Record, after: &Record| Write::Put {
        expected: Expected::of(before),
        record: Box::new(after.clone()),
    };
    let group = vec![
        absent(&first),
        after(&first, &second),
        after(&first, &third),
        after(&second, &fourth),
        Write::Forget { id: first.id, identity: first.identity.clone(), expected: Expected::of(&fourth) },
        absent(&third),
        absent(&first),
    ];
    let settled = keyring.settle(Arc::new(group)).await.expect("the keyring is available");
    let done = |record: &Record| Settled::Done(record.revision);
    let expected =
        [done(&first), done(&second), Settled::Conflict, done(&fourth), done(&fourth), done(&third), Settled::Conflict];
    assert_eq!(settled, expected);
    assert_eq!(found(keyring, &first).await, Some(third));
}

/// Each write stands for itself.
pub async fn a_conflict_harms_no_other_write_of_its_group(keyring: &dyn Keyring) {
    let mut rows = Rows::new(5);
    let [a, b, c] = ["a", "b", "c"].map(|user| rows.usual(user));
    enroll(keyring, std::slice::from_ref(&b)).await;
    let other = rows.usual("b");
    let settled =
        keyring.settle(Arc::new([&a, &other, &c].map(absent).to_vec())).await.expect("the keyring is available");
    assert_eq!(settled, [Settled::Done(a.revision), Settled::Conflict, Settled::Done(c.revision)]);
    for record in [a, b, c] {
        assert_eq!(found(keyring, &record).await, Some(record));
    }
}

/// At most one outcome is recorded, however many were made from the same row.
pub async fn of_many_writers_one_wins(keyring: &dyn Keyring) {
    let mut rows = Rows::new(6);
    let read = rows.usual("a");
    enroll(keyring, std::slice::from_ref(&read)).await;
    let outcomes: Vec<Record> = (0..20).map(|_| rows.renewed(&read, NOW)).collect();
    let settled = join_all(outcomes.iter().map(|outcome| put(keyring, &read, outcome))).await;
    let winners: Vec<&Record> = outcomes
        .iter()
        .zip(&settled)
        .filter(|(_, settled)| **settled != Settled::Conflict)
        .map(|(row, _)| row)
        .collect();
    assert_eq!(winners.len(), 1, "{settled:?}");
    assert_eq!(found(keyring, &read).await.as_ref(), Some(winners[0]));
}

/// Nothing to write is no error.
pub async fn an_empty_group_is_settled(keyring: &dyn Keyring) {
    assert_eq!(keyring.settle(Arc::default()).await.expect("the keyring is available"), []);
}

/// Dropping a future that has begun does not undo its write.
pub async fn a_write_is_made_though_nobody_waits_for_it(keyring: &dyn Keyring) {
    let mut rows = Rows::new(7);
    let (first, second) = (rows.usual("a"), rows.usual("b"));
    // Looked at once and dropped: by now it may be done, but must not be half done.
    let answer = keyring.settle(Arc::new(vec![absent(&first)])).now_or_never();
    enroll(keyring, std::slice::from_ref(&second)).await;
    assert_eq!(found(keyring, &first).await, Some(first), "answered at once: {}", answer.is_some());
}
