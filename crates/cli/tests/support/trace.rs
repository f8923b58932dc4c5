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
    /// Whether the row was written to the database, and that was flushed, between the request and the answer.
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
    let enrollments = connections.into_values().flat_map(|(_, received, sent)| enrollments(&received, &sent));
    let judged = enrollments.map(|enrollment| Acknowledgement {
        is_durable: files.iter().any(|file| is_durable(&calls, file, &enrollment)),
        request: enrollment.request,
    });
    judged.collect()
}

/// A key that came in and was acknowledged.
struct Enrollment {
    request: String,
    /// Whose row it is. It stands in the row as it is, so a write without it is that of another row.
    user: String,
    /// The line where all of it had arrived.
    asked: usize,
    /// The line where the answer began to leave.
    answered: usize,
}

/// Whether the row was written to the file and that was flushed, all of it between the request and the answer.
fn is_durable(calls: &[Call], file: &str, enrollment: &Enrollment) -> bool {
    let lines = enrollment.asked + 1..enrollment.answered;
    let between =
        || calls.iter().filter(|call| call.target == file && lines.contains(&call.began) && call.ended < lines.end);
    let mut writes = between().filter(|call| !is_flush(&call.name) && contains(&call.bytes, &enrollment.user));
    writes.any(|write| between().any(|call| is_flush(&call.name) && call.began > write.ended))
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|bytes| bytes == text.as_bytes())
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

    /// The line at which the last byte was carried.
    fn last_line(&self) -> usize {
        self.line_of(self.bytes.len() - 1)
    }

    fn find(&self, text: &str) -> Option<usize> {
        self.bytes.windows(text.len()).position(|bytes| bytes == text.as_bytes())
    }
}

/// The enrollments of a connection's one exchange.
fn enrollments(received: &Stream, sent: &Stream) -> Vec<Enrollment> {
    let first = received.bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let request = String::from_utf8_lossy(first).into_owned();
    if let Some((_, rest)) = request.split_once("PUT /v1/apps/mygame/users/") {
        assert_eq!(sent.find("HTTP/1.1 201 "), Some(0), "{request}");
        let user = rest.split('/').next().unwrap_or_default().to_owned();
        return vec![Enrollment { request, user, asked: received.last_line(), answered: sent.line_of(0) }];
    }
    if request.starts_with("POST /v1/keys:enroll ") { lines(&request, received, sent) } else { Vec::new() }
}

/// The lines of a batch.
fn lines(request: &str, received: &Stream, sent: &Stream) -> Vec<Enrollment> {
    let mut end = received.find("\r\n\r\n").map_or(0, |end| end + 4);
    let mut enrollments = Vec::new();
    for (number, line) in (1..).zip(received.bytes[end..].split_inclusive(|byte| *byte == b'\n')) {
        end += line.len();
        let line: serde_json::Value = serde_json::from_slice(line).unwrap();
        // The head of the answer leaves at once and says nothing yet: the lines do.
        let said = sent.find(&format!("{{\"line\":{number},\"status\":201,"));
        let said = said.unwrap_or_else(|| panic!("line {number} has no answer 201"));
        enrollments.push(Enrollment {
            request: format!("{request}, line {number}"),
            user: line["user"].as_str().unwrap().to_owned(),
            asked: received.line_of(end - 1),
            answered: sent.line_of(said),
        });
    }
    enrollments
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
