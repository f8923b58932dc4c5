//! `LineReader`: the lines of a body of any length, one at a time, in bounded memory.
//!
//! A line ends with `\n`, or with the body. Blank lines are skipped, but counted. A line that lies whole in what arrived is
//! handed out without a copy.

use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::{Buf, Bytes};
use http_body_util::BodyExt;

use crate::body::BODY_BYTES_MAX;
use crate::code;
use crate::drain::Drain;
use crate::problem::Problem;

/// A numbered line, or that it is too long.
pub(crate) type Line = (u64, Result<Bytes, Problem>);

/// Reads lines.
pub(crate) struct LineReader {
    body: Body,
    drain: Drain,
    /// How long a line may take to arrive, and how long the present one has been waited for.
    patience: Duration,
    waited: Duration,
    arrived: Bytes,
    begun: Vec<u8>,
    too_long: bool,
    number: u64,
    end: Option<End>,
}

/// Why there is nothing more to read.
enum End {
    /// The body is complete.
    Complete,
    /// It is not, and why.
    Early(Problem),
}

impl LineReader {
    /// Reads a body of which each line has this limit to arrive, until we go away. A sender of single bytes would keep
    /// its place for ever if each of them were enough.
    pub(crate) fn new(body: Body, patience: Duration, drain: Drain) -> Self {
        Self {
            body,
            drain,
            patience,
            waited: Duration::ZERO,
            arrived: Bytes::new(),
            begun: Vec::new(),
            too_long: false,
            number: 0,
            end: None,
        }
    }

    /// Whether everything that will ever arrive has arrived.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Why the lines from this one on were not read, if the body did not end by itself. Tells it once.
    pub(crate) fn ended_early(&mut self) -> Option<(u64, Problem)> {
        match self.end.replace(End::Complete)? {
            End::Complete => None,
            End::Early(problem) => Some((self.number + 1, problem)),
        }
    }

    /// The next line that has arrived whole.
    pub(crate) fn next_arrived(&mut self) -> Option<Line> {
        loop {
            let line = match memchr::memchr(b'\n', &self.arrived) {
                Some(length) => self.cut(length),
                None => self.keep_rest()?,
            };
            match line {
                (_, Ok(text)) if text.trim_ascii().is_empty() => {}
                line => return Some(line),
            }
        }
    }

    /// Waits until more has arrived or nothing more will. Safe to drop while it waits.
    pub(crate) async fn arrive(&mut self) {
        if !self.arrived.is_empty() || self.has_ended() {
            return;
        }
        let drain = self.drain.clone();
        self.end = tokio::select! {
            more = self.frame() => more,
            () = drain.begun() => {
                let detail = "the keeper is shutting down; send the lines from this one on again";
                Some(End::Early(Problem::new(&code::SHUTTING_DOWN, detail)))
            }
        };
    }

    #[expect(clippy::disallowed_methods, reason = "guards against slow sockets")]
    async fn frame(&mut self) -> Option<End> {
        let (left, began) = (self.patience.saturating_sub(self.waited), Instant::now());
        let frame = tokio::time::timeout(left, self.body.frame()).await;
        self.waited += began.elapsed();
        match frame {
            Ok(Some(Ok(frame))) => {
                self.arrived = frame.into_data().unwrap_or_default();
                None
            }
            Ok(None) => Some(End::Complete),
            Ok(Some(Err(_))) => {
                let detail = "the body broke off; the lines from this one on were not read";
                Some(End::Early(Problem::new(&code::BODY_INVALID, detail)))
            }
            Err(_) => {
                let detail = "the next line did not arrive in time; the lines from this one on were not read";
                Some(End::Early(Problem::new(&code::REQUEST_TIMEOUT, detail)))
            }
        }
    }

    /// Takes the line that ends `length` bytes on.
    fn cut(&mut self, length: usize) -> Line {
        let piece = self.arrived.split_to(length);
        self.arrived.advance(1);
        self.finish(piece)
    }

    /// Keeps what has arrived of a line, or ends the last line with the body.
    fn keep_rest(&mut self) -> Option<Line> {
        let piece = std::mem::take(&mut self.arrived);
        if matches!(self.end, Some(End::Complete)) {
            let is_line = self.too_long || !self.begun.is_empty() || !piece.is_empty();
            return is_line.then(|| self.finish(piece));
        }
        self.too_long |= self.begun.len() + piece.len() > BODY_BYTES_MAX;
        if self.too_long {
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(&piece);
        }
        None
    }

    fn finish(&mut self, piece: Bytes) -> Line {
        self.number += 1;
        self.waited = Duration::ZERO;
        let begun = std::mem::take(&mut self.begun);
        let too_long = std::mem::take(&mut self.too_long) || begun.len() + piece.len() > BODY_BYTES_MAX;
        let text = if too_long {
            Err(Problem::new(&code::LINE_TOO_LONG, "the line is longer than 64 KiB"))
        } else if begun.is_empty() {
            Ok(piece)
        } else {
            Ok(Bytes::from([begun.as_slice(), &piece].concat()))
        };
        (self.number, text)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    fn reader(pieces: &[&'static str]) -> LineReader {
        let pieces: Vec<_> =
            pieces.iter().map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece.as_bytes()))).collect();
        LineReader::new(Body::from_stream(stream::iter(pieces)), Duration::from_secs(5), Drain::default())
    }

    async fn read(mut reader: LineReader) -> Vec<(u64, Result<String, &'static str>)> {
        let mut lines = Vec::new();
        loop {
            while let Some((number, text)) = reader.next_arrived() {
                let text = text.map(|text| String::from_utf8(text.to_vec()).unwrap());
                lines.push((number, text.map_err(|problem| problem.code().code)));
            }
            if reader.has_ended() {
                lines.extend(reader.ended_early().map(|(number, problem)| (number, Err(problem.code().code))));
                return lines;
            }
            reader.arrive().await;
        }
    }

    async fn check(pieces: &[&'static str], expected: &[(u64, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(number, text)| (*number, Ok((*text).to_owned()))).collect();
        assert_eq!(read(reader(pieces)).await, expected, "{pieces:?}");
    }

    #[tokio::test]
    async fn lines_are_put_together_from_pieces_and_numbered() {
        check(&[], &[]).await;
        check(&["\n\n"], &[]).await;
        check(&["one\ntwo\n"], &[(1, "one"), (2, "two")]).await;
        check(&["one\n\n \r\nfour"], &[(1, "one"), (4, "four")]).await;
        check(&["o", "n", "e\nt", "wo", "\n"], &[(1, "one"), (2, "two")]).await;
        check(&["one", "\n", "two"], &[(1, "one"), (2, "two")]).await;
        check(&["one\r\ntwo\r\n"], &[(1, "one\r"), (2, "two\r")]).await;
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_told_and_the_next_is_read() {
        let long: &'static str = Box::leak("x".repeat(BODY_BYTES_MAX).into_boxed_str());
        let expected = vec![(1, Err("line_too_long")), (2, Ok(String::from("two"))), (3, Ok(long.to_owned()))];
        assert_eq!(read(reader(&[long, "x\ntwo\n", long])).await, expected);
        assert_eq!(read(reader(&[long, "x"])).await, [(1, Err("line_too_long"))]);
    }

    #[tokio::test]
    async fn who_sends_nothing_is_told_where_reading_ended() {
        let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"one\ntw"))]);
        let body = Body::from_stream(futures_util::StreamExt::chain(first, stream::pending()));
        let lines = read(LineReader::new(body, Duration::from_millis(10), Drain::default())).await;
        assert_eq!(lines, [(1, Ok(String::from("one"))), (2, Err("request_timeout"))]);
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the guard under test uses the operating system's time")]
    async fn single_bytes_keep_no_place() {
        let bytes = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), ()))
        });
        let reader = LineReader::new(Body::from_stream(Box::pin(bytes)), Duration::from_millis(50), Drain::default());
        assert_eq!(read(reader).await, [(1, Err("request_timeout"))]);
    }

    #[tokio::test]
    async fn a_drain_ends_the_reading() {
        let drain = Drain::default();
        let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let mut reader = LineReader::new(body, Duration::from_secs(5), drain.clone());
        tokio::join!(reader.arrive(), async { drain.begin() });
        assert_eq!(reader.ended_early().unwrap().1.code().code, "shutting_down");
        assert!(reader.ended_early().is_none());
    }
}
