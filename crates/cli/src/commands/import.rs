//! `storekeeper import`: takes keys up that were kept elsewhere, what expires first goes first.

mod line;
mod plan;
mod send;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use storekeeper_clock::{Clock as _, SystemClock};

use crate::commands::passphrase;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Format, count, counted, remark};
use crate::target::Target;

use line::Rejected;
use plan::Plan;
use send::Sender;
use source::Source;

/// Take up keys that were kept elsewhere: an export, or lines of your own with app, user and key.
///
/// What expires first goes first; each key is renewed at its own moment from then on. What was interrupted is simply begun again:
/// a key that is there already is recognised, and nothing is written twice.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Import {
    /// The file to read, encrypted or not; `-` is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only say what is in it: ages, what is dead, how long it takes. Needs no keeper and changes nothing
    #[arg(long)]
    plan: bool,
    /// The app of lines that name none
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// The policies to plan by; the default policy unless told
    #[arg(long, value_name = "FILE", requires = "plan")]
    config: Option<PathBuf>,
    /// The passphrase that the export was encrypted to
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

const AFTER_HELP: &str = "\
A line is a JSON object: {\"app\":\"mygame\",\"user\":\"player-0001\",\"key\":\"eyJ…\"}, with \"slot\" and \"kind\" where needed and
whatever else an export tells. A line that cannot be taken is told with its number and why; the others are taken.
A key that this keeper had handed over is renewed here again if the line comes from `export --handover`.
Exit codes: 0 all taken, 6 some lines were not or hold keys that stay handed over, 5 the keeper went away.";

/// What became of the lines. Each is counted once.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tally {
    lines: u64,
    new: u64,
    known: u64,
    replaced: u64,
    waiting: u64,
    rejected: u64,
    /// An export wrote a later line for the same key, which counts instead.
    overtaken: u64,
    /// Of those taken: expired already.
    dead: u64,
    /// Of those taken: the key that is held was handed over to another keeper, and is not renewed here.
    handed_over: u64,
    /// The apps of those.
    #[serde(skip)]
    handed_over_apps: BTreeSet<String>,
    /// Why lines were not taken, by code.
    codes: BTreeMap<String, u64>,
}

impl Tally {
    fn reject(&mut self, rejected: &Rejected) {
        self.rejected += 1;
        *self.codes.entry(rejected.code.clone()).or_default() += 1;
    }

    fn taken(&self) -> u64 {
        self.new + self.known + self.replaced + self.waiting
    }
}

impl Import {
    /// Reads all of it, sorts it by risk, and hands it over in groups.
    pub async fn run(self, environment: &BTreeMap<String, String>, format: Format) -> CommandResult {
        let passphrase = self.passphrase_file.as_deref().map(passphrase).transpose()?;
        let now = SystemClock::new().now();
        let mut tally = Tally::default();
        let mut rejects = |rejected: Rejected| {
            tally.reject(&rejected);
            remark(&rejected.to_string());
        };
        if self.plan {
            let mut plan = Plan::new(self.config.as_deref(), environment, now)?;
            let default_app = self.app.as_deref();
            let mut source = Source::read(&self.file, passphrase.as_ref(), default_app, &mut rejects)?;
            source.look_again(default_app, |seen| plan.add(seen))?;
            plan.print(source.lines(), source.overtaken(), tally.rejected, format)?;
            return ended(&tally);
        }
        let keeper = self.target.admin()?;
        let source = Source::read(&self.file, passphrase.as_ref(), self.app.as_deref(), &mut rejects)?;
        tally.overtaken = source.overtaken();
        tally.lines = source.lines() + tally.overtaken + tally.rejected;
        let bar = super::progress_bar(source.lines(), "importing keys");
        let sender = Sender { keeper: &keeper, bar: &bar, now };
        let sent = sender.send(source, self.app.as_deref(), &mut tally).await;
        bar.finish_and_clear();
        tell(&tally, format)?;
        sent?;
        ended(&tally)
    }
}

fn ended(tally: &Tally) -> CommandResult {
    let mut problems = Vec::new();
    if tally.rejected > 0 {
        let codes: Vec<String> =
            tally.codes.iter().map(|(code, number)| format!("{code} {}", count(*number))).collect();
        problems.push(format!("{} not taken: {}", counted(tally.rejected, "line"), codes.join(", ")));
    }
    if tally.handed_over > 0 {
        let reclaims =
            tally.handed_over_apps.iter().map(|app| format!("`storekeeper app reclaim {}`", output::safe(app)));
        problems.push(format!(
            "{} handed over to another keeper and not renewed here; if no other keeper renews them, {} takes them back",
            counted(tally.handed_over, "key"),
            reclaims.collect::<Vec<_>>().join(", ")
        ));
    }
    if problems.is_empty() { Ok(()) } else { Err(CommandError::new(Exit::Problems, problems.join("; "))) }
}

fn tell(tally: &Tally, format: Format) -> CommandResult {
    if format == Format::Json {
        return output::print_json(tally);
    }
    let mut text = format!(
        "{}: {} new, {} in place of an older key, {} known, {} waiting for proof, {} not taken",
        counted(tally.lines, "line"),
        count(tally.new),
        count(tally.replaced),
        count(tally.known),
        count(tally.waiting),
        count(tally.rejected)
    );
    if tally.dead > 0 {
        text.push_str(&format!(
            "\n{} of those taken had expired: their players have to mint new ones",
            counted(tally.dead, "key")
        ));
    }
    if tally.overtaken > 0 {
        text.push_str(&format!("\n{} overtaken by a later one for the same key", counted(tally.overtaken, "line")));
    }
    let open = tally.lines.saturating_sub(tally.taken() + tally.rejected + tally.overtaken);
    if open > 0 {
        text.push_str(&format!(
            "\n{} not handed over yet: begin again, what is taken is recognised",
            counted(open, "line")
        ));
    }
    output::print(&text)
}
