//! `storekeeper completions`: what a shell needs to complete commands and options.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::CommandLine;
use crate::exit::CommandResult;
use crate::output;

/// Print the completions for a shell.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: storekeeper completions bash > ~/.local/share/bash-completion/completions/storekeeper"
)]
pub struct Completions {
    /// Which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    /// Prints them.
    pub fn run(self) -> CommandResult {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut CommandLine::command(), "storekeeper", &mut script);
        output::print(String::from_utf8_lossy(&script).trim_end())
    }
}
