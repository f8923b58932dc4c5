//! `History`: the last outcomes of a row, kept in the row.

use std::borrow::Cow;
use std::collections::VecDeque;

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

/// The last eight outcomes, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History(VecDeque<Outcome>);

impl History {
    /// How many are kept.
    pub const LENGTH_MAX: usize = 8;

    /// Adds one; the oldest falls out when there are more than eight.
    pub fn push(&mut self, outcome: Outcome) {
        if self.0.len() == Self::LENGTH_MAX {
            self.0.pop_front();
        }
        self.0.push_back(outcome);
    }

    /// Oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Outcome> {
        self.0.iter()
    }

    /// The latest.
    pub fn last(&self) -> Option<&Outcome> {
        self.0.back()
    }
}

impl FromIterator<Outcome> for History {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        let mut history = Self::default();
        outcomes.into_iter().for_each(|outcome| history.push(outcome));
        history
    }
}

const HAS_STATUS: u8 = 1 << 3;
const GUID: u8 = 1 << 4;
const TEXT: u8 = 1 << 5;
/// A code's length with this bit set, or the place of the same code earlier in the history.
const NEW_CODE: u8 = 0x80;
const WORD_MAX: usize = 64;

/// What is stored is no history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the packed history is damaged")]
pub struct HistoryError;

impl History {
    /// Packs it for a row: about 25 bytes for each outcome. Codes and correlation IDs over 64 bytes are cut.
    ///
    /// Per outcome: milliseconds since the one before (zigzag, seven bits per byte), a byte of result and flags, the
    /// status, the code or the place of the same code before, and the correlation ID, 16 bytes where it is a GUID.
    pub fn pack(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 32);
        let mut before = Timestamp::EPOCH;
        for (place, outcome) in self.0.iter().enumerate() {
            put_varint(&mut bytes, zigzag(outcome.at.millis().wrapping_sub(before.millis())));
            before = outcome.at;
            let guid = outcome.correlation_id.as_deref().and_then(guid_bytes);
            let correlation = [outcome.correlation_id.as_ref().map_or(0, |_| TEXT), GUID][usize::from(guid.is_some())];
            bytes.push(outcome.result as u8 | outcome.status.map_or(0, |_| HAS_STATUS) | correlation);
            if let Some(status) = outcome.status {
                put_varint(&mut bytes, status.into());
            }
            self.pack_code(place, &mut bytes);
            match (guid, &outcome.correlation_id) {
                (Some(guid), _) => bytes.extend_from_slice(&guid),
                (None, Some(text)) => put_word(&mut bytes, text, 0),
                (None, None) => {}
            }
        }
        bytes
    }

    fn pack_code(&self, place: usize, bytes: &mut Vec<u8>) {
        let code = &self.0[place].code;
        match self.0.iter().take(place).position(|former| former.code == *code) {
            Some(former) => bytes.push(u8::try_from(former).expect("a history has eight places")),
            None => put_word(bytes, code, NEW_CODE),
        }
    }

    /// Undoes [`History::pack`].
    ///
    /// # Errors
    /// [`HistoryError`] for anything else.
    pub fn unpack(mut bytes: &[u8]) -> Result<Self, HistoryError> {
        let mut history = Self::default();
        let mut before = 0i64;
        while !bytes.is_empty() {
            if history.0.len() == Self::LENGTH_MAX {
                return Err(HistoryError);
            }
            let outcome = history.unpack_one(before, &mut bytes).ok_or(HistoryError)?;
            before = outcome.at.millis();
            history.0.push_back(outcome);
        }
        Ok(history)
    }

    fn unpack_one(&self, before: i64, bytes: &mut &[u8]) -> Option<Outcome> {
        let at = before.wrapping_add(unzigzag(take_varint(bytes)?));
        let flags = take(bytes, 1)?[0];
        let status = match flags & HAS_STATUS {
            0 => None,
            _ => Some(u16::try_from(take_varint(bytes)?).ok()?),
        };
        let code = match take(bytes, 1)?[0] {
            place if place < NEW_CODE => self.0.get(usize::from(place))?.code.clone(),
            length => Cow::Owned(take_text(bytes, length & !NEW_CODE)?),
        };
        let correlation_id = match flags & (GUID | TEXT) {
            0 => None,
            GUID => Some(guid_text(take(bytes, 16)?)),
            _ => {
                let length = take(bytes, 1)?[0];
                Some(take_text(bytes, length)?)
            }
        };
        let result = *OutcomeResult::ALL.get(usize::from(flags & 7))?;
        Some(Outcome { at: Timestamp::from_millis(at), result, status, code, correlation_id })
    }
}

fn put_word(bytes: &mut Vec<u8>, word: &str, flag: u8) {
    let word = &word[..word.floor_char_boundary(WORD_MAX)];
    bytes.push(u8::try_from(word.len()).expect("it was cut to 64") | flag);
    bytes.extend_from_slice(word.as_bytes());
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn take_text(bytes: &mut &[u8], length: u8) -> Option<String> {
    Some(std::str::from_utf8(take(bytes, length.into())?).ok()?.to_owned())
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

fn guid_text(bytes: &[u8]) -> String {
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
            prop_assert_eq!(History::unpack(&history.pack()), Ok(history));
        }

        #[test]
        fn damage_never_panics(bytes: Vec<u8>) {
            let _ = History::unpack(&bytes);
        }
    }

    #[test]
    fn an_outcome_takes_about_25_bytes() {
        let renewed = |days: i64| Outcome {
            at: Timestamp::from_millis(1_800_000_000_000 + days * 86_400_000),
            result: OutcomeResult::Renewed,
            status: Some(200),
            code: Cow::Borrowed("renewed"),
            correlation_id: Some(String::from("0f8fad5b-d9cb-469f-a165-70867728950e")),
        };
        let history: History = (0..8).map(|n| renewed(n * 9)).collect();
        assert!(history.pack().len() <= 8 * 26 + 8, "{}", history.pack().len());
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
