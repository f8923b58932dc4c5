//! Reads the lines of a stream, in a thread of its own: input that stands still holds up nothing else.

use std::io::{self, BufRead, Read as _};

use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::line::Line;

/// The longest line in which a key is looked for.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;
/// The longest line that is read at all. One that is longer ends the stream: it could not come out with its content.
const CONTENT_BYTES_MAX: usize = 1024 * 1024;
/// How many lines are read ahead of what is being renewed.
const READ_AHEAD: usize = 64;

/// Starts reading. A process that ends does not wait for the thread.
pub(super) fn read(mut input: impl BufRead + Send + 'static) -> mpsc::Receiver<io::Result<Line>> {
    let (sender, lines) = mpsc::channel(READ_AHEAD);
    std::thread::spawn(move || {
        for number in 1u64.. {
            let Some(line) = next_line(&mut input, number).transpose() else { return };
            let is_last = line.is_err();
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    lines
}

/// The next line, or `None` at the end. An empty line is a line.
fn next_line(input: &mut impl BufRead, number: u64) -> io::Result<Option<Line>> {
    let mut text = Zeroizing::new(Vec::with_capacity(2048));
    let limit = CONTENT_BYTES_MAX as u64 + 1;
    if input.take(limit).read_until(b'\n', &mut text)? == 0 {
        return Ok(None);
    }
    if text.last() == Some(&b'\n') {
        text.pop();
    } else if text.len() > CONTENT_BYTES_MAX {
        let message = format!("line {number} is longer than 1 MiB; it and what follows it were left alone");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(Some(if text.len() > LINE_BYTES_MAX { Line::too_long(&text) } else { Line::read(&text) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(input: &[u8]) -> Vec<String> {
        let mut input = input;
        let mut codes = Vec::new();
        while let Some(line) = next_line(&mut input, 1).unwrap() {
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
    fn a_long_line_is_not_looked_into_and_a_longer_one_ends_the_stream() {
        let mut input = vec![b'a'; CONTENT_BYTES_MAX];
        input.extend_from_slice(b"\n{\"key\":\"\"}\n");
        assert_eq!(codes(&input), ["line_too_long", "key_empty"]);
        assert_eq!(codes(&vec![b'a'; LINE_BYTES_MAX + 1]), ["line_too_long"]);
        let error = next_line(&mut &vec![b'a'; CONTENT_BYTES_MAX + 1][..], 7).unwrap_err();
        assert!(error.to_string().starts_with("line 7 is longer than 1 MiB"), "{error}");
    }
}
