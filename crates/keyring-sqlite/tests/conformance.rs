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
            backlog_rows: 60,
            whereabouts: 3,
            finders: 1,
            readers: 1,
            pages_max: None,
        })
    }

    storekeeper_keyring::keyring_conformance!(subject);
}
