//! `Verdict`: what became of one key.

use std::borrow::Cow;

use storekeeper_model::StoreIdKey;

/// The word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Word {
    /// There is a successor.
    Renewed,
    /// It is not due, so it was left alone.
    Kept,
    /// The Store said no twice, the second time to a fresh ticket. That proves nothing yet.
    Refused,
    /// Nothing was learned about it.
    Failed,
    /// It is no key, or none of these apps'.
    Invalid,
}

impl Word {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Renewed, Self::Kept, Self::Refused, Self::Failed, Self::Invalid];

    /// The word in an answer.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::Kept => "kept",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
        }
    }
}

const INTERRUPTED: &str = "interrupted";

/// What became of one key.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The word for it.
    pub word: Word,
    /// Why it was not renewed: a stable word.
    pub code: Option<Cow<'static, str>>,
    /// The same for a person; without secrets.
    pub detail: Option<String>,
    /// The successor.
    pub successor: Option<Box<StoreIdKey>>,
}

impl Verdict {
    pub(super) fn renewed(successor: Box<StoreIdKey>) -> Self {
        Self { word: Word::Renewed, code: None, detail: None, successor: Some(successor) }
    }

    /// Renewals were ended before anything was learned.
    pub(super) fn interrupted(detail: &str) -> Self {
        Self::other(Word::Failed, INTERRUPTED, detail)
    }

    /// Whether it says only that.
    pub(super) fn is_interrupted(&self) -> bool {
        self.code.as_deref() == Some(INTERRUPTED)
    }

    pub(super) fn other(word: Word, code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { word, code: Some(code.into()), detail: Some(detail.into()), successor: None }
    }
}
