//! `storekeeper app`: the apps of a running keeper, and an operator's orders to them.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::answer::{AppStats, Order, Stats};
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Format, Rows, count, counted};
use crate::remote::encoded;
use crate::target::Target;

/// List a keeper's apps, pause and resume them, undo condemnations.
#[derive(Debug, Args)]
pub struct App {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the apps with their keys, and why one is paused
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Stop renewing an app's keys until it is resumed; they are served all the while
    Pause {
        #[command(flatten)]
        app: Named,
    },
    /// Renew an app's keys again
    Resume {
        #[command(flatten)]
        app: Named,
        /// Condemn now the keys that wait because the daily cap on condemnations was reached
        #[arg(long)]
        condemn: bool,
    },
    /// Take back what was handed over to another keeper: it is renewed here again
    Reclaim {
        #[command(flatten)]
        app: Named,
    },
    /// Undo the condemnation of keys whose text still lives
    Acquit {
        #[command(flatten)]
        app: Named,
    },
}

#[derive(Debug, Args)]
struct Named {
    /// The app, as it is configured
    #[arg(value_name = "APP")]
    name: String,
    #[command(flatten)]
    target: Target,
}

impl App {
    /// Runs the verb.
    pub async fn run(self, format: Format) -> CommandResult {
        match self.verb {
            Verb::List { target } => list(&target, format).await,
            Verb::Pause { app } => app.order("pause", None, format).await,
            Verb::Resume { app, condemn } => app.order("resume", Some(condemn), format).await,
            Verb::Reclaim { app } => app.order("reclaim", None, format).await,
            Verb::Acquit { app } => app.order("acquit", None, format).await,
        }
    }
}

impl Named {
    async fn order(&self, what: &str, condemn: Option<bool>, format: Format) -> CommandResult {
        let remote = self.target.admin()?;
        let path = format!("/v1/admin/apps/{}/{what}", encoded(&self.name));
        let body = condemn.map_or_else(|| json!({}), |condemn| json!({ "condemn": condemn }));
        let body = serde_json::to_vec(&body).map_err(|error| CommandError::new(Exit::Failure, error))?;
        let body = condemn.is_some().then_some(body);
        let reply = remote.send(http::Method::POST, &path, body, crate::remote::Patience::Usual).await?;
        if format == Format::Json {
            return output::print_json(&remote.read::<Box<serde_json::value::RawValue>>(&reply)?);
        }
        output::print(&self.told(what, &remote.read(&reply)?))
    }

    fn told(&self, what: &str, order: &Order) -> String {
        let name = &self.name;
        match what {
            "pause" => {
                format!("{name} is paused: its keys are served and not renewed until `storekeeper app resume {name}`")
            }
            "reclaim" => format!("{name}: {} taken back", counted(order.reclaimed.unwrap_or(0), "key")),
            "acquit" => format!("{name}: {} acquitted", counted(order.acquitted.unwrap_or(0), "key")),
            _ => match order.condemned.unwrap_or(0) {
                0 => format!("{name} is renewed again"),
                condemned => format!("{name} is renewed again; {} condemned", counted(condemned, "key")),
            },
        }
    }
}

async fn list(target: &Target, format: Format) -> CommandResult {
    let stats = target.data()?.fetch::<Stats>("/v1/stats").await?;
    if format == Format::Json {
        return output::print_json(&stats.raw);
    }
    output::print(&table(&stats.value).text())
}

/// One row for each app.
pub(super) fn table(stats: &Stats) -> Rows {
    let mut rows = Rows::new(["APP", "ACTIVE", "REVOKED", "LAPSED", "REFUSED", "UNPROVEN", "BACKLOG", "PAUSED"])
        .numbers(&[1, 2, 3, 4, 5, 6]);
    for (name, app) in &stats.apps {
        rows.add(row(name, app));
    }
    rows
}

fn row(name: &str, app: &AppStats) -> [String; 8] {
    [
        name.to_owned(),
        count(app.keys.active),
        count(app.keys.revoked),
        count(app.keys.lapsed),
        count(app.refused),
        count(app.unproven),
        count(app.due_backlog),
        app.paused.clone().unwrap_or_else(|| String::from("-")),
    ]
}
