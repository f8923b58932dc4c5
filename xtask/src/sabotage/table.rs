//! The table of sabotages, `xtask/sabotage/table.toml`: which invariant, which patch, which tests must notice.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The invariants of ARCHITECTURE.md.
pub(crate) const INVARIANTS: RangeInclusive<u8> = 1..=11;

/// One way to break one invariant.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sabotage {
    /// Which invariant.
    pub(crate) invariant: u8,
    /// The patch beside the table, as `git diff` writes it.
    pub(crate) patch: String,
    /// What the patch does to the product, in a few words.
    pub(crate) breaks: String,
    /// The package whose tests must notice.
    pub(crate) package: String,
    /// Which of its targets to build, as arguments of `cargo test`: `["--lib"]`, `["--test", "invariants"]`. Doc tests
    /// cannot be named: they are not compiled apart from being run.
    pub(crate) target: Vec<String>,
    /// What the name of a test must contain to be run; empty runs all of the targets'.
    #[serde(default)]
    pub(crate) filter: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    sabotage: Vec<Sabotage>,
}

/// Reads the table and checks it against the patches that lie beside it.
pub(crate) fn read(folder: &Path) -> Result<Vec<Sabotage>> {
    let file = folder.join("table.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let entries = toml::from_str::<Table>(&text).with_context(|| format!("in {}", file.display()))?.sabotage;
    check(&entries, &patches(folder)?)?;
    Ok(entries)
}

fn patches(folder: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".patch") {
            names.insert(name);
        }
    }
    Ok(names)
}

fn check(entries: &[Sabotage], patches: &BTreeSet<String>) -> Result<()> {
    let mut named = BTreeSet::new();
    for entry in entries {
        ensure!(INVARIANTS.contains(&entry.invariant), "there is no invariant {}", entry.invariant);
        let number = format!("{:02}-", entry.invariant);
        ensure!(entry.patch.starts_with(&number), "{}: the name should start with {number}", entry.patch);
        ensure!(patches.contains(&entry.patch), "{}: there is no such patch", entry.patch);
        ensure!(!entry.target.is_empty(), "{}: no target is named, so doc tests would run too", entry.patch);
        ensure!(named.insert(entry.patch.clone()), "{}: stands in the table twice", entry.patch);
    }
    let forgotten: Vec<&String> = patches.difference(&named).collect();
    ensure!(forgotten.is_empty(), "patches that the table does not name: {forgotten:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(invariant: u8, patch: &str) -> Sabotage {
        let (breaks, package) = (String::from("x"), String::from("y"));
        let target = vec![String::from("--lib")];
        Sabotage { invariant, patch: patch.to_owned(), breaks, package, target, filter: String::new() }
    }

    fn checked(entries: &[Sabotage], patches: &[&str]) -> String {
        let patches = patches.iter().map(|name| (*name).to_owned()).collect();
        check(entries, &patches).map_or_else(|error| error.to_string(), |()| String::from("fine"))
    }

    #[test]
    fn the_table_and_the_patches_agree() {
        read(&crate::command::root().join("xtask/sabotage")).unwrap();
    }

    #[test]
    fn disagreement_is_noticed() {
        assert_eq!(checked(&[entry(7, "07-a.patch")], &["07-a.patch"]), "fine");
        assert_eq!(checked(&[entry(12, "12-a.patch")], &["12-a.patch"]), "there is no invariant 12");
        assert_eq!(checked(&[entry(7, "08-a.patch")], &["08-a.patch"]), "08-a.patch: the name should start with 07-");
        assert_eq!(checked(&[entry(7, "07-a.patch")], &[]), "07-a.patch: there is no such patch");
        assert_eq!(checked(&[], &["07-a.patch"]), "patches that the table does not name: [\"07-a.patch\"]");
        let twice = [entry(7, "07-a.patch"), entry(7, "07-a.patch")];
        assert_eq!(checked(&twice, &["07-a.patch"]), "07-a.patch: stands in the table twice");
    }
}
