//! How long a service ticket may be used and when its successor is fetched, on our own clock alone.

use core::time::Duration;

use storekeeper_model::Timestamp;

use crate::span::scaled;

/// When a ticket was asked for and how long it lives.
///
/// `exp` of a ticket is an instant on Entra's clock; only its distance from `iat` means anything on ours. Counting from
/// before the request was sent errs on the safe side.
///
/// ```
/// use core::time::Duration;
/// use storekeeper_model::Timestamp;
/// use storekeeper_policy::TicketTimes;
/// let fetched_at = Timestamp::from_seconds(1_000_000);
/// let ticket = TicketTimes { fetched_at, lifetime: Duration::from_secs(3600) };
/// assert!(!ticket.refresh_due(fetched_at + Duration::from_secs(1799)));
/// assert!(ticket.refresh_due(fetched_at + Duration::from_secs(1800)));
/// assert!(ticket.usable(fetched_at + Duration::from_secs(3539)));
/// assert!(!ticket.usable(fetched_at + Duration::from_secs(3540)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicketTimes {
    /// Our clock just before the request for it was sent.
    pub fetched_at: Timestamp,
    /// `exp` - `iat`.
    pub lifetime: Duration,
}

impl TicketTimes {
    /// A ticket is not sent in its last minute, or last quarter if that is shorter: it has to arrive alive.
    pub const MARGIN: Duration = Duration::from_secs(60);

    /// Whether whoever uses the ticket next should also fetch its successor. True as well when it is not usable.
    pub fn refresh_due(&self, now: Timestamp) -> bool {
        self.age(now).is_none_or(|age| age >= scaled(self.lifetime, 0.5)) || !self.usable(now)
    }

    /// Whether the ticket may still be sent. A ticket from the future is not: the clock was set back, and how old the
    /// ticket really is cannot be known.
    pub fn usable(&self, now: Timestamp) -> bool {
        let margin = Self::MARGIN.min(scaled(self.lifetime, 0.25));
        self.age(now).is_some_and(|age| age < self.lifetime.saturating_sub(margin))
    }

    /// The instant its life ends by our clock.
    pub fn expires_at(&self) -> Timestamp {
        self.fetched_at + self.lifetime
    }

    fn age(&self, now: Timestamp) -> Option<Duration> {
        (now >= self.fetched_at).then(|| now.since(self.fetched_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lifetime: u64, age: i64, usable: bool, refresh_due: bool) {
        let fetched_at = Timestamp::from_seconds(1_700_000_000);
        let ticket = TicketTimes { fetched_at, lifetime: Duration::from_secs(lifetime) };
        let now = Timestamp::from_seconds(fetched_at.seconds() + age);
        assert_eq!((ticket.usable(now), ticket.refresh_due(now)), (usable, refresh_due), "{lifetime} s at {age} s");
    }

    #[test]
    fn an_hour_long_ticket() {
        check(3599, 0, true, false);
        check(3599, 1799, true, false);
        check(3599, 1800, true, true);
        check(3599, 3538, true, true);
        check(3599, 3539, false, true);
        check(3599, 40 * 86_400, false, true);
    }

    #[test]
    fn a_clock_set_back_makes_it_unusable() {
        check(3599, -1, false, true);
        check(3599, -40 * 86_400, false, true);
    }

    #[test]
    fn a_short_ticket_is_still_good_for_something() {
        check(40, 0, true, false);
        check(40, 29, true, true);
        check(40, 30, false, true);
        check(0, 0, false, true);
    }

    #[test]
    fn its_end_saturates() {
        let ticket = TicketTimes { fetched_at: Timestamp::MAX, lifetime: Duration::MAX };
        assert_eq!(ticket.expires_at(), Timestamp::MAX);
    }
}
