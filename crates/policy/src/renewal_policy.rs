//! `RenewalPolicy`: the numbers an operator may choose for an app, refused when they could not keep its keys alive.

use core::error::Error;
use core::fmt;
use core::time::Duration;

use storekeeper_model::format_span;

/// How an app's keys are renewed (life.md 3). The spans are meant for a key that lives 30 days and shrink with one
/// that lives shorter.
///
/// ```
/// use storekeeper_policy::RenewalPolicy;
/// let policy = RenewalPolicy::default();
/// assert!(policy.validate().is_ok());
/// let tight = RenewalPolicy { target: policy.deadline, ..policy };
/// assert!(tight.validate().unwrap_err().to_string().contains("outage_budget (3d)"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RenewalPolicy {
    /// The age at which a key is renewed.
    pub target: Duration,
    /// Each key is renewed up to this much before or after `target`; see [`crate::offset_share`].
    pub spread: Duration,
    /// Past this age somebody is paged: the certificate that signed the key may have become too old (store.md 3.5).
    pub deadline: Duration,
    /// The outage that must fit between the latest renewal and `deadline`.
    pub outage_budget: Duration,
    /// How many refusals a key takes before it may be condemned.
    pub condemn_refusals: u32,
    /// How long those refusals must have lasted.
    pub condemn_after: Duration,
    /// Keys not read for this long are no longer renewed; `None` renews all of them for ever.
    pub retain: Option<Duration>,
    /// Renewals per second that each host is asked for at first.
    pub pace_start: f64,
    /// Renewals per second that no host is ever asked for more than; infinity turns pacing off.
    pub pace_max: f64,
}

impl Default for RenewalPolicy {
    fn default() -> Self {
        Self {
            target: days(9),
            spread: days(2),
            deadline: days(14),
            outage_budget: days(3),
            condemn_refusals: 3,
            condemn_after: days(1),
            retain: None,
            pace_start: 20.0,
            pace_max: 500.0,
        }
    }
}

impl RenewalPolicy {
    /// The life of a key for which the spans are meant.
    pub const LIFE: Duration = days(30);
    /// The shortest `condemn_after`: below it a fault of minutes could condemn a key.
    pub const CONDEMN_AFTER_MIN: Duration = Duration::from_secs(3600);
    /// The longest `condemn_after`: above it a key dies of age before anybody is told.
    pub const CONDEMN_AFTER_MAX: Duration = days(14);
    /// The largest `condemn_refusals`, for the same reason.
    pub const CONDEMN_REFUSALS_MAX: u32 = 100;
    /// The shortest `retain`: reads are remembered by day.
    pub const RETAIN_MIN: Duration = days(1);

    /// Checks that the numbers can be lived with.
    ///
    /// # Errors
    /// The first [`PolicyError`] found; its text names the values and says what to change.
    pub fn validate(&self) -> Result<(), PolicyError> {
        self.check_window()?;
        self.check_condemnation()?;
        if let Some(span) = self.retain {
            at_least("retain", span, Self::RETAIN_MIN)?;
        }
        self.check_pace()
    }

    fn check_window(&self) -> Result<(), PolicyError> {
        let Self { target, spread, deadline, outage_budget, .. } = *self;
        not_zero("target", target)?;
        not_zero("deadline", deadline)?;
        if deadline >= Self::LIFE {
            return Err(PolicyError::DeadlinePastLife { deadline });
        }
        if spread >= target {
            return Err(PolicyError::SpreadTooWide { target, spread });
        }
        if target.saturating_add(spread).saturating_add(outage_budget) > deadline {
            return Err(PolicyError::OutageBudgetTooLarge { target, spread, outage_budget, deadline });
        }
        Ok(())
    }

    fn check_condemnation(&self) -> Result<(), PolicyError> {
        let refusals = self.condemn_refusals;
        if refusals == 0 || refusals > Self::CONDEMN_REFUSALS_MAX {
            return Err(PolicyError::RefusalsOutOfRange { refusals });
        }
        at_least("condemn_after", self.condemn_after, Self::CONDEMN_AFTER_MIN)?;
        let (span, longest) = (self.condemn_after, Self::CONDEMN_AFTER_MAX);
        if span > longest { Err(PolicyError::TooLong { name: "condemn_after", span, longest }) } else { Ok(()) }
    }

    fn check_pace(&self) -> Result<(), PolicyError> {
        for (name, pace) in [("pace_start", self.pace_start), ("pace_max", self.pace_max)] {
            if pace.is_nan() || pace <= 0.0 {
                return Err(PolicyError::PaceNotPositive { name, pace });
            }
        }
        let (start, max) = (self.pace_start, self.pace_max);
        if start > max { Err(PolicyError::PaceStartsTooFast { start, max }) } else { Ok(()) }
    }
}

/// Why a policy is refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PolicyError {
    /// A span that must not be zero is.
    Zero {
        /// Which one.
        name: &'static str,
    },
    /// A span is shorter than what can work.
    TooShort {
        /// Which one.
        name: &'static str,
        /// What it is.
        span: Duration,
        /// The least it may be.
        shortest: Duration,
    },
    /// A span is longer than what can work.
    TooLong {
        /// Which one.
        name: &'static str,
        /// What it is.
        span: Duration,
        /// The most it may be.
        longest: Duration,
    },
    /// Keys would have lapsed before anybody is paged.
    DeadlinePastLife {
        /// What it is.
        deadline: Duration,
    },
    /// Some keys would be due before they are issued.
    SpreadTooWide {
        /// What it is.
        target: Duration,
        /// What it is.
        spread: Duration,
    },
    /// The outage the operator wants to survive does not fit before the deadline.
    OutageBudgetTooLarge {
        /// What it is.
        target: Duration,
        /// What it is.
        spread: Duration,
        /// What it is.
        outage_budget: Duration,
        /// What it is.
        deadline: Duration,
    },
    /// No refusal at all would condemn, or none ever could.
    RefusalsOutOfRange {
        /// What `condemn_refusals` is.
        refusals: u32,
    },
    /// A pace is zero, negative or no number.
    PaceNotPositive {
        /// Which one.
        name: &'static str,
        /// What it is.
        pace: f64,
    },
    /// `pace_start` is above `pace_max`.
    PaceStartsTooFast {
        /// What `pace_start` is.
        start: f64,
        /// What `pace_max` is.
        max: f64,
    },
}

impl Error for PolicyError {}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Zero { name } => write!(f, "{name} is zero: give it a span such as \"{}\"", example(name)),
            Self::TooShort { name, span, shortest } => {
                write!(f, "{name} ({}) is too short: raise it to {} or more", format_span(span), format_span(shortest))
            }
            Self::TooLong { name, span, longest } => {
                write!(f, "{name} ({}) is too long: lower it to {} or less", format_span(span), format_span(longest))
            }
            Self::DeadlinePastLife { deadline } => {
                let (deadline, life) = (format_span(deadline), format_span(RenewalPolicy::LIFE));
                write!(f, "deadline ({deadline}) is not within the {life} a key lives: lower it")
            }
            Self::SpreadTooWide { target, spread } => {
                let (target, spread) = (format_span(target), format_span(spread));
                write!(f, "spread ({spread}) is not below target ({target}): lower spread")
            }
            Self::OutageBudgetTooLarge { target, spread, outage_budget, deadline } => {
                explain_budget(f, [target, spread, outage_budget], deadline)
            }
            Self::RefusalsOutOfRange { refusals } => {
                let most = RenewalPolicy::CONDEMN_REFUSALS_MAX;
                write!(f, "condemn_refusals ({refusals}) is not between 1 and {most}: 3 is usual")
            }
            Self::PaceNotPositive { name, pace } => {
                write!(f, "{name} ({pace}) is not a rate above zero: give renewals per second")
            }
            Self::PaceStartsTooFast { start, max } => {
                write!(f, "pace_start ({start}/s) is above pace_max ({max}/s): lower pace_start or raise pace_max")
            }
        }
    }
}

fn explain_budget(f: &mut fmt::Formatter<'_>, parts: [Duration; 3], deadline: Duration) -> fmt::Result {
    let sum = parts.into_iter().fold(Duration::ZERO, Duration::saturating_add);
    let [target, spread, budget] = parts.map(format_span);
    let (deadline, excess) = (format_span(deadline), format_span(sum.saturating_sub(deadline)));
    write!(
        f,
        "target ({target}) + spread ({spread}) + outage_budget ({budget}) exceeds deadline ({deadline}) by {excess}: \
         lower one of the three or raise deadline"
    )
}

fn example(name: &str) -> &'static str {
    if name == "deadline" { "14d" } else { "9d" }
}

fn not_zero(name: &'static str, span: Duration) -> Result<(), PolicyError> {
    if span.is_zero() { Err(PolicyError::Zero { name }) } else { Ok(()) }
}

fn at_least(name: &'static str, span: Duration, shortest: Duration) -> Result<(), PolicyError> {
    if span < shortest { Err(PolicyError::TooShort { name, span, shortest }) } else { Ok(()) }
}

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn check(change: impl FnOnce(&mut RenewalPolicy), expected: Option<&str>) {
        let mut policy = RenewalPolicy::default();
        change(&mut policy);
        let said = policy.validate().err().map(|error| error.to_string());
        assert_eq!(said.as_deref(), expected, "{policy:?}");
    }

    #[test]
    fn usable_policies_pass() {
        check(|_| (), None);
        check(|p| p.spread = Duration::ZERO, None);
        check(|p| p.outage_budget = Duration::ZERO, None);
        check(|p| p.deadline = days(29), None);
        check(|p| p.retain = Some(days(60)), None);
        check(|p| p.condemn_refusals = 1, None);
        check(|p| (p.pace_start, p.pace_max) = (f64::INFINITY, f64::INFINITY), None);
        check(|p| p.pace_max = f64::INFINITY, None);
    }

    #[test]
    fn a_window_that_cannot_keep_keys_alive_is_refused() {
        check(
            |p| p.outage_budget = days(4),
            Some(
                "target (9d) + spread (2d) + outage_budget (4d) exceeds deadline (14d) by 1d: \
                 lower one of the three or raise deadline",
            ),
        );
        check(|p| p.target = Duration::ZERO, Some("target is zero: give it a span such as \"9d\""));
        check(|p| p.deadline = Duration::ZERO, Some("deadline is zero: give it a span such as \"14d\""));
        check(|p| p.deadline = days(30), Some("deadline (30d) is not within the 30d a key lives: lower it"));
        check(|p| p.spread = days(9), Some("spread (9d) is not below target (9d): lower spread"));
    }

    #[test]
    fn sums_that_overflow_are_refused_not_wrapped() {
        let policy = RenewalPolicy { outage_budget: Duration::MAX, ..RenewalPolicy::default() };
        assert!(matches!(policy.validate(), Err(PolicyError::OutageBudgetTooLarge { .. })));
    }

    #[test]
    fn condemning_at_once_or_never_is_refused() {
        check(|p| p.condemn_refusals = 0, Some("condemn_refusals (0) is not between 1 and 100: 3 is usual"));
        check(|p| p.condemn_refusals = 101, Some("condemn_refusals (101) is not between 1 and 100: 3 is usual"));
        check(|p| p.condemn_after = Duration::ZERO, Some("condemn_after (0s) is too short: raise it to 1h or more"));
        check(|p| p.condemn_after = days(15), Some("condemn_after (15d) is too long: lower it to 14d or less"));
    }

    #[test]
    fn retain_counts_in_days() {
        let hour = Duration::from_secs(3600);
        check(|p| p.retain = Some(hour), Some("retain (1h) is too short: raise it to 1d or more"));
    }

    #[test]
    fn a_pace_is_a_positive_number() {
        check(|p| p.pace_start = 0.0, Some("pace_start (0) is not a rate above zero: give renewals per second"));
        check(|p| p.pace_max = f64::NAN, Some("pace_max (NaN) is not a rate above zero: give renewals per second"));
        check(
            |p| p.pace_start = 501.0,
            Some("pace_start (501/s) is above pace_max (500/s): lower pace_start or raise pace_max"),
        );
    }
}
