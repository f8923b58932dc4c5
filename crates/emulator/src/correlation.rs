//! What every answer of the Store carries besides its body: correlation ids, the correlation vector and the date.

use storekeeper_model::Timestamp;

use crate::Correlation;
use crate::calendar::http_date;
use crate::entropy::Draw;

/// The header fields of one answer (store.md 4.2), ids fresh, `Date` from `now`.
pub(crate) fn store_headers(
    received: Option<&str>,
    correlation: Correlation,
    server_id: &str,
    now: Timestamp,
    draw: &mut Draw,
) -> Vec<(&'static str, String)> {
    let continued = match correlation {
        Correlation::Continued => received.and_then(extend),
        Correlation::Fresh => None,
    };
    let vector = continued.unwrap_or_else(|| format!("{}.0", draw.vector_base()));
    let mut headers = Vec::with_capacity(7);
    headers.extend([
        ("MS-CorrelationId", draw.guid()),
        ("MS-RequestId", draw.guid()),
        ("MS-CV", vector),
        ("MS-ServerId", server_id.to_owned()),
        ("Date", http_date(now)),
    ]);
    headers
}

/// A received vector extended by `.0` (store.md 8); `None` for what is no vector at all.
///
/// A terminated vector stays as it is; one that would grow past its version's limit is terminated instead. Anything
/// short and visible counts as a vector: the Store has been seen with bases of every length.
pub(crate) fn extend(received: &str) -> Option<String> {
    const VERSION_1_MAX: usize = 63;
    const VERSION_2_MAX: usize = 127;
    let base = received.split('.').next().unwrap_or_default();
    let length_max = if base.len() == 22 { VERSION_2_MAX } else { VERSION_1_MAX };
    let is_vector = !base.is_empty() && received.len() <= length_max && received.bytes().all(|b| b.is_ascii_graphic());
    if !is_vector {
        return None;
    }
    if received.ends_with('!') {
        return Some(received.to_owned());
    }
    let extension = if received.len() + 2 > length_max { "!" } else { ".0" };
    Some(format!("{received}{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;

    #[test]
    fn vectors_are_extended() {
        let check =
            |received: &str, expected: Option<&str>| assert_eq!(extend(received).as_deref(), expected, "{received}");
        check("xu2HW6SrSkyfHyFh.0.0", Some("xu2HW6SrSkyfHyFh.0.0.0"));
        check("0123456789012345678901.7", Some("0123456789012345678901.7.0"));
        check("5.1", Some("5.1.0"));
        check("bfebe80c-ff89-4c4b-8897-67b45b916e47.1", Some("bfebe80c-ff89-4c4b-8897-67b45b916e47.1.0"));
        check("xu2HW6SrSkyfHyFh.0!", Some("xu2HW6SrSkyfHyFh.0!"));
        check("", None);
        check(".0", None);
        check("with space.0", None);
        check("umläut.0", None);
        check(&"x".repeat(200), None);
    }

    #[test]
    fn a_full_vector_is_terminated() {
        let check = |base: usize, length: usize, expected_end: &str| {
            let received = format!("{}.{}", "A".repeat(base), "1".repeat(length - base - 1));
            let extended = extend(&received).unwrap();
            assert_eq!(extended.strip_prefix(received.as_str()), Some(expected_end), "{base} {length}");
        };
        check(16, 61, ".0");
        check(16, 62, "!");
        check(22, 125, ".0");
        check(22, 126, "!");
    }

    #[test]
    fn a_fresh_vector_is_version_1() {
        let headers =
            store_headers(None, Correlation::Continued, "s", Timestamp::EPOCH, &mut Entropy::new(1, 1).draw());
        let vector = &headers.iter().find(|(name, _)| *name == "MS-CV").unwrap().1;
        assert_eq!((vector.len(), vector.strip_suffix(".0").map(str::len)), (18, Some(16)));
        let mut draw = Entropy::new(1, 1).draw();
        let headers = store_headers(Some("sent.3"), Correlation::Fresh, "s", Timestamp::EPOCH, &mut draw);
        assert!(!headers.iter().any(|(_, value)| value.starts_with("sent")));
        assert_eq!(headers.last().unwrap().1, "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
