//! Opening: what is in the way is said in one line, and what was there before is there again.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;

use storekeeper_keyring::conformance::{Rows, enroll, put};
use storekeeper_keyring::{Expected, Keyring, KeyringError, PageQuery, Record, Settled, Write};
use storekeeper_keyring_sqlite::{Options, SqliteKeyring};
use storekeeper_model::Timestamp;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn opened(path: &Path) -> Result<(), KeyringError> {
    SqliteKeyring::open(path).map(drop)
}

#[track_caller]
fn check_one_line(error: &KeyringError, part: &str) {
    let text = error.to_string();
    assert!(text.contains(part) && !text.contains('\n'), "{text}");
}

fn edit(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn rows_counts_and_names_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("storekeeper.db");
    let mut rows = Rows::new(1);
    let record = rows.usual("a");
    let renewed = rows.renewed(&record, Timestamp::from_seconds(1_800_777_600));
    let first = SqliteKeyring::open(&path).unwrap();
    let counts = block_on(async {
        enroll(&first, std::slice::from_ref(&record)).await;
        assert_eq!(put(&first, &record, &renewed).await, Settled::Done(renewed.revision));
        first.count(Timestamp::EPOCH, &[]).await.unwrap()
    });
    drop(first);
    let second = SqliteKeyring::open(&path).unwrap();
    block_on(async {
        assert_eq!(second.find(&[record.id]).await.unwrap(), [Some(renewed)]);
        assert_eq!(second.count(Timestamp::EPOCH, &[]).await.unwrap(), counts);
        assert_eq!(counts[0].active, 1);
    });
}

#[test]
fn a_second_holder_is_turned_away_until_the_first_has_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("storekeeper.db");
    let first = SqliteKeyring::open(&path).unwrap();
    let error = opened(&path).unwrap_err();
    assert!(matches!(error, KeyringError::Held(_)), "{error}");
    check_one_line(&error, "storekeeper.db");
    block_on(first.close());
    opened(&path).expect("closing gives the lock back");
    drop(first);
    opened(&path).expect("so does dropping");
}

#[test]
fn an_unreachable_place_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("nowhere/storekeeper.db"), folder.path().to_owned()] {
        let error = opened(&path).unwrap_err();
        assert!(matches!(error, KeyringError::Unreachable(_)), "{error}");
        check_one_line(&error, &folder.path().display().to_string());
    }
    let file = folder.path().join("not-a-database");
    std::fs::write(&file, "this is a letter, long enough to be a database's first page".repeat(100)).unwrap();
    let error = opened(&file).unwrap_err();
    assert!(matches!(error, KeyringError::Corrupt(_)), "{error}");
    check_one_line(&error, "not-a-database");
}

#[test]
fn a_newer_schema_serves_this_version_if_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("storekeeper.db");
    let record = Rows::new(1).usual("a");
    block_on(enroll(&SqliteKeyring::open(&path).unwrap(), std::slice::from_ref(&record)));
    edit(&path, "UPDATE schema SET version = 2, oldest_reader = 1; ALTER TABLE record ADD COLUMN of_the_future TEXT");
    let keyring = SqliteKeyring::open(&path).expect("it says that version 1 may read it");
    block_on(async {
        let mut rows = Rows::new(2);
        let renewed = rows.renewed(&record, Timestamp::EPOCH);
        assert_eq!(put(&keyring, &record, &renewed).await, Settled::Done(renewed.revision));
        enroll(&keyring, &[rows.usual("b")]).await;
        assert_eq!(keyring.find(&[record.id]).await.unwrap(), [Some(renewed)]);
    });
    drop(keyring);
    edit(&path, "UPDATE schema SET version = 3, oldest_reader = 2");
    let error = opened(&path).unwrap_err();
    assert!(matches!(error, KeyringError::TooNew { found: 3, known: 1 }), "{error}");
    check_one_line(&error, "newer version");
}

#[test]
fn the_schema_row_tells_the_version_of_the_migrations() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("storekeeper.db");
    opened(&path).unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT version FROM schema"), count("SELECT max(version) FROM refinery_schema_history"));
}

#[cfg(unix)]
#[test]
fn others_cannot_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let _keyring = SqliteKeyring::open(&folder.path().join("storekeeper.db")).unwrap();
    let mut files = 0;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.path());
        files += 1;
    }
    assert!(files >= 3, "database, log and lock, at least");
}

#[test]
fn a_full_disk_loses_nothing_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("storekeeper.db");
    let options = Options { pages_max: Some(100), ..Options::default() };
    let keyring = SqliteKeyring::open_with(&path, &options).unwrap();
    let mut rows = Rows::new(1);
    block_on(async {
        let mut held: Vec<Record> = Vec::new();
        let error = loop {
            let group: Vec<Record> = (0..20).map(|number| rows.usual(&format!("{}-{number}", held.len()))).collect();
            let write = |record: &Record| Write::Put { expected: Expected::Absent, record: Box::new(record.clone()) };
            match keyring.settle(std::sync::Arc::new(group.iter().map(write).collect())).await {
                Ok(_) => held.extend(group),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, KeyringError::Unavailable(_)), "{error}");
        assert!(!held.is_empty());
        assert_holds(&keyring, &held).await;

        let forgotten = held.split_off(held.len() - 40);
        let forget = |record: &Record| Write::Forget {
            id: record.id,
            identity: record.identity.clone(),
            expected: Expected::of(record),
        };
        keyring.settle(std::sync::Arc::new(forgotten.iter().map(forget).collect())).await.unwrap();
        let anew = [rows.usual("anew")];
        enroll(&keyring, &anew).await;
        held.extend(anew);
        assert_holds(&keyring, &held).await;
    });
}

#[test]
fn a_group_that_fails_half_way_changes_nothing_and_harms_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("storekeeper.db");
    opened(&path).unwrap();
    edit(
        &path,
        "CREATE TRIGGER fail BEFORE INSERT ON record WHEN new.user = 'poison'
         BEGIN SELECT raise(ABORT, 'poisoned'); END",
    );
    let keyring = SqliteKeyring::open(&path).unwrap();
    let mut rows = Rows::new(1);
    block_on(async {
        let held = [rows.usual("a")];
        enroll(&keyring, &held).await;
        let group = [rows.usual("b"), rows.usual("poison"), rows.usual("c")];
        let write = |record: &Record| Write::Put { expected: Expected::Absent, record: Box::new(record.clone()) };
        let failed = keyring.settle(std::sync::Arc::new(group.iter().map(write).collect())).await;
        assert!(matches!(failed, Err(KeyringError::Refused(_))), "{failed:?}");
        assert_holds(&keyring, &held).await;
        let [a] = held;
        let held = [a, rows.usual("b")];
        enroll(&keyring, &held[1..]).await;
        assert_holds(&keyring, &held).await;
    });
}

async fn assert_holds(keyring: &SqliteKeyring, held: &[Record]) {
    let query = PageQuery { limit: 10_000, ..PageQuery::default() };
    let mut held = held.to_vec();
    held.sort_by_key(|record| record.id);
    assert_eq!(keyring.page(query).await.unwrap().records, held);
    let counts = keyring.count(Timestamp::EPOCH, &[]).await.unwrap();
    assert_eq!(counts.iter().map(|count| count.active).sum::<u64>(), held.len() as u64);
}
