//! `storekeeper lease`: how the 4096 buckets of keys are spread over the keepers that share a keyring.

use clap::{Args, Subcommand};

use crate::answer::Fleet;
use crate::exit::CommandResult;
use crate::output::{self, Format, Rows, count};
use crate::target::Target;

/// Tell which keeper renews which part of the keys.
#[derive(Debug, Args)]
pub struct Lease {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Count the leases of each node; as JSON, list each of the 4096
    List {
        #[command(flatten)]
        target: Target,
    },
}

impl Lease {
    /// Runs the verb.
    pub async fn run(self, format: Format) -> CommandResult {
        let Verb::List { target } = self.verb;
        let fleet = target.admin()?.fetch::<Fleet>("/v1/admin/leases").await?;
        if format == Format::Json {
            return output::print_json(&fleet.raw);
        }
        let mut rows = Rows::new(["NODE", "LEASES"]).numbers(&[1]);
        for node in &fleet.value.nodes {
            rows.add([node.name.clone(), count(node.leases)]);
        }
        if fleet.value.free > 0 {
            rows.add([String::from("(nobody)"), count(fleet.value.free)]);
        }
        output::print(&rows.text())
    }
}
