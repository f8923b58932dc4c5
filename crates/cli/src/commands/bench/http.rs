//! The least of HTTP/1.1 that a load generator needs, so that it is never what limits a run: finding the end of an answer.

use std::ops::Range;

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status.
    pub(super) status: u16,
    /// Where the body stands; of a chunked one, with the chunks' own lines in between.
    pub(super) body: Range<usize>,
}

/// What arrived is no HTTP answer that this reader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not one this load generator can read")]
pub(super) struct Unreadable;

/// Looks whether a whole answer has arrived; nothing may follow it, since nothing more was asked.
///
/// # Errors
/// [`Unreadable`] when it never will be one.
pub(super) fn whole_answer(arrived: &[u8]) -> Result<Option<Answer>, Unreadable> {
    let Some(head_end) = find(arrived, b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&arrived[..head_end]).map_err(|_| Unreadable)?;
    let status = head.get(9..12).and_then(|digits| digits.parse().ok()).ok_or(Unreadable)?;
    let start = head_end + 4;
    let body = &arrived[start..];
    let length = match header(head, "content-length") {
        Some(length) => length.parse().map_err(|_| Unreadable)?,
        None if header(head, "transfer-encoding") == Some("chunked") => match body.ends_with(b"\r\n0\r\n\r\n") {
            true => body.len(),
            false => return Ok(None),
        },
        None => 0,
    };
    match body.len() {
        arrived if arrived < length => Ok(None),
        arrived if arrived == length => Ok(Some(Answer { status, body: start..start + length })),
        _ => Err(Unreadable),
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Where `wanted` stands.
pub(super) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arrived: &str, expected: Result<Option<(u16, &str)>, Unreadable>) {
        let found = whole_answer(arrived.as_bytes());
        let found = found.map(|answer| answer.map(|answer| (answer.status, &arrived[answer.body])));
        assert_eq!(found, expected, "{arrived:?}");
    }

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        check("HTTP/1.1 200 OK\r\nContent-Le", Ok(None));
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", Ok(None));
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx: y\r\n\r\nab", Ok(Some((200, "ab"))));
        check("HTTP/1.1 204 No Content\r\n\r\n", Ok(Some((204, ""))));
        check("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", Ok(None));
        check("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", {
            Ok(Some((200, "2\r\nab\r\n0\r\n\r\n")))
        });
        check("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", Err(Unreadable));
        check("HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n", Err(Unreadable));
        check("nothing\r\n\r\n", Err(Unreadable));
    }
}
