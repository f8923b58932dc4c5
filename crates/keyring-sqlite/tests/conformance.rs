//! The embedded keyring keeps every promise a keyring makes.

use storekeeper_keyring::conformance::Subject;
use storekeeper_keyring_sqlite::SqliteKeyring;

fn subject() -> Subject {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let keyring = SqliteKeyring::open(&folder.path().join("storekeeper.db")).expect("an empty folder takes a keyring");
    Subject { keyring: Box::new(keyring), guard: Box::new(folder) }
}

storekeeper_keyring::keyring_conformance!(subject);
