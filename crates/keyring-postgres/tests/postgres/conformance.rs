//! The shared keyring keeps every promise a keyring makes, also when it works in the smallest steps.

use storekeeper_keyring::conformance::Subject;
use storekeeper_keyring_postgres::Options;

use crate::database::keyring;

fn subject(options: &Options) -> Subject {
    let (keyring, guard) = keyring(options);
    Subject { keyring: Box::new(keyring), guard }
}

mod usual {
    fn subject() -> super::Subject {
        super::subject(&super::Options::default())
    }

    storekeeper_keyring::keyring_conformance!(subject);
    storekeeper_keyring::keyring_conformance!(shared subject);
}

mod frugal {
    fn subject() -> super::Subject {
        super::subject(&super::Options {
            group_max: 1,
            connections: 2,
            backlog_rows: 60,
            backlog_fresh: std::time::Duration::from_secs(86_400),
            ..super::Options::default()
        })
    }

    storekeeper_keyring::keyring_conformance!(subject);
    storekeeper_keyring::keyring_conformance!(shared subject);
}

/// On tables that the next version has brought up to date, and which it says that this version may use: a deployment can
/// be rolled back.
mod rolled_back {
    fn subject() -> super::Subject {
        let (keyring, guard) = crate::database::rolled_back_keyring();
        super::Subject { keyring: Box::new(keyring), guard }
    }

    storekeeper_keyring::keyring_conformance!(subject);
    storekeeper_keyring::keyring_conformance!(shared subject);
}

/// Where the tables are spread over several nodes each statement is about one bucket. Here a plain database is told that they
/// are: what is sent is the same.
mod spread {
    fn subject() -> super::Subject {
        let (keyring, guard) = crate::database::spread_keyring();
        super::Subject { keyring: Box::new(keyring), guard }
    }

    storekeeper_keyring::keyring_conformance!(subject);
    storekeeper_keyring::keyring_conformance!(shared subject);
}
