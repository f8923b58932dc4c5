//! ARCHITECTURE.md against the code: the arrows against cargo's metadata, the absences, the paths it names, and the tests
//! that it says prove the invariants.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

type Arrows = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

/// The lines `crate -> crate, crate` between the fences.
fn drawn(page: &str) -> Arrows {
    let block = page.split_once("```arrows\n").expect("the page holds the arrows").1.split_once("```").unwrap().0;
    let arrows = block.lines().map(|line| {
        let (from, to) = line.split_once("->").unwrap_or_else(|| panic!("no arrow in `{line}`"));
        let to = to.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        (from.trim().to_owned(), to.collect())
    });
    arrows.collect()
}

fn packages() -> Vec<Value> {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output();
    let metadata: Value = serde_json::from_slice(&cargo.unwrap().stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn short(name: &Value) -> String {
    let name = name.as_str().unwrap();
    name.strip_prefix("storekeeper-").unwrap_or(name).to_owned()
}

/// The crates of the workspace that each crate depends on; `kinds` as cargo names them, `null` being the normal one.
fn found(packages: &[Value], kinds: &[Value]) -> Arrows {
    let to = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap().clone();
        let ours = dependencies.into_iter().filter(|to| to["path"].is_string() && kinds.contains(&to["kind"]));
        ours.map(|to| short(&to["name"])).collect()
    };
    packages.iter().map(|package| (short(&package["name"]), to(package))).collect()
}

#[test]
fn the_arrows_are_those_that_cargo_sees() {
    let (drawn, found) = (drawn(&page()), found(&packages(), &[Value::Null, Value::from("build")]));
    assert!(found.len() > 10, "cargo named {} crates only", found.len());
    assert_eq!(drawn, found, "left: ARCHITECTURE.md, right: cargo");
}

#[test]
fn what_must_not_be_there_is_not_even_there_in_tests() {
    let every = found(&packages(), &[Value::Null, Value::from("build"), Value::from("dev")]);
    for above in ["keeper", "server"] {
        let backends: Vec<&String> = every[above].iter().filter(|name| name.starts_with("keyring-")).collect();
        assert!(backends.is_empty(), "{above} names a backend: {backends:?}");
    }
    assert!(!every["emulator"].contains("client"), "the emulator would be judged by the client");
    assert!(!every["client"].contains("emulator"), "the client would be judged by the emulator");
    for name in every.keys() {
        assert!(!["core", "common", "utils", "util"].contains(&name.as_str()), "{name} is nobody's noun");
    }
}

#[test]
fn policy_depends_on_the_vocabulary_alone() {
    let packages = packages();
    let policy = packages.iter().find(|package| package["name"] == "storekeeper-policy").unwrap();
    let normal = policy["dependencies"].as_array().unwrap().iter().filter(|to| to["kind"].is_null());
    assert_eq!(normal.map(|to| short(&to["name"])).collect::<Vec<_>>(), ["model"]);
    let source = fs::read_to_string(root().join("crates/policy/src/lib.rs")).unwrap();
    assert!(source.lines().any(|line| line == "#![no_std]"), "policy is no_std");
}

#[test]
fn every_path_on_the_page_exists() {
    let page = page();
    let quoted = page.split('`').skip(1).step_by(2);
    let links = page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    let paths: Vec<&str> =
        quoted.chain(links).filter(|text| text.contains('/') && !text.contains([' ', '*', '\n'])).collect();
    assert!(paths.len() > 15, "{paths:?}");
    for path in paths {
        assert!(root().join(path).exists(), "ARCHITECTURE.md names {path}");
    }
}

#[test]
fn every_invariant_is_proved_by_tests_that_exist_and_by_a_patch_that_they_catch() {
    let page = page();
    let list = page.split_once("## Invariants").unwrap().1.split_once("\n## ").unwrap().0;
    let mut sources = String::new();
    collect(&root().join("crates"), &mut sources);
    let table = fs::read_to_string(root().join("xtask/sabotage/table.toml")).unwrap();
    let mut rest = list;
    for number in 1..=11 {
        let start =
            rest.split_once(&format!("\n{number}. **")).unwrap_or_else(|| panic!("invariant {number} is missing"));
        let entry = start.1.split_once(&format!("\n{}. **", number + 1)).map_or(start.1, |(entry, _)| entry);
        rest = start.1;
        let names: Vec<&str> =
            entry.split('`').skip(1).step_by(2).filter(|name| name.starts_with("invariant_")).collect();
        assert!(!names.is_empty(), "no test is named that proves invariant {number}");
        for name in names {
            assert!(name.starts_with(&format!("invariant_{number}_")), "{name} is listed under invariant {number}");
            assert!(is_a_test(&sources, name), "ARCHITECTURE.md names the test {name}");
        }
        let is_broken = table.lines().any(|line| line == format!("invariant = {number}"));
        assert!(is_broken, "no patch breaks invariant {number}: its tests are not proved");
    }
}

/// Whether a function of this name stands below `#[test]` or one of its kind.
fn is_a_test(sources: &str, name: &str) -> bool {
    let Some((before, _)) = sources.split_once(&format!("fn {name}(")) else { return false };
    let marks = before.trim_end_matches("async ").lines().rev().skip_while(|line| line.is_empty());
    marks.take_while(|line| line.starts_with("#[")).any(|line| line.contains("test"))
}

/// All Rust sources below a folder, one after the other.
fn collect(folder: &Path, sources: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
