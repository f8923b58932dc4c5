//! `serve` dies by SIGKILL under load, again and again, and nothing that a caller was told is lost: no enrolled key, and no
//! successor that was handed out.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

#[path = "support/scene.rs"]
mod scene;
mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use scene::Scene;
use serde_json::{Value, json};
use storekeeper_model::{Fingerprint, Timestamp};

const SEED: u64 = 1;
const KILLS: usize = 22;
/// How many callers enroll one key after the other, while one enrolls batches and one reads.
const CALLERS: usize = 3;
const BATCH: usize = 6;
const DAY: Duration = Duration::from_secs(86_400);
/// How long the next acknowledgement may take before the test gives up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Whose key: user and kind.
type Row = (String, String);

#[test]
fn invariant_1_nothing_acknowledged_is_lost_by_kill_9() {
    let scene = Scene::new();
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut ledger = Ledger::default();
    let mut load = Load { scene: &scene, supply: Supply::new(&scene), interrupted: AtomicUsize::new(0) };
    let mut told = Told::default();
    let kills = support::times(KILLS);
    for kill in 0..kills {
        load.supply.mint(CALLERS * 20 + BATCH * 10);
        let (keeper, listen) = scene.serve();
        let before = told.clone();
        let mut rows: Vec<&Row> = before.keys().collect();
        rows.shuffle(&mut random);
        if kill > 0 {
            let all = list(&scene, &listen);
            compare(&told, &all, &load.supply.handed_out()).unwrap();
            assert_eq!(active(&scene, &listen), all.len(), "statistics and list differ after kill {kill}");
            look(&scene, &listen, rows.iter().take(12).copied(), &told, &mut ledger);
        }
        let acknowledgements = random.random_range(1..=30);
        load.until_killed(keeper, &listen, acknowledgements, &rows, &mut told);
    }
    assert!(load.interrupted.into_inner() >= kills, "kills that interrupt nobody prove nothing");

    let (keeper, listen) = scene.serve();
    let all = list(&scene, &listen);
    compare(&told, &all, &load.supply.handed_out()).unwrap();
    assert_eq!(active(&scene, &listen), all.len());
    let renewed = look(&scene, &listen, told.keys(), &told, &mut ledger);
    assert!(renewed > KILLS, "only {renewed} of {} keys were renewed between the kills", told.len());
    for (user, kind) in told.keys().step_by(told.len() / 20 + 1) {
        let renew = format!("POST /v1/apps/mygame/users/{user}/keys/{kind}/renew");
        assert_eq!(scene.ask(&listen, &renew, "").unwrap().status, 200, "the Store knows the key of {user} no more");
    }
    keeper.stop();
}

/// What callers were told: each key of a row that was acknowledged or handed out.
type Told = BTreeMap<Row, BTreeSet<Fingerprint>>;

/// A key and who it is for.
struct Minted {
    row: Row,
    key: String,
}

impl Minted {
    fn line(&self) -> String {
        let (user, kind) = &self.row;
        json!({ "app": "mygame", "user": user, "kind": kind, "key": self.key }).to_string()
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.key)
    }
}

/// Keys to enroll. Those whose acknowledgement was not heard come back, as any caller would try them again.
struct Supply<'a> {
    scene: &'a Scene,
    now: Timestamp,
    waiting: Mutex<VecDeque<Minted>>,
    handed_out: Mutex<BTreeSet<Row>>,
    minted: usize,
}

impl<'a> Supply<'a> {
    fn new(scene: &'a Scene) -> Self {
        let (waiting, handed_out) = (Mutex::default(), Mutex::default());
        Self { scene, now: scene.now(), waiting, handed_out, minted: 0 }
    }

    /// Sees to it that so many wait. Two of three are old enough to be renewed as soon as they are enrolled.
    fn mint(&mut self, wanted: usize) {
        let waiting = self.waiting.get_mut().unwrap();
        while waiting.len() < wanted {
            let kind = if self.minted.is_multiple_of(2) { "collections" } else { "purchase" };
            let issued_at = if self.minted.is_multiple_of(3) { self.now } else { self.now - DAY * 12 };
            let user = format!("player-{:04}", self.minted);
            let key = self.scene.mint(kind, &user, issued_at);
            waiting.push_back(Minted { row: (user, kind.to_owned()), key });
            self.minted += 1;
        }
    }

    fn take(&self, count: usize) -> Vec<Minted> {
        let mut waiting = self.waiting.lock().unwrap();
        let count = count.min(waiting.len());
        let taken: Vec<_> = waiting.drain(..count).collect();
        self.handed_out.lock().unwrap().extend(taken.iter().map(|minted| minted.row.clone()));
        taken
    }

    fn put_back(&self, minted: Minted) {
        self.waiting.lock().unwrap().push_front(minted);
    }

    /// The rows that there may be.
    fn handed_out(&self) -> BTreeSet<Row> {
        self.handed_out.lock().unwrap().clone()
    }
}

/// Callers that go on until the keeper is gone.
struct Load<'a> {
    scene: &'a Scene,
    supply: Supply<'a>,
    /// How many exchanges broke off.
    interrupted: AtomicUsize,
}

type Heard = (Row, Fingerprint);

impl Load<'_> {
    /// Kills the keeper when so many acknowledgements have been heard.
    fn until_killed(
        &self,
        keeper: support::Server,
        listen: &str,
        acknowledgements: usize,
        known: &[&Row],
        told: &mut Told,
    ) {
        let (acknowledged, acknowledgement) = channel();
        let (read, reading) = channel();
        let mut tell = |(row, fingerprint): Heard| {
            told.entry(row).or_default().insert(fingerprint);
        };
        std::thread::scope(|scope| {
            for _ in 0..CALLERS {
                let acknowledged = acknowledged.clone();
                scope.spawn(move || self.enroll(listen, &acknowledged));
            }
            scope.spawn(move || self.enroll_batches(listen, &acknowledged));
            scope.spawn(move || self.read(listen, known, &read));
            for _ in 0..acknowledgements {
                tell(next(&acknowledgement));
            }
            // That is SIGKILL.
            drop(keeper);
        });
        acknowledgement.iter().chain(reading).for_each(tell);
    }

    fn enroll(&self, listen: &str, acknowledged: &Sender<Heard>) {
        while let Some(minted) = self.supply.take(1).pop() {
            let (user, kind) = &minted.row;
            let request = format!("PUT /v1/apps/mygame/users/{user}/keys/{kind}");
            match self.scene.ask(listen, &request, &json!({ "key": minted.key }).to_string()) {
                Ok(answer) => {
                    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
                    acknowledged.send((minted.row.clone(), minted.fingerprint())).unwrap();
                }
                Err(error) => {
                    self.supply.put_back(minted);
                    return self.broke_off(&error);
                }
            }
        }
    }

    fn enroll_batches(&self, listen: &str, acknowledged: &Sender<Heard>) {
        loop {
            let batch = self.supply.take(BATCH);
            let body: String = batch.iter().map(|minted| minted.line() + "\n").collect();
            let answer = self.scene.ask(listen, "POST /v1/keys:enroll", &body);
            let lines = answer.as_ref().map(scene::Answer::lines).unwrap_or_default();
            for line in &lines {
                assert!(matches!(line["status"].as_u64(), Some(200 | 201)), "{line}");
            }
            let (heard, is_complete) = (lines.len(), !batch.is_empty() && lines.len() == batch.len());
            for (number, minted) in batch.into_iter().enumerate() {
                if number < heard {
                    assert_eq!(lines[number]["fingerprint"], minted.fingerprint().to_string());
                    acknowledged.send((minted.row.clone(), minted.fingerprint())).unwrap();
                } else {
                    self.supply.put_back(minted);
                }
            }
            if !is_complete {
                return self.broke_off(&answer.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Reads keys of rows that have been acknowledged. What it is handed out counts as told.
    fn read(&self, listen: &str, known: &[&Row], read: &Sender<Heard>) {
        for row in known.iter().cycle() {
            match self.scene.ask(listen, &get(row), "") {
                Ok(answer) if answer.status == 200 && serde_json::from_slice::<Value>(&answer.body).is_err() => {
                    return self.broke_off(&io::ErrorKind::UnexpectedEof.into());
                }
                Ok(answer) => read.send(((*row).clone(), handed_out(row, &answer))).unwrap(),
                Err(error) => return self.broke_off(&error),
            }
        }
    }

    fn broke_off(&self, error: &io::Error) {
        if error.kind() != io::ErrorKind::ConnectionRefused {
            self.interrupted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn next(acknowledgement: &Receiver<Heard>) -> Heard {
    acknowledgement.recv_timeout(SILENCE_MAX).expect("callers are answered until the keeper is killed")
}

fn get((user, kind): &Row) -> String {
    format!("GET /v1/apps/mygame/users/{user}/keys/{kind}")
}

/// The key of this row in a complete answer, which has to be 200.
fn handed_out(row: &Row, answer: &scene::Answer) -> Fingerprint {
    let view = answer.json(200);
    let fingerprint = Fingerprint::of(view["key"].as_str().unwrap());
    assert_eq!(view["fingerprint"], fingerprint.to_string(), "{row:?}");
    assert_eq!((&view["user"], &view["kind"]), (&json!(row.0), &json!(row.1)));
    fingerprint
}

/// Every row that the keeper lists.
fn list(scene: &Scene, listen: &str) -> BTreeSet<Row> {
    let (mut rows, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let page = scene.ask(listen, &format!("GET /v1/keys?limit=1000{cursor}"), "").unwrap().json(200);
        for key in page["keys"].as_array().unwrap() {
            let text = |name: &str| key[name].as_str().unwrap().to_owned();
            assert!(rows.insert((text("user"), text("kind"))), "{key} is listed twice");
        }
        let Some(next) = page["next"].as_str() else { return rows };
        cursor = format!("&cursor={next}");
    }
}

/// How many keys the statistics count, which have to be active all.
fn active(scene: &Scene, listen: &str) -> usize {
    let stats = scene.ask(listen, "GET /v1/stats", "").unwrap().json(200);
    let keys = &stats["apps"]["mygame"]["keys"];
    assert_eq!((&keys["revoked"], &keys["lapsed"]), (&json!(0), &json!(0)), "{stats}");
    usize::try_from(keys["active"].as_u64().unwrap()).unwrap()
}

/// Every row that was acknowledged is there, and none that nobody sent.
fn compare(told: &Told, listed: &BTreeSet<Row>, handed_out: &BTreeSet<Row>) -> Result<(), String> {
    match (told.keys().find(|row| !listed.contains(row)), listed.difference(handed_out).next()) {
        (Some(lost), _) => Err(format!("{lost:?} was acknowledged and is lost")),
        (None, Some(made_up)) => Err(format!("nobody enrolled {made_up:?}")),
        (None, None) => Ok(()),
    }
}

/// Gets the keys of these rows and holds them against what was told. Says how many are not the ones that were enrolled.
fn look<'a>(
    scene: &Scene,
    listen: &str,
    rows: impl Iterator<Item = &'a Row>,
    told: &Told,
    ledger: &mut Ledger,
) -> usize {
    let held: Vec<_> = rows.map(|row| (row, handed_out(row, &scene.ask(listen, &get(row), "").unwrap()))).collect();
    ledger.read_on(scene);
    for (row, held) in &held {
        told[*row]
            .iter()
            .try_for_each(|told| ledger.descends(*held, *told))
            .unwrap_or_else(|why| panic!("{row:?}: {why}"));
    }
    held.iter().filter(|(_, held)| ledger.predecessor.contains_key(held)).count()
}

/// Which key was made of which, as the emulator wrote it down.
#[derive(Default)]
struct Ledger {
    predecessor: HashMap<Fingerprint, Fingerprint>,
    read: u64,
}

impl Ledger {
    fn read_on(&mut self, scene: &Scene) {
        for exchange in scene.ledger(self.read) {
            self.read = exchange["seq"].as_u64().unwrap();
            let key = |name: &str| exchange[name].as_str().map(|text| text.parse().unwrap());
            if let (Some(old), Some(new)) = (key("fingerprint"), key("successor")) {
                self.predecessor.insert(new, old);
            }
        }
    }

    /// Whether `held` is `told`, or was made of it by renewals.
    fn descends(&self, held: Fingerprint, told: Fingerprint) -> Result<(), String> {
        let line = std::iter::successors(Some(held), |key| self.predecessor.get(key).copied());
        if line.into_iter().any(|key| key == told) {
            Ok(())
        } else {
            Err(format!("{held} does not descend from {told}"))
        }
    }
}

#[test]
fn a_lost_row_and_a_successor_that_was_taken_back_are_noticed() {
    let row = |user: &str| (user.to_owned(), String::from("purchase"));
    let told = Told::from([(row("a"), BTreeSet::new())]);
    let rows = |users: &[&str]| users.iter().map(|user| row(user)).collect::<BTreeSet<_>>();
    assert_eq!(compare(&told, &rows(&["a", "b"]), &rows(&["a", "b", "c"])), Ok(()));
    assert!(compare(&told, &rows(&["b"]), &rows(&["a", "b"])).unwrap_err().contains("lost"));
    assert!(compare(&told, &rows(&["a", "z"]), &rows(&["a", "b"])).unwrap_err().contains("nobody enrolled"));

    let [first, second, other, third] = ["1", "2", "2'", "3"].map(Fingerprint::of);
    let predecessor = HashMap::from([(second, first), (other, first), (third, second)]);
    let ledger = Ledger { predecessor, read: 0 };
    for (held, told) in [(first, first), (second, first), (third, first), (third, second)] {
        assert_eq!(ledger.descends(held, told), Ok(()));
    }
    for (held, told) in [(first, second), (other, second), (second, third), (other, third)] {
        assert!(ledger.descends(held, told).is_err(), "{held} {told}");
    }
}
