//! `Pipe`: the lines between renewals and output, and how both end: in order, and without loss.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::input::LINE_BYTES_MAX;
use super::line::Line;
use super::renewer::Renewer;
use super::rescue::Rescue;
use super::stream::{Outcome, Unwritten};
use super::tally::Tally;
use super::verdict::Word;
use super::writer::{Progress, Writer};

/// How many lines are held at once, from when they are read until they are written. A refused key waits up to a minute for
/// a fresh ticket, and every answer behind it waits with it: so many may, at some 10 kB each.
const LINES_MAX: usize = 4096;
/// How many bytes of lines are held at once.
const BYTES_MAX: usize = LINES_MAX * LINE_BYTES_MAX / 4;
/// After a signal input is over once no line has come for so long.
const INPUT_QUIET: Duration = Duration::from_millis(100);
/// After a signal a reader of the output that has taken nothing for so long stands still.
const OUTPUT_STALLED: Duration = Duration::from_secs(1);
/// The same after a second signal.
const OUTPUT_STALLED_AT_ONCE: Duration = Duration::from_millis(200);
/// After a signal a reader that is slow has so long for everything.
const OUTPUT_MAX: Duration = Duration::from_secs(20);
/// How often an ending stream looks at these limits.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// A line to write.
pub(super) struct Answered {
    text: Arc<[u8]>,
    word: Word,
    bytes: usize,
}

/// Renews the key of a line.
pub(super) async fn answer(renewer: &Renewer, line: Line) -> Answered {
    let verdict = match line.key() {
        Ok(key) => renewer.renew(key).await,
        Err(verdict) => verdict.clone(),
    };
    Answered { text: line.answer(&verdict).into(), word: verdict.word, bytes: line.bytes() }
}

/// What stands between renewals and output.
pub(super) struct Pipe<'a> {
    renewer: &'a Renewer,
    pub(super) writer: Writer,
    /// Lines that were handed to the writer, and are not known to be written.
    unwritten: VecDeque<Answered>,
    /// How far the writer is.
    progress: Progress,
    /// The bytes of the lines that are held.
    bytes: usize,
    tally: Tally,
    signals: u32,
    ending: Option<Ending>,
}

/// The stream is being ended. Instants are those of the clock's `elapsed`.
struct Ending {
    began_at: Duration,
    /// When answers are not waited for any more.
    answers_until: Duration,
    last_line_at: Duration,
    writer_moved_at: Duration,
}

impl<'a> Pipe<'a> {
    pub(super) fn new(renewer: &'a Renewer, writer: Writer) -> Self {
        Self {
            renewer,
            writer,
            unwritten: VecDeque::new(),
            progress: Progress::default(),
            bytes: 0,
            tally: Tally::default(),
            signals: 0,
            ending: None,
        }
    }

    /// Whether another line may be read while so many are being renewed.
    pub(super) fn has_room(&self, renewing: usize) -> bool {
        renewing + self.unwritten.len() < LINES_MAX && self.bytes < BYTES_MAX
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// A line was read.
    pub(super) fn on_line(&mut self, line: &Line) {
        self.bytes += line.bytes();
        let now = self.now();
        self.ending.iter_mut().for_each(|ending| ending.last_line_at = now);
    }

    /// The next line in order has its answer.
    pub(super) fn on_answer(&mut self, answered: Answered) {
        if self.unwritten.is_empty() {
            self.writer_moved();
        }
        self.writer.hand_over(Arc::clone(&answered.text));
        self.unwritten.push_back(answered);
    }

    /// The writer has come further, or no further.
    pub(super) fn on_progress(&mut self) {
        let progress = self.writer.progress();
        for answered in self.unwritten.drain(..(progress.written - self.progress.written) as usize) {
            self.tally.count(answered.word);
            self.bytes -= answered.bytes;
        }
        self.progress = progress;
        self.writer_moved();
        if self.progress.failure.is_some() {
            self.finish();
        }
    }

    /// The reader of the output has not stood still until now: it took a line, or there was none to take.
    fn writer_moved(&mut self) {
        let now = self.now();
        self.ending.iter_mut().for_each(|ending| ending.writer_moved_at = now);
    }

    /// The first signal ends the stream in order, another one at once.
    pub(super) fn on_signal(&mut self) {
        self.signals += 1;
        self.finish();
        if self.signals > 1 {
            self.renewer.abandon();
        }
    }

    fn finish(&mut self) {
        let wait = self.renewer.finish();
        let now = self.now();
        let ending = Ending { began_at: now, answers_until: now + wait, last_line_at: now, writer_moved_at: now };
        self.ending.get_or_insert(ending);
    }

    /// Whether no further line is read, and in passing whether answers are still waited for.
    pub(super) fn closes_input(&mut self) -> bool {
        let now = self.now();
        let Some(ending) = &self.ending else { return false };
        let is_late = now >= ending.answers_until;
        if is_late {
            self.renewer.abandon();
        }
        is_late || self.signals > 1 || self.progress.failure.is_some() || now >= ending.last_line_at + INPUT_QUIET
    }

    /// Whether no further line can be written, when none is being renewed any more.
    pub(super) fn is_written(&self) -> bool {
        self.unwritten.is_empty() || self.progress.failure.is_some() || self.is_stalled()
    }

    fn is_stalled(&self) -> bool {
        let stalled = if self.signals > 1 { OUTPUT_STALLED_AT_ONCE } else { OUTPUT_STALLED };
        self.ending.as_ref().is_some_and(|ending| {
            let now = self.now();
            now >= ending.writer_moved_at + stalled || now >= ending.began_at + OUTPUT_MAX
        })
    }

    /// Puts what could not be written into a rescue file.
    pub(super) fn end(self, rescue: &Rescue) -> Outcome {
        let mut outcome = Outcome { tally: self.tally, ..Outcome::default() };
        if !self.unwritten.is_empty() {
            let mut tally = Tally::default();
            self.unwritten.iter().for_each(|answered| tally.count(answered.word));
            let lines = self.unwritten.iter().map(|answered| &*answered.text);
            let rescued = (tally.of(Word::Renewed) > 0).then(|| rescue.write(lines));
            outcome.unwritten = Some(Unwritten { failure: self.progress.failure, tally, rescued });
        }
        outcome
    }

    fn now(&self) -> Duration {
        self.renewer.clock().elapsed()
    }
}
