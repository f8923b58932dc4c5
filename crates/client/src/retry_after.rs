//! `RetryAfter`: how long the other side asks us to wait, read from either form of its header.

use std::time::Duration;

use http::{HeaderMap, header};
use storekeeper_model::Timestamp;

use crate::date::parse_http_date;

/// A wait that the Store or Entra asked for, counted from when its answer arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RetryAfter(Duration);

impl RetryAfter {
    /// The longest wait that is taken at its word; a longer one is shortened to this, because a key lives 30 days.
    pub const MAX: Duration = Duration::from_secs(7 * 86_400);

    /// A wait of this length, at most [`RetryAfter::MAX`].
    pub fn new(wait: Duration) -> Self {
        Self(wait.min(Self::MAX))
    }

    /// How long to wait.
    pub const fn wait(self) -> Duration {
        self.0
    }

    /// The earliest moment to try again, for an answer that arrived `at`.
    pub fn instant(self, at: Timestamp) -> Timestamp {
        at + self.0
    }

    /// Reads `Retry-After` as seconds or as an HTTP date. A date is counted from the answer's own `Date`, since both
    /// come from the same clock, and from `now` only where that is absent. A date that has passed is a wait of zero;
    /// what is neither form is ignored.
    pub(crate) fn read(headers: &HeaderMap, now: Timestamp) -> Option<Self> {
        let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Some(Self::new(Duration::from_secs(text.parse().unwrap_or(u64::MAX))));
        }
        let until = parse_http_date(text)?;
        Some(Self::new(until.since(store_date(headers).unwrap_or(now))))
    }
}

/// The answer's own `Date`.
pub(crate) fn store_date(headers: &HeaderMap) -> Option<Timestamp> {
    parse_http_date(headers.get(header::DATE)?.to_str().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(retry_after: &'static str, date: Option<&'static str>, expected: Option<u64>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, http::HeaderValue::from_static(retry_after));
        if let Some(date) = date {
            headers.insert(header::DATE, http::HeaderValue::from_static(date));
        }
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let read = RetryAfter::read(&headers, now).map(|after| after.wait().as_secs());
        assert_eq!(read, expected, "{retry_after}");
    }

    #[test]
    fn both_forms_are_read() {
        check("120", None, Some(120));
        check(" 0 ", None, Some(0));
        check("Thu, 01 Jan 2026 00:02:00 GMT", None, Some(120));
        // Counted from the answer's own clock, which here is a year ahead of ours.
        check("Fri, 01 Jan 2027 00:00:30 GMT", Some("Fri, 01 Jan 2027 00:00:00 GMT"), Some(30));
        check("Fri, 01 Jan 2027 00:00:00 GMT", Some("Fri, 01 Jan 2027 00:00:30 GMT"), Some(0));
        check("99999999999999999999999999", None, Some(RetryAfter::MAX.as_secs()));
        for nonsense in ["", "soon", "-5", "1.5"] {
            check(nonsense, None, None);
        }
    }
}
