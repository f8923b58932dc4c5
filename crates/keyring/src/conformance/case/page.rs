//! Rows are listed page by page.

use storekeeper_model::{KeyKind, Lifetime};

use crate::conformance::Rows;
use crate::conformance::row::{DAY, NOW, all, enroll};
use crate::{Keyring, PageQuery, Record, Refused, State};

fn every(limit: usize) -> PageQuery {
    PageQuery { limit, ..PageQuery::default() }
}

/// In the order of their ids, whatever the limit.
pub async fn pages_hold_every_row_once(keyring: &dyn Keyring) {
    let mut rows = Rows::new(1);
    assert_eq!(all(keyring, every(10)).await, []);
    let mut records: Vec<Record> = (0..100).map(|number| rows.usual(&format!("{number}"))).collect();
    enroll(keyring, &records).await;
    records.sort_by_key(|record| record.id);
    for limit in [1, 7, 99, 100, 101] {
        assert_eq!(all(keyring, every(limit)).await, records, "pages of {limit}");
    }
}

/// Each alone and all together.
pub async fn filters_choose(keyring: &dyn Keyring) {
    let mut rows = Rows::new(7);
    let mut records: Vec<Record> = (0..200)
        .map(|number| {
            let mut record = rows.row(["mygame", "other"][number % 2], &format!("{number}"), KeyKind::Purchase);
            rows.scramble(&mut record);
            record
        })
        .collect();
    enroll(keyring, &records).await;
    records.sort_by_key(|record| record.id);
    let app = Some(records[0].identity.app.clone());
    let queries = [
        PageQuery { app: app.clone(), ..every(9) },
        PageQuery { revoked: Some(true), ..every(9) },
        PageQuery { revoked: Some(false), ..every(9) },
        PageQuery { expired_at: Some(NOW), ..every(9) },
        PageQuery { alive_at: Some(NOW), ..every(9) },
        PageQuery { due_before: Some(NOW), ..every(9) },
        PageQuery { app: app.clone(), revoked: Some(false), alive_at: Some(NOW), due_before: Some(NOW), ..every(9) },
        PageQuery { app, revoked: Some(true), expired_at: Some(NOW), ..every(9) },
    ];
    for query in queries {
        let expected: Vec<Record> = records.iter().filter(|record| query.matches(record)).cloned().collect();
        assert!(!expected.is_empty(), "{query:?} must not choose nothing");
        assert_eq!(all(keyring, query.clone()).await, expected, "{query:?}");
    }
    let nobody = rows.row("unknown", "a", KeyKind::Purchase).identity.app;
    assert_eq!(all(keyring, PageQuery { app: Some(nobody), ..every(9) }).await, []);
}

/// A page may come back short or empty, but its cursor leads on.
pub async fn rare_rows_are_found_in_the_end(keyring: &dyn Keyring) {
    let mut rows = Rows::new(3);
    let mut records: Vec<Record> = (0..6000).map(|number| rows.usual(&format!("{number}"))).collect();
    records[17].state = State::Revoked { at: NOW, refused: Refused { since: NOW, count: 3 } };
    records[4321].key.lifetime = Lifetime::new(NOW - 40 * DAY, NOW - 40 * DAY, NOW - DAY);
    enroll(keyring, &records).await;
    let lapsed = PageQuery { revoked: Some(false), expired_at: Some(NOW), ..every(10) };
    assert_eq!(all(keyring, lapsed).await, [records[4321].clone()]);
    assert_eq!(all(keyring, PageQuery { revoked: Some(true), ..every(10) }).await, [records[17].clone()]);
}
