//! What surrounds a process fails it: its log, its signals, its configuration on disk. Nothing stops without a sign, and
//! nothing that works stops for it.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

#[path = "support/scene.rs"]
mod scene;
mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use scene::{SERVE, Scene, exchange};
use serde_json::{Value, json};
use support::{Done, Place, until};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const USER: &str = "/v1/apps/mygame/users/player-0001/keys/collections";

/// A keeper whose stderr is in the hands of the test.
struct Keeper {
    child: Child,
    listen: String,
    admin: String,
}

impl Keeper {
    /// Starts it with these options besides, and waits until it is ready.
    fn start(scene: &Scene, options: &[&str]) -> (Self, BufReader<ChildStderr>) {
        let mut command = scene.place.command(&[&SERVE[..], options].concat());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("admin_listen") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it was ready");
        }
        let ready: Value = serde_json::from_slice(&fs::read(scene.place.path().join("keeper.json")).unwrap()).unwrap();
        let address = |name: &str| ready[name].as_str().unwrap().to_owned();
        (Self { child, listen: address("listen"), admin: address("admin_listen") }, log)
    }

    fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Its exit code, which has to come within a minute.
    fn ended(mut self) -> Option<i32> {
        ended(&mut self.child)
    }

    fn is_alive(&self) -> bool {
        exchange(&self.admin, "GET /livez", "", "").unwrap().status == 200
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
}

fn ended(child: &mut Child) -> Option<i32> {
    let child = std::cell::RefCell::new(child);
    let waited = until(MINUTE, || child.borrow_mut().try_wait().unwrap().is_some());
    assert!(waited.is_some(), "it does not end");
    child.borrow_mut().wait().unwrap().code()
}

fn status(scene: &Scene) -> Done {
    scene.place.run(&["status", "--ready-file", "keeper.json", "--token-file", "backend.token"])
}

/// Enrolls a key that is due at once, and waits until it is renewed.
fn renews(scene: &Scene, keeper: &Keeper, user: &str) {
    let path = USER.replace("player-0001", user);
    let key = scene.mint("collections", user, scene.now() - DAY * 12);
    let body = json!({ "key": key }).to_string();
    assert_eq!(scene.ask(&keeper.listen, &format!("PUT {path}"), &body).unwrap().status, 201);
    let is_renewed = || {
        let view = scene.ask(&keeper.listen, &format!("GET {path}"), "").unwrap().json(200);
        view["key_version"].as_u64().unwrap() > 1
    };
    assert!(until(MINUTE, is_renewed).is_some(), "{user} is not renewed");
}

#[test]
fn a_closed_log_stops_nothing_and_is_a_condition() {
    let scene = Scene::new();
    let (keeper, log) = Keeper::start(&scene, &[]);
    drop(log);
    for user in ["one", "two", "three"] {
        renews(&scene, &keeper, user);
    }
    assert!(keeper.is_alive());
    status(&scene).fails(6, "1 problem found").err.clear();
    assert!(status(&scene).out.contains("[log_lines_dropped]"));
    keeper.signal("TERM");
    assert_eq!(keeper.ended(), Some(0));
}

#[test]
fn a_log_reader_that_stands_still_blocks_nothing() {
    let scene = Scene::new();
    let (keeper, log) = Keeper::start(&scene, &["--log-level", "debug"]);
    // A line of more than a hundred bytes each: twice what a pipe holds.
    for _ in 0..1200 {
        assert_eq!(exchange(&keeper.listen, "GET /v1/stats", "no-such-token-at-all", "").unwrap().status, 401);
    }
    renews(&scene, &keeper, "late");
    assert!(keeper.is_alive());
    assert!(until(MINUTE, || status(&scene).out.contains("[log_stalled]")).is_some());
    keeper.signal("TERM");
    assert_eq!(keeper.ended(), Some(0), "a log without a reader holds up no end");
    drop(log);
}

#[test]
fn a_reload_replaces_callers_and_an_invalid_file_changes_nothing() {
    let scene = Scene::new();
    let (keeper, _log) = Keeper::start(&scene, &[]);
    let file = scene.place.path().join("storekeeper.toml");
    let (good, old) = (fs::read_to_string(&file).unwrap(), scene.token.clone());
    let asks = |token: &str| exchange(&keeper.listen, "GET /v1/stats", token, "").unwrap().status;
    assert_eq!((asks(&old), asks("another-token-of-a-caller")), (200, 401));

    fs::write(&file, good.replace("[[caller]]", "[[coller]]")).unwrap();
    keeper.signal("HUP");
    assert!(until(MINUTE, || status(&scene).out.contains("[reload_failed]")).is_some());
    assert_eq!(status(&scene).code, Some(6));
    assert_eq!(asks(&old), 200, "the callers of before are in force");

    fs::write(&file, &good).unwrap();
    fs::write(scene.place.path().join("backend.token"), "another-token-of-a-caller\n").unwrap();
    keeper.signal("HUP");
    assert!(until(MINUTE, || asks("another-token-of-a-caller") == 200).is_some());
    assert_eq!(asks(&old), 401);
    status(&scene).ok();
    assert!(scene.place.path().join("keeper.json").exists(), "the ready file stays");
    keeper.signal("TERM");
    assert_eq!(keeper.ended(), Some(0));
    assert!(!scene.place.path().join("keeper.json").exists(), "the ready file goes with the process");
}

#[test]
fn a_failing_write_is_a_condition_of_the_keyring() {
    let scene = Scene::new();
    let (keeper, _log) = Keeper::start(&scene, &[]);
    status(&scene).ok();
    let pid = keeper.child.id().to_string();
    let limit = |bytes: &str| {
        let limit = format!("--fsize={bytes}:");
        assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    };
    limit("4096");
    let key = scene.mint("collections", "player-0001", scene.now());
    let body = json!({ "key": key }).to_string();
    let refused = scene.ask(&keeper.listen, &format!("PUT {USER}"), &body).unwrap();
    assert_eq!(refused.json(503)["code"], "keyring_unavailable");
    let screen = status(&scene);
    assert_eq!(screen.code, Some(6), "{screen:?}");
    assert!(screen.out.contains("[keyring_writes_fail]") && screen.out.contains("storekeeper.db"), "{screen:?}");
    assert!(keeper.is_alive(), "a full disk is no reason for a restart");
    assert_eq!(exchange(&keeper.admin, "GET /readyz", "", "").unwrap().status, 200, "reads are answered");
    limit("unlimited");
    assert_eq!(scene.ask(&keeper.listen, &format!("PUT {USER}"), &body).unwrap().status, 201);
    status(&scene).ok();
}

/// A command that waits for an answer that never comes, and what it ends with after the signal.
fn interrupted(place: &Place, name: &str) -> Option<i32> {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    fs::write(place.path().join("any.token"), "a-token-of-some-length\n").unwrap();
    let arguments = ["status", "--server", &address, "--token-file", "any.token"];
    let mut child = place.command(&arguments).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (_socket, _) = silent.accept().unwrap();
    signal(&child, name);
    ended(&mut child)
}

#[test]
fn a_command_that_waits_ends_at_each_signal() {
    let place = Place::new();
    for (name, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        assert_eq!(interrupted(&place, name), Some(code), "{name}");
    }
}

#[test]
fn an_emulator_drains_at_a_hangup() {
    let place = Place::new();
    let free = ["--http", support::FREE, "--https", support::FREE, "--control", support::FREE];
    let arguments = [&["emulator", "--ready-file", "emulator.json"][..], &free].concat();
    let mut child = place.command(&arguments).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let file = place.path().join("emulator.json");
    assert!(until(MINUTE, || file.exists()).is_some());
    signal(&child, "HUP");
    assert_eq!(ended(&mut child), Some(0));
    assert!(!file.exists(), "the ready file goes with the process");
}
