//! The embedded keyring keeps every promise a keyring makes, also when it works with as little memory as it can.

use storekeeper_keyring::conformance::Subject;
use storekeeper_keyring_sqlite::{Options, SqliteKeyring};

fn subject(options: &Options) -> Subject {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let keyring = SqliteKeyring::open_with(&folder.path().join("storekeeper.db"), options);
    Subject { keyring: Box::new(keyring.expect("an empty folder takes a keyring")), guard: Box::new(folder) }
}

mod usual {
    fn subject() -> super::Subject {
        super::subject(&super::Options::default())
    }

    storekeeper_keyring::keyring_conformance!(subject);
}

mod frugal {
    fn subject() -> super::Subject {
        super::subject(&super::Options {
            group_max: 1,
            checkpoint_pages: 1,
            writer_cache_kib: 1,
            reader_cache_kib: 1,
            finder_cache_kib: 1,
            backlog_rows: 60,
            whereabouts: 3,
            finders: 1,
            readers: 1,
            pages_max: None,
        })
    }

    storekeeper_keyring::keyring_conformance!(subject);
}

/// On tables that the next version has brought up to date, and which it says that this version may use: a deployment can
/// be rolled back.
mod rolled_back {
    use super::{Options, SqliteKeyring, Subject};

    const NEXT: &str = "
        UPDATE schema SET version = version + 1, oldest_reader = version;
        ALTER TABLE record ADD COLUMN of_the_future TEXT;
        ALTER TABLE record ADD COLUMN counted INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE population ADD COLUMN of_the_future INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE app ADD COLUMN of_the_future TEXT;
        CREATE INDEX record_future ON record (counted) WHERE counted > 0;
        CREATE TABLE future (number INTEGER PRIMARY KEY)";

    fn subject() -> Subject {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("storekeeper.db");
        drop(SqliteKeyring::open(&path).expect("an empty folder takes a keyring"));
        let next = rusqlite::Connection::open(&path).expect("the file is there");
        next.execute_batch(NEXT).expect("what a next version may do");
        drop(next);
        let keyring = SqliteKeyring::open_with(&path, &Options::default());
        Subject {
            keyring: Box::new(keyring.expect("the schema says that this version is served")),
            guard: Box::new(folder),
        }
    }

    storekeeper_keyring::keyring_conformance!(subject);
}
