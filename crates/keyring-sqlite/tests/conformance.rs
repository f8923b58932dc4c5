//! The embedded keyring keeps every promise a keyring makes.

use storekeeper_keyring::conformance::Subject;
use storekeeper_keyring_sqlite::SqliteKeyring;

fn subject() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let keyring = SqliteKeyring::open(&folder.path().join("storekeeper.db")).unwrap();
    Subject { keyring: Box::new(keyring), guard: Box::new(folder) }
}

storekeeper_keyring::keyring_conformance!(subject);
