//! `Span`: a duration as users write it, in a JSON document.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use storekeeper_model::{format_span, parse_span};

/// A duration that is written `"14d"`, `"90s"` or `"1d12h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

impl Span {
    /// Takes a duration; what is finer than a millisecond is lost when it is written.
    pub const fn new(span: Duration) -> Self {
        Self(span)
    }

    /// The duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_span(self.0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        parse_span(&text).map(Self).map_err(serde::de::Error::custom)
    }
}
