//! The binary: reads the process's environment and command line, and ends with the exit code of the command.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Parser as _;
use storekeeper::commands::CommandLine;

fn main() -> ExitCode {
    let command = match CommandLine::try_parse() {
        Ok(command) => command,
        Err(error) => error.exit(),
    };
    #[expect(clippy::disallowed_methods, reason = "the edge: the environment is read here and passed in")]
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("no runtime: {error}"), ExitCode::FAILURE),
    };
    match runtime.block_on(command.run(&environment)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.message, error.code()),
    }
}

#[expect(clippy::print_stderr, reason = "the one place where a failed command speaks")]
fn complain(message: &str, code: ExitCode) -> ExitCode {
    for line in message.lines() {
        eprintln!("error: {line}");
    }
    code
}
