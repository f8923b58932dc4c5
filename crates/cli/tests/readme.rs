//! README.md against the program: every command of every `sh` block is executed, and must do what the page shows.
//!
//! The rules by which the page becomes a test:
//!
//! * Each line of a block is one command, run by `sh` in a folder in which `storekeeper dev` lives; `storekeeper` is the
//!   binary under test. It has to succeed, or to exit with N where a comment says `# exits N`.
//! * A `text` block after an `sh` block holds lines of what its commands print, in order. `…` stands for anything, and
//!   runs of blanks are one blank.
//! * The page's `dev` has 1,000 players on the usual ports; here it has 100 on free ones. So the usual addresses are
//!   replaced by those of the ready file, and a number of keys near 2,000 by as many less.
//! * A command of cargo would start this very test, or build everything anew: it is checked that cargo knows what to do.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::Place;

/// How many players the page has, and how many are enrolled here.
const PLAYERS: (u64, u64) = (1_000, 100);
/// The usual addresses, and what the ready file calls them.
const ADDRESSES: [(&str, &str); 5] = [
    ("127.0.0.1:8433", "listen"),
    ("127.0.0.1:8434", "admin_listen"),
    ("127.0.0.1:8440", "http"),
    ("127.0.0.1:8443", "https"),
    ("127.0.0.1:8444", "control"),
];

/// An `sh` block, and what it is said to print.
#[derive(Debug, Default, PartialEq)]
struct Step {
    commands: Vec<String>,
    printed: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::<Step>::new();
    let mut fence = None;
    for line in page.lines() {
        match (fence, line.strip_prefix("```")) {
            (None, Some(language)) => {
                fence = Some(language);
                if language == "sh" {
                    steps.push(Step::default());
                }
            }
            (Some(_), Some(_)) => fence = None,
            (Some("sh"), None) => steps.last_mut().unwrap().commands.push(line.to_owned()),
            (Some("text"), None) => steps.last_mut().unwrap().printed.push(line.to_owned()),
            _ => {}
        }
    }
    steps
}

#[test]
fn every_command_does_what_the_page_shows() {
    let place = Place::new();
    let server = place.dev(&PLAYERS.1.to_string());
    let ready = fs::read_to_string(place.path().join(".storekeeper/ready.json")).unwrap();
    let ready: Value = serde_json::from_str(&ready).unwrap();
    let steps = steps(&page());
    assert!(steps.len() >= 8, "the page has {} blocks of commands only", steps.len());
    for step in steps {
        let mut printed = String::new();
        for command in &step.commands {
            match command.strip_prefix("cargo ") {
                Some(arguments) => cargo_knows(arguments),
                None => printed.push_str(&execute(command, &ready, place.path())),
            }
        }
        demand(&step.printed, &printed);
    }
    server.stop();
}

/// Runs a command of the page, and demands the exit code that it is said to end with.
fn execute(command: &str, ready: &Value, place: &Path) -> String {
    let expected: i32 = command.split_once("# exits ").map_or(0, |(_, code)| {
        let digits: String = code.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    });
    let mut script = command.to_owned();
    for (usual, name) in ADDRESSES {
        script = script.replace(usual, ready[name].as_str().unwrap());
    }
    let binaries = Path::new(env!("CARGO_BIN_EXE_storekeeper")).parent().unwrap();
    let script = format!("PATH=\"{}:$PATH\"\n{script}\n", binaries.display());
    let output = Command::new("sh").args(["-c", &script]).current_dir(place).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8(printed).unwrap();
    assert_eq!(output.status.code(), Some(expected), "{command}\n{printed}");
    printed
}

/// Demands that these lines were printed, in this order.
fn demand(expected: &[String], printed: &str) {
    let mut lines = printed.lines().map(blanks_folded);
    for expected in expected.iter().map(|line| fewer_players(&blanks_folded(line))) {
        assert!(lines.any(|line| fits(&line, &expected)), "`{expected}` is missing, or not in its place:\n{printed}");
    }
}

fn blanks_folded(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A number of keys near the page's population, said of ours.
fn fewer_players(line: &str) -> String {
    let (theirs, ours) = (2 * PLAYERS.0, 2 * PLAYERS.1);
    let near = theirs - 100..theirs + 100;
    near.fold(line.to_owned(), |line, count| {
        let told = format!("{},{:03}", count / 1000, count % 1000);
        line.replace(&told, &(ours + count - theirs).to_string())
    })
}

/// Whether the line is the expected one, where `…` is anything.
fn fits(line: &str, expected: &str) -> bool {
    let Some((start, rest)) = expected.split_once('…') else { return line == expected };
    let Some(mut line) = line.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('…').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, after)) = line.split_once(part) else { return false };
        line = after;
    }
    line.ends_with(end)
}

fn cargo_knows(arguments: &str) {
    match arguments {
        "run --release -- dev" => assert_eq!(programs_of_cargo_run(), ["storekeeper"]),
        "xtask test" => {
            let aliases = fs::read_to_string(root().join(".cargo/config.toml")).unwrap();
            assert!(aliases.contains("xtask = \"run --quiet --package xtask --\""), "{aliases}");
            let tasks = fs::read_to_string(root().join("xtask/src/main.rs")).unwrap();
            assert!(tasks.contains("    Test {"), "`cargo xtask` knows no `test`");
        }
        other => panic!("it is not known how to check `cargo {other}`"),
    }
}

/// The programs that `cargo run` chooses from in the workspace's folder: with more than one it would ask which.
fn programs_of_cargo_run() -> Vec<String> {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output();
    let metadata: Value = serde_json::from_slice(&cargo.unwrap().stdout).unwrap();
    let is_default = |id: &Value| metadata["workspace_default_members"].as_array().unwrap().contains(id);
    let packages = metadata["packages"].as_array().unwrap().iter().filter(|package| is_default(&package["id"]));
    let targets = packages.flat_map(|package| package["targets"].as_array().unwrap());
    let programs = targets.filter(|target| target["kind"] == serde_json::json!(["bin"]));
    programs.map(|program| program["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_page_shows_what_dev_says() {
    let place = Place::new();
    let server = place.dev("1");
    let ready = fs::read_to_string(place.path().join(".storekeeper/ready.json")).unwrap();
    let ready: Value = serde_json::from_str(&ready).unwrap();
    let mut said = server.said.clone();
    for (usual, name) in ADDRESSES {
        said = said.replace(ready[name].as_str().unwrap(), usual);
    }
    let page = page();
    let commands: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("curl ") || line.starts_with("storekeeper "))
        .collect();
    assert!(commands.len() >= 2, "{said}");
    for command in commands.into_iter().filter(|command| *command != "storekeeper dev") {
        assert!(page.lines().any(|line| line == command), "README.md does not show what `dev` says:\n{command}");
    }
}

#[test]
fn blocks_are_read_and_lines_compared() {
    let read = steps("a\n```sh\none\ntwo\n```\nb\n```text\nthree\n```\n```json\n{}\n```\n```sh\nfour\n```\n");
    let step = |commands: &[&str], printed: &[&str]| Step {
        commands: commands.iter().map(|line| (*line).to_owned()).collect(),
        printed: printed.iter().map(|line| (*line).to_owned()).collect(),
    };
    assert_eq!(read, [step(&["one", "two"], &["three"]), step(&["four"], &[])]);
    for (line, expected, whether) in [
        ("a b", "a b", true),
        ("a b", "a", false),
        ("a b c", "a …", true),
        ("a b c", "… c", true),
        ("a b c", "a … c", true),
        ("a b c", "a … d … c", false),
        ("a b c", "b…", false),
        ("", "…", true),
    ] {
        assert_eq!(fits(line, expected), whether, "`{line}` and `{expected}`");
    }
    assert_eq!(fewer_players("with 2,001 alive, 1,999, 2,500"), "with 201 alive, 199, 2,500");
}
