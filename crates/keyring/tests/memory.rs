//! The reference backend keeps every promise, and can be switched off.

use storekeeper_keyring::conformance::{Rows, Subject, enroll};
use storekeeper_keyring::{Keyring, KeyringError, MemoryKeyring};

fn subject() -> Subject {
    Subject { keyring: Box::new(MemoryKeyring::new()), guard: Box::new(()) }
}

storekeeper_keyring::keyring_conformance!(subject);

mod shared {
    fn subject() -> super::Subject {
        super::Subject { keyring: Box::new(super::MemoryKeyring::shared()), guard: Box::new(()) }
    }

    storekeeper_keyring::keyring_conformance!(shared subject);
}

#[test]
fn switched_off_it_is_unavailable_and_loses_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let keyring = MemoryKeyring::new();
        let record = Rows::new(1).usual("a");
        enroll(&keyring, std::slice::from_ref(&record)).await;
        keyring.set_available(false);
        assert!(matches!(keyring.find(&[record.id]).await, Err(KeyringError::Unavailable(_))));
        keyring.set_available(true);
        assert_eq!(keyring.find(&[record.id]).await.unwrap(), [Some(record)]);
    });
}
