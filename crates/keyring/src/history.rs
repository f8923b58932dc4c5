//! `History`: the last outcomes of a row, kept in the row.

use std::borrow::Cow;
use std::collections::VecDeque;

use storekeeper_model::Timestamp;

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
