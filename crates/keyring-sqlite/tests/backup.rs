//! A backup holds what was committed when it began, and is put back whole or not at all.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use storekeeper_keyring::conformance::{Rows, enroll};
use storekeeper_keyring::{Expected, Keyring, KeyringError, PageQuery, Record, Write};
use storekeeper_keyring_sqlite::SqliteKeyring;
use storekeeper_keyring_sqlite::backup::{BackupError, Contents, Former, backup, inspect, restore};
use storekeeper_model::Timestamp;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn made_up(seed: u64, count: usize) -> Vec<Record> {
    let mut rows = Rows::new(seed);
    (0..count).map(|number| rows.usual(&format!("{seed}-{number}"))).collect()
}

fn filled(path: &Path, records: &[Record]) {
    block_on(enroll(&SqliteKeyring::open(path).unwrap(), records));
}

fn held(path: &Path) -> Vec<Record> {
    let keyring = SqliteKeyring::open(path).unwrap();
    let mut query = PageQuery { limit: 1000, ..PageQuery::default() };
    let mut records = Vec::new();
    loop {
        let page = block_on(keyring.page(query.clone())).unwrap();
        records.extend(page.records);
        query.after = page.next;
        if query.after.is_none() {
            return records;
        }
    }
}

fn sorted(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by_key(|record| record.id);
    records
}

fn restored(from: &Path, to: &Path, former: Former) -> Result<(Contents, Option<std::path::PathBuf>), BackupError> {
    restore(from, to, former, |_| Ok::<_, BackupError>(()))
}

#[test]
fn a_copy_made_while_a_keeper_writes_holds_all_that_was_committed_before() {
    let folder = tempfile::tempdir().unwrap();
    let [path, copy, back] = ["storekeeper.db", "copy.db", "back.db"].map(|name| folder.path().join(name));
    let before = made_up(1, 2000);
    let keyring = Arc::new(SqliteKeyring::open(&path).unwrap());
    block_on(enroll(&*keyring, &before));
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (keyring, done) = (Arc::clone(&keyring), Arc::clone(&done));
        std::thread::spawn(move || {
            let mut rows = Rows::new(2);
            let mut written = 0;
            while !done.load(Ordering::Acquire) {
                let record = rows.usual(&format!("later-{written}"));
                let write = Write::Put { expected: Expected::Absent, record: Box::new(record) };
                block_on(keyring.settle(Arc::new(vec![write]))).unwrap();
                written += 1;
            }
            written
        })
    };
    let contents = backup(&path, &copy, NOW).unwrap();
    done.store(true, Ordering::Release);
    let later = writer.join().unwrap();
    drop(keyring);
    assert!(contents.total() >= 2000 && contents.total() <= 2000 + later, "{} of {later} more", contents.total());
    assert_eq!(contents.made_at, Some(NOW));
    assert_eq!(contents.last_issued_at, before.iter().map(|record| record.key.lifetime.issued_at()).max());
    assert!(!copy.with_extension("db.partial").exists());
    let (again, aside) = restored(&copy, &back, Former::Keep).unwrap();
    assert_eq!((again.total(), aside), (contents.total(), None));
    let rows = held(&back);
    assert_eq!(rows.len() as u64, contents.total());
    assert!(before.iter().all(|record| rows.binary_search_by_key(&record.id, |row| row.id).is_ok()));
    assert_eq!(inspect(&back).unwrap().made_at, None, "what is in use is no backup");
}

#[test]
fn nothing_is_overwritten_unless_told_and_then_it_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let [path, copy] = ["storekeeper.db", "copy.db"].map(|name| folder.path().join(name));
    let old = made_up(1, 30);
    filled(&path, &old);
    backup(&path, &copy, NOW).unwrap();
    assert!(matches!(backup(&path, &copy, NOW), Err(BackupError::AlreadyThere(_))));
    let new = made_up(2, 20);
    filled(&path, &new);
    assert!(matches!(restored(&copy, &path, Former::Keep), Err(BackupError::AlreadyThere(_))));
    let keeper = SqliteKeyring::open(&path).unwrap();
    let told = restored(&copy, &path, Former::SetAside).unwrap_err();
    assert!(matches!(told, BackupError::Keyring(KeyringError::Held(_))), "{told}");
    drop(keeper);
    let both = sorted([old.clone(), new].concat());
    assert_eq!(held(&path), both);
    for number in 1..3 {
        let (_, aside) = restored(&copy, &path, Former::SetAside).unwrap();
        let aside = aside.unwrap();
        assert_eq!(held(&path), sorted(old.clone()));
        assert_eq!(held(&aside), if number == 1 { both.clone() } else { sorted(old.clone()) }, "{}", aside.display());
    }
}

#[test]
fn the_log_of_a_keyring_that_was_killed_goes_aside_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let [path, copy, killed] = ["storekeeper.db", "copy.db", "killed.db"].map(|name| folder.path().join(name));
    let records = made_up(1, 50);
    let keyring = SqliteKeyring::open(&path).unwrap();
    block_on(enroll(&keyring, &records));
    // As a kill leaves it: all of it in the log.
    fs::copy(&path, &killed).unwrap();
    fs::copy(folder.path().join("storekeeper.db-wal"), folder.path().join("killed.db-wal")).unwrap();
    drop(keyring);
    let empty = folder.path().join("empty.db");
    filled(&empty, &[]);
    backup(&empty, &copy, NOW).unwrap();
    let (_, aside) = restored(&copy, &killed, Former::SetAside).unwrap();
    assert_eq!(held(&killed), []);
    assert_eq!(held(&aside.unwrap()), sorted(records));
}

#[test]
fn what_an_interrupted_try_has_left_is_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let [path, copy, back] = ["storekeeper.db", "copy.db", "back.db"].map(|name| folder.path().join(name));
    let records = made_up(1, 30);
    filled(&path, &records);
    for left in ["copy.db.partial", "copy.db.partial-journal", "back.db.restoring", "back.db.restoring-journal"] {
        fs::write(folder.path().join(left), "half of something").unwrap();
    }
    backup(&path, &copy, NOW).unwrap();
    restored(&copy, &back, Former::Keep).unwrap();
    assert_eq!(held(&back), sorted(records));
    let left = fs::read_dir(folder.path()).unwrap().filter(|file| {
        let name = file.as_ref().unwrap().file_name();
        [".partial", ".restoring"].iter().any(|word| name.to_str().unwrap().contains(word))
    });
    assert_eq!(left.count(), 0);
}

#[test]
fn what_is_damaged_foreign_or_too_new_is_not_put_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let [path, copy, target] = ["storekeeper.db", "copy.db", "target.db"].map(|name| folder.path().join(name));
    filled(&path, &made_up(1, 300));
    backup(&path, &copy, NOW).unwrap();
    let whole = fs::read(&copy).unwrap();
    let check = |bytes: &[u8], expected: &str| {
        let file = folder.path().join("bad.db");
        fs::write(&file, bytes).unwrap();
        let error = restored(&file, &target, Former::SetAside).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{expected}: {error}");
        assert!(!target.exists());
    };
    check(&whole[..whole.len() / 2], "unreadable");
    let mut damaged = whole.clone();
    damaged[4096 * 3..4096 * 6].fill(0x55);
    check(&damaged, "unreadable");
    check(b"a letter", "unreadable");
    check(b"", "no keyring");
    let edited = |sql: &str| {
        let file = folder.path().join("edited.db");
        fs::write(&file, &whole).unwrap();
        rusqlite::Connection::open(&file).unwrap().execute_batch(sql).unwrap();
        fs::read(&file).unwrap()
    };
    check(&edited("UPDATE schema SET version = 9, oldest_reader = 9"), "newer version");
    check(&edited("DELETE FROM record WHERE place = 7"), "299 keys and says 300");
    check(&edited("DROP TABLE schema"), "no keyring");
    let refused = restore(&copy, &target, Former::Keep, |contents| {
        assert_eq!(contents.total(), 300);
        Err(BackupError::NoKeyring(String::from("not approved")))
    });
    assert!(matches!(refused, Err(BackupError::NoKeyring(_))) && !target.exists());
}

#[cfg(unix)]
#[test]
fn others_cannot_read_a_backup() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let [path, copy, back] = ["storekeeper.db", "copy.db", "back.db"].map(|name| folder.path().join(name));
    filled(&path, &made_up(1, 3));
    backup(&path, &copy, NOW).unwrap();
    restored(&copy, &back, Former::Keep).unwrap();
    for file in [copy, back] {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
}
