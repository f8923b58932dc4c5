//! `init`, `config` and `serve` as an operator meets them, against an emulator of its own.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod support;

use std::fs;

use serde_json::Value;
use support::{FREE, Place, Server};

const TENANT: &str = "11111111-1111-4111-8111-111111111111";
const CLIENT: &str = "22222222-2222-4222-8222-222222222222";
const SECRET: &str = "storekeeper-dev-secret";

fn ready(place: &Place, name: &str) -> Value {
    serde_json::from_slice(&fs::read(place.path().join(name)).unwrap()).unwrap()
}

/// An emulator, and a configuration for it made by `init`.
fn with_emulator(place: &Place) -> Server {
    let emulator =
        place.serve(&["emulator", "--http", FREE, "--https", FREE, "--control", FREE, "--ready-file", "emulator.json"]);
    place.run(&["init"]).ok();
    let http = ready(place, "emulator.json")["http"].as_str().unwrap().to_owned();
    let file = place.path().join("storekeeper.toml");
    let mut text = fs::read_to_string(&file).unwrap();
    for (from, to) in [
        ("tenant_id = \"\"", format!("tenant_id = \"{TENANT}\"")),
        ("client_id = \"\"", format!("client_id = \"{CLIENT}\"")),
        ("# collections = \"https://", format!("collections = \"http://{http}/")),
        ("# purchase = \"https://", format!("purchase = \"http://{http}/")),
        ("# entra = \"https://", format!("entra = \"http://{http}/")),
        ("# listen = \"127.0.0.1:8433\"", format!("listen = \"{FREE}\"")),
        ("# admin_listen = \"127.0.0.1:8434\"", format!("admin_listen = \"{FREE}\"")),
    ] {
        assert!(text.contains(from), "{from}\n{text}");
        text = text.replace(from, &to);
    }
    fs::write(&file, text).unwrap();
    fs::write(place.path().join("mygame.secret"), SECRET).unwrap();
    emulator
}

#[test]
fn from_init_to_a_renewed_key() {
    let place = Place::new();
    let _emulator = with_emulator(&place);
    let http = ready(&place, "emulator.json")["http"].as_str().unwrap().to_owned();
    place.run(&["status", "--server", &http]).fails(3, "which may be no keeper, answered 404 Not Found");
    assert!(place.run(&["config", "check"]).ok().out.contains("good, with 1 app and 1 caller"));
    let shown = place.run(&["config", "show"]).ok().out;
    assert!(shown.contains(CLIENT) && !shown.contains(SECRET), "{shown}");

    let serve = ["serve", "--config", "storekeeper.toml", "--ready-file", "keeper.json"];
    let keeper = place.serve(&serve);
    let listen = ready(&place, "keeper.json")["listen"].as_str().unwrap().to_owned();
    let at = ["--server", &listen, "--token-file", "backend.token"];
    let minted = place.run(&["emulator", "mint", "purchase", "me", "--ready-file", "emulator.json"]).ok().out;
    let enroll = [&["key", "enroll", "me"][..], &at].concat();
    place.run_with(&enroll, &minted).ok();
    let get = [&["key", "get", "me", "purchase"][..], &at].concat();
    assert_eq!(place.run(&get).ok().out, minted);
    place
        .run(&["app", "pause", "mygame", "--ready-file", "keeper.json", "--token-file", "backend.token"])
        .fails(4, "[forbidden; act: caller]");
    keeper.stop();

    let _keeper = place.serve(&serve);
    let listen = ready(&place, "keeper.json")["listen"].as_str().unwrap().to_owned();
    let get = ["key", "get", "me", "purchase", "--server", &listen, "--token-file", "backend.token"];
    assert_eq!(place.run(&get).ok().out, minted, "what was acknowledged is there after a restart");
    place.run(&serve).fails(2, "another storekeeper process holds the keyring");
}

#[test]
fn what_does_not_fit_stops_the_start_with_one_line() {
    let place = Place::new();
    let _emulator = with_emulator(&place);
    let serve = ["serve", "--config", "storekeeper.toml", "--ready-file", "keeper.json"];
    let keeper = place.serve(&serve);
    let minted = place.run(&["emulator", "mint", "purchase", "me", "--ready-file", "emulator.json"]).ok().out;
    let listen = ready(&place, "keeper.json")["listen"].as_str().unwrap().to_owned();
    place.run_with(&["key", "enroll", "me", "--server", &listen, "--token-file", "backend.token"], &minted).ok();
    keeper.stop();

    let (master, config) = (place.path().join("master.key"), place.path().join("storekeeper.toml"));
    let (key, text) = (fs::read(&master).unwrap(), fs::read_to_string(&config).unwrap());
    fs::write(&master, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").unwrap();
    one_line(&place, &serve, "the master key is not the one this keyring was sealed with");
    fs::write(&master, key).unwrap();

    fs::write(&config, text.replace("name = \"mygame\"", "name = \"other\"").replace("app = [\"mygame\"]", ""))
        .unwrap();
    one_line(&place, &serve, "holds 1 keys of app `mygame`, which is not configured");
    fs::write(&config, text.replace(CLIENT, "33333333-3333-4333-8333-333333333333")).unwrap();
    one_line(&place, &serve, "put the client ID back, or start with --accept-orphans");
    fs::write(&config, text.replace("client_id", "clientid")).unwrap();
    let told = place.run(&serve).fails(2, "did you mean `client_id`?");
    assert_eq!(told.out, "");

    fs::write(&config, text).unwrap();
    place.run(&["serve"]).fails(2, "--config");
    place.run(&["serve", "--config", "nowhere.toml"]).fails(2, "`storekeeper init` writes one");
    place.run(&["serve", "--config", "storekeeper.toml", "--listen", "0.0.0.0:0"]).fails(2, "behind-proxy");
}

fn one_line(place: &Place, arguments: &[&str], words: &str) {
    let done = place.run(arguments).fails(2, words);
    assert_eq!(done.err.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{done:?}");
}

#[test]
fn one_key_is_renewed_from_file_to_file() {
    let place = Place::new();
    let _emulator = with_emulator(&place);
    let http = ready(&place, "emulator.json")["http"].as_str().unwrap().to_owned();
    let minted = place.run(&["emulator", "mint", "purchase", "me", "--ready-file", "emulator.json"]).ok().out;
    let (key, config) = (place.path().join("me.jwt"), ["--config", "storekeeper.toml"]);
    fs::write(&key, &minted).unwrap();

    let printed = place.run(&[&["key", "renew", "--key-file", "me.jwt"][..], &config].concat()).ok();
    assert_ne!(printed.out, minted);
    assert_eq!(fs::read_to_string(&key).unwrap(), minted, "the file is left alone");
    let kept = place.run(&["key", "renew", "--key-file", "me.jwt", "--due", "--emulator", &http]).ok();
    assert_eq!(kept.out, minted, "it is not due");
    place.run(&[&["key", "renew", "--key-file", "me.jwt", "--out", "me.jwt"][..], &config].concat()).ok();
    assert_ne!(fs::read_to_string(&key).unwrap(), minted);
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).unwrap().permissions()) & 0o777, 0o600);

    fs::write(place.path().join("mygame.secret"), "wrong").unwrap();
    let wrong = place.run(&[&["key", "renew", "--key-file", "me.jwt"][..], &config].concat());
    wrong.fails(4, "[credential_refused]");
    place.run(&["emulator", "revoke", "--user", "me", "--ready-file", "emulator.json"]).ok();
    let refused = place.run(&["key", "renew", "--key-file", "me.jwt", "--emulator", &http]);
    refused.fails(4, "refused twice, the second time with a fresh ticket");
}

#[test]
fn the_stream_ends_with_what_was_not_renewed() {
    let place = Place::new();
    let _emulator = with_emulator(&place);
    let mint = |user: &str| {
        place.run(&["-o", "json", "emulator", "mint", "collections", user, "--ready-file", "emulator.json"]).ok().out
    };
    let good = [mint("one"), mint("two")].concat();
    let stream = ["key", "renew", "--config", "storekeeper.toml"];
    let done = place.run_with(&stream, &good).ok();
    assert!(done.out.lines().count() == 2 && done.err.ends_with("2 lines: 2 renewed\n"), "{done:?}");
    let done = place.run_with(&stream, &format!("{good}no line\n")).fails(6, "1 line not renewed");
    assert!(done.err.contains("3 lines: 2 renewed, 1 invalid"), "{done:?}");
    assert!(done.out.lines().last().unwrap().contains("line_invalid"), "{done:?}");
}
