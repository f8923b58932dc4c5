//! What strace saw of a keeper, and whether each acknowledgement in it left after its row was on disk. Lines stand in the
//! order of what happened; a call that others interleave with has two of them, its beginning and its end.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// What strace has to be asked for, besides a file to write to: every call that carries bytes or flushes them, whole.
pub(crate) const STRACE: [&str; 6] = [
    "-f",
    "-yy",
    "-qq",
    "-s1000000",
    "-e",
    "trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,pwritev,fsync,fdatasync",
];

/// A system call.
#[derive(Debug)]
struct Call {
    name: String,
    /// What its first argument refers to: a path, or `TCP:[from->to]`.
    target: String,
    /// The bytes that it carried.
    bytes: Vec<u8>,
    /// The line where it began. What it sends may be on its way from there on.
    began: usize,
    /// The line where it had ended. What it received is known, what it flushed is on disk from there on.
    ended: usize,
}

/// One answer that says that a key is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    /// What was asked.
    pub(crate) request: String,
    /// Whether a write to the database and a flush of it lie between the request and the answer.
    pub(crate) is_durable: bool,
}

/// Every enrollment in the trace of a keeper that listens there with this database, in the order of its connections.
///
/// # Panics
/// On what is no trace, and on an enrollment without the answer 201.
pub(crate) fn acknowledgements(trace: &str, listen: &str, database: &Path) -> Vec<Acknowledgement> {
    let calls = calls(trace);
    let log = format!("{}-wal", database.display());
    let files = [database.display().to_string(), log];
    let mut connections: BTreeMap<usize, (&str, Stream, Stream)> = BTreeMap::new();
    let mut numbers = HashMap::new();
    let ours = format!("TCP:[{listen}->");
    for call in calls.iter().filter(|call| call.target.starts_with(&ours)) {
        let number = *numbers.entry(&call.target).or_insert(call.began);
        let (_, received, sent) = connections.entry(number).or_insert((&call.target, Stream::new(), Stream::new()));
        if is_reading(&call.name) { received.push(call.ended, &call.bytes) } else { sent.push(call.began, &call.bytes) }
    }
    let on_disk = |asked: usize, answered: usize| files.iter().any(|file| is_durable(&calls, file, asked, answered));
    let exchanges = connections.into_values().flat_map(|(_, received, sent)| enrollments(&received, &sent));
    exchanges
        .map(|(request, asked, answered)| Acknowledgement { request, is_durable: on_disk(asked, answered) })
        .collect()
}

/// Whether the file was written to and then flushed, all of it after `asked` and before `answered`.
fn is_durable(calls: &[Call], file: &str, asked: usize, answered: usize) -> bool {
    let between = || calls.iter().filter(|call| call.target == file && call.began > asked && call.ended < answered);
    let mut writes = between().filter(|call| !is_flush(&call.name));
    writes.any(|write| between().any(|call| is_flush(&call.name) && call.began > write.ended))
}

fn is_reading(name: &str) -> bool {
    matches!(name, "read" | "readv" | "recvfrom" | "recvmsg")
}

fn is_flush(name: &str) -> bool {
    matches!(name, "fsync" | "fdatasync")
}

/// One direction of a connection.
#[derive(Debug)]
struct Stream {
    bytes: Vec<u8>,
    /// Up to where the bytes reach that were carried at a line.
    reach: Vec<(usize, usize)>,
}

impl Stream {
    fn new() -> Self {
        Self { bytes: Vec::new(), reach: Vec::new() }
    }

    fn push(&mut self, line: usize, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.reach.push((self.bytes.len(), line));
    }

    /// The line at which this byte was carried.
    fn line_of(&self, position: usize) -> usize {
        self.reach.iter().find(|(reach, _)| *reach > position).expect("a position in the stream").1
    }

    fn find(&self, text: &str, from: usize) -> Option<usize> {
        let found = self.bytes.get(from..)?.windows(text.len()).position(|bytes| bytes == text.as_bytes());
        found.map(|position| from + position)
    }
}

/// Of the one exchange of a connection: what was asked, the line where it had arrived, and the line where its answer left.
fn enrollments(received: &Stream, sent: &Stream) -> Vec<(String, usize, usize)> {
    let first = received.bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let request = String::from_utf8_lossy(first).into_owned();
    let body = received.find("\r\n\r\n", 0).map_or(0, |end| end + 4);
    if request.starts_with("PUT ") {
        assert_eq!(sent.find("HTTP/1.1 201 ", 0), Some(0), "{request}");
        return vec![(request, received.line_of(received.bytes.len() - 1), sent.line_of(0))];
    }
    if !request.starts_with("POST /v1/keys:enroll ") {
        return Vec::new();
    }
    let ends = (body..received.bytes.len()).filter(|position| received.bytes[*position] == b'\n');
    let line = |(number, end): (usize, usize)| {
        // The head of the answer leaves at once and says nothing yet: the lines do.
        let said = sent.find(&format!("{{\"line\":{number},\"status\":201,"), 0);
        let said = said.unwrap_or_else(|| panic!("line {number} has no answer 201"));
        (format!("{request}, line {number}"), received.line_of(end), sent.line_of(said))
    };
    (1..).zip(ends).map(line).collect()
}

/// The calls that ended well, in the order of their ends.
fn calls(trace: &str) -> Vec<Call> {
    let mut begun: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let (thread, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no trace: {line}"));
        let rest = rest.trim_start();
        if rest.starts_with("--- ") || rest.starts_with("+++ ") {
            continue;
        }
        if let Some(beginning) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(thread, (number, beginning.trim_end()));
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let end = resumed.split_once(" resumed>").unwrap_or_else(|| panic!("no trace: {line}")).1;
            let (began, beginning) = begun.remove(thread).unwrap_or_else(|| panic!("never began: {line}"));
            calls.extend(call(&format!("{beginning}{end}"), began, number));
        } else {
            calls.extend(call(rest, number, number));
        }
    }
    calls
}

/// Reads `name(1<target>, "bytes", …) = result`; `None` for a call that failed or never ended.
fn call(text: &str, began: usize, ended: usize) -> Option<Call> {
    const SHAPE: &str = "every line is a call of the form that was asked for";
    let (arguments, result) = text.rsplit_once(" = ").expect(SHAPE);
    let result: i64 = result.split(' ').next().and_then(|number| number.parse().ok())?;
    let carried = usize::try_from(result).ok()?;
    let (name, arguments) = arguments.split_once('(').expect(SHAPE);
    let (_, target) = arguments.split_once('<').expect(SHAPE);
    let is_socket = target.starts_with("TCP:[");
    let end = target.find(if is_socket { "]>" } else { ">" }).expect(SHAPE);
    let (target, arguments) = target.split_at(end);
    let mut bytes = strings(arguments);
    bytes.truncate(carried);
    assert!(is_flush(name) || bytes.len() == carried, "cut short: {text}");
    let target = if is_socket { format!("{target}]") } else { target.to_owned() };
    Some(Call { name: name.to_owned(), target, bytes, began, ended })
}

/// The bytes of every string among the arguments, one after the other.
fn strings(arguments: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), arguments.bytes().peekable());
    let mut is_inside = false;
    while let Some(byte) = rest.next() {
        match (is_inside, byte) {
            (_, b'"') => is_inside = !is_inside,
            (true, b'\\') => bytes.push(escaped(&mut rest)),
            (true, byte) => bytes.push(byte),
            (false, _) => {}
        }
    }
    bytes
}

/// What follows a backslash: a letter, or one to three octal digits.
fn escaped(rest: &mut std::iter::Peekable<std::str::Bytes<'_>>) -> u8 {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'7');
    match rest.next().expect("a backslash is never last") {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'f' => 12,
        first if is_digit(&first) => {
            let mut value = first - b'0';
            for _ in 0..2 {
                let Some(digit) = rest.next_if(is_digit) else { break };
                value = value.wrapping_mul(8).wrapping_add(digit - b'0');
            }
            value
        }
        other => other,
    }
}
