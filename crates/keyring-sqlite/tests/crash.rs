//! Killed at any moment under a load of writes, the embedded keyring has every acknowledged write when it is opened
//! again, whole rows only, and exact counts.
//!
//! The test starts itself again as the process that is killed.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test without the usual harness, which speaks by its output"
)]

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use storekeeper_keyring::conformance::Rows;
use storekeeper_keyring::{Count, Expected, Keyring, KeyringError, PageQuery, Record, Revision, Settled, Write};
use storekeeper_keyring_sqlite::{Options, SqliteKeyring};
use storekeeper_model::{AppName, Fingerprint, KeyId, KeyKind, Timestamp};

const NAME: &str = "every_acknowledged_write_survives_kill";
const ROUNDS: u64 = 12;
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, path, seed] = arguments.as_slice()
        && role == "be-killed"
    {
        return be_killed(Path::new(path), seed.parse().unwrap());
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return println!("{NAME}: test");
    }
    if arguments.iter().any(|argument| !argument.starts_with('-') && !NAME.contains(argument.as_str())) {
        return;
    }
    every_acknowledged_write_survives_kill();
    println!("test {NAME} ... ok");
}

/// So that the log is copied back while the process is killed, too.
fn options() -> Options {
    Options { checkpoint_pages: 300, ..Options::default() }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn every_acknowledged_write_survives_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("storekeeper.db");
    let seed = 1;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut known = Known::default();
    for round in 0..ROUNDS {
        let lines_max = rng.random_range(1..3000);
        let before = known.acknowledged;
        kill_after(&path, round, lines_max, &mut known);
        assert!(known.acknowledged > before, "round {round} was killed before anything happened");
        let keyring = SqliteKeyring::open_with(&path, &options()).expect("it opens after a kill");
        block_on(known.check(&keyring, round));
    }
}

/// Starts the load, kills it after so many lines, and notes all that it was told of.
fn kill_after(path: &Path, round: u64, lines_max: usize, known: &mut Known) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["be-killed", path.to_str().unwrap(), &round.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    for number in 0.. {
        if number == lines_max {
            let error = SqliteKeyring::open(path).map(drop).expect_err("another process holds it");
            assert!(matches!(error, KeyringError::Held(_)), "{error}");
            child.kill().unwrap();
        }
        line.clear();
        // What is left in the pipe was acknowledged too.
        if lines.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
            break;
        }
        known.note(line.trim());
    }
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "round {round}: killed, not ended by itself");
}

/// What the killed processes said.
#[derive(Default)]
struct Known {
    acknowledged: u64,
    revisions: HashMap<KeyId, i64>,
    about_to_be_forgotten: HashSet<KeyId>,
    forgotten: HashSet<KeyId>,
}

impl Known {
    fn note(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let id: KeyId = words[1].parse().unwrap();
        match words[0] {
            "put" => drop(self.revisions.insert(id, words[2].parse().unwrap())),
            "forgetting" => drop(self.about_to_be_forgotten.insert(id)),
            "forgot" => drop(self.forgotten.insert(id)),
            other => panic!("unknown word {other}"),
        }
        self.acknowledged += u64::from(words[0] != "forgetting");
    }

    async fn check(&self, keyring: &SqliteKeyring, round: u64) {
        let records = everything(keyring).await;
        let by_id: HashMap<KeyId, &Record> = records.iter().map(|record| (record.id, record)).collect();
        for (id, revision) in &self.revisions {
            let found = by_id.get(id).map(|record| record.revision.number());
            let is_there = found.is_some_and(|found| found >= *revision);
            let may_be_gone = found.is_none() && self.about_to_be_forgotten.contains(id);
            assert!(is_there || may_be_gone, "round {round}: {id} acknowledged at {revision}, found {found:?}");
        }
        for id in &self.forgotten {
            assert!(!by_id.contains_key(id), "round {round}: {id} was forgotten");
        }
        for record in &records {
            assert_eq!(record.key.fingerprint, fingerprint(record.revision, record.id), "round {round}: a whole row");
        }
        self.check_counts(keyring, &records, round).await;
    }

    async fn check_counts(&self, keyring: &SqliteKeyring, records: &[Record], round: u64) {
        let mut exact: HashMap<(AppName, KeyKind), Count> = HashMap::new();
        for record in records {
            let (app, kind) = (record.identity.app.clone(), record.identity.kind);
            exact.entry((app.clone(), kind)).or_insert(Count::none(app, kind)).add(record, NOW, None);
        }
        let counts = keyring.count(NOW, &[]).await.unwrap();
        let counted = counts.into_iter().map(|count| ((count.app.clone(), count.kind), count)).collect();
        assert_eq!(exact, counted, "round {round}");
    }
}

async fn everything(keyring: &SqliteKeyring) -> Vec<Record> {
    let mut query = PageQuery { limit: 4096, ..PageQuery::default() };
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

/// Tells of what a row was written with.
fn fingerprint(revision: Revision, id: KeyId) -> Fingerprint {
    let mut bytes = *id.as_bytes();
    bytes[..8].copy_from_slice(&revision.number().to_be_bytes());
    Fingerprint::from_bytes(bytes)
}

/// Writes for ever, from several threads, and says what it was told.
fn be_killed(path: &Path, round: u64) {
    let keyring = SqliteKeyring::open_with(path, &options()).unwrap();
    let records = block_on(everything(&keyring));
    std::thread::scope(|scope| {
        for (thread, held) in records.chunks(records.len().div_ceil(4).max(1)).chain([&[][..]; 4]).take(4).enumerate() {
            let (keyring, held) = (&keyring, held.to_vec());
            scope.spawn(move || block_on(load(keyring, round, thread, held)));
        }
    });
}

async fn load(keyring: &SqliteKeyring, round: u64, thread: usize, mut held: Vec<Record>) {
    let mut rows = Rows::new(round * 16 + thread as u64);
    for batch in 0u64.. {
        let mut writes = Vec::new();
        let mut after = Vec::new();
        for number in 0..rows.rng().random_range(1..40) {
            if held.is_empty() || rows.rng().random_bool(0.3) {
                let user = format!("{round}-{thread}-{batch}-{number}");
                let mut record = rows.row("mygame", &user, KeyKind::ALL[number % 2]);
                rows.scramble(&mut record);
                record.key.fingerprint = fingerprint(record.revision, record.id);
                writes.push(Write::Put { expected: Expected::Absent, record: Box::new(record.clone()) });
                after.push(record);
                continue;
            }
            let at = rows.rng().random_range(0..held.len());
            let before = held.swap_remove(at);
            let expected = Expected::of(&before);
            if rows.rng().random_bool(0.1) {
                say(&format!("forgetting {}\n", before.id));
                writes.push(Write::Forget { id: before.id, identity: before.identity, expected });
                continue;
            }
            let mut record = rows.renewed(&before, NOW);
            rows.scramble(&mut record);
            record.key.fingerprint = fingerprint(record.revision, record.id);
            writes.push(Write::Put { expected, record: Box::new(record.clone()) });
            after.push(record);
        }
        let writes = Arc::new(writes);
        let settled = keyring.settle(Arc::clone(&writes)).await.unwrap();
        assert!(settled.iter().all(|settled| *settled != Settled::Conflict), "each thread has its own rows");
        say(&writes.iter().map(told).collect::<String>());
        held.extend(after);
    }
}

fn told(write: &Write) -> String {
    match write {
        Write::Put { record, .. } => format!("put {} {}\n", record.id, record.revision.number()),
        Write::Forget { id, .. } => format!("forgot {id}\n"),
    }
}

/// All at once or, when the process is killed half way, up to some byte.
fn say(lines: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(lines.as_bytes()).unwrap();
    out.flush().unwrap();
}
