//! `storekeeper node`: the keepers that share a keyring.

use clap::{Args, Subcommand};

use crate::answer;
use crate::exit::CommandResult;
use crate::output::{self, Format, Rows, count, safe};
use crate::remote::{Patience, encoded};
use crate::target::Target;

/// List the keepers that share a keyring, and empty one before it is stopped.
#[derive(Debug, Args)]
pub struct Node {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the nodes: each run of a keeper is one
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Have a node give its leases back; it keeps answering reads and enrollments. Any keeper may be asked
    Drain {
        /// The node, by its name or its id
        #[arg(value_name = "NAME|ID")]
        node: String,
        #[command(flatten)]
        target: Target,
    },
    /// Let a drained node take leases again; a restart of the node does the same. Any keeper may be asked
    Undrain {
        /// The node, by its name or its id
        #[arg(value_name = "NAME|ID")]
        node: String,
        #[command(flatten)]
        target: Target,
    },
}

impl Node {
    /// Runs the verb.
    pub async fn run(self, format: Format) -> CommandResult {
        match self.verb {
            Verb::List { target } => list(&target, format).await,
            Verb::Drain { node, target } => {
                order(&node, "drain", "gives its leases back", "has none left", &target, format).await
            }
            Verb::Undrain { node, target } => {
                order(&node, "undrain", "may take leases again", "has its share", &target, format).await
            }
        }
    }
}

async fn list(target: &Target, format: Format) -> CommandResult {
    let fleet = target.admin()?.fetch::<answer::Fleet>("/v1/admin/nodes").await?;
    if format == Format::Json {
        return output::print_json(&fleet.raw);
    }
    let mut rows = Rows::new(["NODE", "ID", "LEASES", "CLOCK", "STATE"]).numbers(&[2]);
    for node in fleet.value.nodes {
        let state = match (node.draining, node.answering) {
            (true, _) => "draining",
            (false, true) => "answering",
            (false, false) => "-",
        };
        rows.add([node.name, node.id, count(node.leases), node.clock, state.to_owned()]);
    }
    output::print(&rows.text())
}

/// Sends an order about a node, and says what the node does from then on.
async fn order(node: &str, verb: &str, effect: &str, result: &str, target: &Target, format: Format) -> CommandResult {
    let remote = target.admin()?;
    let path = format!("/v1/admin/nodes/{}/{verb}", encoded(node));
    let reply = remote.send(http::Method::POST, &path, None, Patience::Usual).await?;
    if format == Format::Json {
        return output::print_json(&remote.read::<Box<serde_json::value::RawValue>>(&reply)?);
    }
    let node: answer::Node = remote.read(&reply)?;
    output::print(&format!("{} {effect}; `storekeeper lease list` shows when it {result}", safe(&node.name)))
}
