//! Keys move from one keeper to another, as processes: nothing is lost, whatever is killed, damaged or cut off on the way.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

#[allow(dead_code, reason = "this test binary uses a part of it")]
#[path = "../../keyring-postgres/tests/postgres/cluster.rs"]
mod cluster;
#[path = "support/scene.rs"]
mod scene;
mod support;
#[path = "support/valve.rs"]
mod valve;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cluster::{Cluster, SUPERUSER};
use scene::{SERVE, Scene};
use serde_json::{Value, json};
use support::{Done, Server};
use valve::{Direction, Valve};

/// How many keys are enrolled at a time.
const GROUP: usize = 400;
/// How many keys go through a pipe.
const KEYS: usize = 2000;
/// Three pages of an export and a part of a fourth, and three groups of an import and a part of a fourth.
const MANY: usize = 3500;
/// How long another process may take to get somewhere.
const PATIENCE: Duration = Duration::from_secs(120);
const OPERATOR: &str = "an-operators-token-0001";

/// Two keepers towards one Store; the first has keys.
struct Pair {
    scene: Scene,
    _old: Server,
    new: Option<Server>,
}

const NEW: [&str; 5] = ["serve", "--config", "new.toml", "--ready-file", "new.json"];

impl Pair {
    /// Two on files of their own, paused, the first of which has so many keys.
    fn new(keys: usize) -> Self {
        let pair = Self::start("url = \"sqlite:new.db\"");
        pair.run("keeper.json", &["app", "pause", "mygame"]).ok();
        pair.run("new.json", &["app", "pause", "mygame"]).ok();
        pair.enroll(keys);
        pair
    }

    /// One on a file, and one on a PostgreSQL, neither paused.
    fn to_postgres(database: &str) -> Self {
        Cluster::shared().psql("postgres", &format!("CREATE DATABASE {database}"));
        Self::start(&format!("url = \"{}\"", Cluster::shared().url(SUPERUSER, database)))
    }

    fn start(new_keyring: &str) -> Self {
        let scene = Scene::new();
        let dir = scene.place.path();
        fs::write(dir.join("operator.token"), OPERATOR).unwrap();
        let file = dir.join("storekeeper.toml");
        let operator =
            "\n[[caller]]\nname = \"operator\"\ntoken_file = \"operator.token\"\nscope = [\"admin\", \"key:read\"]\n";
        let text = fs::read_to_string(&file).unwrap() + operator;
        fs::write(&file, &text).unwrap();
        assert!(text.contains("# url = \"sqlite:storekeeper.db\""));
        fs::write(
            dir.join("new.toml"),
            text.replace("# url = \"sqlite:storekeeper.db\"", new_keyring)
                .replace("# retain = \"off\"", "retain = \"180d\""),
        )
        .unwrap();
        scene.place.run(&["init", "--migrate", "--config", "new.toml"]).ok();
        let old = scene.place.serve(&SERVE);
        let new = Some(scene.place.serve(&NEW));
        Self { scene, _old: old, new }
    }

    fn enroll(&self, keys: usize) {
        let now = self.scene.now();
        let line = |number: usize| {
            let user = format!("player-{number:04}");
            // All ages up to 20 days: some are past the deadline, and due at once.
            let age = std::time::Duration::from_secs(86_400 * (number as u64 % 20));
            let key = self.scene.mint("collections", &user, now - age);
            json!({"app": "mygame", "user": user, "key": key}).to_string() + "\n"
        };
        for from in (0..keys).step_by(GROUP) {
            let group = from..keys.min(from + GROUP);
            let lines: String = group.clone().map(line).collect();
            let answer = self.scene.ask(&self.scene.listen(), "POST /v1/keys:enroll", &lines).unwrap();
            assert_eq!(answer.lines().iter().filter(|line| line["status"] == 201).count(), group.len());
        }
    }

    fn run(&self, ready: &str, arguments: &[&str]) -> Done {
        self.scene.place.run(&with(ready, arguments))
    }

    fn stats(&self, ready: &str) -> Value {
        self.run(ready, &["app", "list", "-o", "json"]).ok().json()["apps"]["mygame"].clone()
    }

    fn command(&self, ready: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_storekeeper"));
        command.args(with(ready, arguments)).current_dir(self.scene.place.path());
        command
    }

    /// Starts a command.
    fn begin(&self, ready: &str, arguments: &[&str]) -> Child {
        self.command(ready, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Hands over from the first keeper to the new one through a pipe: the reports of the export and of the import.
    fn pipe(&self) -> (Value, Value) {
        self.pipe_between("keeper.json", "new.json")
    }

    fn pipe_between(&self, from: &str, to: &str) -> (Value, Value) {
        let mut export = self.command(from, &["export", "--handover", "-o", "json"]);
        let mut export = export.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut import = self.command(to, &["import", "-", "-o", "json"]);
        let import = import.stdin(export.stdout.take().unwrap()).output().unwrap();
        let export = export.wait_with_output().unwrap();
        assert!(export.status.success() && import.status.success(), "{export:?} {import:?}");
        (serde_json::from_slice(&export.stderr).unwrap(), serde_json::from_slice(&import.stdout).unwrap())
    }

    /// A way to a keeper's admin listener that can be shut.
    fn valve(&self, ready: &str) -> Valve {
        let ready: Value = serde_json::from_slice(&fs::read(self.file(ready)).unwrap()).unwrap();
        Valve::to(ready["admin_listen"].as_str().unwrap())
    }

    /// Waits until an export has left so many lines, and a bookmark behind them.
    fn until_bookmark(&self, lines: usize) {
        let has_come = || {
            let bookmark = fs::read(self.file("all.ndjson.bookmark")).unwrap_or_default();
            let bookmark: Value = serde_json::from_slice(&bookmark).unwrap_or_default();
            let text = fs::read(self.file("all.ndjson.partial")).unwrap_or_default();
            let is_here = bookmark["length"].as_u64() == Some(text.len() as u64);
            is_here && text.iter().filter(|byte| **byte == b'\n').count() == lines
        };
        support::until(PATIENCE, has_come).expect("it comes so far");
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.scene.place.path().join(name)
    }
}

/// What `kill -9` does.
fn kill(mut command: Child) {
    command.kill().unwrap();
    command.wait().unwrap();
}

fn with<'a>(ready: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &["--ready-file", ready, "--token-file", "operator.token"]].concat()
}

fn lines(text: &str) -> BTreeMap<String, Value> {
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (line["user"].as_str().unwrap().to_owned(), line)).collect()
}

/// What an export has told on stderr.
fn told(done: &Done) -> Value {
    serde_json::from_str(done.err.trim()).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

#[test]
fn an_export_that_is_killed_goes_on_where_it_was() {
    let pair = Pair::new(MANY);
    let valve = pair.valve("keeper.json");
    let export = ["export", "--out", "all.ndjson", "--admin-server", valve.address(), "-o", "json"];
    // Two pages and a part of the third come through.
    valve.let_through(Direction::Down, 6_000_000);
    let killed = pair.begin("keeper.json", &export);
    pair.until_bookmark(2000);
    kill(killed);
    // It may be killed while it writes.
    let left = fs::OpenOptions::new().append(true).open(pair.file("all.ndjson.partial"));
    left.unwrap().write_all(b"{\"app\":\"mygame\",\"user\":\"player-").unwrap();

    valve.open();
    let before = valve.passed(Direction::Down);
    let done = told(&pair.run("keeper.json", &export).ok());
    assert_eq!((&done["resumed"], &done["lines"], &done["keys"]), (&json!(2000), &json!(MANY), &json!(MANY)));
    assert_eq!((&done["counted"], &done["left"]), (&json!(MANY), &json!(0)));
    assert!(valve.passed(Direction::Down) - before < 5_000_000, "what stood in it was not asked for again");
    let text = fs::read_to_string(pair.file("all.ndjson")).unwrap();
    let all = lines(&text);
    assert_eq!((text.lines().count(), all.len()), (MANY, MANY), "each is in it once");
    assert_eq!(all, lines(&pair.run("keeper.json", &["export"]).ok().out), "as in one that was never interrupted");
    for gone in ["all.ndjson.partial", "all.ndjson.bookmark"] {
        assert!(!pair.file(gone).exists(), "{gone}");
    }
}

#[test]
fn a_hand_over_loses_nothing_although_each_command_dies_on_the_way() {
    let mut pair = Pair::new(MANY);
    let valve = pair.valve("keeper.json");
    let export = ["export", "--handover", "--out", "all.ndjson", "--admin-server", valve.address(), "-o", "json"];
    // The marks of one page come through, and some of the second.
    valve.let_through(Direction::Up, 140_000);
    let killed = pair.begin("keeper.json", &export);
    pair.until_bookmark(2000);
    let marked = || pair.stats("keeper.json")["handed_over"].as_u64().unwrap();
    support::until(PATIENCE, || marked() > 1000).expect("some of the second page are marked");
    kill(killed);

    valve.open();
    let done = told(&pair.run("keeper.json", &export).ok());
    let all = json!(MANY);
    assert_eq!((&done["resumed"], &done["keys"], &done["counted"]), (&json!(2000), &all, &all));
    assert_eq!((&done["handed_over"], &done["active"], &done["left"]), (&all, &all, &json!(0)));
    let again = done["lines"].as_u64().unwrap() - MANY as u64;
    assert!((1..1000).contains(&again), "what had a line and no mark is written again, and nothing else: {again}");
    assert_eq!(fs::metadata(pair.file("all.ndjson")).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(pair.file("all.ndjson")).unwrap();
    let exported = lines(&text);
    assert_eq!((exported.len() as u64, text.lines().count() as u64), (MANY as u64, done["lines"].as_u64().unwrap()));
    let stats = pair.stats("keeper.json");
    assert_eq!((&stats["handed_over"], &stats["keys"]["active"]), (&all, &json!(0)));
    pair.run("keeper.json", &["key", "explain", "player-0001"]).ok();

    // The keeper that takes the keys dies while it takes them, and so does the command: two groups have come through.
    let valve = pair.valve("new.json");
    valve.let_through(Direction::Up, 5_000_000);
    let killed = pair.begin("new.json", &["import", "all.ndjson", "--admin-server", valve.address()]);
    let active = || pair.stats("new.json")["keys"]["active"].as_u64().unwrap();
    support::until(PATIENCE, || active() >= 2048).expect("two groups are taken");
    kill(killed);
    drop(pair.new.take());
    fs::remove_file(pair.file("new.json")).unwrap();
    pair.new = Some(pair.scene.place.serve(&NEW));
    let there = lines(&pair.run("new.json", &["export"]).ok().out);
    let taken = there.len() as u64;
    assert!((2048..MANY as u64).contains(&taken), "{taken}");
    let expires_at = |of: &dyn Fn(&str) -> bool| {
        let chosen = exported.iter().filter(|(user, _)| of(user));
        chosen.map(|(_, line)| line["expires_at"].as_str().unwrap().to_owned()).collect::<BTreeSet<String>>()
    };
    let (first, last) = (expires_at(&|user| there.contains_key(user)), expires_at(&|user| !there.contains_key(user)));
    assert!(first.last() <= last.first(), "what expires first goes first: {first:?} {last:?}");

    let plan = pair.run("new.json", &["import", "--plan", "all.ndjson", "-o", "json"]).ok().json();
    assert_eq!((&plan["lines"], &plan["shares"][0]["keys"], &plan["rejected"]), (&all, &all, &json!(0)));
    assert_eq!(plan["overtaken"], json!(again), "a line that has a later one is in no figure");
    let by_age = plan["shares"][0]["ages"].as_array().unwrap().iter().map(|keys| keys.as_u64().unwrap());
    assert_eq!(by_age.sum::<u64>(), MANY as u64);
    assert_eq!(plan["shares"][0]["past_deadline"], json!(MANY / 20 * 6), "fourteen days and older");
    assert_eq!(pair.stats("new.json")["keys"]["active"], json!(taken), "a plan changes nothing");

    let tally = pair.run("new.json", &["import", "all.ndjson", "-o", "json"]).ok().json();
    assert_eq!((&tally["overtaken"], &tally["rejected"]), (&json!(again), &json!(0)));
    assert_eq!((&tally["known"], &tally["new"]), (&json!(taken), &json!(MANY as u64 - taken)), "each is taken once");
    assert_eq!(pair.stats("new.json")["keys"]["active"], all);
    let there = pair.run("new.json", &["export"]).ok();
    assert_eq!(there.out.lines().count(), MANY);
    for (user, line) in lines(&there.out) {
        for member in ["key", "state", "proven", "fingerprint", "enrolled", "key_version", "last_used", "expires_at"] {
            assert_eq!(line[member], exported[&user][member], "{user}: {member}");
        }
    }
    pair.run("keeper.json", &["app", "reclaim", "mygame"]).ok();
    assert_eq!(pair.stats("keeper.json")["keys"]["active"], all);
}

#[test]
fn through_a_pipe_from_sqlite_to_postgresql_with_renewals_under_way_nothing_is_lost_and_no_key_is_renewed_by_two() {
    let pair = Pair::to_postgres("moved");
    let slow = ["fault", "add", "renew", "--when", "after", "--delay", "2s", "--probability", "1"];
    pair.scene.place.run(&[&slow[..], &["--ready-file", "emulator.json"]].concat()).ok();
    pair.enroll(KEYS);
    let (report, tally) = pair.pipe();
    assert_eq!(
        (&report["keys"], &report["handed_over"], &report["counted"]),
        (&json!(KEYS), &json!(KEYS), &json!(KEYS))
    );
    assert_eq!(
        report["lines"],
        json!(KEYS),
        "what goes into a pipe is marked first, and so it does not change: {report}"
    );
    let old = pair.stats("keeper.json");
    assert_eq!((&old["handed_over"], &old["keys"]["active"]), (&json!(KEYS), &json!(0)));
    assert_eq!((&tally["new"], &tally["overtaken"]), (&json!(KEYS), &json!(0)), "{tally}");
    assert_eq!((&tally["rejected"], &pair.stats("new.json")["keys"]["active"]), (&json!(0), &json!(KEYS)));

    let is_done = || pair.stats("new.json")["due_backlog"] == 0 && pair.stats("new.json")["renewals"]["renewed"] != 0;
    support::until(PATIENCE, is_done).expect("the new keeper renews what is due");
    assert_eq!(pair.stats("keeper.json")["renewals"], old["renewals"], "the old keeper renews none of them any more");

    let mut renewed = BTreeSet::new();
    for exchange in pair.scene.ledger(0) {
        if let (Some(key), Some(_)) = (exchange["fingerprint"].as_str(), exchange["successor"].as_str()) {
            assert!(renewed.insert(key.to_owned()), "two have renewed {key}");
        }
    }
    let ours = |stats: &Value| stats["renewals"]["renewed"].as_u64().unwrap();
    let new = pair.stats("new.json");
    assert!(ours(&old) > 0 && ours(&new) > 0, "{old} {new}");
    assert_eq!(ours(&old) + ours(&new), renewed.len() as u64, "each successor is somebody's");
    let there = lines(&pair.run("new.json", &["export"]).ok().out);
    assert_eq!(there.len(), KEYS);
    for (user, line) in &there {
        assert!(
            !renewed.contains(line["fingerprint"].as_str().unwrap()),
            "{user}: it has a successor that nobody keeps"
        );
    }
}

#[test]
fn keys_handed_over_there_and_back_are_renewed_again() {
    const SOME: usize = 300;
    let pair = Pair::new(SOME);
    let counts = |ready: &str| {
        let stats = pair.stats(ready);
        [&stats["keys"]["active"], &stats["handed_over"]].map(|count| count.as_u64().unwrap() as usize)
    };
    pair.pipe();
    assert_eq!((counts("keeper.json"), counts("new.json")), ([0, SOME], [SOME, 0]));
    pair.run("new.json", &["export", "--handover", "--out", "back.ndjson"]).ok();
    let text = fs::read_to_string(pair.file("back.ndjson")).unwrap();
    assert!(text.lines().all(|line| line.contains("\"handing_over\":true")), "each line hands its key over");
    let back = pair.run("keeper.json", &["import", "back.ndjson", "-o", "json"]).ok().json();
    assert_eq!((&back["known"], &back["handed_over"]), (&json!(SOME), &json!(0)));
    assert_eq!((counts("keeper.json"), counts("new.json")), ([SOME, 0], [0, SOME]));

    // A file that was overtaken, and a plain export: the marks stay, and the report says so.
    pair.pipe();
    pair.run("new.json", &["export", "--handover", "--out", "again.ndjson"]).ok();
    pair.run("keeper.json", &["import", "again.ndjson"]).ok();
    let overtaken = pair.run("new.json", &["import", "back.ndjson", "-o", "json"]);
    overtaken.fails(6, "storekeeper app reclaim mygame");
    assert_eq!((counts("keeper.json"), counts("new.json")), ([SOME, 0], [0, SOME]));
    pair.run("keeper.json", &["export", "--out", "copy.ndjson"]).ok();
    let plain = pair.run("new.json", &["import", "copy.ndjson"]);
    plain.fails(6, "300 keys handed over to another keeper and not renewed here");
    assert_eq!(counts("new.json"), [0, SOME]);
    pair.run("new.json", &["app", "reclaim", "mygame"]).ok();
    assert_eq!(counts("new.json"), [SOME, 0]);
}

#[test]
fn of_a_fleet_one_hands_over_once_the_others_are_drained() {
    let pair = Pair::to_postgres("fleet");
    let other = ["serve", "--config", "new.toml", "--ready-file", "other.json", "--node-name", "other"];
    let _other = pair.scene.place.serve(&other);
    let leases = || {
        let nodes = pair.run("new.json", &["node", "list", "-o", "json"]).ok().json();
        let other = nodes["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "other").cloned();
        other.map_or(0, |node| node["leases"].as_u64().unwrap())
    };
    support::until(PATIENCE, || leases() == 2048).expect("it has its half");
    let export = ["export", "--handover", "--out", "all.ndjson"];
    pair.run("new.json", &export).fails(4, "storekeeper node drain NODE");
    assert!(!pair.file("all.ndjson.partial").exists(), "nothing is left behind");
    pair.run("new.json", &["export", "--out", "copy.ndjson"]).ok();
    pair.run("new.json", &["node", "drain", "other"]).ok();
    support::until(PATIENCE, || pair.run("new.json", &export).code == Some(0)).expect("it has every lease in the end");
}

#[test]
fn what_is_damaged_is_told_by_its_number_and_the_rest_is_taken() {
    let pair = Pair::new(30);
    let text = pair.run("keeper.json", &["export"]).ok().out;
    let mut damaged: Vec<String> = text.lines().map(str::to_owned).collect();
    damaged[3].truncate(700);
    damaged[7] = damaged[7].replace("\"key\":\"eyJ", "\"key\":\"eyK");
    damaged[11] = damaged[11].replace("\"state\":\"active\"", "\"state\":\"asleep\"");
    damaged[13] = damaged[13].replace("\"fingerprint\":\"", "\"fingerprint\":\"00");
    damaged[17] = damaged[17].replace("\"mygame\"", "\"another\"");
    damaged.insert(20, String::new());
    let file = damaged.join("\n");
    let done = pair
        .scene
        .place
        .run_with(&with("new.json", &["import", "-", "-o", "json"]), &file)
        .fails(6, "5 lines not taken");
    for number in [4, 8, 12, 14, 18] {
        assert!(done.err.contains(&format!("line {number}: ")), "{number}: {}", done.err);
    }
    assert!(!done.err.contains("eyJ") && !done.err.contains("eyK"), "no key is quoted: {}", done.err);
    let tally = done.json();
    assert_eq!((&tally["lines"], &tally["new"], &tally["rejected"]), (&json!(30), &json!(25), &json!(5)));
    assert_eq!(pair.stats("new.json")["keys"]["active"], json!(25));
    // What was mended goes in; what is there is known.
    let done = pair.scene.place.run_with(&with("new.json", &["import", "-", "-o", "json"]), &text).ok().json();
    assert_eq!((&done["known"], &done["new"]), (&json!(25), &json!(5)));
}

#[test]
fn an_encrypted_export_opens_with_its_passphrase_alone() {
    let pair = Pair::new(20);
    fs::write(pair.file("passphrase"), "correct horse battery staple\n").unwrap();
    fs::write(pair.file("other"), "another horse battery staple\n").unwrap();
    fs::write(pair.file("short"), "horse\n").unwrap();
    let export = ["export", "--out", "all.sealed", "--passphrase-file"];
    pair.run("keeper.json", &[&export[..], &["short"]].concat()).fails(2, "12 characters");
    pair.run("keeper.json", &[&export[..], &["passphrase"]].concat()).ok();
    pair.run("keeper.json", &[&export[..], &["passphrase"]].concat()).fails(2, "is there already");
    let sealed = fs::read(pair.file("all.sealed")).unwrap();
    assert!(!String::from_utf8_lossy(&sealed).contains("player-"));
    pair.run("new.json", &["import", "all.sealed"]).fails(2, "--passphrase-file");
    let import = |file, with| pair.run("new.json", &["import", file, "--passphrase-file", with, "-o", "json"]);
    import("all.sealed", "other").fails(2, "the passphrase is not the one");
    fs::write(pair.file("cut"), &sealed[..sealed.len() - 100]).unwrap();
    import("cut", "passphrase").fails(2, "cut off");
    assert_eq!(pair.stats("new.json")["keys"]["active"], json!(0), "nothing of it was believed");
    assert_eq!(import("all.sealed", "passphrase").ok().json()["new"], json!(20));
}

#[test]
fn who_may_not_export_is_told_so_and_leaves_nothing_behind() {
    let pair = Pair::new(1);
    let backend = ["export", "--out", "x", "--ready-file", "keeper.json", "--token-file", "backend.token"];
    pair.scene.place.run(&backend).fails(4, "admin");
    assert!(!pair.file("x").exists() && !pair.file("x.partial").exists());
    let told = pair.run("keeper.json", &["export", "--since", "yesterday"]);
    told.fails(2, "since");
}

#[test]
fn a_table_is_kept_warm_by_what_has_changed() {
    let pair = Pair::new(5);
    let first = pair.run("keeper.json", &["export", "-o", "json"]).ok();
    let cursor = serde_json::from_str::<Value>(first.err.trim()).unwrap()["cursor"].as_str().unwrap().to_owned();
    // What changed within an hour before the cursor is told again, so all of this is.
    let next = pair.run("keeper.json", &["export", "--since", &cursor]).ok();
    assert_eq!(lines(&next.out).len(), 5);
    let later = format!("c{}", cursor[1..].parse::<u64>().unwrap() + 2 * 3_600_000);
    let next = pair.run("keeper.json", &["export", "--since", &later, "-o", "json"]).ok();
    assert_eq!(next.out, "");
    assert!(next.err.contains(&format!("\"cursor\":\"{}", &cursor[..6])), "{}", next.err);
}

#[test]
fn a_key_that_nobody_has_read_for_long_is_left_alone_until_somebody_does() {
    let pair = Pair::new(0);
    assert!(fs::read_to_string(pair.file("new.toml")).unwrap().contains("\nretain = \"180d\""));
    pair.run("new.json", &["app", "resume", "mygame"]).ok();
    let day = std::time::Duration::from_secs(86_400);
    let line = |user: &str, read_before: u32| {
        let key = pair.scene.mint("collections", user, pair.scene.now() - day * 12);
        let last_used = (pair.scene.now() - day * read_before).to_string();
        let last_used = last_used.split('T').next().unwrap();
        json!({"app": "mygame", "user": user, "key": key, "state": "active", "proven": true, "last_used": last_used})
            .to_string()
    };
    let view = |user: &str| pair.run("new.json", &["key", "show", user, "collections", "-o", "json"]).ok().json();
    let import = |line: String| pair.scene.place.run_with(&with("new.json", &["import", "-"]), &line).ok();
    let until = |user: &str, what: &str, holds: &dyn Fn(&Value) -> bool| {
        for _ in 0..300 {
            if holds(&view(user)) {
                return;
            }
            #[expect(clippy::disallowed_methods, reason = "another process is waited for")]
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{user}: {what}: {}", view(user));
    };
    // Only once the Store has told its time is a key left alone.
    import(line("reader", 3));
    until("reader", "it is renewed", &|key| key["key_version"] == 2);
    import(line("sleeper", 200));
    until("sleeper", "it is left alone", &|key| key["renew_at"].is_null());
    assert_eq!(view("sleeper")["key_version"], 1);
    pair.run("new.json", &["key", "get", "sleeper", "collections"]).ok();
    until("sleeper", "it is renewed again", &|key| key["key_version"] == 2 && key["renew_at"].is_string());
}
