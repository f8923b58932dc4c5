//! The binary: reads the process's environment and command line, and ends with the exit code of the command.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Parser as _;
use storekeeper::commands::CommandLine;
use storekeeper::exit::{CommandError, Exit, report};
use storekeeper::log_writer::LogWriter;

fn main() -> ExitCode {
    let command = match CommandLine::try_parse() {
        Ok(command) => command,
        Err(error) => error.exit(),
    };
    #[expect(clippy::disallowed_methods, reason = "the edge: the environment is read here and passed in")]
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    storekeeper::descriptors::raise();
    let log = LogWriter::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CommandError::new(Exit::Failure, format!("no runtime: {error}")));
    let ended = runtime.and_then(|runtime| {
        let ended = runtime.block_on(command.run(&environment, &log));
        // A thread that blocks, on stdin for example, must not hold up the end.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => {
            log.flush();
            ExitCode::SUCCESS
        }
        Err(error) => {
            report(&error, &log);
            error.code()
        }
    }
}
