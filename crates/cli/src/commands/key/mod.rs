//! `storekeeper key`: one key or many, at a running keeper or without one.

mod enroll;
mod explain;
mod forget;
mod get;
mod history;
mod inspect;
mod list;
mod name;
mod renew;
mod show;

use clap::{Args, Subcommand};

use crate::exit::CommandResult;
use crate::output::Format;

/// Inspect and renew Store ID keys; enroll, read and explain those of a keeper.
#[derive(Debug, Args)]
pub struct Key {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Inspect(inspect::Inspect),
    Renew(Box<renew::Renew>),
    Enroll(enroll::Enroll),
    Get(get::Get),
    Show(show::Show),
    List(list::List),
    History(history::History),
    Explain(explain::Explain),
    Forget(forget::Forget),
}

impl Key {
    /// Whether keys are renewed here, which has to end in order.
    pub(super) fn renews(&self) -> bool {
        matches!(self.verb, Verb::Renew(_))
    }

    /// Runs the verb. `environment` holds the variables of the process.
    pub async fn run(self, environment: &std::collections::BTreeMap<String, String>, format: Format) -> CommandResult {
        match self.verb {
            Verb::Inspect(inspect) => inspect.run(format),
            Verb::Renew(renew) => renew.run(environment, format).await,
            Verb::Enroll(enroll) => enroll.run(format).await,
            Verb::Get(get) => get.run(format).await,
            Verb::Show(show) => show.run(format).await,
            Verb::List(list) => list.run(format).await,
            Verb::History(history) => history.run(format).await,
            Verb::Explain(explain) => explain.run(format).await,
            Verb::Forget(forget) => forget.run(format).await,
        }
    }
}
