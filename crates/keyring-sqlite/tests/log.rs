//! The write-ahead log stays short, however closely reads follow each other.

use storekeeper_keyring::Keyring;
use storekeeper_keyring::conformance::{Rows, enroll, put};
use storekeeper_keyring_sqlite::{Options, SqliteKeyring};
use storekeeper_model::Timestamp;

#[test]
fn a_snapshot_that_is_always_open_does_not_let_the_log_grow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("storekeeper.db");
    let options = Options { checkpoint_pages: 50, ..Options::default() };
    let keyring = SqliteKeyring::open_with(&path, &options).unwrap();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
        let mut rows = Rows::new(1);
        let mut record = rows.usual("a");
        enroll(&keyring, std::slice::from_ref(&record)).await;
        for _ in 0..500 {
            let renewed = rows.renewed(&record, Timestamp::EPOCH);
            put(&keyring, &record, &renewed).await;
            // Leaves a snapshot open.
            assert_eq!(keyring.find(&[renewed.id]).await.unwrap(), [Some(renewed.clone())]);
            record = renewed;
        }
    });
    let pages = std::fs::metadata(folder.path().join("storekeeper.db-wal")).unwrap().len() / 4096;
    assert!(pages < 100, "{pages} pages of log after 500 commits of at least one page");
}
