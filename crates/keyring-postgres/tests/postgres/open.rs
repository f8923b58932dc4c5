//! Opening: what is in the way is said in one line that says what to do, and what was there before is there again.

use storekeeper_keyring::conformance::{Rows, enroll, put};
use storekeeper_keyring::{ClockReport, DueQuery, Expected, Keyring, KeyringError, NodeId, Settled, Write};
use storekeeper_keyring_postgres::{Migrated, PostgresKeyring, distributable, distribute, grant, migrate};
use storekeeper_model::Timestamp;

use crate::cluster::{Cluster, OWN_SCHEMA, SUPERUSER, free_port, in_own_schema, pause};
use crate::database::{connect, empty_database, execute, runtime};

#[track_caller]
fn check_one_line(error: &KeyringError, parts: &[&str]) {
    let text = error.to_string();
    assert!(parts.iter().all(|part| text.contains(part)) && !text.contains('\n'), "{text}");
    assert!(!text.contains(SUPERUSER.1) && !text.contains("hunter2"), "{text}");
}

/// What somebody has to correct.
async fn refused(url: &str) -> KeyringError {
    let error = PostgresKeyring::open(url).await.map(drop).expect_err("it cannot be opened");
    assert!(matches!(error, KeyringError::Unreachable(_)), "{error:?}");
    error
}

/// What may pass by itself.
async fn unavailable(url: &str) -> KeyringError {
    let error = PostgresKeyring::open(url).await.map(drop).expect_err("it cannot be opened");
    assert!(matches!(error, KeyringError::Unavailable(_)), "{error:?}");
    error
}

#[test]
fn rows_counts_and_names_outlive_the_process() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        migrate(&url).await.unwrap();
        let mut rows = Rows::new(1);
        let record = rows.usual("a");
        let renewed = rows.renewed(&record, Timestamp::from_seconds(1_800_777_600));
        let first = PostgresKeyring::open(&url).await.unwrap();
        enroll(&first, std::slice::from_ref(&record)).await;
        assert_eq!(put(&first, &record, &renewed).await, Settled::Done(renewed.revision));
        let counts = first.count(Timestamp::EPOCH, &[]).await.unwrap();
        first.close().await;
        let second = PostgresKeyring::open(&url).await.unwrap();
        assert_eq!(second.find(&[record.id]).await.unwrap(), [Some(renewed)]);
        assert_eq!(second.count(Timestamp::EPOCH, &[]).await.unwrap(), counts);
        assert_eq!(counts[0].active, 1);
    });
}

#[test]
fn two_keepers_see_each_others_rows_and_apps() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        migrate(&url).await.unwrap();
        let (one, other) = (PostgresKeyring::open(&url).await.unwrap(), PostgresKeyring::open(&url).await.unwrap());
        let mut rows = Rows::new(2);
        let [first, second] = ["mygame", "another"].map(|app| rows.row(app, "a", storekeeper_model::KeyKind::Purchase));
        tokio::join!(enroll(&one, std::slice::from_ref(&first)), enroll(&other, std::slice::from_ref(&second)));
        let ids = [first.id, second.id];
        for keyring in [&one, &other] {
            assert_eq!(keyring.find(&ids).await.unwrap(), [Some(first.clone()), Some(second.clone())]);
            assert_eq!(keyring.count(Timestamp::EPOCH, &[]).await.unwrap().len(), 2);
        }
    });
}

#[test]
fn what_one_keeper_counted_another_may_take_away() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        migrate(&url).await.unwrap();
        let (one, other) = (PostgresKeyring::open(&url).await.unwrap(), PostgresKeyring::open(&url).await.unwrap());
        let mut rows = Rows::new(3);
        let [first, second] = ["a", "b"].map(|user| rows.usual(user));
        enroll(&one, &[first.clone(), second]).await;
        let (id, identity, expected) = (first.id, first.identity.clone(), Expected::of(&first));
        let forget = Write::Forget { id, identity, expected };
        assert_eq!(other.settle(vec![forget].into()).await.unwrap(), [Settled::Done(first.revision)]);
        for keyring in [&one, &other] {
            let counts = keyring.count(Timestamp::EPOCH, &[]).await.unwrap();
            assert_eq!(counts.iter().map(|count| count.active).sum::<u64>(), 1);
        }
    });
}

#[test]
fn an_unreachable_host_is_one_line() {
    runtime().block_on(async {
        let url = format!("postgres://u:hunter2@127.0.0.1:{}/d?sslmode=disable", free_port());
        check_one_line(&unavailable(&url).await, &["cannot be reached", "127.0.0.1:", "check that it runs"]);
        let nowhere = "postgres://u:hunter2@nowhere.invalid/d";
        check_one_line(&unavailable(nowhere).await, &["cannot be reached", "nowhere.invalid:5432"]);
        check_one_line(&refused("postgres://u:hunter2@h:port/d").await, &["the URL is not understood", "`port`"]);
        check_one_line(&refused("postgres://u:hunter2@h/d?sslmode=allow").await, &["say disable, prefer"]);
    });
}

#[test]
fn a_host_that_does_not_answer_is_given_up() {
    runtime().block_on(async {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://u@{}/d?connect_timeout=1", silent.local_addr().unwrap());
        check_one_line(&unavailable(&url).await, &["does not answer", "check that it runs"]);
        for error in [
            migrate(&url).await.unwrap_err(),
            grant(&url, "u").await.unwrap_err(),
            distributable(&url).await.unwrap_err(),
            distribute(&url).await.unwrap_err(),
        ] {
            assert!(matches!(error, KeyringError::Unavailable(_)), "{error:?}");
            check_one_line(&error, &["does not answer", "check that it runs"]);
        }
    });
}

#[test]
fn a_wrong_password_is_one_line() {
    runtime().block_on(async {
        let without = format!("postgres://u@127.0.0.1:{}/d", Cluster::shared().port());
        check_one_line(&refused(&without).await, &["wants a password of the user u", "url_file"]);
        let secure = format!("postgres://u:hunter2@127.0.0.1:{}/d?sslmode=require", Cluster::shared().port());
        check_one_line(&refused(&secure).await, &["does not speak TLS", "sslmode=disable"]);
        let url = Cluster::shared().url((SUPERUSER.0, "hunter2"), "postgres");
        check_one_line(&refused(&url).await, &["refuses the user postgres", "correct the user name or the password"]);
    });
}

#[test]
fn a_wrong_database_is_one_line() {
    runtime().block_on(async {
        let url = Cluster::shared().url(SUPERUSER, "nowhere");
        check_one_line(&refused(&url).await, &["there is no database nowhere", "create it"]);
        let error = migrate(&url).await.unwrap_err();
        check_one_line(&error, &["there is no database nowhere"]);
    });
}

#[test]
fn missing_tables_are_one_line_and_are_not_made_by_opening() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        for _ in 0..2 {
            check_one_line(&refused(&url).await, &["has no tables", "storekeeper init --migrate"]);
        }
        let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
        let tables: i64 = connect(&url).await.query_one(tables, &[]).await.unwrap().get(0);
        assert_eq!(tables, 0);
    });
}

#[test]
fn many_may_make_the_tables_at_once() {
    runtime().block_on(async {
        for _ in 0..5 {
            let url = empty_database(Cluster::shared()).await;
            let made = tokio::join!(migrate(&url), migrate(&url), migrate(&url));
            made.0.and(made.1).and(made.2).unwrap();
            let again = migrate(&url).await.unwrap();
            assert_eq!(again, Migrated { from: Some(again.to), to: again.to });
            PostgresKeyring::open(&url).await.unwrap();
        }
    });
}

#[test]
fn whoever_may_not_make_tables_is_told_and_leaves_none() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        let role = ("guest", "hunter2");
        execute(&url, "CREATE ROLE guest LOGIN PASSWORD 'hunter2'").await;
        let database = url.split('/').next_back().unwrap().split('?').next().unwrap();
        let theirs = Cluster::shared().url(role, database);
        check_one_line(&migrate(&theirs).await.unwrap_err(), &["were not made", "permission denied"]);
        check_one_line(&refused(&theirs).await, &["has no tables"]);
        migrate(&url).await.unwrap();
        check_one_line(&refused(&theirs).await, &["the user guest may not use the tables", "init --migrate"]);
        check_one_line(&grant(&theirs, "guest").await.unwrap_err(), &["was not granted", "let the owner"]);
        check_one_line(&grant(&url, "no\"body").await.unwrap_err(), &["no\"body", "is not known", "CREATE ROLE"]);
        grant(&url, "guest").await.unwrap();
        let keyring = PostgresKeyring::open(&theirs).await.unwrap();
        enroll(&keyring, &[Rows::new(1).usual("a")]).await;
    });
}

#[test]
fn too_few_connections_are_one_line() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        migrate(&url).await.unwrap();
        execute(&url, "CREATE ROLE crowd LOGIN PASSWORD 'hunter2' CONNECTION LIMIT 0").await;
        grant(&url, "crowd").await.unwrap();
        let database = url.split('/').next_back().unwrap().split('?').next().unwrap();
        let theirs = Cluster::shared().url(("crowd", "hunter2"), database);
        let told = ["no connection left", "max_connections", "lower `connections`", "LIMIT of the user crowd"];
        check_one_line(&unavailable(&theirs).await, &told);
        execute(&url, "ALTER ROLE crowd CONNECTION LIMIT 9").await;
        check_one_line(&unavailable(&theirs).await, &told);
        execute(&url, "ALTER ROLE crowd CONNECTION LIMIT 10").await;
        until_nobody_is_connected(&url, "crowd").await;
        let keyring = PostgresKeyring::open(&theirs).await.expect("8 connections and 2 are what it may have");
        let record = Rows::new(1).usual("a");
        enroll(&keyring, std::slice::from_ref(&record)).await;
        assert_eq!(keyring.find(&[record.id]).await.unwrap(), [Some(record)]);
    });
}

async fn until_nobody_is_connected(url: &str, user: &str) {
    let client = connect(url).await;
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
    while client.query_one(sessions, &[&user]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::task::spawn_blocking(pause).await.unwrap();
    }
}

#[test]
fn a_newer_schema_serves_this_version_if_it_says_so() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        migrate(&url).await.unwrap();
        let record = Rows::new(1).usual("a");
        enroll(&PostgresKeyring::open(&url).await.unwrap(), std::slice::from_ref(&record)).await;
        let next = "UPDATE schema SET version = 3, oldest_reader = 2; ALTER TABLE key ADD COLUMN of_the_future text";
        execute(&url, next).await;
        let keyring = PostgresKeyring::open(&url).await.expect("it says that version 2 may read it");
        let mut rows = Rows::new(2);
        let renewed = rows.renewed(&record, Timestamp::EPOCH);
        assert_eq!(put(&keyring, &record, &renewed).await, Settled::Done(renewed.revision));
        enroll(&keyring, &[rows.usual("b")]).await;
        assert_eq!(keyring.find(&[record.id]).await.unwrap(), [Some(renewed)]);
        migrate(&url).await.expect("there is nothing to do");
        execute(&url, "UPDATE schema SET version = 4, oldest_reader = 3").await;
        for error in [PostgresKeyring::open(&url).await.map(drop).unwrap_err(), migrate(&url).await.unwrap_err()] {
            assert!(matches!(error, KeyringError::TooNew { found: 4, known: 2 }), "{error}");
            check_one_line(&error, &["newer version"]);
        }
        execute(&url, "UPDATE schema SET version = 0, oldest_reader = 0").await;
        check_one_line(&refused(&url).await, &["out of date", "storekeeper init"]);
    });
}

/// Version 1 beats and reads nodes without the column `clock`, on the tables of version 2.
#[test]
fn version_1_shares_the_tables_of_version_2() {
    const BEAT: &str = "INSERT INTO node (bucket, id, name, beat, draining) VALUES (0, $1, $2, 1, $3)
        ON CONFLICT (bucket, id) DO UPDATE SET beat = node.beat + 1, draining = node.draining OR excluded.draining";
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        migrate(&url).await.unwrap();
        let oldest_reader = "SELECT oldest_reader FROM schema WHERE bucket = 0";
        let former = connect(&url).await;
        assert_eq!(former.query_one(oldest_reader, &[]).await.unwrap().get::<_, i32>(0), 1);
        let (keyring, id) = (PostgresKeyring::open(&url).await.unwrap(), NodeId::from_bytes([1; 16]));
        for _ in 0..2 {
            former.execute(BEAT, &[&id.as_bytes().as_slice(), &"former", &false]).await.unwrap();
        }
        let nodes = keyring.leases().unwrap().nodes().await.unwrap();
        assert_eq!((nodes.len(), nodes[0].beat, nodes[0].clock), (1, 2, ClockReport::Unknown));
        // A number of a later version is no reason to move a lease.
        former.execute("UPDATE node SET clock = 7", &[]).await.unwrap();
        assert_eq!(keyring.leases().unwrap().nodes().await.unwrap()[0].clock, ClockReport::Unknown);
    });
}

#[test]
fn the_servers_clock_does_not_matter() {
    const YEARS: std::time::Duration = std::time::Duration::from_secs(30 * 365 * 86_400);
    runtime().block_on(async {
        let mut found = Vec::new();
        // The server's clock is where the machine's is: for a keeper thirty years away it is thirty years off.
        for now in [here(), here() - YEARS, here() + YEARS] {
            let url = empty_database(Cluster::shared()).await;
            migrate(&url).await.unwrap();
            let keyring = PostgresKeyring::open(&url).await.unwrap();
            let mut rows = Rows::new(7);
            let mut record = rows.usual("a");
            (record.key, record.next_attempt_at) = (rows.key(now - YEARS / 365 / 3), Some(now));
            enroll(&keyring, std::slice::from_ref(&record)).await;
            let query = |until| DueQuery {
                until,
                impossible_after: now + YEARS,
                except: Default::default(),
                blocked: Vec::new(),
                buckets: None,
                limit: 10,
            };
            let early = keyring.due(query(now - std::time::Duration::from_millis(1))).await.unwrap();
            let due = keyring.due(query(now)).await.unwrap();
            assert_eq!(due.records, [record.clone()]);
            let renewed = rows.renewed(&record, now);
            assert_eq!(put(&keyring, &record, &renewed).await, Settled::Done(renewed.revision));
            assert_eq!(keyring.find(&[record.id]).await.unwrap(), [Some(renewed)]);
            let counts = keyring.count(now, &[]).await.unwrap();
            found.push((early.records.len(), early.next_due_at.map(|at| at.millis() - now.millis()), counts));
        }
        assert_eq!(found[0], found[1]);
        assert_eq!(found[0], found[2]);
    });
}

#[expect(clippy::disallowed_methods, reason = "where the server's clock is")]
fn here() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_seconds(since.as_secs().cast_signed())
}

#[test]
fn a_database_that_somebody_names_keeps_its_keys_while_tests_work_in_it() {
    runtime().block_on(async {
        let theirs = empty_database(Cluster::shared()).await;
        let ours = in_own_schema(&theirs);
        let record = Rows::new(1).usual("a");
        let mut found = Vec::new();
        for url in [&theirs, &ours] {
            connect(&ours).await.batch_execute(OWN_SCHEMA).await.unwrap();
            migrate(url).await.unwrap();
            let keyring = PostgresKeyring::open(url).await.unwrap();
            found.push(keyring.find(&[record.id]).await.unwrap().remove(0).is_some());
            enroll(&keyring, std::slice::from_ref(&record)).await;
        }
        connect(&ours).await.batch_execute("DELETE FROM key").await.unwrap();
        for url in [&theirs, &ours] {
            let keyring = PostgresKeyring::open(url).await.unwrap();
            found.push(keyring.find(&[record.id]).await.unwrap().remove(0).is_some());
        }
        assert_eq!(found, [false, false, true, false]);
    });
}
