//! `cargo xtask sabotage`: proves the tests. Each entry of `xtask/sabotage/table.toml` breaks one invariant on purpose,
//! with one small patch, in a copy of the checkout; the tests it names must pass before and fail after.

mod copy;
mod table;
mod trial;

use std::path::Path;

use anyhow::{Result, bail};

use crate::{command, need};
use table::{INVARIANTS, Sabotage};
use trial::{Bench, Verdict};

/// Tries every entry, or those for one invariant, and prints what became of them.
///
/// # Errors
/// When any is not caught, and (without `only`) when an invariant has no entry.
pub(crate) fn run(only: Option<u8>) -> Result<()> {
    need::meet()?;
    let root = command::root();
    let folder = root.join("xtask/sabotage");
    let mut entries = table::read(&folder)?;
    if let Some(number) = only {
        entries.retain(|entry| entry.invariant == number);
        if entries.is_empty() {
            bail!("no entry for invariant {number}");
        }
    }
    let bench = Bench::new(&root, &folder, &root.join("target/sabotage"));
    let verdicts = bench.try_all(&entries)?;
    report(&entries, &verdicts, only.is_none(), &bench.logs())
}

fn report(entries: &[Sabotage], verdicts: &[Verdict], is_whole: bool, logs: &Path) -> Result<()> {
    println!("\ninvariant  caught  what was broken");
    for (entry, verdict) in entries.iter().zip(verdicts) {
        let caught = if verdict.is_caught() { "yes" } else { "NO" };
        println!("{:>9}  {caught:<6}  {} ({}): {verdict}", entry.invariant, entry.breaks, entry.patch);
    }
    let mut failures = verdicts.iter().filter(|verdict| !verdict.is_caught()).count();
    if is_whole {
        for number in INVARIANTS.filter(|number| entries.iter().all(|entry| entry.invariant != *number)) {
            println!("{number:>9}  NO      nothing: it has no patch");
            failures += 1;
        }
    }
    if failures > 0 {
        bail!("{failures} not caught; what the tests printed is in {}", logs.display());
    }
    Ok(())
}
