//! `storekeeper export`: keys with all that is known of them, as NDJSON, to a file or a pipe; handed over if told.

mod bookmark;
mod out;
mod page;
mod written;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use storekeeper_clock::{Clock as _, SystemClock};

use crate::commands::passphrase;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Format, counted, remark};
use crate::remote::Remote;
use crate::target::Target;

use bookmark::{Bookmark, Order};
use out::Out;
use page::{Asked, Line, Mark, Page, demand_hand_over, hand_over};
use written::{Fate, Written};

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
Each line says \"handing_over\":true; a keeper that imports it renews the key, also if it had handed it over before. A key is
marked before its line goes into a pipe, or once its line is on disk, and only if it has not changed meanwhile; what has
changed is written again. `storekeeper app reclaim APP` takes back what was handed over.";

/// Passes over the population until nothing is left to hand over.
const PASSES_MAX: usize = 20;

/// What was done. Each key is counted once; of one that was written twice, because it changed meanwhile, the later line counts.
#[derive(Debug, Serialize)]
struct Tally {
    lines: u64,
    keys: u64,
    active: u64,
    revoked: u64,
    lapsed: u64,
    /// Of the active: those that are another keeper's now.
    handed_over: u64,
    /// Keys that could not be read.
    damaged: u64,
    /// Keys that changed in every pass, and are still this keeper's.
    left: u64,
    /// Lines that an export had written before it was interrupted and this one went on with.
    resumed: u64,
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
        let order = Order {
            keeper: keeper.address(),
            app: self.app.clone(),
            since: self.since.clone(),
            handover: self.handover,
        };
        if self.handover {
            demand_hand_over(&keeper).await?;
        }
        let interrupted = match &self.out {
            Some(path) if passphrase.is_none() => go_on(path, &order)?,
            _ => None,
        };
        let (mut run, first) = match interrupted {
            Some((bookmark, out, written)) => (Run::new(keeper, bookmark, out, written, false), None),
            None => {
                // Asked before the file is made: who is refused leaves nothing behind.
                let first = order.asked(None).page(&keeper).await?;
                let out = Out::create(self.out.as_deref(), passphrase.as_ref())?;
                let bookmark = Bookmark::begin(order, &first);
                (Run::new(keeper, bookmark, out, Written::default(), self.out.is_none()), Some(first))
            }
        };
        if run.resumed > 0 && format == Format::Table {
            let lines = counted(run.resumed, "line");
            remark(&format!("going on with an export that was interrupted: it has {lines}"));
        }
        run.finish(first).await?;
        tell(&run.tally(), self.since.is_some(), self.out.as_deref(), format)
    }
}

/// What an interrupted export of the same order has left, if it has left anything that can be gone on with.
fn go_on(path: &Path, order: &Order) -> Result<Option<(Bookmark, Out, Written)>, CommandError> {
    let Some(bookmark) = Bookmark::find(path, order, SystemClock::new().now()) else { return Ok(None) };
    Ok(Out::go_on(path, &bookmark)?.map(|(out, written)| (bookmark, out, written)))
}

/// An export under way.
struct Run {
    out: Out,
    keeper: Remote,
    bookmark: Bookmark,
    written: Written,
    resumed: u64,
    /// Keys of the pass under way that changed before they could be marked.
    left: u64,
    /// Nothing that goes into a pipe is ever known to have arrived.
    is_pipe: bool,
    bar: ProgressBar,
}

impl Run {
    fn new(keeper: Remote, bookmark: Bookmark, out: Out, written: Written, is_pipe: bool) -> Self {
        let bar = super::progress_bar(bookmark.counted.unwrap_or(0), "exporting keys");
        Self { out, keeper, resumed: written.lines(), left: 0, is_pipe, bar, bookmark, written }
    }

    /// From its first page, or from its bookmark, to its end.
    async fn finish(&mut self, first: Option<Page>) -> CommandResult {
        let page = match (first, self.bookmark.next.clone()) {
            (None, Some(next)) => Some(self.bookmark.order.asked(Some(next)).page(&self.keeper).await?),
            (first, _) => first,
        };
        if let Some(page) = page {
            self.first_pass(page).await?;
        }
        for _ in 0..PASSES_MAX {
            if !self.bookmark.order.handover || self.again().await? == 0 {
                break;
            }
        }
        self.out.finish()?;
        self.bar.finish_and_clear();
        Ok(())
    }

    /// The pass over the whole population, from this page on.
    async fn first_pass(&mut self, mut page: Page) -> CommandResult {
        loop {
            self.tell_damaged(&page);
            self.bookmark.next = page.next.clone();
            self.take(&page).await?;
            let Some(next) = page.next else { return Ok(()) };
            page = self.bookmark.order.asked(Some(next)).page(&self.keeper).await?;
        }
    }

    /// What was enrolled or renewed while the former pass went by; returns how many lines were written.
    async fn again(&mut self) -> Result<u64, CommandError> {
        let before = self.written.lines();
        self.left = 0;
        let mut asked = Asked { is_to_hand_over: true, ..self.bookmark.order.asked(None) };
        loop {
            let page = asked.page(&self.keeper).await?;
            self.take(&page).await?;
            asked.cursor = page.next;
            if asked.cursor.is_none() {
                return Ok(self.written.lines() - before);
            }
        }
    }

    /// Writes a page, and marks its keys if they are handed over.
    async fn take(&mut self, page: &Page) -> CommandResult {
        let mut lines = page.keys.iter().map(|key| Line::of(key)).collect::<Result<Vec<_>, _>>()?;
        self.bookmark.counted = page.counted.or(self.bookmark.counted);
        let hands_over = self.bookmark.order.handover;
        if hands_over && self.is_pipe {
            lines = self.mark_before(lines).await?;
        }
        for line in &lines {
            let text = if hands_over { line.handing_over() } else { line.text().into() };
            self.out.line(&text)?;
            self.written.add(line.id, line.fate());
        }
        self.out.leave(&mut self.bookmark)?;
        if hands_over {
            self.out.make_durable()?;
            self.mark_after(&lines).await?;
        }
        self.show(page);
        Ok(())
    }

    /// Marks keys whose lines go into a pipe, and returns the lines that may go there. What is read from a pipe that broke
    /// is imported all the same: a line without a mark would have two keepers renew its key. A mark without a line is
    /// found by the export that is begun again.
    async fn mark_before<'p>(&mut self, lines: Vec<Line<'p>>) -> Result<Vec<Line<'p>>, CommandError> {
        let open: Vec<&Line<'p>> = lines.iter().filter(|line| line.fate() == Fate::Active).collect();
        let mut marks = hand_over(&self.keeper, &open).await?.into_iter();
        let mut ready = Vec::with_capacity(lines.len());
        for mut line in lines {
            let mark = if line.fate() == Fate::Active { marks.next() } else { Some(Mark::Set) };
            match mark {
                Some(Mark::Set) => {
                    line.is_marked = true;
                    ready.push(line);
                }
                Some(Mark::Changed) => self.left += 1,
                Some(Mark::Gone) | None => {}
            }
        }
        Ok(ready)
    }

    /// Marks keys whose lines are there to stay: the export that resumes after a kill finds those that are not
    /// marked, and never a mark without a line.
    async fn mark_after(&mut self, lines: &[Line<'_>]) -> CommandResult {
        let open: Vec<&Line<'_>> = lines.iter().filter(|line| line.fate() == Fate::Active).collect();
        for (line, mark) in open.iter().zip(hand_over(&self.keeper, &open).await?) {
            match mark {
                Mark::Set => self.written.turn(line.id, Fate::HandedOver),
                Mark::Changed => self.left += 1,
                Mark::Gone => {}
            }
        }
        Ok(())
    }

    fn tell_damaged(&mut self, page: &Page) {
        for damaged in &page.damaged {
            self.bookmark.damaged += 1;
            let (user, app) = (output::safe(&damaged.user), output::safe(&damaged.app));
            let text = format!("damaged, and not exported: the {} key of {user} ({app})", damaged.kind);
            self.bar.suspend(|| remark(&text));
        }
    }

    /// Pages come in the order of ids, which are spread evenly: where the next one begins is how far it has come.
    fn show(&self, page: &Page) {
        let all = self.bookmark.counted.unwrap_or(0);
        let next = page.next.as_ref().and_then(|next| u64::from_str_radix(next.get(..4)?, 16).ok());
        self.bar.set_length(all);
        self.bar.set_position(next.map_or(all, |next| all * next / 0x1_0000));
    }

    fn tally(&self) -> Tally {
        let (written, bookmark) = (&self.written, &self.bookmark);
        let handed_over = written.count(Fate::HandedOver);
        Tally {
            lines: written.lines(),
            keys: written.keys(),
            active: written.count(Fate::Active) + handed_over,
            revoked: written.count(Fate::Revoked),
            lapsed: written.count(Fate::Lapsed),
            handed_over,
            damaged: bookmark.damaged,
            left: self.left,
            resumed: self.resumed,
            counted: bookmark.counted,
            cursor: bookmark.cursor.clone(),
        }
    }
}

impl Tally {
    /// How many keys are missing, as far as can be known; those that are damaged are told by themselves.
    fn missing(&self, only_changes: bool) -> u64 {
        let there = self.keys + self.damaged;
        self.counted.filter(|_| !only_changes).map_or(0, |counted| counted.saturating_sub(there))
    }

    /// Whatever keeps the export from being all of it, in a line.
    fn problems(&self, only_changes: bool) -> Option<String> {
        let mut problems = Vec::new();
        if self.damaged > 0 {
            problems.push(format!("{} could not be read and are not in it", counted(self.damaged, "key")));
        }
        if self.left > 0 {
            let left = counted(self.left, "key");
            problems.push(format!("{left} changed again and again and are still this keeper's: hand over once more"));
        }
        let missing = self.missing(only_changes);
        if missing > 0 {
            let (missing, cursor) = (counted(missing, "key"), &self.cursor);
            problems.push(format!(
                "{missing} came while the export went by and are not in it: read on with --since {cursor}"
            ));
        }
        (!problems.is_empty()).then(|| problems.join("; "))
    }
}

fn tell(tally: &Tally, only_changes: bool, file: Option<&Path>, format: Format) -> CommandResult {
    match format {
        Format::Json => {
            let text = serde_json::to_string(tally).map_err(|error| CommandError::new(Exit::Failure, error))?;
            remark(&text);
        }
        Format::Table => told(tally, only_changes, file).iter().for_each(|line| remark(line)),
    }
    tally.problems(only_changes).map_or(Ok(()), |problems| Err(CommandError::new(Exit::Problems, problems)))
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
    if let Some(all) = tally.counted.filter(|_| !only_changes && tally.problems(only_changes).is_none()) {
        lines.push(format!("that is all of them: the keeper counts {}", counted(all, "key")));
    }
    lines.push(format!("cursor: {}", tally.cursor));
    lines
}
