//! `storekeeper key forget`: removes a player's keys from the keeper.

use clap::Args;
use http::Method;
use serde_json::json;
use storekeeper_model::KeyKind;

use super::name::Name;
use crate::exit::CommandResult;
use crate::output::{self, Format, counted};
use crate::remote::Patience;

/// Remove a player's keys from the keeper. Without KIND all of them, in all slots unless --slot names one.
#[derive(Debug, Args)]
pub(super) struct Forget {
    #[command(flatten)]
    name: Name,
    /// collections or purchase; both unless told
    #[arg(value_name = "KIND")]
    kind: Option<KeyKind>,
}

/// Says how many keys there were.
const FORGOTTEN: &str = "storekeeper-forgotten";

impl Forget {
    /// Asks, and says how many there were.
    pub(super) async fn run(self, format: Format) -> CommandResult {
        let (keeper, player) = self.name.player().await?;
        let path = match self.kind {
            Some(kind) => self.name.key(&player, kind),
            None => self.name.all(&player),
        };
        let reply = keeper.send(Method::DELETE, &path, None, Patience::Usual).await?;
        let told = reply.headers.get(FORGOTTEN).and_then(|count| count.to_str().ok()?.parse::<u64>().ok());
        let forgotten = told.unwrap_or(0);
        match format {
            Format::Json => output::print_json(&json!({ "forgotten": forgotten })),
            Format::Table => output::print(&format!("{} forgotten", counted(forgotten, "key"))),
        }
    }
}
