//! `cargo xtask test`: everything the tests need, then all of them.

use anyhow::{Context, Result};

use crate::{command, need};

/// Runs every test of the workspace and prints what cargo prints. All of them run, also after one has failed.
pub(crate) fn run(rest: &[String]) -> Result<()> {
    need::meet()?;
    let mut cargo = command::program("cargo", &["test", "--locked", "--no-fail-fast"]);
    if rest.is_empty() {
        cargo.arg("--workspace");
    }
    cargo.args(rest);
    command::run(cargo).context("not every test passed")
}
