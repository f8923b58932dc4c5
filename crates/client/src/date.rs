//! HTTP dates, read leniently, and how far the Store's clock stands from ours.

use std::fmt;
use std::time::Duration;

use storekeeper_model::Timestamp;

/// Reads an HTTP date. The weekday is not looked at: the Store's own documentation prints wrong ones (store.md 4.2).
/// All three forms of RFC 9110 are read, `Sun, 06 Nov 1994 08:49:37 GMT` and the two obsolete ones; a two-digit year
/// below 70 belongs to this century.
pub(crate) fn parse_http_date(text: &str) -> Option<Timestamp> {
    let (mut day, mut month, mut year, mut time) = (None, None, None, None);
    for word in text.split([' ', ',', '-', '\t']).filter(|word| !word.is_empty()) {
        if word.contains(':') {
            time = time.or_else(|| seconds_of_day(word));
        } else if let Some(number) = number(word) {
            if day.is_none() && word.len() <= 2 {
                day = Some(number);
            } else {
                year = year.or(Some(if word.len() == 2 { century(number) } else { number }));
            }
        } else {
            month = month.or_else(|| month_number(word));
        }
    }
    let (day, month, year) = (day?, month?, year?);
    let is_real = (1600..=9999).contains(&year) && (1..=days_in_month(year, month)).contains(&day);
    is_real.then_some(Timestamp::from_seconds(days_since_epoch(year, month, day) * 86_400 + time?))
}

fn number(word: &str) -> Option<i64> {
    let is_number = word.len() <= 4 && word.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| word.parse().ok()).flatten()
}

fn century(two_digits: i64) -> i64 {
    if two_digits < 70 { 2000 + two_digits } else { 1900 + two_digits }
}

fn seconds_of_day(word: &str) -> Option<i64> {
    let mut parts = word.split(':').map(number);
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    // 60 is a leap second.
    let is_real = parts.next().is_none() && hours < 24 && minutes < 60 && seconds <= 60;
    is_real.then_some(hours * 3600 + minutes * 60 + seconds)
}

fn month_number(word: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let start = word.get(..3)?;
    let index = MONTHS.iter().position(|month| start.eq_ignore_ascii_case(month))?;
    i64::try_from(index + 1).ok()
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days in the Gregorian calendar, counted in years that begin in March so that the leap day comes last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

/// How far the Store's `Date` stands from our clock: positive when the Store's is ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClockSkew(i64);

impl ClockSkew {
    /// Beyond this the two clocks are said to differ, and no terminal verdict is reached (ARCHITECTURE.md, invariant 11).
    pub const TOLERATED: Duration = Duration::from_secs(300);

    /// Between an answer's `Date` and our clock at the same moment.
    pub fn between(store: Timestamp, ours: Timestamp) -> Self {
        Self(store.millis().saturating_sub(ours.millis()))
    }

    /// Milliseconds, positive when the Store's clock is ahead of ours.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Its size, whichever clock is ahead.
    pub const fn span(self) -> Duration {
        Duration::from_millis(self.0.unsigned_abs())
    }

    /// Whether it exceeds [`ClockSkew::TOLERATED`].
    pub fn is_large(self) -> bool {
        self.span() > Self::TOLERATED
    }
}

impl fmt::Display for ClockSkew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.0 < 0 { "-" } else { "" }, storekeeper_model::format_span(self.span()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_whatever_the_weekday_says() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"),
            ("Sunday, 06-Nov-94 08:49:37 GMT", "1994-11-06T08:49:37Z"),
            ("Sun Nov  6 08:49:37 1994", "1994-11-06T08:49:37Z"),
            // Both as the Store's documentation prints them, with wrong weekdays (store.md 4.2).
            ("Tue, 13 Sep 2015 07:31:12 GMT", "2015-09-13T07:31:12Z"),
            ("Tue, 13 Sep 2019 07:31:12 GMT", "2019-09-13T07:31:12Z"),
            ("29 Feb 2024 00:00:00 GMT", "2024-02-29T00:00:00Z"),
            ("Mon, 1 Mar 2100 23:59:59 GMT", "2100-03-01T23:59:59Z"),
            ("Fri, 31 Dec 1999 23:59:59 GMT", "1999-12-31T23:59:59Z"),
        ] {
            assert_eq!(parse_http_date(text), Some(expected.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "yesterday",
            "Tue, 30 Feb 2024 00:00:00 GMT",
            "Tue, 29 Feb 2023 00:00:00 GMT",
            "13 Sep 2015",
            "13 Sep 2015 24:00:00 GMT",
            "13 Sep 2015 07:31 GMT",
            "13 Foo 2015 07:31:12 GMT",
            "120",
            "é Sep é",
        ] {
            assert_eq!(parse_http_date(text), None, "{text}");
        }
    }

    #[test]
    fn a_skew_is_large_past_five_minutes_in_either_direction() {
        let ours = Timestamp::from_seconds(1_000_000);
        for (store, is_large, text) in
            [(1_000_300, false, "5m"), (1_000_301, true, "5m1s"), (999_700, false, "-5m"), (999_699, true, "-5m1s")]
        {
            let skew = ClockSkew::between(Timestamp::from_seconds(store), ours);
            assert_eq!((skew.is_large(), skew.to_string().as_str()), (is_large, text));
        }
    }
}
