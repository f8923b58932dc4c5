//! Instants and spans: what is printed parses back, arithmetic saturates, and unusable lifetimes say so.

use std::time::Duration;

use proptest::prelude::*;
use storekeeper_model::{Lifetime, Timestamp, format_span, parse_span};

/// Year 0 to year 9999, what RFC 3339 can write, in milliseconds.
const WRITABLE: std::ops::Range<i64> = -62_167_219_200_000..253_402_207_200_000;

fn at(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

#[test]
fn golden_instants() {
    for (text, millis) in [
        ("1970-01-01T00:00:00Z", 0),
        ("2015-09-16T09:25:42Z", 1_442_395_542_000),
        ("2024-12-06T23:14:49Z", 1_733_526_889_000),
        ("2016-01-09T02:02:12.007Z", 1_452_304_932_007),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
    ] {
        assert_eq!(at(text).millis(), millis, "{text}");
        assert_eq!(Timestamp::from_millis(millis).to_string(), text);
        assert_eq!(serde_json::to_string(&at(text)).unwrap(), format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<Timestamp>(&format!("\"{text}\"")).unwrap(), at(text));
    }
}

/// Whole seconds of our time are written by hand; they are read by a library.
#[test]
fn every_day_from_1970_on_is_written_right() {
    for day in 0..140 * 365 {
        let instant = Timestamp::from_seconds(day * 86_400 + 86_399 - day % 86_400);
        let text = instant.to_string();
        assert_eq!(text.len(), "2026-01-31T12:00:00Z".len(), "{text}");
        assert_eq!(at(&text), instant, "{text}");
    }
}

#[test]
fn an_offset_is_the_same_instant() {
    assert_eq!(at("2015-09-16T11:25:42+02:00"), at("2015-09-16T09:25:42Z"));
    assert_eq!(at("2015-09-16T09:25:42.123456789Z").millis() % 1000, 123);
}

#[test]
fn what_is_no_instant_is_refused() {
    for text in
        ["", "now", "2015-09-16", "2015-09-16T09:25:42", "1442395542", "2015-13-01T00:00:00Z", "2015-02-30T00:00:00Z"]
    {
        assert!(text.parse::<Timestamp>().is_err(), "`{text}`");
        assert!(serde_json::from_str::<Timestamp>(&format!("\"{text}\"")).is_err(), "`{text}`");
    }
}

#[test]
fn arithmetic_saturates() {
    let long = Duration::from_secs(u64::MAX);
    assert_eq!(Timestamp::EPOCH + long, Timestamp::MAX);
    assert_eq!(Timestamp::EPOCH - long, Timestamp::from_millis(-i64::MAX));
    assert_eq!(Timestamp::MAX + Duration::from_millis(1), Timestamp::MAX);
    assert_eq!(Timestamp::MIN - Duration::from_millis(1), Timestamp::MIN);
    assert_eq!(Timestamp::from_seconds(i64::MAX), Timestamp::MAX);
    assert_eq!(Timestamp::MIN.since(Timestamp::MAX), Duration::ZERO);
    assert_eq!(Timestamp::MAX.distance(Timestamp::MIN), Duration::from_millis(u64::MAX));
    // Instants beyond what RFC 3339 can write still print, so that nothing that logs one panics.
    assert!(!Timestamp::MAX.to_string().is_empty() && !Timestamp::MIN.to_string().is_empty());
}

#[test]
fn seconds_and_days_are_rounded_down() {
    assert_eq!(Timestamp::from_millis(-1).seconds(), -1);
    assert_eq!(Timestamp::from_millis(1999).seconds(), 1);
    assert_eq!(Timestamp::from_millis(-1).day(), -1);
    assert_eq!(at("2024-12-06T23:59:59.999Z").day(), at("2024-12-06T00:00:00Z").day());
}

#[test]
fn golden_spans() {
    for (text, seconds) in [
        ("14d", 1_209_600),
        ("9d", 777_600),
        ("1d12h", 129_600),
        ("90m", 5400),
        ("0s", 0),
        ("1h1m1s", 3661),
        (" 5m ", 300),
    ] {
        assert_eq!(parse_span(text).unwrap(), Duration::from_secs(seconds), "{text}");
    }
    assert_eq!(parse_span("250ms").unwrap(), Duration::from_millis(250));
}

#[test]
fn what_is_no_span_is_refused() {
    for text in
        ["", " ", "14", "d", "14 days", "1.5h", "-1d", "14D", "1w", "1d2", "99999999999999999999d", "300000000000d"]
    {
        assert!(parse_span(text).is_err(), "`{text}`");
    }
}

#[test]
fn a_lifetime_without_usable_times_says_so() {
    let seconds = Timestamp::from_seconds;
    let swapped = Lifetime::new(seconds(1_733_526_889), seconds(1_736_118_889), seconds(1_733_523_289));
    assert_eq!(swapped.issued_at(), seconds(1_733_526_889));
    assert_eq!((swapped.not_before(), swapped.expires_at(), swapped.length()), (None, None, None));
    let right = Lifetime::new(seconds(1_733_526_889), seconds(1_733_523_289), seconds(1_736_118_889));
    assert_eq!(right.length(), Some(Duration::from_secs(30 * 86_400)));
}

proptest! {
    #[test]
    fn an_instant_prints_and_parses_back(millis in WRITABLE) {
        let at = Timestamp::from_millis(millis);
        prop_assert_eq!(at.to_string().parse::<Timestamp>().unwrap(), at);
        let json = serde_json::to_string(&at).unwrap();
        prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), at);
    }

    #[test]
    fn an_instant_of_any_number_prints(millis in any::<i64>()) {
        prop_assert!(!Timestamp::from_millis(millis).to_string().is_empty());
    }

    #[test]
    fn any_text_as_instant_or_span_never_panics(text in any::<String>()) {
        let _ = text.parse::<Timestamp>();
        let _ = parse_span(&text);
    }

    #[test]
    fn a_span_prints_and_parses_back(millis in 0..u64::MAX) {
        let span = Duration::from_millis(millis);
        prop_assert_eq!(parse_span(&format_span(span)).unwrap(), span);
    }

    #[test]
    fn text_like_a_span_never_panics(text in "([0-9]{0,25}(ms|[dhms ]){0,2}){0,4}") {
        if let Ok(span) = parse_span(&text) {
            prop_assert_eq!(parse_span(&format_span(span)).unwrap(), span);
        }
    }

    #[test]
    fn adding_and_subtracting_a_span_is_no_change(millis in WRITABLE, span in 0..4_000_000_000_000_u64) {
        let (at, span) = (Timestamp::from_millis(millis), Duration::from_millis(span));
        prop_assert_eq!((at + span) - span, at);
        prop_assert_eq!((at + span).since(at), span);
        prop_assert_eq!(at.distance(at + span), span);
        prop_assert_eq!(at.since(at + span + Duration::from_millis(1)), Duration::ZERO);
    }

    #[test]
    fn a_usable_lifetime_is_longer_than_nothing(iat in any::<i64>(), nbf in any::<i64>(), exp in any::<i64>()) {
        let life = Lifetime::new(Timestamp::from_seconds(iat), Timestamp::from_seconds(nbf), Timestamp::from_seconds(exp));
        prop_assert_eq!(life.length().is_some(), life.is_usable());
        prop_assert!(life.length().is_none_or(|length| length > Duration::ZERO));
    }
}
