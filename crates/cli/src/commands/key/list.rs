//! `storekeeper key list`: many keys at a glance.

use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use storekeeper_model::Timestamp;

use crate::answer::{Key, KeyPage};
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Format, Rows, instant_or_dash};
use crate::remote::{Remote, encoded};
use crate::target::Target;

/// List keys, without the keys themselves.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only this app's
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// Only those in this state
    #[arg(long, value_parser = ["active", "revoked", "lapsed"])]
    state: Option<String>,
    /// Only those that are due before this instant
    #[arg(long, value_name = "INSTANT")]
    due_before: Option<Timestamp>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Read on where a former list ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// How many the keeper gives at once.
const PAGE_MAX: usize = 1000;

impl List {
    /// Asks for as many pages as it takes, and prints them.
    pub(super) async fn run(self, format: Format) -> CommandResult {
        let keeper = self.target.data()?;
        let mut printed = Printed::new(format);
        let (mut cursor, mut left) = (self.cursor.clone(), self.limit);
        while left > 0 {
            let page = self.page(&keeper, cursor.as_deref(), left.min(PAGE_MAX)).await?;
            left = left.saturating_sub(page.len());
            cursor = page.next.clone();
            printed.add(page)?;
            if cursor.is_none() {
                break;
            }
        }
        printed.finish(cursor.as_deref())
    }

    async fn page(&self, keeper: &Remote, cursor: Option<&str>, limit: usize) -> Result<Page, CommandError> {
        let mut path = format!("/v1/keys?limit={limit}");
        let due_before = self.due_before.map(|at| at.to_string());
        let parameters = [
            ("app", self.app.as_deref()),
            ("state", self.state.as_deref()),
            ("due_before", due_before.as_deref()),
            ("cursor", cursor),
        ];
        for (name, value) in parameters {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        let answer = keeper.fetch::<KeyPage>(&path).await?;
        let raw: RawPage =
            serde_json::from_str(answer.raw.get()).map_err(|error| CommandError::new(Exit::Failure, error))?;
        Ok(Page { keys: answer.value.keys, raw: raw.keys, next: answer.value.next })
    }
}

#[derive(serde::Deserialize)]
struct RawPage {
    keys: Vec<Box<RawValue>>,
}

struct Page {
    keys: Vec<Key>,
    raw: Vec<Box<RawValue>>,
    next: Option<String>,
}

impl Page {
    fn len(&self) -> usize {
        self.keys.len()
    }
}

/// What is printed: a table page by page, or one JSON document at the end.
enum Printed {
    Table { rows: usize },
    Json { keys: Vec<Box<RawValue>> },
}

impl Printed {
    fn new(format: Format) -> Self {
        match format {
            Format::Table => Self::Table { rows: 0 },
            Format::Json => Self::Json { keys: Vec::new() },
        }
    }

    fn add(&mut self, page: Page) -> CommandResult {
        match self {
            Self::Json { keys } => {
                keys.extend(page.raw);
                Ok(())
            }
            Self::Table { .. } if page.keys.is_empty() => Ok(()),
            Self::Table { rows } => {
                let text = table(&page.keys).text();
                // Every page has the same columns, so its headers are said once.
                let text = if *rows == 0 { text.as_str() } else { text.split_once('\n').map_or("", |(_, rest)| rest) };
                *rows += page.keys.len();
                output::print(text)
            }
        }
    }

    fn finish(self, next: Option<&str>) -> CommandResult {
        match self {
            Self::Json { keys } => {
                output::print_json(&json!({ "keys": keys, "next": next.map_or(Value::Null, Value::from) }))
            }
            Self::Table { rows: 0 } => output::print("no keys"),
            Self::Table { .. } => {
                if let Some(next) = next {
                    output::remark(&format!("there is more: raise --limit, or read on with --cursor {next}"));
                }
                Ok(())
            }
        }
    }
}

fn table(keys: &[Key]) -> Rows {
    let mut rows =
        Rows::new(["APP", "USER", "SLOT", "KIND", "STATE", "PROVEN", "REFUSED", "EXPIRES", "DUE", "FINGERPRINT"]);
    for key in keys {
        rows.add([
            key.app.as_str(),
            &key.user,
            if key.slot.is_empty() { "-" } else { &key.slot },
            &key.kind,
            &key.state,
            if key.proven { "yes" } else { "no" },
            if key.refused_since.is_some() { "yes" } else { "no" },
            &instant_or_dash(key.expires_at),
            &instant_or_dash(key.renew_at),
            &key.fingerprint,
        ]);
    }
    rows
}
