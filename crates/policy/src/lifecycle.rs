//! The states of a key and the moves between them that an enrollment makes.

use core::fmt;

use storekeeper_model::{Fingerprint, Lifetime, Timestamp};

use crate::SKEW_MAX;

/// What a key is worth (life.md 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Served and kept renewed.
    Active,
    /// Refused for good before it expired: only a new key helps.
    Revoked,
    /// It expired before it was renewed: our failure.
    Lapsed,
}

impl Standing {
    /// The name used in answers, rows and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Revoked => "revoked",
            Self::Lapsed => "lapsed",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The standing of a key: only `revoked` is stored, lapsing is a matter of time. A revoked key stays revoked when its
/// `exp` passes, for that is not our failure; without usable times (`None`) a key never lapses.
///
/// ```
/// use storekeeper_model::Timestamp;
/// use storekeeper_policy::{Standing, standing};
/// let now = Timestamp::from_seconds(1_000);
/// assert_eq!(standing(false, Some(now), now), Standing::Lapsed);
/// assert_eq!(standing(false, None, now), Standing::Active);
/// ```
pub fn standing(revoked: bool, expires_at: Option<Timestamp>, now: Timestamp) -> Standing {
    match expires_at {
        _ if revoked => Standing::Revoked,
        Some(expires_at) if now >= expires_at => Standing::Lapsed,
        _ => Standing::Active,
    }
}

/// What a row holds, as far as an enrollment is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldKey {
    /// Of the key that is served.
    pub fingerprint: Fingerprint,
    /// Of the key that was last enrolled; the served one descends from it unless it still waits.
    pub enrolled_fingerprint: Fingerprint,
    /// `iat` of the key that is served.
    pub issued_at: Timestamp,
    /// `exp` of the key that is served; `None` when its times are unusable.
    pub expires_at: Option<Timestamp>,
    /// Whether the Store has renewed this line at least once.
    pub proven: bool,
    /// Whether the key was refused for good.
    pub revoked: bool,
    /// The newcomer kept beside it until the Store has accepted it.
    pub newcomer: Option<Newcomer>,
}

/// A newcomer that waits for its proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newcomer {
    /// Of the waiting key.
    pub fingerprint: Fingerprint,
    /// `iat` of the waiting key.
    pub issued_at: Timestamp,
}

/// The key somebody wants to enroll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewKey {
    /// Of the key.
    pub fingerprint: Fingerprint,
    /// The claim `iat`.
    pub issued_at: Timestamp,
    /// The claim `nbf`; `None` when the times are unusable.
    pub not_before: Option<Timestamp>,
    /// The claim `exp`; `None` when the times are unusable.
    pub expires_at: Option<Timestamp>,
}

impl NewKey {
    /// From a parsed key's fingerprint and times.
    pub fn new(fingerprint: Fingerprint, lifetime: &Lifetime) -> Self {
        Self {
            fingerprint,
            issued_at: lifetime.issued_at(),
            not_before: lifetime.not_before(),
            expires_at: lifetime.expires_at(),
        }
    }
}

/// What becomes of a key that somebody enrolls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrollment {
    /// The row does not exist yet: make it.
    New,
    /// Held already, in this form or as a successor: change nothing.
    Known,
    /// Take it in place of the held key.
    Replace,
    /// Keep it beside the held key, due at once, in place of a newcomer that waits already.
    AwaitProof,
    /// The row has a key that was issued later: 409.
    Older,
    /// It is the very key that is revoked or lapsed, or the one that grew into it: 410.
    SameDead(Standing),
    /// Its `exp` has passed: 422.
    Expired,
    /// Its `iat` or `nbf` is more than [`SKEW_MAX`] ahead: 422.
    NotYetValid,
}

impl Enrollment {
    /// The code of the problem document (codes.md), or `None` when the key was taken or is known.
    pub const fn code(self) -> Option<&'static str> {
        match self {
            Self::New | Self::Known | Self::Replace | Self::AwaitProof => None,
            Self::Older => Some("key_older"),
            Self::SameDead(Standing::Lapsed) => Some("key_lapsed"),
            Self::SameDead(Standing::Revoked | Standing::Active) => Some("key_revoked"),
            Self::Expired => Some("key_expired"),
            Self::NotYetValid => Some("key_not_yet_valid"),
        }
    }
}

/// Decides what becomes of `newcomer` in a row that holds `held` (life.md 1).
///
/// A key that is known is recognised before its times are looked at, so that a caller who repeats itself hears the same
/// whatever our clock says. Write the outcome compare-and-set on the revision that `held` was read at.
pub fn enroll(held: Option<&HeldKey>, newcomer: &NewKey, now: Timestamp) -> Enrollment {
    held.and_then(|held| recognise(held, newcomer, now))
        .or_else(|| refuse_times(newcomer, now))
        .unwrap_or_else(|| held.map_or(Enrollment::New, |held| place(held, newcomer, now)))
}

/// The answer for a key the row knows by its fingerprint.
fn recognise(held: &HeldKey, newcomer: &NewKey, now: Timestamp) -> Option<Enrollment> {
    let standing = standing(held.revoked, held.expires_at, now);
    let is_dead = standing != Standing::Active;
    if held.newcomer.is_some_and(|waiting| waiting.fingerprint == newcomer.fingerprint) {
        // Beside a dead key there is nothing to wait for: it is placed like any other.
        return (!is_dead).then_some(Enrollment::Known);
    }
    if newcomer.fingerprint != held.fingerprint && newcomer.fingerprint != held.enrolled_fingerprint {
        return None;
    }
    Some(if is_dead { Enrollment::SameDead(standing) } else { Enrollment::Known })
}

/// Refuses a key that lives outside our time. Unusable times refuse nothing but an `iat` ahead.
fn refuse_times(newcomer: &NewKey, now: Timestamp) -> Option<Enrollment> {
    let starts_at = newcomer.not_before.map_or(newcomer.issued_at, |at| at.max(newcomer.issued_at));
    if starts_at > now + SKEW_MAX {
        return Some(Enrollment::NotYetValid);
    }
    newcomer.expires_at.filter(|expires_at| *expires_at <= now).map(|_| Enrollment::Expired)
}

/// Finds the place of a valid key the row does not know.
fn place(held: &HeldKey, newcomer: &NewKey, now: Timestamp) -> Enrollment {
    let is_behind_waiting = held.newcomer.is_some_and(|waiting| newcomer.issued_at < waiting.issued_at);
    if newcomer.issued_at < held.issued_at || is_behind_waiting {
        return Enrollment::Older;
    }
    match standing(held.revoked, held.expires_at, now) {
        Standing::Active if held.proven => Enrollment::AwaitProof,
        Standing::Active | Standing::Revoked | Standing::Lapsed => Enrollment::Replace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_733_526_889;
    const DAY: i64 = 86_400;

    fn at(offset: i64) -> Timestamp {
        Timestamp::from_seconds(NOW + offset)
    }

    fn named(name: u8) -> Fingerprint {
        Fingerprint::from_bytes([name; 16])
    }

    /// `H` descends from `E`, was issued two days ago and has 28 to live.
    fn held() -> HeldKey {
        HeldKey {
            fingerprint: named(b'H'),
            enrolled_fingerprint: named(b'E'),
            issued_at: at(-2 * DAY),
            expires_at: Some(at(28 * DAY)),
            proven: true,
            revoked: false,
            newcomer: None,
        }
    }

    fn unproven() -> HeldKey {
        HeldKey { proven: false, ..held() }
    }

    fn revoked() -> HeldKey {
        HeldKey { revoked: true, ..held() }
    }

    fn lapsed() -> HeldKey {
        HeldKey { issued_at: at(-31 * DAY), expires_at: Some(at(0)), ..held() }
    }

    /// `W`, issued a day ago, waits beside `held`.
    fn with_newcomer(held: HeldKey) -> HeldKey {
        let newcomer = Newcomer { fingerprint: named(b'W'), issued_at: at(-DAY) };
        HeldKey { newcomer: Some(newcomer), enrolled_fingerprint: named(b'W'), ..held }
    }

    /// A key issued `issued` seconds from now, valid from an hour before and for 30 days.
    fn key(name: u8, issued: i64) -> NewKey {
        NewKey::new(named(name), &Lifetime::new(at(issued), at(issued - 3600), at(issued + 30 * DAY)))
    }

    fn check(held: Option<HeldKey>, newcomer: NewKey, expected: Enrollment) {
        assert_eq!(enroll(held.as_ref(), &newcomer, at(0)), expected, "{newcomer:?} into {held:?}");
    }

    #[test]
    fn into_an_empty_row() {
        check(None, key(b'N', 0), Enrollment::New);
        check(None, key(b'N', -29 * DAY), Enrollment::New);
    }

    #[test]
    fn the_same_key_again_or_the_one_last_enrolled_is_known() {
        for row in [held(), unproven()] {
            check(Some(row), key(b'H', -2 * DAY), Enrollment::Known);
            check(Some(row), key(b'E', -11 * DAY), Enrollment::Known);
            check(Some(row), key(b'E', -31 * DAY), Enrollment::Known);
        }
        check(Some(with_newcomer(held())), key(b'W', -DAY), Enrollment::Known);
        check(Some(with_newcomer(held())), key(b'H', -2 * DAY), Enrollment::Known);
    }

    #[test]
    fn a_known_key_stays_known_when_our_clock_was_set_back() {
        let row = HeldKey { issued_at: at(DAY), ..held() };
        check(Some(row), key(b'H', DAY), Enrollment::Known);
    }

    #[test]
    fn the_very_key_that_is_dead_stays_dead() {
        check(Some(revoked()), key(b'H', -2 * DAY), Enrollment::SameDead(Standing::Revoked));
        check(Some(revoked()), key(b'E', -11 * DAY), Enrollment::SameDead(Standing::Revoked));
        check(Some(lapsed()), key(b'H', -31 * DAY), Enrollment::SameDead(Standing::Lapsed));
        check(Some(lapsed()), key(b'E', -40 * DAY), Enrollment::SameDead(Standing::Lapsed));
        let both = HeldKey { revoked: true, ..lapsed() };
        check(Some(both), key(b'H', -31 * DAY), Enrollment::SameDead(Standing::Revoked));
    }

    #[test]
    fn a_lower_iat_is_older() {
        for row in [held(), unproven(), revoked()] {
            check(Some(row), key(b'N', -2 * DAY - 1), Enrollment::Older);
        }
        check(Some(with_newcomer(held())), key(b'N', -DAY - 1), Enrollment::Older);
        check(Some(with_newcomer(revoked())), key(b'N', -DAY - 1), Enrollment::Older);
    }

    #[test]
    fn a_newcomer_waits_beside_a_proven_live_key_only() {
        check(Some(held()), key(b'N', 0), Enrollment::AwaitProof);
        check(Some(held()), key(b'N', -2 * DAY), Enrollment::AwaitProof);
        check(Some(unproven()), key(b'N', 0), Enrollment::Replace);
        check(Some(unproven()), key(b'N', -2 * DAY), Enrollment::Replace);
        let timeless = HeldKey { expires_at: None, ..held() };
        check(Some(timeless), key(b'N', 0), Enrollment::AwaitProof);
    }

    #[test]
    fn a_yet_newer_key_takes_the_place_of_the_waiting_one() {
        check(Some(with_newcomer(held())), key(b'N', 0), Enrollment::AwaitProof);
        check(Some(with_newcomer(held())), key(b'N', -DAY), Enrollment::AwaitProof);
    }

    #[test]
    fn a_dead_key_is_replaced_at_once() {
        check(Some(revoked()), key(b'N', 0), Enrollment::Replace);
        check(Some(lapsed()), key(b'N', 0), Enrollment::Replace);
        check(Some(with_newcomer(revoked())), key(b'N', 0), Enrollment::Replace);
        check(Some(with_newcomer(lapsed())), key(b'W', -DAY), Enrollment::Replace);
    }

    #[test]
    fn a_key_from_the_future_is_not_yet_valid() {
        for row in [None, Some(held()), Some(revoked())] {
            check(row, key(b'N', 301), Enrollment::NotYetValid);
            let late = NewKey { not_before: Some(at(301)), ..key(b'N', 0) };
            check(row, late, Enrollment::NotYetValid);
        }
        check(None, key(b'N', 300), Enrollment::New);
        check(None, NewKey { not_before: Some(at(300)), ..key(b'N', 0) }, Enrollment::New);
    }

    #[test]
    fn an_expired_key_is_refused_whoever_is_held() {
        for row in [None, Some(held()), Some(revoked()), Some(lapsed())] {
            check(row, key(b'N', -30 * DAY), Enrollment::Expired);
        }
    }

    #[test]
    fn unusable_times_are_kept() {
        // store.md 3.4: `exp` and `nbf` swapped in print.
        let swapped = |issued: i64| {
            NewKey::new(named(b'N'), &Lifetime::new(at(issued), at(issued + 30 * DAY), at(issued - 3600)))
        };
        check(None, swapped(0), Enrollment::New);
        check(None, swapped(-400 * DAY), Enrollment::New);
        check(None, swapped(301), Enrollment::NotYetValid);
        check(Some(held()), swapped(0), Enrollment::AwaitProof);
        check(Some(unproven()), swapped(0), Enrollment::Replace);
        check(Some(held()), swapped(-3 * DAY), Enrollment::Older);
    }

    #[test]
    fn what_is_refused_has_a_code() {
        for (outcome, code) in [
            (Enrollment::New, None),
            (Enrollment::Known, None),
            (Enrollment::Replace, None),
            (Enrollment::AwaitProof, None),
            (Enrollment::Older, Some("key_older")),
            (Enrollment::SameDead(Standing::Revoked), Some("key_revoked")),
            (Enrollment::SameDead(Standing::Lapsed), Some("key_lapsed")),
            (Enrollment::Expired, Some("key_expired")),
            (Enrollment::NotYetValid, Some("key_not_yet_valid")),
        ] {
            assert_eq!(outcome.code(), code, "{outcome:?}");
        }
    }

    #[test]
    fn standings() {
        for (revoked, expires, expected) in [
            (false, Some(1), "active"),
            (false, Some(0), "lapsed"),
            (false, None, "active"),
            (true, Some(1), "revoked"),
            (true, Some(0), "revoked"),
            (true, None, "revoked"),
        ] {
            assert_eq!(standing(revoked, expires.map(at), at(0)).as_str(), expected);
        }
    }
}
