//! `backup` and `restore` as processes: beside a keeper that writes, killed on the way, with the wrong master key.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

#[path = "support/scene.rs"]
mod scene;
mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use scene::Scene;
use serde_json::{Value, json};

const CONFIG: [&str; 2] = ["--config", "storekeeper.toml"];

fn enroll(scene: &Scene, listen: &str, from: usize, count: usize) {
    let issued_at = scene.now() - Duration::from_secs(3600);
    let line = |number: usize| {
        let user = format!("player-{number:04}");
        let key = scene.mint("collections", &user, issued_at);
        json!({"app": "mygame", "user": user, "key": key}).to_string() + "\n"
    };
    let lines: String = (from..from + count).map(line).collect();
    let answer = scene.ask(listen, "POST /v1/keys:enroll", &lines).unwrap();
    assert!(answer.lines().iter().all(|line| line["status"] == 201));
}

fn active(scene: &Scene, listen: &str) -> Value {
    scene.ask(listen, "GET /v1/stats", "").unwrap().json(200)["apps"]["mygame"]["keys"]["active"].clone()
}

#[test]
fn a_backup_of_a_running_keeper_brings_back_what_was_in_it() {
    let scene = Scene::new();
    let (keeper, listen) = scene.serve();
    enroll(&scene, &listen, 0, 60);
    let dir = scene.place.path().to_owned();
    // Killed at once, and then begun again: what was left is in nobody's way, and no half of a backup bears its name.
    for pause in [0, 2, 5] {
        let mut killed = Command::new(env!("CARGO_BIN_EXE_storekeeper"));
        let killed = killed.args(["backup", "copy.db", "--config", "storekeeper.toml"]).current_dir(&dir);
        let mut killed = killed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        #[expect(clippy::disallowed_methods, reason = "a process is killed somewhere on its way")]
        std::thread::sleep(Duration::from_millis(pause));
        drop(killed.kill());
        killed.wait().unwrap();
        if dir.join("copy.db").exists() {
            scene.place.run(&["backup", "--inspect", "copy.db"]).ok();
            fs::remove_file(dir.join("copy.db")).unwrap();
        }
    }
    let made = scene.place.run(&[&["backup", "copy.db", "-o", "json"][..], &CONFIG].concat()).ok().json();
    assert_eq!((&made["keys"], &made["shares"][0]["keys"]), (&json!(60), &json!(60)));
    assert!(made["made_at"].is_string());
    scene.place.run(&[&["backup", "copy.db"][..], &CONFIG].concat()).fails(4, "nothing is overwritten");
    let bytes = fs::read(dir.join("copy.db")).unwrap();
    assert!(!bytes.windows(4).any(|bytes| bytes == b"eyJh"), "keys are sealed in it");

    enroll(&scene, &listen, 60, 15);
    let restore = [&["restore", "copy.db"][..], &CONFIG].concat();
    scene.place.run(&restore).fails(4, "nothing is overwritten");
    scene.place.run(&[&restore[..], &["--replace"]].concat()).fails(5, "stop it first");
    assert_eq!(active(&scene, &listen), json!(75));
    keeper.stop();

    let right = fs::read(dir.join("master.key")).unwrap();
    fs::write(dir.join("master.key"), "A".repeat(43) + "=").unwrap();
    for arguments in [&["--replace"][..], &["--plan"]] {
        scene.place.run(&[&restore[..], arguments].concat()).fails(2, "the master key is not the one");
    }
    fs::write(dir.join("master.key"), right).unwrap();
    let plan = scene.place.run(&[&restore[..], &["--plan", "-o", "json"]].concat()).ok().json();
    assert_eq!((&plan["keys"], &plan["restored"]), (&json!(60), &json!(false)));
    let (keeper, listen) = scene.serve();
    assert_eq!(active(&scene, &listen), json!(75), "neither a refusal nor a plan changes anything");
    keeper.stop();

    let done = scene.place.run(&[&restore[..], &["--replace", "-o", "json"]].concat()).ok().json();
    assert_eq!((&done["restored"], &done["keys"]), (&json!(true), &json!(60)));
    assert!(dir.join(done["set_aside"].as_str().unwrap()).exists());
    let (_keeper, listen) = scene.serve();
    assert_eq!(active(&scene, &listen), json!(60));
    let key = scene.ask(&listen, "GET /v1/apps/mygame/users/player-0059/keys/collections", "").unwrap().json(200);
    assert!(key["key"].as_str().unwrap().starts_with("eyJ"), "and the keys open");
    scene.ask(&listen, "POST /v1/apps/mygame/users/player-0059/keys/collections/renew", "").unwrap().json(200);
}

/// What a restore does to files, but for the bytes that it writes into them.
const CALLS: &str = "copy_file_range,fsync,fdatasync,ftruncate,link,linkat,rename,renameat2,unlink,unlinkat";

/// A restore that is killed before this one of its calls; whether it came to its end first.
fn restore_killed_at(scene: &Scene, call: usize) -> bool {
    let inject = format!("inject={CALLS}:signal=SIGKILL:when={call}");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={CALLS}"), "-e", &inject]);
    command.arg(env!("CARGO_BIN_EXE_storekeeper")).args(["restore", "copy.db", "--replace"]).args(CONFIG);
    let command = command.current_dir(scene.place.path()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("strace is there: `cargo xtask test` sees to it").code() == Some(0)
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_keyring_or_the_new_one() {
    let scene = Scene::new();
    let (keeper, listen) = scene.serve();
    enroll(&scene, &listen, 0, 6);
    scene.place.run(&[&["backup", "copy.db"][..], &CONFIG].concat()).ok();
    enroll(&scene, &listen, 6, 3);
    keeper.stop();
    let file = |name: &str| scene.place.path().join(name);
    fs::copy(file("storekeeper.db"), file("old.db")).unwrap();
    let mut found = Vec::new();
    for call in 1.. {
        for log in ["storekeeper.db-wal", "storekeeper.db-shm", "storekeeper.db-journal"] {
            drop(fs::remove_file(file(log)));
        }
        fs::copy(file("old.db"), file("storekeeper.db")).unwrap();
        let has_ended = restore_killed_at(&scene, call);
        let (keeper, listen) = scene.serve();
        let keys = active(&scene, &listen).as_u64().unwrap();
        keeper.stop();
        assert!(keys == 9 || keys == 6, "{keys} keys after a kill at call {call}");
        found.push(keys);
        if has_ended {
            break;
        }
    }
    assert!(found.is_sorted_by(|one, next| one >= next), "once it is there it is there: {found:?}");
    assert!(found.iter().filter(|keys| **keys == 9).count() > 3 && found.last() == Some(&6), "{found:?}");
}

#[test]
fn what_is_no_embedded_keyring_is_told() {
    let scene = Scene::new();
    scene.place.run(&[&["backup", "copy.db"][..], &CONFIG].concat()).fails(3, "is no keyring");
    scene.place.run(&["backup", "--inspect", "master.key"]).fails(2, "master.key");
    let file = scene.place.path().join("storekeeper.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("# url = \"sqlite:storekeeper.db\"", "url = \"postgres://keeper@127.0.0.1/keys\""))
        .unwrap();
    scene.place.run(&[&["backup", "copy.db"][..], &CONFIG].concat()).fails(2, "pg_dump");
    assert!(!scene.place.path().join("copy.db").exists());
}
