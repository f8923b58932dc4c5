//! A database for measurements is emptied only if a measurement filled it.

use storekeeper_keyring::Keyring;
use storekeeper_keyring::conformance::{Rows, enroll};
use storekeeper_keyring_postgres::{PostgresKeyring, migrate, scratch};
use storekeeper_model::Timestamp;

use crate::cluster::Cluster;
use crate::database::{empty_database, runtime};

#[test]
fn what_a_measurement_filled_is_emptied_and_nothing_else() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        for _ in 0..2 {
            scratch(&url).await.unwrap();
            let keyring = PostgresKeyring::open(&url).await.unwrap();
            assert!(keyring.count(Timestamp::EPOCH, &[]).await.unwrap().is_empty());
            enroll(&keyring, &[Rows::new(1).usual("a")]).await;
            keyring.close().await;
        }
        let url = empty_database(Cluster::shared()).await;
        migrate(&url).await.unwrap();
        let record = Rows::new(1).usual("a");
        enroll(&PostgresKeyring::open(&url).await.unwrap(), std::slice::from_ref(&record)).await;
        let told = scratch(&url).await.unwrap_err().to_string();
        assert!(told.contains("no bench made them") && !told.contains('\n'), "{told}");
        assert_eq!(PostgresKeyring::open(&url).await.unwrap().find(&[record.id]).await.unwrap(), [Some(record)]);
    });
}
