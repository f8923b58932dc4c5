//! Counts are exact, at every instant, whatever was written before.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rand::Rng;
use storekeeper_model::{AppName, KeyKind, Lifetime, Timestamp};

use super::due::in_order;
use crate::conformance::Rows;
use crate::conformance::row::{DAY, NOW, all, enroll};
use crate::{Count, DueQuery, Expected, Keyring, MemoryKeyring, PageQuery, Record, Refused, Revision, State, Write};

async fn counts(keyring: &dyn Keyring, now: Timestamp, overdue_before: &[(AppName, Timestamp)]) -> Vec<Count> {
    let mut counts = keyring.count(now, overdue_before).await.expect("the keyring is available");
    counts.sort_by(|one, other| (&one.app, one.kind).cmp(&(&other.app, other.kind)));
    counts
}

/// One row of each sort, counted by hand.
pub async fn each_row_counts_as_it_should(keyring: &dyn Keyring) {
    let mut rows = Rows::new(1);
    assert_eq!(counts(keyring, NOW, &[]).await, []);
    let (app, other) = (rows.usual("a").identity.app, rows.row("other", "a", KeyKind::Purchase).identity.app);
    let refused = Refused { since: NOW, count: 3 };
    let expired = Lifetime::new(NOW - 30 * DAY, NOW - 30 * DAY, NOW);
    let mut lapsed = rows.usual("c");
    lapsed.key.lifetime = expired;
    let mut lapsed_for_ever = Record { next_attempt_at: None, proven: false, ..rows.usual("d") };
    lapsed_for_ever.key.lifetime = expired;
    let mut lapsed_and_due = Record { next_attempt_at: Some(NOW - DAY), ..rows.usual("e") };
    lapsed_and_due.key.lifetime = expired;
    let mut lapsed_at_its_last_attempt = Record { next_attempt_at: Some(NOW), ..rows.usual("h") };
    lapsed_at_its_last_attempt.key.lifetime = expired;
    let mut revoked = Record { state: State::Revoked { at: NOW, refused }, ..rows.usual("f") };
    revoked.key.lifetime = expired;
    let mut lapsed_elsewhere = Record { next_attempt_at: Some(Record::HANDED_OVER), ..rows.usual("i") };
    lapsed_elsewhere.key.lifetime = expired;
    let handed_over = Record { next_attempt_at: Some(Record::HANDED_OVER), ..rows.usual("j") };
    let records = [
        lapsed_elsewhere,
        handed_over.clone(),
        Record { next_attempt_at: Some(NOW), ..rows.usual("a") },
        Record { next_attempt_at: Some(NOW - DAY), state: State::Active { refused: Some(refused) }, ..rows.usual("b") },
        lapsed,
        lapsed_for_ever,
        lapsed_and_due,
        lapsed_at_its_last_attempt,
        revoked,
        Record { next_attempt_at: None, ..rows.usual("g") },
        rows.row("other", "a", KeyKind::Purchase),
    ];
    enroll(keyring, &records).await;
    let mine = Count {
        active: 3,
        revoked: 1,
        lapsed: 4,
        refused: 1,
        unproven: 1,
        due_backlog: 1,
        handed_over: 2,
        handed_over_until: handed_over.key.lifetime.expires_at(),
        ..Count::none(app.clone(), KeyKind::Collections)
    };
    let others = Count { active: 1, ..Count::none(other.clone(), KeyKind::Purchase) };
    assert_eq!(counts(keyring, NOW, &[]).await, [mine.clone(), others.clone()]);
    let overdue_before = [(app, NOW + DAY), (other, NOW)];
    let past_deadline = Count { past_deadline: 3, ..mine };
    assert_eq!(counts(keyring, NOW, &overdue_before).await, [past_deadline, others]);
}

/// Seeded random writes, held against the reference backend and against a recount of all rows after each group.
pub async fn counts_are_exact_whatever_is_written(keyring: &dyn Keyring) {
    let reference = MemoryKeyring::new();
    let mut rows = Rows::new(2);
    for group in 0..60 {
        let writes = writes(&reference, &mut rows).await;
        let expected = reference.settle(Arc::clone(&writes)).await.expect("the reference is available");
        assert_eq!(keyring.settle(writes).await.expect("the keyring is available"), expected, "group {group}");
        agree(keyring, &reference, &mut rows, group).await;
    }
}

/// A few writes, most of them to rows as they are, some to rows as they were or are not.
async fn writes(reference: &MemoryKeyring, rows: &mut Rows) -> Arc<Vec<Write>> {
    let count = rows.rng().random_range(1..20);
    let mut writes = Vec::new();
    for _ in 0..count {
        let mut record = match rows.rng().random_range(0..30u32) {
            user if user < 15 => rows.row("mygame", &format!("{user}"), KeyKind::Collections),
            user if user < 25 => rows.row("mygame", &format!("{user}"), KeyKind::Purchase),
            user => rows.row("other", &format!("{user}"), KeyKind::Purchase),
        };
        rows.scramble(&mut record);
        let found = reference.find(&[record.id]).await.expect("the reference is available").pop().flatten();
        let expected = match (&found, rows.rng().random_range(0..10)) {
            (Some(_), 0) => Expected::Absent,
            (Some(found), _) => Expected::of(found),
            (None, 0) => Expected::of(&record),
            (None, _) => Expected::Absent,
        };
        record.revision = found.map_or(Revision::first(rows.instant()), |found| found.revision.next());
        let is_forgotten = rows.rng().random_bool(0.2);
        writes.push(if is_forgotten {
            Write::Forget { id: record.id, identity: record.identity, expected }
        } else {
            Write::Put { expected, record: Box::new(record) }
        });
    }
    Arc::new(writes)
}

async fn agree(keyring: &dyn Keyring, reference: &MemoryKeyring, rows: &mut Rows, group: u32) {
    let records = all(keyring, PageQuery { limit: 1000, ..PageQuery::default() }).await;
    assert_eq!(records, all(reference, PageQuery { limit: 1000, ..PageQuery::default() }).await, "group {group}");
    let apps: HashSet<AppName> = records.iter().map(|record| record.identity.app.clone()).collect();
    for _ in 0..10 {
        let now = rows.instant();
        let overdue_before: Vec<_> = apps.iter().map(|app| (app.clone(), rows.instant())).collect();
        let exact = recount(&records, now, &overdue_before);
        assert_eq!(counts(keyring, now, &overdue_before).await, exact, "group {group}, at {now}, {overdue_before:?}");
        let query = query(rows, &records);
        let [found, expected] = [keyring, reference].map(|keyring| keyring.due(query.clone()));
        let (found, expected) = (found.await.expect("available"), expected.await.expect("available"));
        assert_eq!(in_order(&found, query.until), in_order(&expected, query.until), "group {group}, {query:?}");
    }
}

fn recount(records: &[Record], now: Timestamp, overdue_before: &[(AppName, Timestamp)]) -> Vec<Count> {
    let mut counts: BTreeMap<(AppName, KeyKind), Count> = BTreeMap::new();
    for record in records {
        let (app, kind) = (record.identity.app.clone(), record.identity.kind);
        let before = overdue_before.iter().find(|(name, _)| *name == app).map(|(_, before)| *before);
        counts.entry((app.clone(), kind)).or_insert(Count::none(app, kind)).add(record, now, before);
    }
    counts.into_values().collect()
}

fn query(rows: &mut Rows, records: &[Record]) -> DueQuery {
    let until = rows.instant();
    let impossible_after = rows.instant().max(until);
    let except = records.iter().filter(|_| rows.rng().random_bool(0.2)).map(|record| record.id).collect();
    let blocked = match records.first() {
        Some(record) if rows.rng().random_bool(0.3) => vec![(record.identity.app.clone(), record.identity.kind)],
        _ => Vec::new(),
    };
    DueQuery { until, impossible_after, except, blocked, buckets: None, limit: rows.rng().random_range(0..50) }
}
