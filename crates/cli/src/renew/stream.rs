//! NDJSON in, NDJSON out: as many lines out as in, in order, in bounded memory. What the Store has renewed comes out also
//! when the stream is ended in the middle, or when its output cannot be written any more.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::stream::{FuturesOrdered, Stream, StreamExt as _};
use tokio::sync::mpsc;

use super::input::read;
use super::line::Line;
use super::pipe::{Pipe, TICK, answer};
use super::renewer::Renewer;
use super::rescue::Rescue;
use super::tally::Tally;
use super::writer::Writer;

/// What came of a stream.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The lines that were written.
    pub tally: Tally,
    /// Why input was not read to its end.
    pub input_failure: Option<io::Error>,
    /// What could not be written.
    pub unwritten: Option<Unwritten>,
}

/// The lines that could not be written: the rest of the output.
#[derive(Debug)]
pub struct Unwritten {
    /// Why not; `None` when the reader stood still.
    pub failure: Option<Arc<io::Error>>,
    /// What became of their keys.
    pub tally: Tally,
    /// The rescue file that holds them, or why there is none. Where no key has a successor nothing is to be rescued.
    pub rescued: Option<Result<PathBuf, String>>,
}

impl Unwritten {
    /// Whether successors are among them that stand nowhere.
    pub fn is_lost(&self) -> bool {
        matches!(self.rescued, Some(Err(_)))
    }
}

/// Renews what `input` holds, line by line, and writes one line for each. The first signal ends this in order, another one
/// at once.
pub async fn run(
    renewer: &Renewer,
    input: impl BufRead + Send + 'static,
    output: impl Write + Send + 'static,
    mut signals: impl Stream<Item = ()> + Unpin,
    rescue: &Rescue,
) -> Outcome {
    let mut pipe = Pipe::new(renewer, Writer::start(output));
    let mut input = Input { lines: Some(read(input)), failure: None };
    let mut answers = FuturesOrdered::new();
    loop {
        if pipe.closes_input() {
            input.lines = None;
        }
        if input.lines.is_none() && answers.is_empty() && pipe.is_written() {
            break;
        }
        let is_ending = pipe.is_ending();
        tokio::select! {
            biased;
            Some(()) = signals.next() => pipe.on_signal(),
            () = pipe.writer.advanced() => pipe.on_progress(),
            Some(answered) = answers.next() => pipe.on_answer(answered),
            line = input.next(), if pipe.has_room(answers.len()) => {
                if let Some(line) = line {
                    pipe.on_line(&line);
                    answers.push_back(answer(renewer, line));
                }
            }
            () = tick(renewer, is_ending) => {}
        }
    }
    Outcome { input_failure: input.failure, ..pipe.end(rescue) }
}

/// Resolves when the limits of an ending stream are to be looked at again.
pub(super) async fn tick(renewer: &Renewer, is_ending: bool) {
    if !is_ending {
        std::future::pending::<()>().await;
    }
    let clock = renewer.clock();
    drop(clock.sleep_until(clock.now() + TICK).await);
}

/// What is read.
struct Input {
    lines: Option<mpsc::Receiver<io::Result<Line>>>,
    failure: Option<io::Error>,
}

impl Input {
    /// The next line, or `None` when there has just come an end; pending after that.
    async fn next(&mut self) -> Option<Line> {
        let Some(lines) = &mut self.lines else { return std::future::pending().await };
        match lines.recv().await {
            Some(Ok(line)) => return Some(line),
            Some(Err(error)) => self.failure = Some(error),
            None => {}
        }
        self.lines = None;
        None
    }
}
