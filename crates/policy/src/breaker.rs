//! `Breaker`: stops asking a host that does not work, and finds out with one attempt at a time when it does again.

use core::time::Duration;

use storekeeper_model::Timestamp;

use crate::span::between;

/// A circuit breaker towards one host and client ID.
///
/// Closed until [`Breaker::FAILURES`] attempts in a row met a server or transport failure; then open for a span that
/// doubles with each vain probe; then half open, which lets exactly one attempt through. Answers that are the host's
/// considered opinion (a refusal, a 400) are successes here.
///
/// ```
/// use core::time::Duration;
/// use storekeeper_model::Timestamp;
/// use storekeeper_policy::Breaker;
/// let now = Timestamp::from_seconds(1_000_000);
/// let mut breaker = Breaker::new();
/// (0..5).for_each(|_| breaker.on_failure(now, 0.0));
/// let when = breaker.allow(now).unwrap_err();
/// assert_eq!(when, now + Duration::from_secs(30));
/// assert!(breaker.allow(when).is_ok());
/// assert!(breaker.allow(when).is_err());
/// breaker.on_success();
/// assert_eq!(breaker.state(), "closed");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed { failures: u32 },
    Open { since: Timestamp, span: Duration, vain_probes: u32 },
    HalfOpen { since: Timestamp, vain_probes: u32 },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    /// How many failures in a row open it.
    pub const FAILURES: u32 = 5;
    /// The shortest span it stays open.
    pub const OPEN_MIN: Duration = Duration::from_secs(30);
    /// The longest span it stays open.
    pub const OPEN_MAX: Duration = Duration::from_secs(600);
    /// A probe that was not heard of for this long is given up, and another one let through.
    pub const PROBE_MAX: Duration = Duration::from_secs(120);

    /// Closed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks leave for one attempt; whoever gets it reports its outcome.
    ///
    /// # Errors
    /// The instant, always later than `now`, at which to ask again.
    pub fn allow(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        match self.state {
            State::Closed { .. } => Ok(()),
            State::Open { since, span, vain_probes } if now < since => {
                // The clock was set back: wait from here, or it would stay open for as long as the clock is wrong.
                self.state = State::Open { since: now, span, vain_probes };
                Err(now + span)
            }
            State::Open { since, span, .. } if now < since + span => Err(since + span),
            State::HalfOpen { since, .. } if now.distance(since) < Self::PROBE_MAX => {
                Err((now + PROBE_LOOK).min(since + Self::PROBE_MAX))
            }
            State::Open { vain_probes, .. } | State::HalfOpen { vain_probes, .. } => {
                self.state = State::HalfOpen { since: now, vain_probes };
                Ok(())
            }
        }
    }

    /// The host answered: closes, from whatever state.
    pub fn on_success(&mut self) {
        self.state = State::default();
    }

    /// An attempt met a server or transport failure. Late news of attempts made before it opened changes nothing.
    pub fn on_failure(&mut self, now: Timestamp, jitter: f64) {
        self.state = match self.state {
            State::Closed { failures } if failures + 1 < Self::FAILURES => State::Closed { failures: failures + 1 },
            State::Closed { .. } => opened(now, 0, jitter),
            State::Open { .. } => self.state,
            State::HalfOpen { vain_probes, .. } => opened(now, vain_probes.saturating_add(1), jitter),
        };
    }

    /// `closed`, `open` or `half_open`.
    pub const fn state(&self) -> &'static str {
        match self.state {
            State::Closed { .. } => "closed",
            State::Open { .. } => "open",
            State::HalfOpen { .. } => "half_open",
        }
    }
}

/// Open for 30 to 60 seconds, twice that after each vain probe, up to 5 to 10 minutes.
fn opened(now: Timestamp, vain_probes: u32, jitter: f64) -> State {
    let longest = (Breaker::OPEN_MIN * 2 * (1 << vain_probes.min(DOUBLINGS_MAX))).min(Breaker::OPEN_MAX);
    State::Open { since: now, span: between(longest / 2, longest, jitter), vain_probes }
}

/// How soon to look again whether the probe under way has come back.
const PROBE_LOOK: Duration = Duration::from_secs(5);
/// 2^5 minutes are more than the longest span.
const DOUBLINGS_MAX: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_733_526_889);

    fn later(seconds: u64) -> Timestamp {
        NOW + Duration::from_secs(seconds)
    }

    fn open_since_now() -> Breaker {
        let mut breaker = Breaker::new();
        (0..Breaker::FAILURES).for_each(|_| breaker.on_failure(NOW, 0.0));
        assert_eq!(breaker.state(), "open");
        breaker
    }

    #[test]
    fn opens_after_five_failures_in_a_row() {
        let mut breaker = Breaker::new();
        for _ in 0..3 {
            (0..4).for_each(|_| breaker.on_failure(NOW, 0.5));
            assert_eq!(breaker.allow(NOW), Ok(()));
            breaker.on_success();
        }
        (0..5).for_each(|_| breaker.on_failure(NOW, 1.0));
        assert_eq!(breaker.allow(NOW), Err(later(60)));
    }

    #[test]
    fn stays_open_for_its_span_then_lets_one_through() {
        let mut breaker = open_since_now();
        assert_eq!(breaker.allow(later(29)), Err(later(30)));
        assert_eq!(breaker.allow(later(30)), Ok(()));
        assert_eq!(breaker.state(), "half_open");
        assert_eq!(breaker.allow(later(30)), Err(later(35)));
        assert_eq!(breaker.allow(later(149)), Err(later(150)));
    }

    #[test]
    fn a_lost_probe_is_replaced() {
        let mut breaker = open_since_now();
        assert_eq!(breaker.allow(later(30)), Ok(()));
        assert_eq!(breaker.allow(later(150)), Ok(()));
        assert!(breaker.allow(later(150)).is_err());
    }

    #[test]
    fn vain_probes_double_the_span_up_to_ten_minutes() {
        for (jitter, spans) in [(0.0, [30, 60, 120, 240, 300, 300]), (1.0, [60, 120, 240, 480, 600, 600])] {
            let (mut breaker, mut now) = (Breaker::new(), NOW);
            (0..Breaker::FAILURES).for_each(|_| breaker.on_failure(now, jitter));
            for span in spans {
                let when = now + Duration::from_secs(span);
                assert_eq!(breaker.allow(now), Err(when));
                assert_eq!(breaker.allow(when), Ok(()));
                breaker.on_failure(when, jitter);
                now = when;
            }
        }
    }

    #[test]
    fn a_success_forgets_the_vain_probes() {
        let mut breaker = open_since_now();
        assert_eq!(breaker.allow(later(30)), Ok(()));
        breaker.on_failure(later(30), 0.0);
        breaker.on_success();
        (0..Breaker::FAILURES).for_each(|_| breaker.on_failure(later(40), 0.0));
        assert_eq!(breaker.allow(later(40)), Err(later(70)));
    }

    #[test]
    fn late_failures_do_not_keep_it_open() {
        let mut breaker = open_since_now();
        (0..1000).for_each(|_| breaker.on_failure(later(29), 1.0));
        assert_eq!(breaker.allow(later(30)), Ok(()));
    }

    #[test]
    fn a_clock_set_back_does_not_keep_it_open() {
        let mut breaker = open_since_now();
        let back = NOW - Duration::from_secs(40 * 86_400);
        assert_eq!(breaker.allow(back), Err(back + Duration::from_secs(30)));
        assert_eq!(breaker.allow(back + Duration::from_secs(30)), Ok(()));
        // Nor does it hold a probe for ever.
        assert_eq!(breaker.allow(back - Duration::from_secs(86_400)), Ok(()));
    }
}
