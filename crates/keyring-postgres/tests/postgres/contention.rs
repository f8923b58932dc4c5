//! Transactions that meet others are made again, and what was asked for is made once.

use storekeeper_keyring::conformance::{Rows, enroll, put};
use storekeeper_keyring::{Keyring, Lease, LeaseChange, NodeId, Settled};
use storekeeper_keyring_postgres::{PostgresKeyring, migrate};
use storekeeper_model::Timestamp;

use crate::cluster::{Cluster, pause};
use crate::database::{connect, empty_database, execute, runtime};

const ME: NodeId = NodeId::from_bytes([7; 16]);

/// What the server says of a transaction that cannot be put in an order with others, and of one that waits in a circle.
const CODES: [&str; 2] = ["40001", "40P01"];

/// Halts whoever changes the second lease for the first time, when the first one is changed, until somebody waits for that.
const HALT: &str = "
    CREATE SEQUENCE halted;
    CREATE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('halted') = 1 THEN
            WHILE NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock') LOOP
                PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
            END LOOP;
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER halt BEFORE UPDATE ON lease FOR EACH ROW WHEN (OLD.bucket = 1) EXECUTE FUNCTION halt()";

const HALTED: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";

/// Refuses the first change of a table with this code. Numbers that were drawn stay drawn.
fn refuses_once(table: &str, code: &str) -> String {
    format!(
        "CREATE SEQUENCE tried;
         CREATE FUNCTION refuse_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('tried') = 1 THEN RAISE EXCEPTION 'met another' USING ERRCODE = '{code}'; END IF;
             RETURN NULL;
         END $$;
         CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION refuse_once()"
    )
}

async fn tried(url: &str) -> i64 {
    connect(url).await.query_one("SELECT last_value FROM tried", &[]).await.unwrap().get(0)
}

/// Takes the first leases.
async fn take(keyring: &PostgresKeyring, count: usize) -> Vec<bool> {
    let seen: Vec<Lease> = keyring.leases().unwrap().all().await.unwrap();
    let take = |seen: &Lease| LeaseChange { seen: *seen, owner: Some(ME) };
    keyring.leases().unwrap().change(seen.iter().take(count).map(take).collect()).await.unwrap()
}

/// How many leases were taken so often.
async fn taken(keyring: &PostgresKeyring, term: u64) -> usize {
    let leases = keyring.leases().unwrap().all().await.unwrap();
    leases.iter().filter(|lease| lease.owner == Some(ME) && lease.term == term).count()
}

#[test]
fn a_group_of_writes_that_met_another_is_made_once() {
    runtime().block_on(async {
        for code in CODES {
            let url = empty_database(Cluster::shared()).await;
            migrate(&url).await.unwrap();
            let keyring = PostgresKeyring::open(&url).await.unwrap();
            let mut rows = Rows::new(1);
            let record = rows.usual("a");
            enroll(&keyring, std::slice::from_ref(&record)).await;
            execute(&url, &refuses_once("key", code)).await;
            let renewed = rows.renewed(&record, Timestamp::EPOCH);
            assert_eq!(put(&keyring, &record, &renewed).await, Settled::Done(renewed.revision), "{code}");
            assert_eq!(tried(&url).await, 2, "{code}");
            enroll(&keyring, &[rows.usual("b")]).await;
            assert_eq!(keyring.find(&[record.id]).await.unwrap(), [Some(renewed)], "{code}");
            let counts = keyring.count(Timestamp::EPOCH, &[]).await.unwrap();
            assert_eq!(counts.iter().map(|count| count.active).sum::<u64>(), 2, "{code}");
        }
    });
}

#[test]
fn leases_that_met_others_change_hands_once() {
    runtime().block_on(async {
        for code in CODES {
            let url = empty_database(Cluster::shared()).await;
            migrate(&url).await.unwrap();
            let keyring = PostgresKeyring::open(&url).await.unwrap();
            execute(&url, &refuses_once("lease", code)).await;
            assert_eq!(take(&keyring, 3).await, [true; 3], "{code}");
            assert_eq!(tried(&url).await, 2, "{code}");
            assert_eq!(taken(&keyring, 1).await, 3, "{code}");
        }
    });
}

#[test]
fn whoever_waited_in_a_circle_has_what_he_asked_for() {
    runtime().block_on(async {
        let url = empty_database(Cluster::shared()).await;
        migrate(&url).await.unwrap();
        execute(&url, HALT).await;
        // The keyring comes last into the circle, and looks for it first: so it is its transaction that is ended.
        let keyring = PostgresKeyring::open(&format!("{url}&options=-cdeadlock_timeout%3D20ms")).await.unwrap();
        let other = connect(&url).await;
        let change = |bucket| format!("UPDATE lease SET term = term WHERE bucket = {bucket}");
        other.batch_execute(&format!("SET deadlock_timeout = '60s'; BEGIN; {}", change(2))).await.unwrap();
        let circle = async {
            until_some(&url, HALTED).await;
            other.batch_execute(&format!("{}; COMMIT", change(0))).await.unwrap();
        };
        let (taken_by_me, ()) = tokio::join!(take(&keyring, 3), circle);
        assert_eq!(taken_by_me, [true; 3]);
        assert_eq!(taken(&keyring, 1).await, 3);
        // What a session counts is told at its end.
        keyring.close().await;
        until_some(&url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").await;
    });
}

async fn until_some(url: &str, count: &str) {
    let client = connect(url).await;
    while client.query_one(count, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::spawn_blocking(pause).await.unwrap();
    }
}
