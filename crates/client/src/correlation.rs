//! Correlation: the vector we send with each attempt, and the names the Store gives to its answer.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{HeaderMap, HeaderValue};
use rand::RngCore;

use crate::scrub::scrubbed;

/// The header that carries a vector in both directions.
pub(crate) const MS_CV: &str = "ms-cv";

/// A correlation vector (`MS-CV`, store.md 8): seeded once per renewal, incremented before each attempt.
///
/// ```
/// use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
/// use storekeeper_client::CorrelationVector;
/// let mut vector = CorrelationVector::seed(&mut ChaCha8Rng::seed_from_u64(7));
/// assert!(vector.as_str().ends_with(".0"));
/// vector.increment();
/// assert!(vector.as_str().ends_with(".1"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrelationVector(String);

impl CorrelationVector {
    /// A fresh v2 vector: 22 base64 characters of 16 random bytes, and `.0`.
    pub fn seed(random: &mut impl RngCore) -> Self {
        let mut bytes = [0; 16];
        random.fill_bytes(&mut bytes);
        let mut text = STANDARD_NO_PAD.encode(bytes);
        text.push_str(".0");
        Self(text)
    }

    /// Continues a vector that somebody sent to us: `V` becomes `V.0`. `None` when it is no vector that could be
    /// continued: then seed a new one.
    pub fn extend(received: &str) -> Option<Self> {
        let elements: Vec<&str> = received.strip_suffix('!').unwrap_or(received).split('.').collect();
        let (base, numbers) = elements.split_first()?;
        let is_vector = matches!(base.len(), 16 | 22)
            && base.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
            && !numbers.is_empty()
            && numbers.iter().all(|number| is_element(number))
            && received.len() <= bytes_max(base) + 1;
        is_vector.then(|| Self(grown(received, format!("{received}.0"))))
    }

    /// Counts the last element up: done before every outgoing call. A vector that ends in `!` has no room left and
    /// stays as it is.
    pub fn increment(&mut self) {
        let Some((stem, last)) = self.0.rsplit_once('.') else { return };
        if let Some(next) = last.parse::<u32>().ok().and_then(|last| last.checked_add(1)) {
            self.0 = grown(&self.0, format!("{stem}.{next}"));
        }
    }

    /// The text of the header.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("a vector is made of base64 characters, dots, digits and `!`")
    }
}

/// `after`, or `before` closed with the terminator when `after` has become too long.
fn grown(before: &str, after: String) -> String {
    let base = after.split('.').next().unwrap_or_default();
    if before.ends_with('!') {
        before.to_owned()
    } else if after.len() > bytes_max(base) {
        format!("{before}!")
    } else {
        after
    }
}

fn is_element(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u32>().is_ok()
}

/// v2 has a base of 22 characters and room for 127; everything else counts as v1.
fn bytes_max(base: &str) -> usize {
    if base.len() == 22 { 127 } else { 63 }
}

impl fmt::Display for CorrelationVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names that the Store gave to an answer: what its support asks for. Each is kept as it came, however malformed
/// (store.md 8), but bounded to 128 characters and scrubbed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Correlation {
    /// `MS-CorrelationId`
    pub correlation_id: Option<String>,
    /// `MS-RequestId`
    pub request_id: Option<String>,
    /// `MS-CV`
    pub vector: Option<String>,
}

impl Correlation {
    const CHARS_MAX: usize = 128;

    /// From an answer's headers.
    pub fn read(headers: &HeaderMap) -> Self {
        let text = |name| {
            let value: &HeaderValue = headers.get(name)?;
            let text = scrubbed(&String::from_utf8_lossy(value.as_bytes()), Self::CHARS_MAX);
            (!text.is_empty()).then_some(text)
        };
        Self { correlation_id: text("ms-correlationid"), request_id: text("ms-requestid"), vector: text(MS_CV) }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn a_seed_is_a_v2_vector_and_the_same_for_the_same_generator() {
        let seed = || CorrelationVector::seed(&mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(seed(), seed());
        let (base, rest) = seed().0.split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert_eq!((base.len(), rest.as_str()), (22, "0"));
        assert!(base.ends_with(['A', 'Q', 'g', 'w']), "{base}");
    }

    #[test]
    fn increments_count_and_stop_at_the_limits() {
        let mut vector = CorrelationVector(String::from("xu2HW6SrSkyfHyFh.0.9"));
        vector.increment();
        assert_eq!(vector.as_str(), "xu2HW6SrSkyfHyFh.0.10");
        let mut full = CorrelationVector(format!("xu2HW6SrSkyfHyFh{}.9", ".1234567890".repeat(4)));
        full.0.push_str(&"9".repeat(63 - full.0.len()));
        assert_eq!(full.0.len(), 63);
        let mut last = CorrelationVector(format!("xu2HW6SrSkyfHyFh.0.{}", u32::MAX));
        last.increment();
        assert_eq!(last.as_str(), format!("xu2HW6SrSkyfHyFh.0.{}", u32::MAX));
        full.increment();
        assert!(full.as_str().ends_with('!'), "{full}");
        let closed = full.clone();
        full.increment();
        assert_eq!(full, closed);
    }

    #[test]
    fn only_vectors_are_extended() {
        for (received, expected) in [
            ("xu2HW6SrSkyfHyFh.0.0", Some("xu2HW6SrSkyfHyFh.0.0.0")),
            ("XjfuNWLQlEuxj6MtXjfuNA.8", Some("XjfuNWLQlEuxj6MtXjfuNA.8.0")),
            ("xu2HW6SrSkyfHyFh.0!", Some("xu2HW6SrSkyfHyFh.0!")),
            ("5.1", None),
            ("", None),
            ("xu2HW6SrSkyfHyFh", None),
            ("xu2HW6SrSkyfHyFh.", None),
            ("xu2HW6SrSkyfHyFh.4294967296", None),
            ("xu2HW6SrSkyf\nyFh.0", None),
        ] {
            let extended = CorrelationVector::extend(received);
            assert_eq!(extended.as_ref().map(CorrelationVector::as_str), expected, "{received}");
        }
        let long = format!("xu2HW6SrSkyfHyFh{}", ".123".repeat(11));
        assert_eq!(CorrelationVector::extend(&long).unwrap().as_str(), format!("{long}.0"));
        let longer = format!("{long}.0");
        assert_eq!(CorrelationVector::extend(&longer).unwrap().as_str(), format!("{longer}!"));
    }

    #[test]
    fn an_answer_is_never_rejected_for_its_names() {
        let mut headers = HeaderMap::new();
        headers.insert("MS-CV", HeaderValue::from_static("5.1"));
        headers.insert("MS-RequestId", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        headers.insert("MS-CorrelationId", HeaderValue::from_str(&"a b ".repeat(100)).unwrap());
        let read = Correlation::read(&headers);
        assert_eq!(read.vector.as_deref(), Some("5.1"));
        assert_eq!(read.request_id.as_deref(), Some("??"));
        assert_eq!(read.correlation_id.unwrap().len(), 128);
        assert_eq!(Correlation::read(&HeaderMap::new()), Correlation::default());
    }
}
