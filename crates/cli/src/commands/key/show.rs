//! `storekeeper key show`: what is known of a key in any state, without the key.

use clap::Args;
use storekeeper_model::KeyKind;

use super::name::{Name, found, kinds};
use crate::answer::Key;
use crate::exit::CommandResult;
use crate::output::{self, Format, Rows, instant, instant_or_dash};

/// Show what is known of a player's keys in any state, without the keys; notes no use of them.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    name: Name,
    /// collections or purchase; both unless told
    #[arg(value_name = "KIND")]
    kind: Option<KeyKind>,
}

impl Show {
    /// Asks, and prints what there is.
    pub(super) async fn run(self, format: Format) -> CommandResult {
        let (admin, player) = self.name.player_for_operators().await?;
        let mut asked = Vec::new();
        for kind in kinds(self.kind) {
            asked.push(admin.fetch::<Key>(&self.name.key(&player, kind)).await);
        }
        let answers = found(asked)?;
        if format == Format::Json {
            return match (self.kind, answers.as_slice()) {
                (Some(_), [only]) => output::print_json(&only.raw),
                _ => output::print_json(&serde_json::json!({
                    "keys": answers.iter().map(|answer| &answer.raw).collect::<Vec<_>>()
                })),
            };
        }
        let texts: Vec<String> = answers.iter().map(|answer| table(&answer.value).text()).collect();
        output::print(&texts.join("\n\n"))
    }
}

/// A key, one line for each thing that is known.
pub(super) fn table(key: &Key) -> Rows {
    let mut rows = Rows::pairs();
    rows.add(["app", &key.app]);
    rows.add(["user", &key.user]);
    if !key.slot.is_empty() {
        rows.add(["slot", &key.slot]);
    }
    rows.add(["kind", &key.kind]);
    rows.add(["state", &key.state]);
    rows.add(["proven", if key.proven { "yes" } else { "no" }]);
    if let Some(since) = key.refused_since {
        rows.add(["refused since", &instant(since)]);
    }
    rows.add(["fingerprint", &key.fingerprint]);
    rows.add(["version", &key.key_version.to_string()]);
    rows.add(["certificate", &key.certificate]);
    rows.add(["issued", &instant(key.issued_at)]);
    rows.add(["expires", &instant_or_dash(key.expires_at)]);
    rows.add(["due", &instant_or_dash(key.renew_at)]);
    if key.handed_over {
        rows.add(["handed over", "yes"]);
    }
    if let Some(newcomer) = &key.newcomer {
        rows.add(["newcomer", newcomer]);
    }
    rows
}
