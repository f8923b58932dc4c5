//! `storekeeper key history`: what became of a key's last attempts.

use clap::Args;
use storekeeper_model::KeyKind;

use super::name::{Name, found, kinds};
use crate::answer;
use crate::exit::CommandResult;
use crate::output::{self, Format, Rows, instant};

/// Show what became of the last attempts on a player's keys, oldest first.
#[derive(Debug, Args)]
pub(super) struct History {
    #[command(flatten)]
    name: Name,
    /// collections or purchase; both unless told
    #[arg(value_name = "KIND")]
    kind: Option<KeyKind>,
}

impl History {
    /// Asks, and prints what there is.
    pub(super) async fn run(self, format: Format) -> CommandResult {
        let (keeper, player) = self.name.player().await?;
        let mut asked = Vec::new();
        for kind in kinds(self.kind) {
            let path = self.name.below_key(&player, kind, "history");
            asked.push(keeper.fetch::<answer::History>(&path).await.map(|answer| (kind, answer)));
        }
        let answers = found(asked)?;
        if format == Format::Json {
            return match (self.kind, answers.as_slice()) {
                (Some(_), [(_, only)]) => output::print_json(&only.raw),
                _ => output::print_json(
                    &answers
                        .iter()
                        .map(|(kind, answer)| (kind.as_str(), &answer.raw))
                        .collect::<std::collections::BTreeMap<_, _>>(),
                ),
            };
        }
        let mut rows = Rows::new(["KIND", "AT", "RESULT", "STATUS", "CODE", "CORRELATION ID"]);
        for (kind, answer) in &answers {
            answer.value.outcomes.iter().for_each(|outcome| rows.add(row(*kind, outcome)));
        }
        output::print(&rows.text())
    }
}

fn row(kind: KeyKind, outcome: &answer::Outcome) -> [String; 6] {
    let or_dash = |text: &str| if text.is_empty() { String::from("-") } else { text.to_owned() };
    [
        kind.to_string(),
        instant(outcome.at),
        outcome.result.clone(),
        outcome.status.map_or_else(|| String::from("-"), |status| status.to_string()),
        or_dash(&outcome.code),
        or_dash(outcome.correlation_id.as_deref().unwrap_or_default()),
    ]
}
