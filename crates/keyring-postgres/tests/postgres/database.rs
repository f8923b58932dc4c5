//! A database of one's own for a test: empty, or with the tables made.

use std::any::Any;
use std::sync::atomic::{AtomicU32, Ordering};

use storekeeper_keyring_postgres::{Address, Options, PostgresKeyring, distributable, distribute, grant, migrate};
use tokio::runtime::{Builder, Runtime};

use crate::cluster::{Cluster, OWN_SCHEMA, SUPERUSER, given, one_at_a_time};
use crate::distribution::PLAYED;

/// Leaves of a keyring what a new one has. Row by row, and one table after the other: a database on several nodes takes
/// seconds to make so many files anew.
const EMPTY: [&str; 6] = [
    "DELETE FROM key",
    "DELETE FROM population",
    "DELETE FROM app",
    "DELETE FROM root",
    "DELETE FROM node",
    "UPDATE lease SET owner = NULL, term = 0 WHERE term <> 0",
];

/// A runtime as a keeper has one.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Runs statements as somebody.
pub(crate) async fn execute(url: &str, sql: &str) {
    let client = connect(url).await;
    client.batch_execute(sql).await.unwrap();
}

/// A connection of one's own.
pub(crate) async fn connect(url: &str) -> tokio_postgres::Client {
    storekeeper_keyring_postgres::connect(url).await.unwrap()
}

/// Makes an empty database, and says its URL.
pub(crate) async fn empty_database(cluster: &Cluster) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("keyring_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    execute(&cluster.url(SUPERUSER, "postgres"), &format!("CREATE DATABASE {name}")).await;
    cluster.url(SUPERUSER, &name)
}

/// An empty keyring, and what has to live as long as it does.
pub(crate) fn keyring(options: &Options) -> (PostgresKeyring, Box<dyn Any>) {
    let runtime = runtime();
    let given = given();
    let turn = given.is_some().then(one_at_a_time);
    let keyring = runtime.block_on(async {
        let url = match given {
            Some((url, admin_url)) => {
                execute(&admin_url, OWN_SCHEMA).await;
                migrate(&admin_url).await.unwrap();
                distribute_where_that_can_be(&admin_url).await;
                if let Some(user) = Address::of(&url).unwrap().user() {
                    grant(&admin_url, user).await.unwrap();
                }
                for statement in EMPTY {
                    execute(&admin_url, statement).await;
                }
                url
            }
            None => {
                let url = empty_database(Cluster::shared()).await;
                migrate(&url).await.unwrap();
                url
            }
        };
        PostgresKeyring::open_with(&url, options).await.unwrap()
    });
    (keyring, Box::new((runtime, turn)))
}

/// An empty keyring whose tables are spread, as far as a plain database can play that, and what has to live as long.
pub(crate) fn spread_keyring() -> (PostgresKeyring, Box<dyn Any>) {
    let runtime = runtime();
    let keyring = runtime.block_on(async {
        let url = empty_database(Cluster::shared()).await;
        execute(&url, PLAYED).await;
        migrate(&url).await.unwrap();
        distribute(&url).await.unwrap();
        PostgresKeyring::open(&url).await.unwrap()
    });
    (keyring, Box::new(runtime))
}

/// What a next version may do to tables that it says this version may use.
const NEXT: &str = "
    UPDATE schema SET version = version + 1, oldest_reader = version;
    ALTER TABLE key ADD COLUMN of_the_future text;
    ALTER TABLE key ADD COLUMN counted integer NOT NULL DEFAULT 0;
    ALTER TABLE population ADD COLUMN of_the_future bigint NOT NULL DEFAULT 0;
    ALTER TABLE app ADD COLUMN of_the_future text;
    ALTER TABLE root ADD COLUMN of_the_future text;
    ALTER TABLE node ADD COLUMN of_the_future text;
    ALTER TABLE lease ADD COLUMN of_the_future bigint NOT NULL DEFAULT 0;
    CREATE INDEX key_future ON key (counted, bucket) WHERE counted > 0;
    CREATE TABLE future (bucket smallint NOT NULL PRIMARY KEY)";

/// An empty keyring of the next version, and what has to live as long.
pub(crate) fn rolled_back_keyring() -> (PostgresKeyring, Box<dyn Any>) {
    let runtime = runtime();
    let keyring = runtime.block_on(async {
        let url = empty_database(Cluster::shared()).await;
        migrate(&url).await.unwrap();
        execute(&url, NEXT).await;
        PostgresKeyring::open(&url).await.expect("the schema says that this version is served")
    });
    (keyring, Box::new(runtime))
}

/// On a database that has the extension for it the tables are tested as they are meant to stand there.
async fn distribute_where_that_can_be(admin_url: &str) {
    match distributable(admin_url).await {
        Ok(()) => drop(distribute(admin_url).await.unwrap()),
        Err(told) => assert!(told.to_string().contains("is not distributed"), "{told}"),
    }
}
