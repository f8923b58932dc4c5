//! How fast the embedded keyring is on this machine:
//! `cargo run --release -p storekeeper-keyring-sqlite --example churn [ROWS] [GROUP] [SECONDS] [FOLDER]`
//!
//! Loads rows, then renews what is due as a keeper does (due in the order of risk, one group each), and reads rows by id
//! before, during and after. Prints one line for each, with CPU time of the whole process and memory at its peak.

#![expect(clippy::print_stdout, reason = "it is a program that prints what it measured")]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::Rng;
use storekeeper_keyring::conformance::Rows;
use storekeeper_keyring::{DueQuery, Expected, Keyring, Record, Settled, Write};
use storekeeper_keyring_sqlite::SqliteKeyring;
use storekeeper_model::{KeyId, KeyKind, Timestamp};

const DAY: Duration = Duration::from_secs(86_400);
const LOADED_AT: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |place: usize, default: usize| arguments.get(place).map_or(default, |text| text.parse().expect("a number"));
    let (rows, group, seconds) = (number(0, 100_000), number(1, 1024), number(2, 5));
    let folder = arguments.get(3).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("storekeeper-churn-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("the folder can be made");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
    runtime.block_on(churn(&folder.join("churn.db"), rows, group, seconds));
    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
}

async fn churn(path: &Path, rows: usize, group: usize, seconds: usize) {
    let keyring = Arc::new(SqliteKeyring::open(path).expect("the keyring opens"));
    let ids = load(&keyring, rows).await;
    report_size(path, rows);
    find(&keyring, &ids, 200_000, "find, nothing written").await;
    renew(&keyring, group, seconds, LOADED_AT + 9 * DAY).await;
    let is_done = Arc::new(AtomicBool::new(false));
    let finder = {
        let (keyring, ids, is_done) = (Arc::clone(&keyring), ids.clone(), Arc::clone(&is_done));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
            runtime.block_on(async {
                while !is_done.load(Ordering::Relaxed) {
                    find(&keyring, &ids, 50_000, "find, while renewing").await;
                }
            });
        })
    };
    renew(&keyring, group, seconds.div_ceil(2), LOADED_AT + 30 * DAY).await;
    is_done.store(true, Ordering::Relaxed);
    finder.join().expect("the finder finishes");
    let watch = Watch::start();
    let counts = keyring.count(LOADED_AT + 60 * DAY, &[]).await.expect("the keyring counts");
    watch.report("count with all due", counts.iter().map(|count| count.due_backlog).sum::<u64>());
    report_size(path, rows);
    keyring.close().await;
}

async fn load(keyring: &SqliteKeyring, rows: usize) -> Vec<KeyId> {
    let mut made_up = Rows::new(1);
    let watch = Watch::start();
    let mut ids = Vec::with_capacity(rows);
    for first in (0..rows).step_by(4096) {
        let record = |number: usize| {
            let kind = KeyKind::ALL[number % 2];
            let mut record = made_up.row("mygame", &format!("player-{:07}", number / 2), kind);
            record.next_attempt_at =
                Some(LOADED_AT + made_up.rng().random_range(0..14 * 86_400) * Duration::from_secs(1));
            record
        };
        let records: Vec<Record> = (first..rows.min(first + 4096)).map(record).collect();
        ids.extend(records.iter().map(|record| record.id));
        let write = |record| Write::Put { expected: Expected::Absent, record: Box::new(record) };
        let settled = keyring.settle(Arc::new(records.into_iter().map(write).collect())).await.expect("it is written");
        assert!(settled.iter().all(|settled| *settled != Settled::Conflict), "all are new");
    }
    watch.report("load", rows as u64);
    ids
}

/// Renews in order of risk; time goes on so that there is always enough due.
async fn renew(keyring: &SqliteKeyring, group: usize, seconds: usize, from: Timestamp) {
    let mut made_up = Rows::new(2);
    let (mut now, mut renewed, mut finding) = (from, 0u64, Duration::ZERO);
    let watch = Watch::start();
    let mut making = Duration::ZERO;
    while watch.elapsed() < Duration::from_secs(seconds as u64) {
        let began = watch.elapsed();
        let (except, blocked) = (HashSet::new(), Vec::new());
        let query =
            DueQuery { until: now, impossible_after: now + 365 * DAY, except, blocked, buckets: None, limit: group };
        let due = keyring.due(query).await.expect("the keyring is available");
        finding += watch.elapsed() - began;
        if due.records.len() < group {
            now = now + DAY / 4;
        }
        let began = watch.elapsed();
        let write = |before: &Record| {
            let expected = Expected::of(before);
            Write::Put { expected, record: Box::new(made_up.renewed(before, now)) }
        };
        let writes: Vec<Write> = due.records.iter().map(write).collect();
        making += watch.elapsed() - began;
        renewed += writes.len() as u64;
        let settled = keyring.settle(Arc::new(writes)).await.expect("it is written");
        assert!(settled.iter().all(|settled| *settled != Settled::Conflict), "nobody else writes");
    }
    watch.report(&format!("renew in groups of {group}"), renewed);
    let each = |span: Duration| span.as_secs_f64() * 1e6 / renewed.max(1) as f64;
    println!("    of which finding what is due {:.1} us, making rows up {:.1} us a row", each(finding), each(making));
}

async fn find(keyring: &SqliteKeyring, ids: &[KeyId], count: usize, what: &str) {
    let mut rows = Rows::new(3);
    let watch = Watch::start();
    for _ in 0..count {
        let id = ids[rows.rng().random_range(0..ids.len())];
        assert!(keyring.find(&[id]).await.expect("the keyring is available")[0].is_some(), "it was loaded");
    }
    watch.report(what, count as u64);
}

fn report_size(path: &Path, rows: usize) {
    let bytes = std::fs::metadata(path).expect("the database is there").len();
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let log = std::fs::metadata(log).map_or(0, |log| log.len());
    println!("database {} bytes a row, log {} MiB, peak memory {} MiB", bytes / rows as u64, log >> 20, peak_memory());
}

struct Watch {
    began: std::time::Instant,
    cpu: f64,
}

impl Watch {
    #[expect(clippy::disallowed_methods, reason = "a bench measures the machine's own time")]
    fn start() -> Self {
        Self { began: std::time::Instant::now(), cpu: cpu_seconds() }
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn report(&self, what: &str, count: u64) {
        let (wall, cpu) = (self.elapsed().as_secs_f64(), cpu_seconds() - self.cpu);
        let each = |seconds: f64| seconds * 1e6 / count.max(1) as f64;
        println!(
            "{what}: {count}, {:.0}/s, {:.1} us each, CPU {:.1} us each",
            count as f64 / wall,
            each(wall),
            each(cpu)
        );
    }
}

/// User and system time of all threads, from /proc.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this bench runs on Linux");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("a command name ends").split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number of ticks");
    (ticks(11) + ticks(12)) / 100.0
}

fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this bench runs on Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("the kernel says it");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number of KiB") / 1024
}
