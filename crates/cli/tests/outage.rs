//! The database goes away in every way it can, under a keeper that is enrolling, renewing and handing out keys: keys that were
//! read before are served, callers are told to wait, nothing acknowledged is lost, and afterwards everything goes on.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

#[path = "../../keyring-postgres/tests/postgres/cluster.rs"]
#[allow(dead_code, reason = "this test binary uses a part of it")]
mod cluster;
#[path = "support/scene.rs"]
mod scene;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cluster::{Cluster, SUPERUSER, pause};
use scene::{Answer, Scene};
use serde_json::json;
use support::{Server, times};

const CALLERS: usize = 3;
const DAY: Duration = Duration::from_secs(86_400);
/// How often anything is looked for, with a pause in between, before the test gives up.
const LOOKS_MAX: usize = 3000;
/// How many keys are acknowledged before and after a fault.
const SOME: usize = 25;

/// A keeper at work on a database.
struct World {
    scene: Scene,
    _keeper: Server,
    listen: String,
    /// How many players there are.
    players: AtomicUsize,
}

impl World {
    fn new(url: &str) -> Self {
        let scene = Scene::new();
        let file = scene.place.path().join("storekeeper.toml");
        let text = fs::read_to_string(&file).unwrap();
        let (from, to) = ("# url = \"sqlite:storekeeper.db\"", "url_file = \"keeper.url\"\nrescue_folder = \"rescue\"");
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).unwrap();
        let secret = scene.place.path().join("keeper.url");
        fs::write(&secret, url).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        scene.place.run(&["init", "--migrate"]).ok();
        let (keeper, listen) = scene.serve();
        Self { scene, _keeper: keeper, listen, players: AtomicUsize::new(0) }
    }

    fn ask(&self, request: &str, body: &str) -> Answer {
        self.scene.ask(&self.listen, request, body).unwrap()
    }

    fn get(&self, user: &str) -> Answer {
        self.ask(&format!("GET {}", path(user)), "")
    }

    /// Another player, and a key of his that is due as soon as it is enrolled.
    fn player(&self) -> (String, String) {
        let user = format!("player-{:05}", self.players.fetch_add(1, Ordering::Relaxed));
        let key = self.scene.mint("purchase", &user, self.scene.now() - DAY * 12);
        (user, key)
    }

    fn enroll(&self, user: &str, key: &str) -> Answer {
        self.ask(&format!("PUT {}", path(user)), &json!({ "key": key }).to_string())
    }

    fn enrolled(&self) -> String {
        let (user, key) = self.player();
        let answer = self.enroll(&user, &key);
        assert_eq!(answer.status, 201, "{answer:?}");
        user
    }

    /// Callers enroll one key after the other, and again what was refused, while `fault` happens. Who was acknowledged is
    /// served afterwards, and each due key is renewed.
    fn survives(&self, fault: impl FnOnce(&Callers<'_>)) {
        let callers = Callers {
            world: self,
            acknowledged: Mutex::default(),
            refused: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        };
        std::thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| callers.enroll());
            }
            let end = EndOf(&callers.is_over);
            callers.wait_for(SOME);
            fault(&callers);
            callers.wait_for(SOME);
            drop(end);
        });
        self.goes_on();
        for user in callers.acknowledged.into_inner().unwrap() {
            let answer = self.get(&user).json(200);
            assert_eq!((&answer["state"], &answer["proven"]), (&json!("active"), &json!(true)), "{user}");
        }
    }

    /// What waited for the database is done.
    fn goes_on(&self) {
        wait_until("every due key is renewed", || {
            let stats = self.ask("GET /v1/stats", "").json(200);
            let app = &stats["apps"]["mygame"];
            app["due_backlog"] == 0 && app["unproven"] == 0
        });
    }
}

/// Those who enroll.
struct Callers<'w> {
    world: &'w World,
    acknowledged: Mutex<Vec<String>>,
    refused: AtomicUsize,
    is_over: AtomicBool,
}

/// Lets the callers end also where the test fails.
struct EndOf<'a>(&'a AtomicBool);

impl Drop for EndOf<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Callers<'_> {
    fn enroll(&self) {
        while !self.is_over.load(Ordering::Relaxed) {
            let (user, key) = self.world.player();
            while !self.is_over.load(Ordering::Relaxed) {
                let answer = self.world.enroll(&user, &key);
                if matches!(answer.status, 200 | 201) {
                    self.acknowledged.lock().unwrap().push(user);
                    break;
                }
                says_wait(&answer);
                self.refused.fetch_add(1, Ordering::Relaxed);
                pause();
            }
        }
    }

    fn wait_for(&self, more: usize) {
        let enough = self.acknowledged.lock().unwrap().len() + more;
        wait_until("keys are enrolled", || self.acknowledged.lock().unwrap().len() >= enough);
    }

    fn wait_for_refusals(&self) {
        let enough = self.refused.load(Ordering::Relaxed) + CALLERS;
        wait_until("callers are told to wait", || self.refused.load(Ordering::Relaxed) >= enough);
    }
}

fn path(user: &str) -> String {
    format!("/v1/apps/mygame/users/{user}/keys/purchase")
}

#[track_caller]
fn says_wait(answer: &Answer) {
    let problem = answer.json(503);
    assert_eq!((&problem["code"], &problem["act"]), (&json!("keyring_unavailable"), &json!("wait")), "{problem}");
}

#[track_caller]
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..LOOKS_MAX {
        if holds() {
            return;
        }
        pause();
    }
    panic!("in vain: {what}");
}

/// Somebody whose key was read before the database went away is served, others are told to wait.
struct Reader {
    known: String,
    unknown: String,
    key: String,
}

impl Reader {
    fn new(world: &World) -> Self {
        let (known, unknown) = (world.enrolled(), world.enrolled());
        world.goes_on();
        let key = world.get(&known).json(200)["key"].as_str().unwrap().to_owned();
        Self { known, unknown, key }
    }

    fn is_served(&self, world: &World) {
        assert_eq!(world.get(&self.known).json(200)["key"], self.key.as_str());
        says_wait(&world.get(&self.unknown));
    }
}

#[test]
fn a_database_that_is_killed_and_started_again() {
    let mut cluster = Cluster::start(&[], |_| {});
    let world = World::new(&cluster.url(SUPERUSER, "postgres"));
    let reader = Reader::new(&world);
    world.survives(|callers| {
        for _ in 0..times(3) {
            cluster.kill();
            callers.wait_for_refusals();
            reader.is_served(&world);
            cluster.start_again();
            callers.wait_for(SOME);
        }
    });
}

#[test]
fn a_database_that_answers_nobody() {
    let mut cluster = Cluster::start(&[], |_| {});
    let world = World::new(&cluster.url(SUPERUSER, "postgres"));
    let reader = Reader::new(&world);
    world.survives(|callers| {
        cluster.hang();
        // Each of these answers comes long before a caller would give up by himself.
        reader.is_served(&world);
        callers.wait_for_refusals();
        cluster.wake();
    });
}

#[test]
fn connections_that_are_cut_again_and_again() {
    let cluster = Cluster::start(&[], |_| {});
    let world = World::new(&cluster.url(SUPERUSER, "postgres"));
    world.survives(|callers| {
        for _ in 0..times(20) {
            cut(&cluster);
            callers.wait_for(3);
        }
    });
}

fn cut(cluster: &Cluster) {
    let others = "pid <> pg_backend_pid() AND backend_type = 'client backend'";
    cluster.psql("postgres", &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"));
}

#[test]
fn a_database_that_may_only_be_read() {
    let cluster = Cluster::start(&[], |_| {});
    let world = World::new(&cluster.url(SUPERUSER, "postgres"));
    let known = world.enrolled();
    let set = |value: &str| {
        let set = format!(
            "SET default_transaction_read_only = off; ALTER SYSTEM SET default_transaction_read_only = {value}"
        );
        // Not in one transaction, which this command refuses.
        for statement in set.split("; ") {
            cluster.psql("postgres", statement);
        }
        cluster.psql("postgres", "SELECT pg_reload_conf()");
        cut(&cluster);
    };
    world.survives(|callers| {
        set("on");
        callers.wait_for_refusals();
        assert_eq!(world.get(&known).status, 200);
        set("off");
    });
}

#[test]
fn a_database_whose_disk_is_full() {
    const FILE_BYTES: u32 = 1536 * 1024;
    let mut cluster = Cluster::start(&["max_wal_size=8MB", "min_wal_size=2MB"], |_| {});
    let world = World::new(&cluster.url(SUPERUSER, "postgres"));
    cluster.kill();
    cluster.limit_files(Some(FILE_BYTES));
    cluster.start_again();
    let known = world.enrolled();
    world.survives(|callers| {
        callers.wait_for_refusals();
        assert_eq!(world.get(&known).status, 200);
        cluster.kill();
        cluster.limit_files(None);
        cluster.start_again();
    });
}

#[test]
fn a_primary_that_is_replaced_by_its_synchronous_standby() {
    let mut primary = Cluster::start(&[], |_| {});
    let standby = primary.standby();
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", primary.port(), standby.port());
    let (user, password) = SUPERUSER;
    let options = "sslmode=disable&target_session_attrs=read-write";
    let world = World::new(&format!("postgres://{user}:{password}@{hosts}/postgres?{options}"));
    let reader = Reader::new(&world);
    world.survives(|callers| {
        primary.kill();
        callers.wait_for_refusals();
        reader.is_served(&world);
        standby.psql("postgres", "SELECT pg_promote()");
    });
}
