//! A connection that is lost in the very commit: whether it was made is found out, and no effect is doubled or denied.

use std::sync::Arc;
use std::time::Duration;

use storekeeper_keyring::conformance::Rows;
use storekeeper_keyring::{Expected, Keyring, KeyringError, Record, Settled, WrappedRoot, Write};
use storekeeper_keyring_postgres::{Options, PostgresKeyring, migrate};
use storekeeper_model::Timestamp;

use crate::cluster::Cluster;
use crate::database::{empty_database, execute, runtime};
use crate::proxy::{CUT_BEFORE, LOSE_ANSWER, LOSE_COMMIT, Proxy, WITHHOLD_ANSWER};

/// A keyring behind a proxy, and one beside it.
async fn both() -> (Proxy, PostgresKeyring, PostgresKeyring, String) {
    both_with(&Options::default()).await
}

async fn both_with(options: &Options) -> (Proxy, PostgresKeyring, PostgresKeyring, String) {
    let url = empty_database(Cluster::shared()).await;
    migrate(&url).await.unwrap();
    let proxy = Proxy::start(Cluster::shared().port()).await;
    let through = url.replace(&format!(":{}/", Cluster::shared().port()), &format!(":{}/", proxy.port()));
    let behind = PostgresKeyring::open_with(&through, options).await.unwrap();
    (proxy, behind, PostgresKeyring::open(&url).await.unwrap(), url)
}

fn new(record: &Record) -> Write {
    Write::Put { expected: Expected::Absent, record: Box::new(record.clone()) }
}

fn change(before: &Record, after: &Record) -> Write {
    Write::Put { expected: Expected::of(before), record: Box::new(after.clone()) }
}

fn forget(record: &Record) -> Write {
    Write::Forget { id: record.id, identity: record.identity.clone(), expected: Expected::of(record) }
}

async fn settle(keyring: &PostgresKeyring, writes: Vec<Write>) -> Result<Vec<Settled>, KeyringError> {
    keyring.settle(Arc::new(writes)).await
}

async fn active(keyring: &PostgresKeyring) -> u64 {
    keyring.count(Timestamp::EPOCH, &[]).await.unwrap().iter().map(|count| count.active).sum()
}

#[test]
fn a_lost_connection_doubles_no_effect_and_denies_none() {
    runtime().block_on(async {
        for harm in [LOSE_ANSWER, LOSE_COMMIT, CUT_BEFORE] {
            let (proxy, behind, beside, _) = both().await;
            let mut rows = Rows::new(harm.into());
            let [first, second, gone] = ["a", "b", "c"].map(|user| rows.usual(user));
            settle(&behind, vec![new(&first), new(&gone)]).await.unwrap();
            let [renewed, again] = [1, 2].map(|_| rows.renewed(&first, Timestamp::EPOCH));
            let twice = Record { revision: renewed.revision.next(), ..again };
            let late = rows.renewed(&second, Timestamp::EPOCH);
            let writes = vec![
                change(&first, &renewed),
                new(&second),
                change(&renewed, &twice),
                forget(&gone),
                change(&late, &second),
            ];
            proxy.harm(harm);
            let settled = settle(&behind, writes).await.unwrap();
            assert!(proxy.is_harmless(), "harm {harm} was done");
            let done = [&renewed, &second, &twice, &gone].map(|record| Settled::Done(record.revision));
            assert_eq!(settled[..4], done, "harm {harm}");
            assert_eq!(settled[4], Settled::Conflict, "harm {harm}");
            let held = beside.find(&[first.id, second.id, gone.id]).await.unwrap();
            assert_eq!(held, [Some(twice), Some(second), None], "harm {harm}");
            assert_eq!(active(&beside).await, 2, "harm {harm}");
        }
    });
}

#[test]
fn a_root_whose_answer_was_lost_is_added_once() {
    runtime().block_on(async {
        let (proxy, behind, beside, _) = both().await;
        let root = WrappedRoot { generation: 1, wrapped: vec![1; 69], created_at: Timestamp::EPOCH };
        proxy.harm(LOSE_ANSWER);
        behind.add_root(&root).await.unwrap();
        assert!(proxy.is_harmless());
        assert!(matches!(beside.add_root(&root).await, Err(KeyringError::RootExists { generation: 1 })));
    });
}

#[test]
fn what_was_committed_before_a_long_outage_is_recognised_when_it_is_asked_for_again() {
    runtime().block_on(async {
        for harm in [LOSE_ANSWER, LOSE_COMMIT] {
            let (proxy, behind, beside, _) = both().await;
            let record = Rows::new(1).usual("a");
            // The app's number comes before the transaction, and has to be there.
            settle(&behind, vec![new(&Rows::new(2).usual("z"))]).await.unwrap();
            proxy.harm(harm);
            proxy.turn_away(true);
            let error = settle_through_outage(&proxy, &behind, &record).await;
            assert!(matches!(error, KeyringError::Unavailable(_)), "{error}");
            proxy.turn_away(false);
            assert_eq!(settle(&behind, vec![new(&record)]).await.unwrap(), [Settled::Done(record.revision)]);
            assert_eq!(active(&beside).await, 2);
            // It is remembered for as long as there was doubt.
            assert_eq!(settle(&behind, vec![new(&record)]).await.unwrap(), [Settled::Conflict]);
        }
    });
}

async fn settle_through_outage(proxy: &Proxy, behind: &PostgresKeyring, record: &Record) -> KeyringError {
    let error = settle(behind, vec![new(record)]).await.expect_err("nobody can tell");
    assert!(proxy.is_harmless(), "the connection was lost in the commit");
    error
}

#[test]
fn a_commit_that_is_not_answered_is_in_doubt_however_long_its_statements_took() {
    runtime().block_on(async {
        let limit = Duration::from_secs(1);
        let options = Options { statement_timeout: limit, ..Options::default() };
        let (proxy, behind, beside, url) = both_with(&options).await;
        settle(&behind, vec![new(&Rows::new(2).usual("z"))]).await.unwrap();
        execute(
            &url,
            "CREATE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END';
             CREATE TRIGGER long AFTER INSERT ON key FOR EACH STATEMENT EXECUTE FUNCTION take_long()",
        )
        .await;
        let record = Rows::new(1).usual("a");
        proxy.harm(WITHHOLD_ANSWER);
        let error = settle(&behind, vec![new(&record)]).await.expect_err("nobody can tell");
        assert!(proxy.is_harmless() && matches!(error, KeyringError::Unavailable(_)), "{error}");
        assert_eq!(beside.find(&[record.id]).await.unwrap(), [Some(record.clone())]);
        assert_eq!(settle(&behind, vec![new(&record)]).await.unwrap(), [Settled::Done(record.revision)]);
        assert_eq!(active(&beside).await, 2);
    });
}

#[test]
fn a_row_that_cannot_be_stored_takes_no_other_with_it() {
    runtime().block_on(async {
        let (_proxy, _, keyring, url) = both().await;
        execute(&url, "ALTER TABLE key ADD CHECK (slot <> 'bad')").await;
        let mut rows = Rows::new(1);
        let good: Vec<Record> = (0..20).map(|number| rows.usual(&format!("{number}"))).collect();
        let mut bad = rows.usual("bad");
        bad.identity.slot = storekeeper_model::Slot::new("bad").unwrap();
        bad.id = bad.identity.key_id();
        // The first is on its way alone; the others wait together.
        let asked = good.iter().chain([&bad]).map(|record| settle(&keyring, vec![new(record)]));
        let mut answers = futures_util::future::join_all(asked).await;
        assert!(matches!(answers.pop(), Some(Err(KeyringError::Refused(_)))));
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(active(&keyring).await, 20);
    });
}
