//! The server is killed with `kill -9` under a load of writes and started again: calls fail as `Unavailable` or succeed,
//! and what was acknowledged is there, once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::Rng;
use storekeeper_keyring::conformance::Rows;
use storekeeper_keyring::{Count, Expected, Keyring, KeyringError, PageQuery, Record, Settled, Write};
use storekeeper_keyring_postgres::{PostgresKeyring, migrate};
use storekeeper_model::{AppName, KeyId, KeyKind, Timestamp};

use crate::cluster::{Cluster, pause};
use crate::database::{empty_database, runtime};

const ROUNDS: u64 = 5;
const WRITERS: u64 = 4;
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// What the writers tell of.
#[derive(Default)]
struct Told {
    acknowledged: AtomicU64,
    unavailable: AtomicU64,
    is_over: AtomicBool,
}

#[test]
fn every_acknowledged_write_survives_the_kill_of_the_server() {
    let mut cluster = Cluster::start(&[], |_| {});
    let runtime = runtime();
    let keyring = runtime.block_on(async {
        let url = empty_database(&cluster).await;
        migrate(&url).await.unwrap();
        Arc::new(PostgresKeyring::open(&url).await.unwrap())
    });
    let told = Arc::new(Told::default());
    let writers: Vec<_> =
        (0..WRITERS).map(|seed| runtime.spawn(load(Arc::clone(&keyring), Arc::clone(&told), seed))).collect();
    for round in 1..=ROUNDS {
        wait_until(&told.acknowledged, 1500 * round);
        cluster.kill();
        let before = told.unavailable.load(Ordering::SeqCst);
        wait_until(&told.unavailable, before + 1);
        cluster.start_again();
    }
    let acknowledged = told.acknowledged.load(Ordering::SeqCst);
    wait_until(&told.acknowledged, acknowledged + 1500);
    told.is_over.store(true, Ordering::SeqCst);
    runtime.block_on(async {
        let mut held: HashMap<KeyId, Record> = HashMap::new();
        for writer in writers {
            held.extend(writer.await.unwrap().into_iter().map(|record| (record.id, record)));
        }
        let found = everything(&keyring).await;
        assert_eq!(found.len(), held.len());
        assert!(found.iter().all(|record| held.get(&record.id) == Some(record)), "what was acknowledged, and no more");
        check_counts(&keyring, &found).await;
    });
}

fn wait_until(number: &AtomicU64, least: u64) {
    for _ in 0..3000 {
        if number.load(Ordering::SeqCst) >= least {
            return;
        }
        pause();
    }
    panic!("nothing happens any more");
}

/// Writes rows of its own until it is told to stop; returns what must be there.
async fn load(keyring: Arc<PostgresKeyring>, told: Arc<Told>, seed: u64) -> Vec<Record> {
    let mut rows = Rows::new(seed);
    let mut held: Vec<Record> = Vec::new();
    for batch in 0_u64.. {
        if told.is_over.load(Ordering::SeqCst) {
            break;
        }
        let (mut writes, mut after) = (Vec::new(), Vec::new());
        for number in 0..rows.rng().random_range(1..40) {
            if held.is_empty() || rows.rng().random_bool(0.3) {
                let mut record = rows.row("mygame", &format!("{seed}-{batch}-{number}"), KeyKind::ALL[number % 2]);
                rows.scramble(&mut record);
                writes.push(Write::Put { expected: Expected::Absent, record: Box::new(record.clone()) });
                after.push(record);
                continue;
            }
            let at = rows.rng().random_range(0..held.len());
            let before = held.swap_remove(at);
            let expected = Expected::of(&before);
            if rows.rng().random_bool(0.1) {
                writes.push(Write::Forget { id: before.id, identity: before.identity, expected });
                continue;
            }
            let mut record = rows.renewed(&before, NOW);
            rows.scramble(&mut record);
            writes.push(Write::Put { expected, record: Box::new(record.clone()) });
            after.push(record);
        }
        let count = writes.len() as u64;
        let settled = until_settled(&keyring, &told, Arc::new(writes)).await;
        assert!(settled.iter().all(|settled| *settled != Settled::Conflict), "each writer has its own rows");
        told.acknowledged.fetch_add(count, Ordering::SeqCst);
        held.extend(after.into_iter().map(|record| Record { last_used_day: None, ..record }));
    }
    held
}

/// As a keeper does: what could not be written is written when the keyring is back.
async fn until_settled(keyring: &PostgresKeyring, told: &Told, writes: Arc<Vec<Write>>) -> Vec<Settled> {
    loop {
        match keyring.settle(Arc::clone(&writes)).await {
            Ok(settled) => return settled,
            Err(KeyringError::Unavailable(_)) => {
                told.unavailable.fetch_add(1, Ordering::SeqCst);
                tokio::task::spawn_blocking(pause).await.unwrap();
            }
            Err(other) => panic!("{other}"),
        }
    }
}

async fn everything(keyring: &PostgresKeyring) -> Vec<Record> {
    let mut query = PageQuery { limit: 1000, ..PageQuery::default() };
    let mut records = Vec::new();
    loop {
        let page = keyring.page(query.clone()).await.unwrap();
        records.extend(page.records);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return records,
        }
    }
}

async fn check_counts(keyring: &PostgresKeyring, records: &[Record]) {
    let mut exact: HashMap<(AppName, KeyKind), Count> = HashMap::new();
    for record in records {
        let (app, kind) = (record.identity.app.clone(), record.identity.kind);
        exact.entry((app.clone(), kind)).or_insert(Count::none(app, kind)).add(record, NOW, None);
    }
    let counts = keyring.count(NOW, &[]).await.unwrap();
    let counted = counts.into_iter().map(|count| ((count.app.clone(), count.kind), count)).collect();
    assert_eq!(exact, counted);
}
