//! NDJSON in, NDJSON out: one answer line for each line, in order, in bounded memory.
//!
//! While the keeper works on one chunk of lines the next is read, up to a chunk. Answers are written as they come, and
//! nothing is read while nobody takes them: whoever sends a large batch must read while sending.

use std::convert::Infallible;
use std::future::Future;
use std::io::Write;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use storekeeper_keeper::Keeper;
use tokio::task::JoinHandle;

use crate::body::demand_media_type;
use crate::call::Call;
use crate::code;
use crate::lines::LineReader;
use crate::problem::Problem;
use crate::shares::ShareGuard;

/// What a batch does with its lines.
pub(crate) trait Job: Send + Sync + 'static {
    /// A line understood.
    type Item: Send + 'static;

    /// What the keeper says to it.
    type Answer: Send + 'static;

    /// Why the keeper says no.
    type Error: Into<Problem> + Send + 'static;

    /// How many lines the keeper is handed at once.
    const CHUNK_LINES_MAX: usize;

    /// Understands a line.
    fn read(&self, line: &[u8]) -> Result<Self::Item, Problem>;

    /// Carries out some lines; one answer for each, in order.
    fn carry_out(
        keeper: Keeper,
        items: Vec<Self::Item>,
    ) -> impl Future<Output = Vec<Result<Self::Answer, Self::Error>>> + Send + 'static;

    /// Writes the members of an answer line after `{"line":7,"status":`, up to and with the closing brace.
    fn write(answer: &Self::Answer, out: &mut Vec<u8>);
}

/// How many bytes of text a chunk holds at most, but for its last line.
const CHUNK_BYTES_MAX: usize = 2 * 1024 * 1024;

/// `application/x-ndjson`.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// What a body of lines may be declared to be. The last is what `curl --data-binary` says when it is told nothing.
const MEDIA_TYPES: [&str; 7] = [
    NDJSON,
    "application/ndjson",
    "application/jsonl",
    "application/json",
    "text/plain",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
];

/// Answers a batch.
pub(crate) fn answer<J: Job>(call: &Call, body: Body, job: J) -> Result<Response, Problem> {
    demand_media_type(&call.headers, &MEDIA_TYPES)?;
    let share = call
        .api
        .batch_share(&call.caller)
        .ok_or_else(|| Problem::new(&code::TOO_MANY_REQUESTS, "the caller's share of batches is under way"))?;
    let lines = LineReader::new(body, call.api.guards().line_timeout, call.api.drain().clone());
    let keeper = call.api.keeper().clone();
    let batch = Batch { job, keeper, lines, chunk: Chunk::default(), under_way: None, _share: share };
    let answers = stream::unfold(batch, |mut batch| async move {
        let bytes = batch.next().await?;
        Some((Ok::<_, Infallible>(bytes), batch))
    });
    let kind = HeaderValue::from_static(NDJSON);
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(answers)).into_response())
}

/// Lines that go to the keeper together.
struct Chunk<I> {
    /// In order: the line's number, and why it is not among the items, if it is not.
    lines: Vec<(u64, Option<Problem>)>,
    items: Vec<I>,
    bytes: usize,
}

impl<I> Default for Chunk<I> {
    fn default() -> Self {
        Self { lines: Vec::new(), items: Vec::new(), bytes: 0 }
    }
}

/// A chunk at the keeper.
struct UnderWay {
    numbers: Vec<u64>,
    work: JoinHandle<Vec<u8>>,
}

struct Batch<J: Job> {
    job: J,
    keeper: Keeper,
    lines: LineReader,
    chunk: Chunk<J::Item>,
    under_way: Option<UnderWay>,
    _share: ShareGuard,
}

impl<J: Job> Batch<J> {
    /// The next answers, or `None` when there are no more.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.fill();
            let Some(under_way) = &mut self.under_way else {
                if !self.chunk.lines.is_empty() {
                    self.start();
                } else if self.lines.has_ended() {
                    return self.last_line();
                } else {
                    self.lines.arrive().await;
                }
                continue;
            };
            let may_read = self.chunk.has_room::<J>() && !self.lines.has_ended();
            tokio::select! {
                biased;
                answers = &mut under_way.work => {
                    let answers = answers.unwrap_or_else(|_| broken(&under_way.numbers));
                    self.under_way = None;
                    return Some(Bytes::from(answers));
                }
                () = self.lines.arrive(), if may_read => {}
            }
        }
    }

    /// Moves what has arrived into the chunk, as far as it has room.
    fn fill(&mut self) {
        while self.chunk.has_room::<J>() {
            let Some((number, text)) = self.lines.next_arrived() else { return };
            self.chunk.bytes += text.as_ref().map_or(0, Bytes::len);
            match text.and_then(|text| self.job.read(&text)) {
                Ok(item) => {
                    self.chunk.items.push(item);
                    self.chunk.lines.push((number, None));
                }
                Err(problem) => self.chunk.lines.push((number, Some(problem))),
            }
        }
    }

    /// Hands the chunk to the keeper, in a task of its own: what is under way is finished although the caller goes away.
    fn start(&mut self) {
        let Chunk { lines, items, .. } = std::mem::take(&mut self.chunk);
        let numbers = lines.iter().map(|(number, _)| *number).collect();
        let answers = J::carry_out(self.keeper.clone(), items);
        let work = tokio::spawn(async move { written::<J>(lines, answers.await) });
        self.under_way = Some(UnderWay { numbers, work });
    }

    /// What is told when the body did not end by itself.
    fn last_line(&mut self) -> Option<Bytes> {
        let (number, problem) = self.lines.ended_early()?;
        let mut out = Vec::new();
        problem.write_line(number, &mut out);
        Some(Bytes::from(out))
    }
}

impl<I> Chunk<I> {
    fn has_room<J: Job>(&self) -> bool {
        self.lines.len() < J::CHUNK_LINES_MAX && self.bytes < CHUNK_BYTES_MAX
    }
}

fn written<J: Job>(lines: Vec<(u64, Option<Problem>)>, answers: Vec<Result<J::Answer, J::Error>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len() * 128);
    let mut answers = answers.into_iter();
    for (number, problem) in lines {
        let answer = match problem {
            Some(problem) => Err(problem),
            None => answers.next().ok_or_else(no_answer).and_then(|answer| answer.map_err(Into::into)),
        };
        match answer {
            Ok(answer) => {
                write!(out, "{{\"line\":{number},\"status\":").expect("writing to memory cannot fail");
                J::write(&answer, &mut out);
                out.push(b'\n');
            }
            Err(problem) => problem.write_line(number, &mut out),
        }
    }
    out
}

/// The keeper met a bug of its own: what became of these lines is not known, so they are to be sent again.
fn broken(numbers: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    numbers.iter().for_each(|number| no_answer().write_line(*number, &mut out));
    out
}

fn no_answer() -> Problem {
    Problem::new(&code::INTERNAL, "the keeper gave no answer")
}
