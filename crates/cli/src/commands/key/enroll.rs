//! `storekeeper key enroll`: hands a key to the keeper.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use serde_json::value::RawValue;
use storekeeper_model::StoreIdKey;

use super::name::Name;
use crate::answer::Enrolled;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::key_file;
use crate::output::{self, Format, instant_or_dash};
use crate::remote::Patience;

/// Hand a key to the keeper, which keeps it renewed from then on. The key comes from a file or stdin.
#[derive(Debug, Args)]
pub(super) struct Enroll {
    #[command(flatten)]
    name: Name,
    /// The file that holds the key; stdin unless told
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl Enroll {
    /// Reads the key, hands it over, and says what became of it.
    pub(super) async fn run(self, format: Format) -> CommandResult {
        let text = key_file::read(self.key_file.as_deref())?;
        let key = StoreIdKey::parse(text).map_err(|error| CommandError::new(Exit::Usage, error))?;
        let (keeper, player) = self.name.player().await?;
        let body = serde_json::to_vec(&json!({ "key": key.jwt().expose() }));
        let body = body.map_err(|error| CommandError::new(Exit::Failure, error))?;
        let path = self.name.key(&player, key.kind());
        let reply = keeper.send(http::Method::PUT, &path, Some(body), Patience::Usual).await?;
        match format {
            Format::Json => output::print_json(&keeper.read::<Box<RawValue>>(&reply)?),
            Format::Table => output::print(&told(&keeper.read(&reply)?)),
        }
    }
}

fn told(enrolled: &Enrolled) -> String {
    let (user, kind) = (output::safe(&enrolled.key.user), &enrolled.key.kind);
    let what = match enrolled.outcome.as_str() {
        "new" => "enrolled",
        "known" => "was enrolled already",
        "replaced" => "enrolled, in place of the former one",
        "waiting" => "waits beside the held one until the Store has accepted it",
        other => other,
    };
    let (expires, renews) = (instant_or_dash(enrolled.key.expires_at), instant_or_dash(enrolled.key.renew_at));
    format!("{user}'s {kind} key {} {what}\nexpires {expires}, due {renews}", enrolled.enrolled)
}
