//! NDJSON in, NDJSON out: as many lines out as in, in order, in bounded memory.

use std::io::{BufRead, Read as _, Write};

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::line::Line;
use super::renewer::Renewer;
use super::verdict::Word;
use crate::exit::{CommandError, Exit};

/// The longest line that is read.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// How many lines are held at once. A refused key waits up to a minute for a fresh ticket, and every answer behind it
/// waits with it: so many may, at some 10 kB each.
const WINDOW: usize = 4096;
/// How many lines are read ahead of that.
const READ_AHEAD: usize = 64;

/// How many lines came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally([u64; Word::ALL.len()]);

impl Tally {
    /// One more.
    fn count(&mut self, word: Word) {
        self.0[word as usize] += 1;
    }

    /// How many lines came to this.
    pub fn of(&self, word: Word) -> u64 {
        self.0[word as usize]
    }

    /// How many lines there were.
    pub fn lines(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Whether every key is renewed or need not be.
    pub fn is_clean(&self) -> bool {
        self.of(Word::Renewed) + self.of(Word::Kept) == self.lines()
    }
}

/// Renews what `input` holds, line by line, and writes one line for each.
///
/// # Errors
/// When the input cannot be read or the output not be written; what was written until then stands.
pub async fn run(
    renewer: &Renewer,
    input: impl BufRead + Send + 'static,
    output: &mut impl Write,
) -> Result<Tally, CommandError> {
    let lines = stream::unfold(read(input), |mut lines| async move { lines.recv().await.map(|line| (line, lines)) });
    let answers = lines.map(|line| async {
        match line {
            Ok(line) => Ok(answer(renewer, &line).await),
            Err(error) => Err(CommandError::new(Exit::Failure, format!("cannot read the lines: {error}"))),
        }
    });
    let mut answers = std::pin::pin!(answers.buffered(WINDOW));
    let mut tally = Tally::default();
    while let Some(answered) = answers.next().await {
        let (mut text, word) = answered?;
        text.push(b'\n');
        let written = output.write_all(&text).and_then(|()| output.flush());
        written.map_err(|error| CommandError::new(Exit::Failure, format!("cannot write the answers: {error}")))?;
        tally.count(word);
    }
    Ok(tally)
}

async fn answer(renewer: &Renewer, line: &Line) -> (Vec<u8>, Word) {
    let verdict = match line.key() {
        Ok(key) => renewer.renew(key).await,
        Err(verdict) => verdict.clone(),
    };
    (line.answer(&verdict), verdict.word)
}

/// Reads in a thread of its own, which a process that ends does not wait for.
fn read(mut input: impl BufRead + Send + 'static) -> mpsc::Receiver<std::io::Result<Line>> {
    let (sender, lines) = mpsc::channel(READ_AHEAD);
    std::thread::spawn(move || {
        while let Some(line) = next_line(&mut input).transpose() {
            let is_last = line.is_err();
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    lines
}

/// The next line, or `None` at the end. An empty line is a line.
fn next_line(input: &mut impl BufRead) -> std::io::Result<Option<Line>> {
    let mut text = Zeroizing::new(Vec::with_capacity(2048));
    let limit = LINE_BYTES_MAX as u64 + 1;
    if input.take(limit).read_until(b'\n', &mut text)? == 0 {
        return Ok(None);
    }
    if text.last() == Some(&b'\n') {
        text.pop();
    } else if text.len() > LINE_BYTES_MAX {
        skip_line(input)?;
        return Ok(Some(Line::too_long()));
    }
    Ok(Some(Line::read(text.trim_ascii())))
}

fn skip_line(input: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (length, is_end) = (end.map_or(buffer.len(), |at| at + 1), end.is_some() || buffer.is_empty());
        input.consume(length);
        if is_end {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(input: &[u8]) -> Vec<String> {
        let mut input = input;
        let mut codes = Vec::new();
        while let Some(line) = next_line(&mut input).unwrap() {
            codes.push(line.key().err().unwrap().code.clone().unwrap().into_owned());
        }
        codes
    }

    #[test]
    fn every_line_counts_whatever_it_holds() {
        assert_eq!(codes(b""), [""; 0]);
        assert_eq!(codes(b"\n"), ["line_invalid"]);
        assert_eq!(codes(b"{\"key\":\"\"}\r\n\nx"), ["key_empty", "line_invalid", "line_invalid"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over() {
        let mut input = vec![b'a'; LINE_BYTES_MAX * 3];
        input.extend_from_slice(b"\n{\"key\":\"\"}\n");
        assert_eq!(codes(&input), ["line_too_long", "key_empty"]);
        assert_eq!(codes(&vec![b'a'; LINE_BYTES_MAX + 1]), ["line_too_long"]);
    }
}
