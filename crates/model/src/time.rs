//! Instants and spans: one resolution, the millisecond, in memory and in every row.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant: milliseconds since the Unix epoch.
///
/// Prints and parses as RFC 3339 in UTC. Arithmetic with [`Duration`] saturates.
///
/// ```
/// use std::time::Duration;
/// use storekeeper_model::Timestamp;
/// let at: Timestamp = "2015-09-16T09:25:42Z".parse().unwrap();
/// assert_eq!(at, Timestamp::from_seconds(1_442_395_542));
/// assert_eq!((at + Duration::from_millis(1)).to_string(), "2015-09-16T09:25:42.001Z");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// Later than every instant anybody will meet.
    pub const MAX: Self = Self(i64::MAX);
    /// Earlier than every instant anybody will meet.
    pub const MIN: Self = Self(i64::MIN);

    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From whole seconds since the epoch, the unit of JWT claims.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Whole days since the epoch, rounded down.
    pub const fn day(self) -> i64 {
        self.0.div_euclid(86_400_000)
    }

    /// The span from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The distance between two instants, whichever comes first.
    pub fn distance(self, other: Self) -> Duration {
        Duration::from_millis(self.0.abs_diff(other.0))
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, with as many digits of the second as there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = Text::of(*self) {
            return f.write_str(text.as_str());
        }
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

/// The text of an instant from 1970 to 2099: four of them stand in every answer.
struct Text {
    bytes: [u8; 24],
    length: usize,
}

impl Text {
    fn of(at: Timestamp) -> Option<Self> {
        const END: i64 = 4_102_444_800_000;
        if !(0..END).contains(&at.0) {
            return None;
        }
        let (days, second, milli) = (at.day(), at.seconds() % 86_400, at.0 % 1000);
        let (year, month, day) = civil(days);
        let fields = [(0, year / 100), (2, year % 100), (5, month), (8, day)];
        let time = [(11, second / 3600), (14, second / 60 % 60), (17, second % 60)];
        let mut bytes = *b"0000-00-00T00:00:00.000Z";
        for (at, number) in fields.into_iter().chain(time).chain([(20, milli / 10)]) {
            bytes[at] += (number / 10) as u8;
            bytes[at + 1] += (number % 10) as u8;
        }
        bytes[22] += (milli % 10) as u8;
        let end = match milli {
            0 => 19,
            milli if milli % 100 == 0 => 21,
            milli if milli % 10 == 0 => 22,
            _ => 23,
        };
        bytes[end] = b'Z';
        Some(Self { bytes, length: end + 1 })
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("digits are ASCII")
    }
}

/// Year, month and day of a day since the epoch, up to 2099: every fourth year is a leap year. Years begin in March, so
/// that the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    // Days since 1 March 1968, whose four years are the last before a leap day.
    let since = days + 671;
    let year = (4 * since + 3) / 1461;
    let day_of_year = since - 1461 * year / 4;
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let is_next = month >= 10;
    (1968 + year + i64::from(is_next), if is_next { month - 9 } else { month + 3 }, day)
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an RFC 3339 instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an RFC 3339 instant such as 2026-01-31T12:00:00Z")]
pub struct ParseTimestampError(String);

impl FromStr for Timestamp {
    type Err = ParseTimestampError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at: jiff::Timestamp = text.parse().map_err(|_| ParseTimestampError(text.chars().take(64).collect()))?;
        Ok(Self(at.as_millisecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match Text::of(*self) {
            Some(text) => serializer.serialize_str(text.as_str()),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The three instants a key names for itself.
///
/// Lifetimes are read, never assumed. A vendor example prints `exp` and `nbf` swapped (store.md 3.4); such a key has
/// no usable times, which is what [`Lifetime::expires_at`] says with `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    issued_at: Timestamp,
    not_before: Timestamp,
    expires_at: Timestamp,
}

impl Lifetime {
    /// From the claims `iat`, `nbf` and `exp`.
    pub const fn new(issued_at: Timestamp, not_before: Timestamp, expires_at: Timestamp) -> Self {
        Self { issued_at, not_before, expires_at }
    }

    /// The claim `iat`.
    pub const fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// The claim `nbf`, unless the times are unusable.
    pub fn not_before(&self) -> Option<Timestamp> {
        self.is_usable().then_some(self.not_before)
    }

    /// The claim `exp`, unless the times are unusable.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.is_usable().then_some(self.expires_at)
    }

    /// `iat`, `nbf` and `exp` as claimed, usable or not: what a row has to keep so that [`Lifetime::new`] makes this again.
    pub const fn claimed(&self) -> [Timestamp; 3] {
        [self.issued_at, self.not_before, self.expires_at]
    }

    /// Whether `exp` lies after `nbf` and after `iat`.
    pub fn is_usable(&self) -> bool {
        self.expires_at > self.not_before && self.expires_at > self.issued_at
    }

    /// How long the key was issued for: `exp` - `iat`, unless the times are unusable.
    pub fn length(&self) -> Option<Duration> {
        self.is_usable().then(|| self.expires_at.since(self.issued_at))
    }
}

/// The text is not a span such as `14d`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration such as \"14d\", \"12h\", \"5m\", \"30s\" or \"250ms\"")]
pub struct ParseSpanError(String);

/// Parses a span as users write it: one or more numbers with `d`, `h`, `m`, `s` or `ms`, as in `1d12h`.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(storekeeper_model::parse_span("1d12h").unwrap(), Duration::from_secs(129_600));
/// assert!(storekeeper_model::parse_span("14").is_err());
/// ```
pub fn parse_span(text: &str) -> Result<Duration, ParseSpanError> {
    let fail = || ParseSpanError(text.chars().take(32).collect());
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(fail());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(fail)?;
        let number: u64 = rest[..digits].parse().map_err(|_| fail())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match rest[..letters].trim() {
            "d" => 86_400_000,
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return Err(fail()),
        };
        rest = &rest[letters..];
        total = number.checked_mul(unit).and_then(|span| total.checked_add(span)).ok_or_else(fail)?;
    }
    Ok(Duration::from_millis(total))
}

/// Writes a span the way [`parse_span`] reads it.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(storekeeper_model::format_span(Duration::from_secs(129_600)), "1d12h");
/// assert_eq!(storekeeper_model::format_span(Duration::ZERO), "0s");
/// ```
pub fn format_span(span: Duration) -> String {
    let mut rest = span.as_millis();
    let mut text = String::new();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if text.is_empty() { String::from("0s") } else { text }
}
