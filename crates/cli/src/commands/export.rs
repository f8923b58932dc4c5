//! `storekeeper export`: keys with all that is known of them, as NDJSON, to a file or a pipe; handed over if told.

mod out;
mod page;

use std::collections::HashSet;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::commands::passphrase;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Format, counted, remark};
use crate::remote::Remote;
use crate::target::Target;

use out::Out;
use page::{Asked, Line, Page, hand_over};

/// Write keys with all that is known of them as NDJSON, for another keeper or a table of your own.
///
/// The keys themselves are in it: it is worth as much as the keyring.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Export {
    /// Write to this new file, mode 0600; stdout unless told. It appears when it is complete
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only this app's
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// Only what has changed since a former export, which printed this cursor
    #[arg(long, value_name = "CURSOR", conflicts_with = "handover")]
    since: Option<String>,
    /// Mark what was written as another keeper's: it is served until it expires, and no longer renewed
    #[arg(long)]
    handover: bool,
    /// Encrypt to the passphrase in this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

const AFTER_HELP: &str = "\
From SQLite to PostgreSQL, or to another machine:
  storekeeper export --handover | storekeeper import - --server OTHER --token-file FILE
A table of your own, kept warm: export once, and from then on with the cursor that the last one printed:
  storekeeper export --since c1790000000000 --out changes.ndjson
A key is marked as handed over only once its line is written (to a file: is on disk), and only if it has not changed
meanwhile; what has changed is written again. `storekeeper app reclaim APP` takes back what was handed over.";

/// Passes over the population until nothing is left to hand over.
const PASSES_MAX: usize = 20;

/// What was done. Of a key that was written twice, because it changed meanwhile, the later line counts.
#[derive(Debug, Default, Serialize)]
struct Tally {
    lines: u64,
    keys: u64,
    active: u64,
    revoked: u64,
    lapsed: u64,
    handed_over: u64,
    damaged: u64,
    /// How many the keeper has of the apps asked for, counted after the last one was read.
    counted: Option<u64>,
    cursor: String,
}

impl Export {
    /// Reads page by page, writes, hands over, and proves by counts that nothing is missing.
    pub async fn run(self, format: Format) -> CommandResult {
        if self.out.is_none() && io::stdout().is_terminal() {
            let message = "these are secrets, and stdout is a terminal: say --out FILE, or pipe them into a command";
            return Err(CommandError::new(Exit::Usage, message));
        }
        let passphrase = self.passphrase_file.as_deref().map(passphrase).transpose()?;
        let keeper = self.target.admin()?;
        let mut asked = Asked { app: self.app.clone(), since: self.since.clone(), ..Asked::default() };
        // Asked before the file is made: who is refused leaves nothing behind.
        let first = asked.page(&keeper).await?;
        let mut run = Run {
            out: Out::create(self.out.as_deref(), passphrase.as_ref())?,
            keeper,
            handover: self.handover,
            tally: Tally { cursor: first.cursor.clone(), ..Tally::default() },
            changed: HashSet::new(),
            bar: super::progress_bar(0, "exporting keys"),
        };
        run.pass(&mut asked, Some(first)).await?;
        for _ in 0..PASSES_MAX {
            if !self.handover || run.again(&asked).await? == 0 {
                break;
            }
        }
        run.out.finish()?;
        run.bar.finish_and_clear();
        tell(&run.tally, self.since.is_some(), self.out.as_deref(), format)
    }
}

/// An export under way.
struct Run {
    out: Out,
    keeper: Remote,
    handover: bool,
    tally: Tally,
    /// Keys whose line was written and has been overtaken.
    changed: HashSet<String>,
    bar: ProgressBar,
}

impl Run {
    /// One pass over the population; returns how many lines were written.
    async fn pass(&mut self, asked: &mut Asked, first: Option<Page>) -> Result<u64, CommandError> {
        let before = self.tally.lines;
        let mut page = match first {
            Some(page) => page,
            None => asked.page(&self.keeper).await?,
        };
        loop {
            let lines = self.write(&page)?;
            if self.handover && !lines.is_empty() {
                self.out.make_durable()?;
                self.mark(&lines).await?;
            }
            self.bar.inc(lines.len() as u64);
            self.tally.counted = page.counted.or(self.tally.counted);
            asked.cursor = page.next.take();
            if asked.cursor.is_none() {
                return Ok(self.tally.lines - before);
            }
            page = asked.page(&self.keeper).await?;
        }
    }

    /// What was enrolled or renewed while the former pass went by.
    async fn again(&mut self, asked: &Asked) -> Result<u64, CommandError> {
        let mut asked = Asked { app: asked.app.clone(), is_to_hand_over: true, ..Asked::default() };
        self.pass(&mut asked, None).await
    }

    fn write(&mut self, page: &Page) -> Result<Vec<Line>, CommandError> {
        for damaged in &page.damaged {
            self.tally.damaged += 1;
            let (user, app) = (output::safe(&damaged.user), output::safe(&damaged.app));
            let text = format!("damaged, and not exported: the {} key of {user} ({app})", damaged.kind);
            self.bar.suspend(|| remark(&text));
        }
        let mut lines = Vec::with_capacity(page.keys.len());
        for key in &page.keys {
            let line = Line::of(key)?;
            self.out.line(key.get())?;
            self.tally.lines += 1;
            if !self.changed.remove(&line.name()) {
                self.tally.add(&line);
            }
            lines.push(line);
        }
        Ok(lines)
    }

    async fn mark(&mut self, lines: &[Line]) -> Result<(), CommandError> {
        let open: Vec<&Line> = lines.iter().filter(|line| line.state == "active" && !line.handed_over).collect();
        let marked = hand_over(&self.keeper, &open).await?;
        for (line, is_marked) in open.iter().zip(marked) {
            if is_marked {
                self.tally.handed_over += 1;
            } else {
                self.changed.insert(line.name());
            }
        }
        Ok(())
    }
}

impl Tally {
    fn add(&mut self, line: &Line) {
        self.keys += 1;
        match line.state.as_str() {
            "revoked" => self.revoked += 1,
            "lapsed" => self.lapsed += 1,
            _ => self.active += 1,
        }
    }

    /// How many keys are missing, as far as can be known.
    fn missing(&self, only_changes: bool) -> u64 {
        self.counted.filter(|_| !only_changes).map_or(0, |counted| counted.saturating_sub(self.keys))
    }
}

fn tell(tally: &Tally, only_changes: bool, file: Option<&Path>, format: Format) -> CommandResult {
    let missing = tally.missing(only_changes);
    match format {
        Format::Json => {
            let text = serde_json::to_string(tally).map_err(|error| CommandError::new(Exit::Failure, error))?;
            remark(&text);
        }
        Format::Table => told(tally, only_changes, file).iter().for_each(|line| remark(line)),
    }
    if tally.damaged > 0 {
        let message = format!("{} could not be read and are not in it", counted(tally.damaged, "key"));
        return Err(CommandError::new(Exit::Problems, message));
    }
    if missing > 0 {
        let message = format!(
            "{} came while the export went by and are not in it: read on with --since {}",
            counted(missing, "key"),
            tally.cursor
        );
        return Err(CommandError::new(Exit::Problems, message));
    }
    Ok(())
}

fn told(tally: &Tally, only_changes: bool, file: Option<&Path>) -> Vec<String> {
    let place = file.map_or_else(|| String::from("stdout"), |file| file.display().to_string());
    let mut lines = vec![format!(
        "{} written to {place} ({} active, {} revoked, {} lapsed)",
        counted(tally.keys, "key"),
        output::count(tally.active),
        output::count(tally.revoked),
        output::count(tally.lapsed)
    )];
    if tally.lines > tally.keys {
        let again = counted(tally.lines - tally.keys, "key");
        lines.push(format!("{again} changed meanwhile and stand in it twice; the later line counts"));
    }
    if tally.handed_over > 0 {
        lines.push(format!("{} handed over: served here until they expire", counted(tally.handed_over, "key")));
    }
    if let Some(all) = tally.counted.filter(|all| !only_changes && *all <= tally.keys) {
        lines.push(format!("that is all of them: the keeper counts {}", counted(all, "key")));
    }
    lines.push(format!("cursor: {}", tally.cursor));
    lines
}
