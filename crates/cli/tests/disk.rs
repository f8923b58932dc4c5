//! The disk under an embedded keyring fails a keeper that runs: clear errors, nothing acknowledged lost, and the process
//! lives on.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

#[path = "support/scene.rs"]
mod scene;
mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use scene::Scene;
use serde_json::json;

const TRIES_MAX: usize = 400;

fn path(user: &str) -> String {
    format!("/v1/apps/mygame/users/{user}/keys/collections")
}

/// Enrolls one key; returns the status and the code.
fn enroll(scene: &Scene, listen: &str, user: &str) -> (u16, String) {
    let key = scene.mint("collections", user, scene.now() - Duration::from_secs(60));
    let answer = scene.ask(listen, &format!("PUT {}", path(user)), &json!({ "key": key }).to_string()).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    (answer.status, body["code"].as_str().unwrap_or_default().to_owned())
}

fn is_served(scene: &Scene, listen: &str, user: &str) -> bool {
    scene.ask(listen, &format!("GET {}", path(user)), "").unwrap().status == 200
}

fn enrolled(scene: &Scene, listen: &str, from: usize, count: usize) -> Vec<String> {
    let users: Vec<String> = (from..from + count).map(|number| format!("player-{number:04}")).collect();
    for user in &users {
        assert_eq!(enroll(scene, listen, user).0, 201);
    }
    users
}

/// The keeper's process, by the lock that it holds.
fn keeper(scene: &Scene) -> String {
    let lock = fs::metadata(scene.place.path().join("storekeeper.db.lock")).unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino(&lock);
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let line = locks.lines().find(|line| line.contains(&format!(":{inode} "))).expect("the keeper holds the lock");
    line.split_whitespace().nth(4).unwrap().to_owned()
}

/// Sets how large a file the process may write.
fn limit_files(pid: &str, bytes: &str) {
    let limit = format!("--fsize={bytes}:");
    assert!(std::process::Command::new("prlimit").args(["--pid", pid, &limit]).status().unwrap().success());
}

#[test]
fn a_disk_that_is_full_refuses_and_loses_nothing_and_goes_on_when_there_is_room() {
    let scene = Scene::new();
    let (keeper_process, listen) = scene.serve();
    let before = enrolled(&scene, &listen, 0, 20);
    let log = fs::metadata(scene.place.path().join("storekeeper.db-wal")).unwrap().len();
    let pid = keeper(&scene);
    limit_files(&pid, &(log + 40_000).to_string());
    let mut told = Vec::new();
    let refused = (0..TRIES_MAX).map(|number| format!("late-{number}")).find(|user| {
        let (status, code) = enroll(&scene, &listen, user);
        if status == 201 {
            told.push(user.clone());
            return false;
        }
        assert_eq!((status, code.as_str()), (503, "keyring_unavailable"));
        true
    });
    let refused = refused.expect("the disk is full some time");
    assert!(before.iter().chain(&told).all(|user| is_served(&scene, &listen, user)), "what was told is served");
    assert!(!is_served(&scene, &listen, &refused));
    limit_files(&pid, "unlimited");
    assert_eq!(enroll(&scene, &listen, &refused).0, 201, "it goes on by itself");
    keeper_process.stop();
    let (_keeper, listen) = scene.serve();
    assert!(before.iter().chain(&told).chain([&refused]).all(|user| is_served(&scene, &listen, user)));
}

#[test]
fn a_log_that_is_torn_ends_at_its_last_whole_commit() {
    let scene = Scene::new();
    let (keeper_process, listen) = scene.serve();
    let before = enrolled(&scene, &listen, 0, 30);
    drop(keeper_process);
    let wal = scene.place.path().join("storekeeper.db-wal");
    let whole = fs::read(&wal).unwrap();
    // What a power cut leaves of a commit that nobody was told of: half of its last page, then noise.
    let mut file = fs::OpenOptions::new().append(true).open(&wal).unwrap();
    file.write_all(&whole[whole.len() - 4120..whole.len() - 2000]).unwrap();
    file.write_all(&[0x5a; 3000]).unwrap();
    drop(file);
    let (keeper_process, listen) = scene.serve();
    assert!(before.iter().all(|user| is_served(&scene, &listen, user)));
    assert_eq!(enroll(&scene, &listen, "after").0, 201);
    drop(keeper_process);
    // Cut short in the middle: what is behind the cut is gone, and what is before it is whole.
    let wal_bytes = fs::metadata(&wal).unwrap().len();
    fs::OpenOptions::new().write(true).open(&wal).unwrap().set_len(wal_bytes * 2 / 3 + 17).unwrap();
    let (_keeper, listen) = scene.serve();
    let kept = before.iter().take_while(|user| is_served(&scene, &listen, user)).count();
    assert!(kept > 0 && before[kept..].iter().all(|user| !is_served(&scene, &listen, user)), "{kept} of 30");
    assert_eq!(enroll(&scene, &listen, "again").0, 201);
}

#[test]
fn a_file_that_is_cut_short_or_replaced_does_not_end_the_process() {
    for harm in ["cut", "replaced", "removed", "log"] {
        let scene = Scene::new();
        let (keeper_process, listen) = scene.serve();
        let users = enrolled(&scene, &listen, 0, 40);
        keeper_process.stop();
        let (_keeper, listen) = scene.serve();
        let read_before = &users[..5];
        assert!(read_before.iter().all(|user| is_served(&scene, &listen, user)));
        let db = scene.place.path().join("storekeeper.db");
        match harm {
            "cut" => fs::OpenOptions::new().write(true).open(&db).unwrap().set_len(8192).unwrap(),
            "replaced" => {
                fs::write(scene.place.path().join("other"), vec![7; 200_000]).unwrap();
                fs::rename(scene.place.path().join("other"), &db).unwrap();
            }
            "removed" => fs::remove_file(&db).unwrap(),
            _ => fs::remove_file(scene.place.path().join("storekeeper.db-wal")).unwrap(),
        }
        for user in &users {
            let answer = scene.ask(&listen, &format!("GET {}", path(user)), "").unwrap();
            let code = serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["code"].clone();
            assert!(
                answer.status == 200 || (answer.status, &code) == (503, &json!("keyring_unavailable")),
                "{harm}: {answer:?}"
            );
        }
        assert!(read_before.iter().all(|user| is_served(&scene, &listen, user)), "{harm}: remembered rows are served");
        let (status, code) = enroll(&scene, &listen, "late");
        assert_eq!((status, code.as_str()), (503, "keyring_unavailable"), "{harm}: nobody is told what would be lost");
    }
}

#[test]
fn a_file_that_may_not_be_written_is_told_in_one_line() {
    if fs::metadata("/proc/self").map(|me| std::os::unix::fs::MetadataExt::uid(&me)).unwrap() == 0 {
        // Nothing is read-only to root but a file system; a folder in the way is.
        let scene = Scene::new();
        fs::create_dir(scene.place.path().join("storekeeper.db")).unwrap();
        scene.place.run(&["serve", "--config", "storekeeper.toml"]).fails(2, "storekeeper.db");
        return;
    }
    let scene = Scene::new();
    let (keeper_process, _) = scene.serve();
    keeper_process.stop();
    let db = scene.place.path().join("storekeeper.db");
    fs::set_permissions(&db, fs::Permissions::from_mode(0o400)).unwrap();
    scene.place.run(&["serve", "--config", "storekeeper.toml"]).fails(2, "storekeeper.db");
}
