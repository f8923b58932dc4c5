//! `dev` as a person meets it: started as a process, asked with the commands, moved through time, stopped and started
//! again.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod support;

use support::{Done, FREE, Place};

fn active(place: &Place) -> u64 {
    let stats = place.run(&["-o", "json", "app", "list"]).ok().json();
    stats["apps"]["mygame"]["keys"]["active"].as_u64().unwrap()
}

fn key(place: &Place, user: &str) -> Done {
    place.run(&["key", "get", user, "collections"])
}

#[test]
fn keys_outlive_their_thirty_days_and_a_restart() {
    let place = Place::new();
    let dev = place.dev("3");
    assert!(dev.said.contains("6 keys, 6 of them enrolled now"), "{}", dev.said);
    let minted = place.run(&["emulator", "mint", "collections", "me"]).ok();
    let enrolled = place.run_with(&["key", "enroll", "me"], &minted.out).ok();
    assert!(enrolled.out.starts_with("me's collections key "), "{enrolled:?}");
    assert_eq!(key(&place, "me").ok().out, minted.out, "it is handed out as it was enrolled");
    place.run_with(&["key", "enroll", "me"], &minted.out).ok();

    let watched = place.run(&["clock", "advance", "40d", "--watch"]).ok();
    let last = watched.out.lines().last().unwrap();
    assert!(last.ends_with("(40 days later): with storekeeper 7 alive, without it 0"), "{watched:?}");
    assert_eq!(active(&place), 7);
    let renewed = key(&place, "me").ok().out;
    assert_ne!(renewed, minted.out);
    let inspected = place.run_with(&["-o", "json", "key", "inspect"], &renewed).ok().json();
    assert_eq!((&inspected["kind"], &inspected["user_id"]), (&"collections".into(), &"me".into()));
    place.run(&["status"]).ok();
    let shown = place.run(&["-o", "json", "key", "show", "me", "collections"]).ok().json();
    assert_eq!((&shown["fingerprint"], &shown["proven"]), (&inspected["fingerprint"], &true.into()));

    dev.stop();
    assert!(!place.path().join(".storekeeper/ready.json").exists());
    place.run(&["status"]).fails(5, "start one with `storekeeper dev`");
    let again = place.dev("3");
    assert!(again.said.contains("6 keys, 0 of them enrolled now"), "{}", again.said);
    assert_eq!(key(&place, "me").ok().out, renewed);
    place.run(&["clock", "advance", "40d"]).ok();
    assert_eq!(active(&place), 7);
    place.run(&["dev", "--listen", FREE]).fails(2, "another storekeeper process holds the keyring");
}

#[test]
fn a_revoked_key_asks_for_its_player_and_a_new_one_revives_it() {
    let place = Place::new();
    let _dev = place.dev("8");
    place.run(&["clock", "advance", "12d"]).ok();
    place.run(&["emulator", "revoke", "--user", "player-0002"]).ok();
    place.run(&["clock", "advance", "14d"]).ok();
    key(&place, "player-0002").fails(4, "[key_revoked; act: user]");
    key(&place, "player-0001").ok();
    let stats = place.run(&["-o", "json", "app", "list"]).ok().json();
    assert_eq!(stats["apps"]["mygame"]["keys"], serde_json::json!({"active": 14, "revoked": 2, "lapsed": 0}));
    let explained = place.run(&["key", "explain", "player-0002", "collections"]).ok().out;
    for words in ["is revoked", "It was condemned", "the player has to mint a new key"] {
        assert!(explained.contains(words), "{explained}");
    }
    let listed = place.run(&["-o", "json", "key", "list", "--state", "revoked"]).ok().json();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);

    let minted = place.run(&["emulator", "mint", "collections", "player-0002"]).ok();
    place.run_with(&["key", "enroll", "player-0002"], &minted.out).ok();
    assert_eq!(key(&place, "player-0002").ok().out, minted.out);
    let acquitted = place.run(&["app", "acquit", "mygame"]).ok();
    assert_eq!(acquitted.out, "mygame: 1 key acquitted\n", "the other kind was revoked as well");
}

#[test]
fn an_outage_of_four_days_costs_no_key() {
    let place = Place::new();
    let _dev = place.dev("4");
    place.run(&["clock", "advance", "7d"]).ok();
    place.run(&["fault", "add", "renew", "--status", "503", "--for", "4d"]).ok();
    place.run(&["clock", "advance", "4d"]).ok();
    let listed = place.run(&["fault", "list"]).ok().out;
    assert!(listed.contains("renew") && listed.trim_end().ends_with("yes"), "struck and spent: {listed}");
    place.run(&["clock", "advance", "2d"]).ok();
    assert_eq!(place.run(&["fault", "clear"]).ok().out, "1 fault cleared\n");
    let stats = place.run(&["-o", "json", "app", "list"]).ok().json();
    let app = &stats["apps"]["mygame"];
    assert_eq!(app["keys"], serde_json::json!({"active": 8, "revoked": 0, "lapsed": 0}));
    assert!(app["renewals"]["failed"].as_u64().unwrap() > 0, "{app}");
    assert_eq!((app["due_backlog"].as_u64(), app["unproven"].as_u64()), (Some(0), Some(0)), "{app}");
}

#[test]
fn a_refused_secret_pauses_the_app_and_tells_whom_to_ask() {
    let place = Place::new();
    let _dev = place.dev("2");
    place.run(&["fault", "add", "token", "--status", "401"]).ok();
    place.run(&["clock", "advance", "12d"]).ok();
    let status = place.run(&["status"]).fails(6, "1 problem found");
    assert!(status.out.contains("needs an operator: mygame: paused since"), "{status:?}");
    assert!(status.out.contains("reason credential"), "{status:?}");
    key(&place, "player-0001").ok();
    let explained = place.run(&["key", "explain", "player-0001", "purchase"]).ok().out;
    assert!(explained.contains("Next: nothing, for the app is paused (credential"), "{explained}");
    place.run(&["fault", "clear"]).ok();
    place.run(&["clock", "advance", "1d"]).ok();
    place.run(&["status"]).ok();
    assert_eq!(active(&place), 4);
}

#[test]
fn orders_and_small_commands() {
    let place = Place::new();
    let _dev = place.dev("2");
    assert!(place.run(&["app", "pause", "mygame"]).ok().out.starts_with("mygame is paused"));
    place.run(&["status"]).fails(6, "1 problem found");
    place.run(&["app", "resume", "mygame"]).ok();
    place.run(&["app", "pause", "another"]).fails(3, "[app_unknown; act: caller]");
    key(&place, "nobody").fails(3, "[key_not_found; act: caller]");
    place.run(&["key", "show", "nobody"]).fails(3, "[key_not_found; act: caller]");
    assert_eq!(place.run(&["key", "forget", "player-0002"]).ok().out, "2 keys forgotten\n");
    assert_eq!(place.run(&["key", "forget", "player-0002"]).ok().out, "0 keys forgotten\n");
    let history = place.run(&["key", "history", "player-0001", "purchase"]).ok().out;
    assert!(history.contains("enrolled"), "{history}");

    assert!(place.run(&["clock", "freeze"]).ok().out.ends_with(", frozen\n"));
    let set = place.run(&["-o", "json", "clock", "set", "2031-01-31T12:00:00Z"]).ok().json();
    assert_eq!(set["now"], "2031-01-31T12:00:00Z");
    assert!(place.run(&["clock", "show"]).ok().out.starts_with("2031-01-31T12:00:00Z, frozen"));
    place.run(&["clock", "run", "1h"]).ok();
    place.run(&["clock", "run", "0"]).fails(2, "clock freeze");
    let ledger = place.run(&["-o", "json", "emulator", "ledger", "--limit", "5"]).ok().json();
    assert!(ledger["exchanges"].is_array());
    let rotated = place.run(&["emulator", "rotate", "--accept-previous-for", "5d"]).ok().out;
    assert_eq!(rotated.lines().count(), 3, "{rotated}");
    place.run(&["emulator", "reset"]).ok();

    let wrong = place.path().join("wrong.token");
    std::fs::write(&wrong, "0123456789abcdef0123456789abcdef\n").unwrap();
    place.run(&["status", "--token-file", "wrong.token"]).fails(4, "is not one of this keeper's");
    place.run(&["status", "--server", "127.0.0.1:1"]).fails(5, "no keeper at 127.0.0.1:1 (connection refused)");
    place.run(&["status", "--server", "http://keeper.example"]).fails(2, "use https");
}

#[test]
fn the_lines_that_dev_prints_work_as_they_stand() {
    let place = Place::new();
    let dev = place.dev("1");
    let lines: Vec<&str> = dev.said.lines().map(str::trim).filter(|line| line.starts_with("curl")).collect();
    assert_eq!(lines.len(), 2, "{}", dev.said);
    for (line, words) in lines.iter().zip([r#""user":"player-0001""#, r#""outcome":"new""#]) {
        let done = std::process::Command::new("sh").args(["-c", line]).current_dir(place.path()).output().unwrap();
        let out = String::from_utf8(done.stdout).unwrap();
        assert!(out.contains(words), "{line}\n{out}");
    }
}
