//! `cargo xtask check`: what must hold before anything is merged, besides the tests.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{self, program, run};

/// A name and what is done under it.
type Check = (&'static str, fn() -> Result<()>);

/// Runs every check, also after one has failed, and names those that did.
fn each(checks: &[Check]) -> Result<()> {
    let mut failed = Vec::new();
    for (name, check) in checks {
        if let Err(error) = check() {
            println!("\n{name}: {error:#}");
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    println!("\nall {} checks passed", checks.len());
    Ok(())
}

/// All checks.
pub(crate) fn all() -> Result<()> {
    each(&[
        ("format", format),
        ("lints", lints),
        ("documentation", documentation),
        ("policy alone", policy_alone),
        ("client's features", client_features),
        ("dependencies", dependencies),
    ])
}

fn format() -> Result<()> {
    run(program("cargo", &["fmt", "--all", "--check"]))
}

fn lints() -> Result<()> {
    run(program("cargo", &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn documentation() -> Result<()> {
    let mut cargo = program("cargo", &["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"]);
    cargo.env("RUSTDOCFLAGS", "-D warnings");
    run(cargo)
}

/// `policy` is `no_std`: what compiles there performs no I/O and asks no clock.
fn policy_alone() -> Result<()> {
    let source =
        std::fs::read_to_string(command::root().join("crates/policy/src/lib.rs")).context("no policy crate")?;
    if !source.lines().any(|line| line.trim() == "#![no_std]") {
        bail!("crates/policy/src/lib.rs does not say `#![no_std]`");
    }
    run(program("cargo", &["check", "--locked", "--package", "storekeeper-policy"]))
}

/// The client crate is for other people's programs: every combination of its features must compile without a warning.
fn client_features() -> Result<()> {
    for features in combinations(&feature_names("storekeeper-client")?) {
        let features = features.join(",");
        let mut arguments = vec!["clippy", "--locked", "--package", "storekeeper-client", "--no-default-features"];
        arguments.extend(["--features", &features, "--", "-D", "warnings"]);
        run(program("cargo", &arguments))?;
    }
    Ok(())
}

fn feature_names(package: &str) -> Result<Vec<String>> {
    let output = program("cargo", &["metadata", "--locked", "--no-deps", "--format-version", "1"]).output()?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("`cargo metadata` did not answer with JSON")?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let package = packages.iter().find(|found| found["name"] == package).context("no such package")?;
    let features = package["features"].as_object().context("no features")?;
    Ok(features.keys().filter(|name| *name != "default").cloned().collect())
}

/// Every subset, the empty one first.
fn combinations(names: &[String]) -> Vec<Vec<String>> {
    names.iter().fold(vec![Vec::new()], |mut sets, name| {
        let with = sets.iter().map(|set| set.iter().cloned().chain([name.clone()]).collect()).collect::<Vec<_>>();
        sets.extend(with);
        sets
    })
}

/// Bans, licences and sources need no outside database; `deny.toml` says what is allowed.
fn dependencies() -> Result<()> {
    let own = command::root().join("target/tools");
    let own_binary = own.join("bin/cargo-deny");
    let deny = |arguments: &[&str]| {
        let name = if own_binary.exists() { own_binary.to_str().unwrap_or_default() } else { "cargo-deny" };
        program(name, arguments)
    };
    if !command::succeeds(deny(&["--version"])) {
        println!("cargo-deny is missing: installing it below target/tools");
        let folder = own.to_string_lossy();
        run(program("cargo", &["install", "cargo-deny", "--locked", "--version", CARGO_DENY, "--root", &folder]))?;
    }
    run(deny(&["--workspace", "--locked", "check", "bans", "licenses", "sources"]))
}

const CARGO_DENY: &str = "^0.20";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_are_all_subsets() {
        let names = ["a", "b"].map(String::from);
        let sets: Vec<String> = combinations(&names).iter().map(|set| set.join("+")).collect();
        assert_eq!(sets, ["", "a", "b", "a+b"]);
    }

    #[test]
    fn one_failure_is_told_after_all_have_run() {
        let checks: [Check; 3] = [("first", || bail!("broken")), ("second", || Ok(())), ("third", || bail!("too"))];
        assert_eq!(each(&checks).unwrap_err().to_string(), "failed: first, third");
        assert!(each(&checks[1..2]).is_ok());
    }

    #[test]
    fn the_clients_features_are_found() {
        assert!(feature_names("storekeeper-client").unwrap().contains(&String::from("transport")));
        assert!(feature_names("nobody").is_err());
    }
}
