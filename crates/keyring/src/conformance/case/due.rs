//! What is due is found in the order of risk.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use storekeeper_model::{KeyId, KeyKind, Lifetime, Timestamp};

use crate::conformance::Rows;
use crate::conformance::row::{DAY, NOW, enroll, put};
use crate::{Due, DueQuery, Expected, Keyring, MemoryKeyring, Newcomer, Record, Refused, Risk, Settled, State, Write};

fn until(until: Timestamp) -> DueQuery {
    let (except, blocked) = (HashSet::new(), Vec::new());
    DueQuery { until, impossible_after: until + 365 * DAY, except, blocked, buckets: None, limit: 100 }
}

async fn due(keyring: &dyn Keyring, query: DueQuery) -> Due {
    keyring.due(query).await.expect("the keyring is available")
}

/// What two backends have to agree on: rows of one risk may come in any order, and be cut off anywhere.
pub(super) fn in_order(due: &Due, until: Timestamp) -> (Vec<Risk>, Option<Timestamp>, bool) {
    let risk = |record: &Record| Risk::of(record.key.lifetime.expires_at(), until);
    (due.records.iter().map(risk).collect(), due.next_due_at, due.more)
}

fn ids(records: &[Record]) -> Vec<KeyId> {
    records.iter().map(|record| record.id).collect()
}

/// A row whose next attempt and expiry are so many days away.
fn row(rows: &mut Rows, user: &str, next_attempt: u32, expiry: u32) -> Record {
    let mut record = rows.usual(user);
    record.next_attempt_at = Some(NOW + next_attempt * DAY);
    record.key.lifetime = Lifetime::new(NOW, NOW, NOW + expiry * DAY);
    record
}

/// Not the one that waits longest; unusable times before all.
pub async fn the_soonest_expiry_comes_first(keyring: &dyn Keyring) {
    let mut rows = Rows::new(1);
    let waits_longest = row(&mut rows, "a", 1, 30);
    let [second, third, fourth] = [("b", 3), ("c", 4), ("d", 5)].map(|(user, expiry)| row(&mut rows, user, 2, expiry));
    let mut unusable = row(&mut rows, "e", 2, 1);
    unusable.key.lifetime = Lifetime::new(NOW, NOW + DAY, NOW);
    let not_due = row(&mut rows, "f", 3, 1);
    enroll(keyring, &[fourth.clone(), not_due, third.clone(), waits_longest.clone(), unusable.clone(), second.clone()])
        .await;
    let found = due(keyring, until(NOW + 2 * DAY)).await;
    assert_eq!(found.records, [unusable, second, third, fourth, waits_longest]);
    assert!(!found.more);
}

/// The next attempt at `until` itself is due; the next after it is told.
pub async fn until_is_included_and_the_next_is_told(keyring: &dyn Keyring) {
    let mut rows = Rows::new(2);
    let nothing = due(keyring, until(NOW)).await;
    assert_eq!((nothing.records.len(), nothing.next_due_at, nothing.more), (0, None, false));
    let [first, second] = [("a", 1), ("b", 2)].map(|(user, day)| row(&mut rows, user, day, 30));
    let never = Record { next_attempt_at: None, ..rows.usual("c") };
    enroll(keyring, &[first.clone(), second.clone(), never]).await;
    let just_before = due(keyring, until(NOW + DAY - Duration::from_millis(1))).await;
    assert_eq!((ids(&just_before.records), just_before.next_due_at), (vec![], Some(NOW + DAY)));
    let at = due(keyring, until(NOW + DAY)).await;
    assert_eq!((ids(&at.records), at.next_due_at), (vec![first.id], Some(NOW + 2 * DAY)));
    let after = due(keyring, until(NOW + 2 * DAY)).await;
    assert_eq!((after.records.len(), after.next_due_at), (2, None));
    let renewed = rows.renewed(&first, NOW);
    assert_eq!(put(keyring, &first, &renewed).await, Settled::Done(renewed.revision));
    let after = due(keyring, until(NOW + 2 * DAY)).await;
    assert_eq!((ids(&after.records), after.next_due_at), (vec![second.id], renewed.next_attempt_at));
}

/// A limit counts rows the asker does not have, and `more` says what is left of them.
pub async fn excepted_rows_do_not_count(keyring: &dyn Keyring) {
    let mut rows = Rows::new(3);
    let expires_in = |number: u32| Lifetime::new(NOW, NOW, NOW + (1 + number) * Duration::from_secs(3600));
    let mut records: Vec<Record> = (0..10).map(|number| row(&mut rows, &format!("{number}"), 0, 1)).collect();
    (0..).zip(&mut records).for_each(|(number, record)| record.key.lifetime = expires_in(number));
    enroll(keyring, &records).await;
    for excepted in [vec![], vec![0, 1, 2], vec![9], (0..10).collect(), vec![0, 4, 9]] {
        let except: HashSet<KeyId> = excepted.iter().map(|number: &usize| records[*number].id).collect();
        let left: Vec<KeyId> = ids(&records).into_iter().filter(|id| !except.contains(id)).collect();
        for limit in [0, 1, 3, left.len(), 20] {
            let found = due(keyring, DueQuery { except: except.clone(), limit, ..until(NOW) }).await;
            assert_eq!(ids(&found.records), left[..limit.min(left.len())], "but {excepted:?}, at most {limit}");
            assert_eq!(found.more, left.len() > limit, "but {excepted:?}, at most {limit}");
        }
    }
}

/// However many they are, and however soon they expire.
pub async fn blocked_rows_are_passed_over(keyring: &dyn Keyring) {
    let mut rows = Rows::new(4);
    let mut blocked: Vec<Record> = (0..10).map(|number| row(&mut rows, &format!("{number}"), 0, 1)).collect();
    blocked.push(Record { next_attempt_at: Some(NOW + DAY), ..rows.usual("later") });
    let wanted = [rows.row("mygame", "a", KeyKind::Purchase), rows.row("other", "a", KeyKind::Collections)]
        .map(|record| Record { next_attempt_at: Some(NOW), ..record });
    enroll(keyring, &[&blocked[..], &wanted[..]].concat()).await;
    let app = blocked[0].identity.app.clone();
    let unknown = rows.row("unknown", "a", KeyKind::Purchase).identity.app;
    let query =
        DueQuery { blocked: vec![(unknown, KeyKind::Purchase), (app, KeyKind::Collections)], limit: 2, ..until(NOW) };
    let found = due(keyring, query).await;
    let [found_ids, wanted_ids] =
        [&found.records[..], &wanted].map(|records| ids(records).into_iter().collect::<HashSet<_>>());
    assert_eq!(found_ids, wanted_ids);
    assert!(!found.more);
    assert_eq!(found.next_due_at, Some(NOW + DAY), "nobody sleeps past a blocked row");
}

/// A row that backs off further than any back-off reaches is due; one without failures is simply not due yet.
pub async fn a_wrong_clock_hides_no_failing_row(keyring: &dyn Keyring) {
    let mut rows = Rows::new(5);
    let refused = Some(Refused { since: NOW, count: 1 });
    let far = NOW + 40 * DAY;
    let mut far_row = |user: &str| Record { next_attempt_at: Some(far), ..rows.usual(user) };
    let failed = Record { failures: 1, ..far_row("a") };
    let refused_row = Record { state: State::Active { refused }, ..far_row("b") };
    let mut newcomer_refused = far_row("c");
    newcomer_refused.newcomer = Some(Newcomer { key: newcomer_refused.key.clone(), refused });
    let clean = far_row("d");
    let backs_off = Record { failures: 1, next_attempt_at: Some(NOW + DAY), ..far_row("e") };
    let lost = [failed, refused_row, newcomer_refused];
    enroll(keyring, &[&lost[..], &[clean, backs_off.clone()]].concat()).await;

    let query = DueQuery { impossible_after: NOW + DAY, ..until(NOW) };
    let found = due(keyring, query.clone()).await;
    assert_eq!(ids(&found.records).into_iter().collect::<HashSet<_>>(), ids(&lost).into_iter().collect());
    assert_eq!(found.next_due_at, Some(NOW + DAY), "what is due already is not the next");
    let few = due(keyring, DueQuery { limit: 1, except: HashSet::from([lost[0].id]), ..query.clone() }).await;
    assert_eq!((few.records.len(), few.more), (1, true));
    let rescued = rows.renewed(&lost[0], NOW);
    assert_eq!(put(keyring, &lost[0], &rescued).await, Settled::Done(rescued.revision));
    assert_eq!(due(keyring, query).await.records.len(), 2);
    let later = due(keyring, DueQuery { impossible_after: far, ..until(NOW + DAY) }).await;
    assert_eq!(
        (ids(&later.records), later.next_due_at),
        (vec![backs_off.id], rescued.next_attempt_at),
        "far is not impossible"
    );
}

/// Call after call, while rows are renewed, fail, are forgotten, and others come in between at any risk: what is found is
/// at as much risk as what the reference backend finds.
pub async fn a_backlog_is_drained_in_the_order_of_risk(keyring: &dyn Keyring) {
    let reference = MemoryKeyring::new();
    let mut rows = Rows::new(8);
    let records: Vec<Record> = (0..600).map(|number| backlogged(&mut rows, &format!("{number}"))).collect();
    enroll(keyring, &records).await;
    enroll(&reference, &records).await;
    let mut under_way: Vec<Record> = Vec::new();
    for step in 0..120u32 {
        let now = NOW + step * Duration::from_secs(600);
        let except = under_way.iter().map(|record| record.id).collect();
        let limit = rows.rng().random_range(1..30);
        let query = DueQuery { except, limit, impossible_after: now + DAY, ..until(now) };
        let found = due(keyring, query.clone()).await;
        let expected = due(&reference, query.clone()).await;
        assert_eq!(in_order(&found, now), in_order(&expected, now), "step {step}");
        let all = due(&reference, DueQuery { limit: 1000, ..query }).await;
        let [distinct, all] = [&found, &all].map(|due| ids(&due.records).into_iter().collect::<HashSet<_>>());
        assert!(distinct.is_subset(&all) && distinct.len() == found.records.len(), "step {step}");
        under_way.extend(found.records);
        let writes = Arc::new(outcomes(&mut rows, &mut under_way, now));
        let settled = keyring.settle(Arc::clone(&writes)).await.expect("the keyring is available");
        assert_eq!(settled, reference.settle(writes).await.expect("the reference is available"));
    }
}

/// Due for long, and no two of them expire at the same instant.
fn backlogged(rows: &mut Rows, user: &str) -> Record {
    let mut record = rows.usual(user);
    let expiry = rows.rng().random_range(1..30 * 86_400_000);
    record.key.lifetime = Lifetime::new(NOW, NOW, NOW + Duration::from_millis(expiry));
    record.next_attempt_at = Some(NOW - Duration::from_secs(rows.rng().random_range(0..86_400)));
    record
}

/// What becomes of some rows that are under way, and perhaps somebody new.
fn outcomes(rows: &mut Rows, under_way: &mut Vec<Record>, now: Timestamp) -> Vec<Write> {
    let mut writes = Vec::new();
    for _ in 0..rows.rng().random_range(0..30) {
        let Some(last) = under_way.len().checked_sub(1) else { break };
        let at = rows.rng().random_range(0..=last);
        let before = under_way.swap_remove(at);
        let expected = Expected::of(&before);
        let mut after = rows.renewed(&before, now);
        match rows.rng().random_range(0..10) {
            0 => {
                writes.push(Write::Forget { id: before.id, identity: before.identity, expected });
                continue;
            }
            // Tried again soon, at once, or far too late.
            1..4 => {
                let backs_off = [600, 0, 90 * 86_400][rows.rng().random_range(0..3)];
                after.key.lifetime = before.key.lifetime;
                (after.failures, after.next_attempt_at) = (1, Some(now + Duration::from_secs(backs_off)));
            }
            _ => {}
        }
        writes.push(Write::Put { expected, record: Box::new(after) });
    }
    if rows.rng().random_bool(0.3) {
        let user = format!("new-{}", now.millis());
        let mut record = backlogged(rows, &user);
        record.next_attempt_at = Some(now - DAY);
        writes.push(Write::Put { expected: Expected::Absent, record: Box::new(record) });
    }
    writes
}

/// The newcomer has to be tried, whatever became of the key it waits for.
pub async fn a_condemned_row_with_a_newcomer_is_due(keyring: &dyn Keyring) {
    let mut record = Rows::new(6).usual("a");
    record.state = State::Revoked { at: NOW, refused: Refused { since: NOW, count: 3 } };
    record.newcomer = Some(Newcomer { key: record.key.clone(), refused: None });
    record.next_attempt_at = Some(NOW);
    enroll(keyring, std::slice::from_ref(&record)).await;
    assert_eq!(due(keyring, until(NOW)).await.records, [record]);
}

/// Of the app that was asked for, the soonest next attempt first.
pub async fn witnesses_are_alive_proven_and_unblemished(keyring: &dyn Keyring) {
    let mut rows = Rows::new(7);
    let (first, second, third) = (row(&mut rows, "a", 1, 30), row(&mut rows, "b", 2, 30), row(&mut rows, "c", 3, 30));
    let refused = Refused { since: NOW, count: 1 };
    let unfit = [
        Record { proven: false, ..row(&mut rows, "d", 0, 30) },
        Record { failures: 1, ..row(&mut rows, "e", 0, 30) },
        Record { state: State::Active { refused: Some(refused) }, ..row(&mut rows, "f", 0, 30) },
        Record { state: State::Revoked { at: NOW, refused }, ..row(&mut rows, "g", 0, 30) },
        row(&mut rows, "h", 0, 0),
        rows.row("other", "a", KeyKind::Collections),
    ];
    enroll(keyring, &[&unfit[..], &[third.clone(), first.clone(), second.clone()]].concat()).await;
    let app = &first.identity.app;
    let ask = async |except, limit| keyring.witnesses(app, except, NOW, limit).await.expect("the keyring is available");
    assert_eq!(ask(unfit[0].id, 9).await, [first.clone(), second.clone(), third.clone()]);
    assert_eq!(ask(second.id, 9).await, [first.clone(), third]);
    assert_eq!(ask(first.id, 1).await, [second]);
    assert_eq!(ask(first.id, 0).await, []);
    let nobody = rows.row("unknown", "a", KeyKind::Purchase).identity.app;
    assert_eq!(keyring.witnesses(&nobody, first.id, NOW, 9).await.expect("the keyring is available"), []);
}
