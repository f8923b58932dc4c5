//! A connection that is lost in the very commit: whether it was made is found out, and no effect is doubled or denied.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use storekeeper_keyring::conformance::Rows;
use storekeeper_keyring::{Expected, Keyring, KeyringError, Record, Settled, WrappedRoot, Write};
use storekeeper_keyring_postgres::{PostgresKeyring, migrate};
use storekeeper_model::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::Cluster;
use crate::database::{empty_database, execute, runtime};

const PASS: u8 = 0;
/// The server commits; its answer is lost.
const LOSE_ANSWER: u8 = 1;
/// The server never hears of the commit.
const LOSE_COMMIT: u8 = 2;
/// The connection is cut before the transaction has come so far.
const CUT_BEFORE: u8 = 3;

/// Stands between keyring and server, and does harm once when told to.
struct Proxy {
    address: SocketAddr,
    harm: Arc<AtomicU8>,
    is_away: Arc<AtomicBool>,
}

impl Proxy {
    async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (harm, is_away) = (Arc::new(AtomicU8::new(PASS)), Arc::new(AtomicBool::new(false)));
        let (theirs, away) = (Arc::clone(&harm), Arc::clone(&is_away));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !away.load(Ordering::SeqCst) {
                    tokio::spawn(pass(client, server, Arc::clone(&theirs)));
                }
            }
        });
        Self { address, harm, is_away }
    }

    fn harm(&self, harm: u8) {
        self.harm.store(harm, Ordering::SeqCst);
    }

    fn is_harmless(&self) -> bool {
        self.harm.load(Ordering::SeqCst) == PASS
    }
}

async fn pass(mut client: TcpStream, server: u16, harm: Arc<AtomicU8>) {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let commits = asked[..length].windows(7).any(|bytes| bytes == b"COMMIT\0");
                let begins = asked[..length].windows(5).any(|bytes| bytes == b"START" || bytes == b"BEGIN");
                let planned = harm.load(Ordering::SeqCst);
                if planned == CUT_BEFORE && begins {
                    harm.store(PASS, Ordering::SeqCst);
                    return;
                }
                if commits && (planned == LOSE_ANSWER || planned == LOSE_COMMIT) {
                    harm.store(PASS, Ordering::SeqCst);
                    if planned == LOSE_ANSWER {
                        server.write_all(&asked[..length]).await.unwrap();
                        assert!(server.read(&mut answered).await.unwrap() > 0, "the server has committed");
                    }
                    return;
                }
                server.write_all(&asked[..length]).await.unwrap();
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A keyring behind a proxy, and one beside it.
async fn both() -> (Proxy, PostgresKeyring, PostgresKeyring, String) {
    let url = empty_database(Cluster::shared()).await;
    migrate(&url).await.unwrap();
    let proxy = Proxy::start(Cluster::shared().port()).await;
    let through = url.replace(&format!(":{}/", Cluster::shared().port()), &format!(":{}/", proxy.address.port()));
    let behind = PostgresKeyring::open(&through).await.unwrap();
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
            proxy.is_away.store(true, Ordering::SeqCst);
            // Only connections that are made from now on are turned away; the open one ends in the commit.
            let error = settle_through_outage(&proxy, &behind, &record).await;
            assert!(matches!(error, KeyringError::Unavailable(_)), "{error}");
            proxy.is_away.store(false, Ordering::SeqCst);
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
        assert!(matches!(answers.pop(), Some(Err(KeyringError::Unavailable(_)))));
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(active(&keyring).await, 20);
    });
}
