//! `storekeeper key get`: a live key, as a backend gets it.

use std::time::Duration;

use clap::Args;
use storekeeper_model::{KeyKind, format_span, parse_span};

use super::name::Name;
use crate::answer::LiveKey;
use crate::exit::CommandResult;
use crate::output::{self, Format};
use crate::remote::Patience;

/// Print a live key, as a backend gets it.
#[derive(Debug, Args)]
pub(super) struct Get {
    #[command(flatten)]
    name: Name,
    /// collections or purchase
    #[arg(value_name = "KIND")]
    kind: KeyKind,
    /// Renew it first if it has less life than this
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    min_ttl: Option<Duration>,
}

/// Says why the renewal that `min_ttl` asked for failed.
const RENEWAL_FAILED: &str = "storekeeper-renewal-failed";

impl Get {
    /// Asks, and prints the bare key, or with `-o json` all that is known of it.
    pub(super) async fn run(self, format: Format) -> CommandResult {
        let (keeper, player) = self.name.player().await?;
        let mut path = self.name.key(&player, self.kind);
        if let Some(span) = self.min_ttl {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&format!("min_ttl={}", format_span(span)));
        }
        let reply = keeper.send(http::Method::GET, &path, None, Patience::Usual).await?;
        if let Some(why) = reply.headers.get(RENEWAL_FAILED) {
            let why = output::safe(&String::from_utf8_lossy(why.as_bytes()));
            output::remark(&format!("the renewal failed ({why}); this is the key as it was"));
        }
        match format {
            Format::Json => output::print_json(&keeper.read::<Box<serde_json::value::RawValue>>(&reply)?),
            Format::Table => output::print(&keeper.read::<LiveKey>(&reply)?.key),
        }
    }
}
