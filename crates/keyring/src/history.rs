//! `History`: the last outcomes of a row, kept in the row.

use std::borrow::Cow;
use std::fmt;

use storekeeper_model::Timestamp;

use crate::fold::{put_varint, take_varint, unzigzag, zigzag};

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutcomeResult {
    /// A key was handed in and is held.
    Enrolled,
    /// A key was handed in and waits for proof.
    Waiting,
    /// The Store answered with a successor, which is durable.
    Renewed,
    /// The Store said no, also with a fresh ticket.
    Refused,
    /// No answer that says anything about the key.
    Failed,
    /// The newcomer was refused for good and dropped.
    Dropped,
    /// Condemned: refused for good before `exp`.
    Revoked,
    /// A condemnation was undone.
    Acquitted,
}

impl OutcomeResult {
    /// All of them, in the order of their stored numbers.
    pub const ALL: [Self; 8] = [
        Self::Enrolled,
        Self::Waiting,
        Self::Renewed,
        Self::Refused,
        Self::Failed,
        Self::Dropped,
        Self::Revoked,
        Self::Acquitted,
    ];

    /// The name used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Waiting => "waiting",
            Self::Renewed => "renewed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
            Self::Revoked => "revoked",
            Self::Acquitted => "acquitted",
        }
    }
}

/// One outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// When, by the keeper's clock.
    pub at: Timestamp,
    /// What came of it.
    pub result: OutcomeResult,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// A short stable word that says why; at most 64 bytes, never text of the Store's own.
    pub code: Cow<'static, str>,
    /// The Store's `MS-CorrelationId`, for a support request; at most 64 bytes.
    pub correlation_id: Option<String>,
}

/// The last eight outcomes, oldest first. Kept packed, as rows keep it: a key is read and renewed far more often than
/// anybody looks at its history.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct History(Vec<u8>);

impl History {
    /// How many are kept.
    pub const LENGTH_MAX: usize = 8;

    /// Adds one; the oldest falls out when there are more than eight. Codes and correlation IDs over 64 bytes are cut.
    ///
    /// A renewal keeps its correlation ID while it is the latest outcome: support asks for those of failures, and in a
    /// row that is renewed for ever the others would take a fifth of its place.
    pub fn push(&mut self, outcome: Outcome) {
        let mut packer = Packer::with_capacity(self.0.len() + 32);
        let oldest = usize::from(views(&self.0).count() == Self::LENGTH_MAX);
        views(&self.0).skip(oldest).for_each(|view| packer.add(view.of_the_past()));
        packer.add(View::of(&outcome));
        self.0 = packer.bytes;
    }

    /// Oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Outcome> {
        views(&self.0).map(View::outcome).collect::<Vec<_>>().into_iter()
    }

    /// The latest.
    pub fn last(&self) -> Option<Outcome> {
        views(&self.0).last().map(View::outcome)
    }

    /// As a row keeps it: six bytes for a renewal after a renewal, 25 for most other outcomes.
    ///
    /// Per outcome: milliseconds since the one before (zigzag, seven bits per byte), a byte of result and flags, unless a
    /// flag says that they are those of the outcome before the status and the code, its place where it came before, or
    /// that it is the result's own name, and the correlation ID, 16 bytes where it is a GUID.
    pub fn packed(&self) -> &[u8] {
        &self.0
    }

    /// Takes what a row has kept. Where that is damaged the history ends: nothing is decided by it, and who reads a row
    /// seldom looks at it.
    pub fn from_packed(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl FromIterator<Outcome> for History {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        let mut history = Self::default();
        outcomes.into_iter().for_each(|outcome| history.push(outcome));
        history
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

const HAS_STATUS: u8 = 1 << 3;
const GUID: u8 = 1 << 4;
const TEXT: u8 = 1 << 5;
const AS_BEFORE: u8 = 1 << 6;
/// A code's length with this bit set, or the place of the same code earlier in the history.
const NEW_CODE: u8 = 0x80;
/// The code is the result's name.
const RESULT: u8 = 0x7f;
const WORD_MAX: usize = 64;

/// An outcome whose words stand elsewhere.
#[derive(Clone, Copy)]
struct View<'a> {
    at: i64,
    result: OutcomeResult,
    status: Option<u16>,
    code: &'a str,
    correlation: Option<CorrelationView<'a>>,
}

#[derive(Clone, Copy)]
enum CorrelationView<'a> {
    Guid([u8; 16]),
    Text(&'a str),
}

impl<'a> View<'a> {
    fn of(outcome: &'a Outcome) -> Self {
        let correlation = outcome.correlation_id.as_deref().map(|text| match guid_bytes(text) {
            Some(guid) => CorrelationView::Guid(guid),
            None => CorrelationView::Text(text),
        });
        Self {
            at: outcome.at.millis(),
            result: outcome.result,
            status: outcome.status,
            code: cut(&outcome.code),
            correlation,
        }
    }

    fn of_the_past(self) -> Self {
        let is_renewal = self.result == OutcomeResult::Renewed;
        Self { correlation: self.correlation.filter(|_| !is_renewal), ..self }
    }

    fn outcome(self) -> Outcome {
        let correlation_id = self.correlation.map(|correlation| match correlation {
            CorrelationView::Guid(guid) => guid_text(&guid),
            CorrelationView::Text(text) => text.to_owned(),
        });
        Outcome {
            at: Timestamp::from_millis(self.at),
            result: self.result,
            status: self.status,
            code: Cow::Owned(self.code.to_owned()),
            correlation_id,
        }
    }
}

fn cut(word: &str) -> &str {
    &word[..word.floor_char_boundary(WORD_MAX)]
}

/// Packs outcomes one after the other.
struct Packer<'a> {
    bytes: Vec<u8>,
    before: i64,
    status: Option<u16>,
    codes: [&'a str; History::LENGTH_MAX],
    count: usize,
}

impl<'a> Packer<'a> {
    fn with_capacity(capacity: usize) -> Self {
        let (bytes, codes) = (Vec::with_capacity(capacity), [""; History::LENGTH_MAX]);
        Self { bytes, before: 0, status: None, codes, count: 0 }
    }

    /// Adds at most [`History::LENGTH_MAX`].
    fn add(&mut self, view: View<'a>) {
        put_varint(&mut self.bytes, zigzag(view.at.wrapping_sub(self.before)));
        self.before = view.at;
        let correlation = match view.correlation {
            None => 0,
            Some(CorrelationView::Guid(_)) => GUID,
            Some(CorrelationView::Text(_)) => TEXT,
        };
        let as_before = self.codes[..self.count].last() == Some(&view.code) && self.status == view.status;
        let why = if as_before { AS_BEFORE } else { view.status.map_or(0, |_| HAS_STATUS) };
        self.bytes.push(view.result as u8 | why | correlation);
        if !as_before {
            self.say_why(view);
        }
        self.status = view.status;
        match view.correlation {
            None => {}
            Some(CorrelationView::Guid(guid)) => self.bytes.extend_from_slice(&guid),
            Some(CorrelationView::Text(text)) => put_word(&mut self.bytes, text, 0),
        }
        self.codes[self.count] = view.code;
        self.count += 1;
    }

    fn say_why(&mut self, view: View<'a>) {
        if let Some(status) = view.status {
            put_varint(&mut self.bytes, status.into());
        }
        match self.codes[..self.count].iter().position(|former| *former == view.code) {
            _ if view.code == view.result.as_str() => self.bytes.push(RESULT),
            Some(former) => self.bytes.push(u8::try_from(former).expect("a history has eight places")),
            None => put_word(&mut self.bytes, view.code, NEW_CODE),
        }
    }
}

fn views(bytes: &[u8]) -> Views<'_> {
    Views::new(bytes)
}

/// Reads what was packed, until something is wrong: `rest` is empty if nothing was.
struct Views<'a> {
    rest: &'a [u8],
    before: i64,
    status: Option<u16>,
    codes: [&'a str; History::LENGTH_MAX],
    count: usize,
}

impl<'a> Views<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, before: 0, status: None, codes: [""; History::LENGTH_MAX], count: 0 }
    }

    fn read(&mut self, bytes: &mut &'a [u8]) -> Option<View<'a>> {
        let at = self.before.wrapping_add(unzigzag(take_varint(bytes)?));
        let flags = take(bytes, 1)?[0];
        let result = *OutcomeResult::ALL.get(usize::from(flags & 7))?;
        let (status, code) = match flags & AS_BEFORE {
            0 => self.why(flags, result, bytes)?,
            _ => (self.status, *self.codes[..self.count].last()?),
        };
        let correlation = match flags & (GUID | TEXT) {
            0 => None,
            GUID => Some(CorrelationView::Guid(take(bytes, 16)?.try_into().ok()?)),
            _ => {
                let length = take(bytes, 1)?[0];
                Some(CorrelationView::Text(take_text(bytes, length)?))
            }
        };
        Some(View { at, result, status, code, correlation })
    }

    fn why(&self, flags: u8, result: OutcomeResult, bytes: &mut &'a [u8]) -> Option<(Option<u16>, &'a str)> {
        let status = match flags & HAS_STATUS {
            0 => None,
            _ => Some(u16::try_from(take_varint(bytes)?).ok()?),
        };
        let code = match take(bytes, 1)?[0] {
            RESULT => result.as_str(),
            place if place < NEW_CODE => self.codes[..self.count].get(usize::from(place))?,
            length => take_text(bytes, length & !NEW_CODE)?,
        };
        Some((status, code))
    }
}

impl<'a> Iterator for Views<'a> {
    type Item = View<'a>;

    fn next(&mut self) -> Option<View<'a>> {
        let mut bytes = self.rest;
        if bytes.is_empty() || self.count == History::LENGTH_MAX {
            return None;
        }
        let view = self.read(&mut bytes)?;
        self.codes[self.count] = view.code;
        self.count += 1;
        (self.rest, self.before, self.status) = (bytes, view.at, view.status);
        Some(view)
    }
}

fn put_word(bytes: &mut Vec<u8>, word: &str, flag: u8) {
    let word = cut(word);
    bytes.push(u8::try_from(word.len()).expect("it was cut to 64") | flag);
    bytes.extend_from_slice(word.as_bytes());
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn take_text<'a>(bytes: &mut &'a [u8], length: u8) -> Option<&'a str> {
    std::str::from_utf8(take(bytes, length.into())?).ok()
}

const GUID_DASHES: [usize; 4] = [8, 13, 18, 23];
const HEX: &[u8; 16] = b"0123456789abcdef";

/// The bytes of a GUID in its usual form: lower case, dashes.
fn guid_bytes(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (at, byte) in text.iter().enumerate() {
        if GUID_DASHES.contains(&at) {
            (*byte == b'-').then_some(())?;
            continue;
        }
        let value = HEX.iter().position(|digit| digit == byte)?;
        bytes[digits / 2] = bytes[digits / 2] << 4 | u8::try_from(value).expect("below sixteen");
        digits += 1;
    }
    Some(bytes)
}

fn guid_text(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for byte in bytes {
        if GUID_DASHES.contains(&text.len()) {
            text.push('-');
        }
        text.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]].map(char::from));
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn outcome() -> impl Strategy<Value = Outcome> {
        let correlation_id =
            prop::option::of("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[ -~]{0,64}");
        let code = "renewed|refused|\\PC{0,16}";
        (any::<i64>(), 0..8usize, any::<Option<u16>>(), code, correlation_id).prop_map(
            |(at, result, status, code, correlation_id)| Outcome {
                at: Timestamp::from_millis(at),
                result: OutcomeResult::ALL[result],
                status,
                code: Cow::Owned(code),
                correlation_id,
            },
        )
    }

    proptest! {
        #[test]
        fn any_history_comes_back(outcomes in prop::collection::vec(outcome(), 0..12)) {
            let history: History = outcomes.into_iter().collect();
            prop_assert_eq!(History::from_packed(history.packed()).iter().collect::<Vec<_>>(), history.iter().collect::<Vec<_>>());
        }

        #[test]
        fn damage_never_panics(bytes: Vec<u8>) {
            let mut history = History::from_packed(&bytes);
            history.push(Outcome { at: Timestamp::EPOCH, result: OutcomeResult::Renewed, status: None, code: Cow::Borrowed("renewed"), correlation_id: None });
            prop_assert!(history.iter().count() <= History::LENGTH_MAX);
        }
    }

    #[test]
    fn a_renewal_of_the_past_takes_about_ten_bytes() {
        let renewed = |days: i64| Outcome {
            at: Timestamp::from_millis(1_800_000_000_000 + days * 86_400_000),
            result: OutcomeResult::Renewed,
            status: Some(200),
            code: Cow::Borrowed("renewed"),
            correlation_id: Some(String::from("0f8fad5b-d9cb-469f-a165-70867728950e")),
        };
        let history: History = (0..8).map(|n| renewed(n * 9)).collect();
        assert!(history.packed().len() <= 8 * 10 + 16 + 8, "{}", history.packed().len());
        let ids = history.iter().map(|outcome| outcome.correlation_id.is_some());
        assert_eq!(ids.filter(|is_known| *is_known).count(), 1);
        assert!(history.last().unwrap().correlation_id.is_some());
    }

    #[test]
    fn a_failure_keeps_its_correlation_id() {
        let failed = |at| Outcome {
            at: Timestamp::from_millis(at),
            result: OutcomeResult::Failed,
            status: Some(503),
            code: Cow::Borrowed("unavailable"),
            correlation_id: Some(String::from("0f8fad5b-d9cb-469f-a165-70867728950e")),
        };
        let history: History = (0..8).map(failed).collect();
        assert!(history.iter().all(|outcome| outcome.correlation_id.is_some()));
    }

    #[test]
    fn the_ninth_outcome_pushes_the_first_out() {
        let numbered = |at| Outcome {
            at: Timestamp::from_millis(at),
            result: OutcomeResult::Failed,
            status: None,
            code: Cow::Borrowed("timeout"),
            correlation_id: None,
        };
        let history: History = (1..=9).map(numbered).collect();
        assert_eq!(history.iter().map(|outcome| outcome.at.millis()).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7, 8, 9]);
    }
}
