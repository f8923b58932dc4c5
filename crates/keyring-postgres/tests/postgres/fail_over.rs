//! Several hosts: one that says nothing is passed over, by reads, writes and beats, and one that may only be read now is
//! left for the one that may be written to.

use std::sync::Arc;
use std::time::Duration;

use storekeeper_keyring::conformance::{Rows, enroll};
use storekeeper_keyring::{ClockReport, Expected, Keyring, NodeId, Presence, Write};
use storekeeper_keyring_postgres::{Options, PostgresKeyring, migrate};

use crate::cluster::{Cluster, SUPERUSER, pause};
use crate::database::{connect, empty_database, execute, runtime};
use crate::proxy::Proxy;

/// The same URL with several hosts, each this machine.
fn several(url: &str, ports: &[u16]) -> String {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    url.replace(&format!("127.0.0.1:{}", Cluster::shared().port()), &hosts.join(","))
}

fn presence() -> Presence {
    Presence {
        id: NodeId::from_bytes([7; 16]),
        name: String::from("one"),
        draining: false,
        leaving: false,
        clock: ClockReport::Unknown,
    }
}

/// Limits that pass quickly. Whoever finds has less patience than it takes to pass over a host.
fn impatient() -> Options {
    Options {
        connect_timeout: Duration::from_millis(1000),
        statement_timeout: Duration::from_millis(500),
        find_timeout: Duration::from_millis(300),
        connections: 4,
        ..Options::default()
    }
}

#[test]
fn a_host_that_accepts_and_says_nothing_is_passed_over() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ports = [silent.local_addr().unwrap().port(), Cluster::shared().port()];
        let several = several(&url, &ports);
        // As tables are made, too.
        migrate(&format!("{several}&connect_timeout=1")).await.unwrap();
        let keyring = PostgresKeyring::open_with(&several, &impatient()).await.unwrap();
        let record = Rows::new(1).usual("a");
        enroll(&keyring, std::slice::from_ref(&record)).await;
        assert_eq!(keyring.find(&[record.id]).await.unwrap(), [Some(record)]);
        assert_eq!(keyring.leases().unwrap().beat(&presence()).await.unwrap().len(), 1);
    });
}

#[test]
fn what_a_server_says_is_told_rather_than_that_another_says_nothing() {
    runtime().block_on(async {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = silent.local_addr().unwrap().port();
        let url = Cluster::shared().url((SUPERUSER.0, "hunter2"), "postgres");
        for ports in [[silent, Cluster::shared().port()], [Cluster::shared().port(), silent]] {
            let told = PostgresKeyring::open_with(&several(&url, &ports), &impatient()).await.map(drop).unwrap_err();
            assert!(told.to_string().contains("refuses the user postgres"), "{told}");
        }
    });
}

/// So often each of them may ask in vain.
const ASKS_MAX: usize = 5;

#[test]
fn a_host_that_falls_silent_is_left_by_reads_writes_and_beats() {
    runtime().block_on(async {
        for who in ["reads", "writes", "beats"] {
            let url = empty_database(Cluster::shared()).await;
            migrate(&url).await.unwrap();
            let proxy = Proxy::start(Cluster::shared().port()).await;
            let several = several(&url, &[proxy.port(), Cluster::shared().port()]);
            let keyring = PostgresKeyring::open_with(&several, &impatient()).await.unwrap();
            let record = Rows::new(1).usual("a");
            let write = Write::Put { expected: Expected::Absent, record: Box::new(record.clone()) };
            let writes = Arc::new(vec![write]);
            proxy.fall_silent();
            let mut asks = 1..=ASKS_MAX;
            loop {
                let done = match who {
                    "reads" => keyring.find(&[record.id]).await.map(drop),
                    "writes" => keyring.settle(Arc::clone(&writes)).await.map(drop),
                    _ => keyring.leases().unwrap().beat(&presence()).await.map(drop),
                };
                match done {
                    Ok(()) => break,
                    Err(error) => assert!(asks.next().is_some(), "{who}: {error}"),
                }
            }
        }
    });
}

#[test]
fn a_primary_that_may_only_be_read_now_is_left_for_another() {
    let first = Cluster::start(&[], |_| {});
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        let database = url.split('/').next_back().unwrap().split('?').next().unwrap();
        execute(&first.url(SUPERUSER, "postgres"), &format!("CREATE DATABASE {database}")).await;
        // Nothing goes from one to the other: what is written after the change stands in the second alone.
        let theirs = first.url(SUPERUSER, database);
        migrate(&url).await.unwrap();
        migrate(&theirs).await.unwrap();
        let second = PostgresKeyring::open(&url).await.unwrap();
        let mut rows = Rows::new(1);
        let [before, after, known] = ["a", "b", "c"].map(|user| rows.usual(user));
        // In both the app has the same number.
        enroll(&second, &[known]).await;
        let several = several(&url, &[first.port(), Cluster::shared().port()]);
        let keyring = PostgresKeyring::open(&format!("{several}&target_session_attrs=read-write")).await.unwrap();
        enroll(&keyring, std::slice::from_ref(&before)).await;
        execute(&theirs, "ALTER SYSTEM SET default_transaction_read_only = on").await;
        execute(&theirs, "SELECT pg_reload_conf()").await;
        until_read_only(&theirs).await;
        keyring.leases().unwrap().beat(&presence()).await.unwrap();
        enroll(&keyring, std::slice::from_ref(&after)).await;
        let ids = [before.id, after.id];
        for keyring in [&keyring, &second] {
            assert_eq!(keyring.find(&ids).await.unwrap(), [None, Some(after.clone())]);
        }
    });
}

/// Sessions hear of a setting in their own time.
async fn until_read_only(url: &str) {
    let client = connect(url).await;
    loop {
        let setting: String = client.query_one("SHOW transaction_read_only", &[]).await.unwrap().get(0);
        if setting == "on" {
            return;
        }
        tokio::task::spawn_blocking(pause).await.unwrap();
    }
}
