//! Finding rows for many at once.

use futures_util::future::join_all;
use storekeeper_keyring::conformance::{Rows, enroll};
use storekeeper_keyring::{Keyring, KeyringError, Record};
use storekeeper_keyring_postgres::{PostgresKeyring, migrate};
use storekeeper_model::KeyId;

use crate::cluster::Cluster;
use crate::database::{connect, empty_database, runtime};

#[test]
fn each_of_many_who_ask_at_once_is_told_what_he_asked_for() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        migrate(&url).await.unwrap();
        let keyring = PostgresKeyring::open(&url).await.unwrap();
        let mut rows = Rows::new(1);
        let records: Vec<Record> = (0..100).map(|number| rows.usual(&number.to_string())).collect();
        enroll(&keyring, &records).await;
        let absent = rows.usual("absent").id;
        let asked: Vec<Vec<KeyId>> = (0..600_usize)
            .map(|number| match number % 4 {
                0 => vec![absent],
                1 => Vec::new(),
                several => (0..several).map(|step| records[(number * 7 + step * 31) % 100].id).collect(),
            })
            .collect();
        let many = records.iter().cycle().take(1000).map(|record| record.id).collect();
        let asked = [asked, vec![many]].concat();
        let found = join_all(asked.iter().map(|ids| keyring.find(ids))).await;
        for (ids, found) in asked.iter().zip(found) {
            let expected = ids.iter().map(|id| records.iter().find(|record| record.id == *id).cloned());
            assert_eq!(found.unwrap(), expected.collect::<Vec<_>>());
        }
        keyring.close().await;
        let closed = keyring.find(&[absent]).await;
        assert!(matches!(closed, Err(KeyringError::Unavailable(_))), "{closed:?}");
    });
}

#[test]
fn a_row_that_cannot_be_read_is_told_to_who_asked_for_it_alone() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        migrate(&url).await.unwrap();
        let keyring = PostgresKeyring::open(&url).await.unwrap();
        let mut rows = Rows::new(2);
        let records: Vec<Record> = (0..60).map(|number| rows.usual(&number.to_string())).collect();
        enroll(&keyring, &records).await;
        let spoilt = "UPDATE key SET body = '' WHERE bucket = $1 AND id = $2";
        let id = records[30].id;
        let bucket = i16::try_from(id.bucket().number()).unwrap();
        let changed = connect(&url).await.execute(spoilt, &[&bucket, &id.as_bytes().as_slice()]).await.unwrap();
        assert_eq!(changed, 1);
        let asked: Vec<[KeyId; 1]> = records.iter().map(|record| [record.id]).collect();
        let found = join_all(asked.iter().map(|ids| keyring.find(ids))).await;
        for (record, found) in records.iter().zip(found) {
            if record.id == id {
                assert!(matches!(found, Err(KeyringError::Corrupt(_))), "{found:?}");
            } else {
                assert_eq!(found.unwrap(), [Some(record.clone())]);
            }
        }
    });
}
