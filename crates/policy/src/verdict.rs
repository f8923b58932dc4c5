//! What refusals prove, and when they condemn a key: never on evidence that something else could explain.

use core::fmt;

use storekeeper_model::Timestamp;

use crate::RenewalPolicy;

pub use crate::condemnation_cap::CondemnationCap;
pub use crate::guard::{Guard, GuardCounts};

/// What is known about a refused key (life.md 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// How many refusals count; see [`count_refusal`].
    pub refusals: u32,
    /// When the first of them was.
    pub refused_since: Timestamp,
    /// The latest success of another live proven key of the app, if any.
    pub witness_at: Option<Timestamp>,
    /// What was learnt about the app's keys before this is void: a pause or a tripped guard lay there.
    pub evidence_since: Timestamp,
    /// Whether our clock and the Store's differ too much; see [`crate::is_skewed`].
    pub skewed: bool,
    /// Whether the app's guard holds or the app is paused.
    pub guarded: bool,
}

/// What to do with a refused key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Keep it active and served, try it again later.
    Wait,
    /// As [`Verdict::Wait`], and renew up to three other live proven keys of the app with the same ticket: if one of
    /// them succeeds, judge again.
    SeekWitness,
    /// It is revoked, if the app's [`CondemnationCap`] allows another one today.
    Condemn,
}

/// Why a verdict was reached; the name reaches log, API and dashboard unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The guard holds or the app is paused.
    Guarded,
    /// Our clock or the Store's is wrong.
    Skewed,
    /// Fewer refusals than `condemn_refusals`.
    TooFewRefusals,
    /// Less than `condemn_after` since the first refusal.
    TooSoon,
    /// The refusals began before the app's evidence was voided.
    EvidenceVoided,
    /// No other key of the app succeeded since the first refusal.
    NoWitness,
    /// Refused often enough and for long enough while another key succeeded.
    RefusedBesideWitness,
}

impl Reason {
    /// All of them, in the order in which they are looked for.
    pub const ALL: [Self; 7] = [
        Self::Guarded,
        Self::Skewed,
        Self::TooFewRefusals,
        Self::TooSoon,
        Self::EvidenceVoided,
        Self::NoWitness,
        Self::RefusedBesideWitness,
    ];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guarded => "guarded",
            Self::Skewed => "clock_skewed",
            Self::TooFewRefusals => "too_few_refusals",
            Self::TooSoon => "too_soon",
            Self::EvidenceVoided => "evidence_voided",
            Self::NoWitness => "no_witness",
            Self::RefusedBesideWitness => "refused_beside_witness",
        }
    }

    const fn verdict(self) -> Verdict {
        match self {
            Self::NoWitness => Verdict::SeekWitness,
            Self::RefusedBesideWitness => Verdict::Condemn,
            Self::Guarded | Self::Skewed | Self::TooFewRefusals | Self::TooSoon | Self::EvidenceVoided => Verdict::Wait,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Judges a key that was just refused, or whose witness just succeeded.
///
/// Checks are asked in order and the first objection is the answer; only a key against which none is left is condemned.
/// Instants from the future (a clock was set back) always object.
///
/// ```
/// use core::time::Duration;
/// use storekeeper_model::Timestamp;
/// use storekeeper_policy::{Evidence, Reason, RenewalPolicy, Verdict, judge};
/// let refused_since = Timestamp::from_seconds(1_000_000);
/// let evidence = Evidence {
///     refusals: 3,
///     refused_since,
///     witness_at: None,
///     evidence_since: Timestamp::EPOCH,
///     skewed: false,
///     guarded: false,
/// };
/// let now = refused_since + Duration::from_secs(25 * 3600);
/// let policy = RenewalPolicy::default();
/// assert_eq!(judge(&policy, &evidence, now), (Verdict::SeekWitness, Reason::NoWitness));
/// let seen = Evidence { witness_at: Some(now), ..evidence };
/// assert_eq!(judge(&policy, &seen, now).0, Verdict::Condemn);
/// ```
pub fn judge(policy: &RenewalPolicy, evidence: &Evidence, now: Timestamp) -> (Verdict, Reason) {
    let reason = CHECKS.iter().find_map(|check| check(policy, evidence, now)).unwrap_or(Reason::RefusedBesideWitness);
    (reason.verdict(), reason)
}

/// The refusals of a key that count, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusals {
    /// How many.
    pub count: u32,
    /// When the first of them was.
    pub since: Timestamp,
}

/// Counts a refusal that happened `now`. Starts over at one when the earlier refusals prove nothing any more: they began
/// before the app's evidence was voided, or in the future.
pub fn count_refusal(earlier: Option<Refusals>, evidence_since: Timestamp, now: Timestamp) -> Refusals {
    match earlier {
        Some(Refusals { count, since }) if since >= evidence_since && since <= now && count > 0 => {
            Refusals { count: count.saturating_add(1), since }
        }
        _ => Refusals { count: 1, since: now },
    }
}

type Check = fn(&RenewalPolicy, &Evidence, Timestamp) -> Option<Reason>;

/// The guard outranks every other rule (life.md 2, rule 4).
const CHECKS: [Check; 6] = [guarded, skewed, too_few_refusals, too_soon, evidence_voided, no_witness];

fn guarded(_: &RenewalPolicy, evidence: &Evidence, _: Timestamp) -> Option<Reason> {
    evidence.guarded.then_some(Reason::Guarded)
}

fn skewed(_: &RenewalPolicy, evidence: &Evidence, _: Timestamp) -> Option<Reason> {
    evidence.skewed.then_some(Reason::Skewed)
}

fn too_few_refusals(policy: &RenewalPolicy, evidence: &Evidence, _: Timestamp) -> Option<Reason> {
    (evidence.refusals < policy.condemn_refusals.max(1)).then_some(Reason::TooFewRefusals)
}

/// Since an instant ahead no time at all has passed.
fn too_soon(policy: &RenewalPolicy, evidence: &Evidence, now: Timestamp) -> Option<Reason> {
    (now.since(evidence.refused_since) < policy.condemn_after).then_some(Reason::TooSoon)
}

fn evidence_voided(_: &RenewalPolicy, evidence: &Evidence, _: Timestamp) -> Option<Reason> {
    (evidence.refused_since < evidence.evidence_since).then_some(Reason::EvidenceVoided)
}

/// A success in the very millisecond of the first refusal may have come before it and proves nothing.
fn no_witness(_: &RenewalPolicy, evidence: &Evidence, now: Timestamp) -> Option<Reason> {
    let is_in_between = |at: Timestamp| at > evidence.refused_since && at <= now;
    (!evidence.witness_at.is_some_and(is_in_between)).then_some(Reason::NoWitness)
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_733_526_889);

    fn hours_ago(count: u64) -> Timestamp {
        NOW - Duration::from_secs(count * 3600)
    }

    /// Enough to condemn.
    fn damning() -> Evidence {
        Evidence {
            refusals: 3,
            refused_since: hours_ago(24),
            witness_at: Some(hours_ago(3)),
            evidence_since: hours_ago(1000),
            skewed: false,
            guarded: false,
        }
    }

    fn check(evidence: Evidence, expected: (Verdict, Reason)) {
        assert_eq!(judge(&RenewalPolicy::default(), &evidence, NOW), expected, "{evidence:?}");
    }

    #[test]
    fn three_refusals_over_a_day_beside_a_witness_condemn() {
        let condemned = (Verdict::Condemn, Reason::RefusedBesideWitness);
        check(damning(), condemned);
        check(Evidence { witness_at: Some(NOW), ..damning() }, condemned);
        check(Evidence { evidence_since: hours_ago(24), ..damning() }, condemned);
    }

    #[test]
    fn each_objection_alone_saves_the_key() {
        use Reason::*;
        let later = NOW + Duration::from_millis(1);
        let almost = hours_ago(24) + Duration::from_millis(1);
        for (evidence, reason) in [
            (Evidence { guarded: true, ..damning() }, Guarded),
            (Evidence { skewed: true, ..damning() }, Skewed),
            (Evidence { refusals: 2, ..damning() }, TooFewRefusals),
            (Evidence { refused_since: almost, ..damning() }, TooSoon),
            (Evidence { refused_since: later, ..damning() }, TooSoon),
            (Evidence { evidence_since: almost, ..damning() }, EvidenceVoided),
            (Evidence { evidence_since: later, ..damning() }, EvidenceVoided),
        ] {
            check(evidence, (Verdict::Wait, reason));
        }
        for witness_at in [None, Some(hours_ago(24)), Some(hours_ago(30)), Some(later)] {
            check(Evidence { witness_at, ..damning() }, (Verdict::SeekWitness, NoWitness));
        }
    }

    #[test]
    fn objections_are_heard_in_order() {
        let mut evidence = Evidence {
            refusals: 1,
            refused_since: hours_ago(1),
            witness_at: None,
            evidence_since: NOW,
            skewed: true,
            guarded: true,
        };
        let mut heard = [Reason::Guarded; 7];
        for (step, slot) in heard.iter_mut().enumerate() {
            *slot = judge(&RenewalPolicy::default(), &evidence, NOW).1;
            match step {
                0 => evidence.guarded = false,
                1 => evidence.skewed = false,
                2 => evidence.refusals = 3,
                3 => evidence.refused_since = hours_ago(24),
                4 => evidence.evidence_since = hours_ago(25),
                _ => evidence.witness_at = Some(NOW),
            }
        }
        assert_eq!(heard, Reason::ALL);
    }

    #[test]
    fn a_policy_that_was_never_checked_does_not_condemn_unrefused_keys() {
        let policy = RenewalPolicy { condemn_refusals: 0, ..RenewalPolicy::default() };
        let evidence = Evidence { refusals: 0, ..damning() };
        assert_eq!(judge(&policy, &evidence, NOW).1, Reason::TooFewRefusals);
    }

    #[test]
    fn refusals_count_from_the_first_that_still_proves_something() {
        let earlier = |count, since| Some(Refusals { count, since });
        let void = hours_ago(10);
        for (before, expected) in [
            (None, Refusals { count: 1, since: NOW }),
            (earlier(1, hours_ago(9)), Refusals { count: 2, since: hours_ago(9) }),
            (earlier(2, void), Refusals { count: 3, since: void }),
            (earlier(7, hours_ago(11)), Refusals { count: 1, since: NOW }),
            (earlier(7, NOW + Duration::from_secs(1)), Refusals { count: 1, since: NOW }),
            (earlier(0, hours_ago(9)), Refusals { count: 1, since: NOW }),
            (earlier(u32::MAX, hours_ago(9)), Refusals { count: u32::MAX, since: hours_ago(9) }),
        ] {
            assert_eq!(count_refusal(before, void, NOW), expected, "{before:?}");
        }
    }

    #[test]
    fn reasons_have_names_of_their_own() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert!(Reason::ALL[..at].iter().all(|other| other.as_str() != reason.as_str()), "{reason}");
        }
    }
}
