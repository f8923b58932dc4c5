//! `serve` ends while its database takes no writes: no successor that the Store has issued is lost, on SQLite and on
//! PostgreSQL, by SIGTERM and by SIGKILL, and the exit code and the last line are true.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

#[path = "../../keyring-postgres/tests/postgres/cluster.rs"]
#[allow(dead_code, reason = "this test binary uses a part of it")]
mod cluster;
#[path = "support/scene.rs"]
mod scene;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use cluster::{Cluster, SUPERUSER};
use scene::Scene;
use serde_json::{Value, json};
use support::{Server, until};

const DAY: Duration = Duration::from_secs(86_400);
const LONG: Duration = Duration::from_secs(120);
const KEYS: usize = 60;

/// A keeper whose due keys wait for a ticket; the Store refuses superseded keys.
struct World {
    scene: Scene,
    keeper: Option<Server>,
    listen: String,
    folder: PathBuf,
}

impl World {
    fn new(url: Option<&str>) -> Self {
        let scene = Scene::with(&["--superseded", "refused"]);
        let mut folder = scene.place.path().to_owned();
        if let Some(url) = url {
            let file = folder.join("storekeeper.toml");
            let text = fs::read_to_string(&file).unwrap();
            let (from, to) =
                ("# url = \"sqlite:storekeeper.db\"", "url_file = \"keeper.url\"\nrescue_folder = \"rescue\"");
            fs::write(&file, text.replace(from, to)).unwrap();
            let secret = folder.join("keeper.url");
            fs::write(&secret, url).unwrap();
            fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
            scene.place.run(&["init", "--migrate"]).ok();
            folder = folder.join("rescue");
        }
        scene.fault("token", 503);
        let (keeper, listen) = scene.serve();
        let world = Self { scene, keeper: Some(keeper), listen, folder };
        (0..KEYS).for_each(|number| world.enroll(&format!("player-{number:03}")));
        world
    }

    fn enroll(&self, user: &str) {
        let key = self.scene.mint("collections", user, self.scene.now() - DAY * 12);
        let put = format!("PUT /v1/apps/mygame/users/{user}/keys/collections");
        let answer = self.scene.ask(&self.listen, &put, &json!({ "key": key }).to_string()).unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    /// Each key that the Store has renewed, and its successor.
    fn successors(&self) -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let exchanges = self.scene.ledger(0);
        exchanges.iter().filter_map(|one| Some((text(&one["fingerprint"])?, text(&one["successor"])?))).collect()
    }

    /// Has the Store renew keys while the database takes no writes, until successors are in the rescue file.
    fn renew_in_vain(&self) {
        self.scene.heal();
        until(LONG, || !self.rescue_files().is_empty()).expect("successors are put into the rescue file");
    }

    /// Ends the keeper: its exit code, and what it reported.
    fn end(&mut self, signal: &str) -> (Option<i32>, String) {
        self.keeper.take().unwrap().ends(signal)
    }

    fn rescue_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "rescue")).collect()
    }

    /// The keeper that is started next holds no key that the Store has replaced.
    fn nothing_is_lost(&self) {
        let issued = self.successors();
        assert!(!issued.is_empty());
        let (next, listen) = self.scene.serve();
        let held = || -> Vec<String> {
            let page = self.scene.ask(&listen, "GET /v1/keys?limit=1000", "").unwrap().json(200);
            let rows = page["keys"].as_array().unwrap();
            rows.iter().map(|row| row["fingerprint"].as_str().unwrap().to_owned()).collect()
        };
        let is_well = || held().len() == KEYS && held().iter().all(|key| !issued.contains_key(key));
        until(LONG, is_well).expect("each row holds what the Store issued last");
        until(LONG, || self.rescue_files().is_empty()).expect("the file is removed");
        let all_renewed = || self.scene.ask(&listen, "GET /v1/stats", "").unwrap().json(200);
        until(LONG, || all_renewed()["apps"]["mygame"]["unproven"] == 0).expect("renewals go on");
        assert_eq!(all_renewed()["apps"]["mygame"]["refused"], 0, "no superseded key was sent");
        next.stop();
    }
}

/// Demands exit code 1 and a line that says how many successors are where.
#[track_caller]
fn says_where(ended: &(Option<i32>, String)) {
    let (code, said) = ended;
    assert_eq!(*code, Some(1), "{said}");
    let line = said.lines().find(|line| line.starts_with("error:")).unwrap_or_default();
    assert!(line.contains("not written to the keyring") && line.contains(".rescue"), "{said}");
    assert!(!said.contains("as they were"), "{said}");
}

/// Another process that holds the file's lock.
fn locked(world: &World) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(world.scene.place.path().join("storekeeper.db")).unwrap();
    other.busy_timeout(LONG).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

#[test]
fn a_locked_file_and_sigterm_lose_no_successor() {
    let mut world = World::new(None);
    let lock = locked(&world);
    world.renew_in_vain();
    let health = world.scene.ask(&world.listen, "GET /v1/health", "").unwrap().json(200);
    let codes: Vec<&Value> = health["conditions"].as_array().unwrap().iter().map(|one| &one["code"]).collect();
    assert!(codes.contains(&&json!("successors_not_durable")), "{health}");
    says_where(&world.end("TERM"));
    drop(lock);
    world.nothing_is_lost();
}

#[test]
fn a_locked_file_and_sigkill_lose_no_successor() {
    let mut world = World::new(None);
    let lock = locked(&world);
    world.renew_in_vain();
    let mut issued = 0;
    // What is in flight comes back, and is put into the file as well.
    until(LONG, || std::mem::replace(&mut issued, world.successors().len()) == world.successors().len());
    // What is on its way to the file arrives.
    let _ = until(Duration::from_secs(1), || false);
    let (code, _) = world.end("KILL");
    assert_eq!(code, None);
    drop(lock);
    world.nothing_is_lost();
}

#[test]
fn a_locked_file_that_is_given_free_needs_no_restart() {
    let mut world = World::new(None);
    let lock = locked(&world);
    world.renew_in_vain();
    drop(lock);
    until(LONG, || world.rescue_files().is_empty()).expect("the keyring takes them");
    let (code, said) = world.end("TERM");
    assert_eq!(code, Some(0), "{said}");
    world.nothing_is_lost();
}

#[test]
fn a_stopped_postgresql_and_sigterm_lose_no_successor() {
    let mut cluster = Cluster::start(&[], |_| {});
    let mut world = World::new(Some(&cluster.url(SUPERUSER, "postgres")));
    assert!(world.rescue_files().is_empty());
    // Renewals are sent only under a lease that outlives them, so the database goes while they are under way.
    world.scene.heal();
    world.scene.order(&json!({ "endpoint": "renew", "when": "after", "delay": "4s" }));
    let has_ticket = || world.scene.ledger(0).iter().any(|one| one["endpoint"] == "token" && one["status"] == 200);
    until(LONG, has_ticket).expect("a ticket comes");
    // The emulator lists a request once it has answered, so these can only be given time.
    let _ = until(Duration::from_millis(1500), || false);
    cluster.kill();
    until(LONG, || !world.rescue_files().is_empty()).expect("successors are put into the rescue file");
    world.scene.heal();
    says_where(&world.end("TERM"));
    cluster.start_again();
    world.nothing_is_lost();
}
