//! The project's own commands: `cargo xtask test`, `check` and `sabotage`. CI runs nothing else.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to whoever runs it")]

mod check;
mod command;
mod need;
mod sabotage;
mod suite;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs every test of the workspace, doc tests included; first installs what they need.
    Test {
        /// Passed on to `cargo test`, as in `cargo xtask test -- --package storekeeper-model`.
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Checks format, lints, documentation, dependencies, and that the crates which must stand alone do.
    Check,
    /// Breaks each invariant on purpose and demands that the tests notice.
    Sabotage {
        /// Only the entries for this invariant.
        #[arg(long)]
        only: Option<u8>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Test { rest } => suite::run(&rest),
        Task::Check => check::all(),
        Task::Sabotage { only } => sabotage::run(only),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
