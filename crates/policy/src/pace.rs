//! `Pace`: how many renewals per second a host is asked for, found out by asking.

use core::time::Duration;

use storekeeper_model::Timestamp;

/// A token bucket towards one host and client ID whose rate grows by addition while it holds work back and the host
/// answers, and is halved when the host is congested (life.md 3).
///
/// In any span of `t` seconds of a steady clock it grants at most `max` * (`t` + 1/4) + 1. A clock set forward grants
/// one small burst, a clock set back delays the next token by a second at most.
///
/// ```
/// use storekeeper_model::Timestamp;
/// use storekeeper_policy::Pace;
/// let now = Timestamp::from_seconds(1_000_000);
/// let mut pace = Pace::new(2.0, 100.0);
/// assert_eq!(pace.take(now), Ok(()));
/// let when = pace.take(now).unwrap_err();
/// assert_eq!(when, Timestamp::from_millis(now.millis() + 500));
/// assert_eq!(pace.take(when), Ok(()));
/// ```
#[derive(Debug, Clone)]
pub struct Pace {
    rate: f64,
    rate_min: f64,
    rate_max: f64,
    /// Which part of the whole rate is ours.
    part: f64,
    tokens: f64,
    filled_at: Option<Timestamp>,
    held_back_at: Option<Timestamp>,
    slowed_at: Option<Timestamp>,
}

impl Pace {
    /// Starts at `start` per second and never exceeds `max`; `max` infinite turns pacing off. A `start` or `max` that is
    /// no rate above zero counts as the lowest rate there is, one in ten seconds.
    pub fn new(start: f64, max: f64) -> Self {
        let rate_max = if max > 0.0 { max } else { RATE_MIN };
        let rate = if rate_max == f64::INFINITY { rate_max } else { positive(start).min(rate_max) };
        let rate_min = rate.min(RATE_MIN);
        let part = 1.0;
        Self {
            rate,
            rate_min,
            rate_max,
            part,
            tokens: burst(rate),
            filled_at: None,
            held_back_at: None,
            slowed_at: None,
        }
    }

    /// Takes leave for one request.
    ///
    /// # Errors
    /// The instant, always later than `now`, at which to ask again.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        if self.is_off() {
            return Ok(());
        }
        let filled_at = self.fill(now);
        if self.tokens >= NEARLY_ONE {
            self.tokens = (self.tokens - 1.0).max(0.0);
            return Ok(());
        }
        self.held_back_at = Some(now);
        let seconds = (1.0 - self.tokens) / self.rate;
        // Rounded up; the sliver keeps 500.0000001 ms from becoming 501.
        let millis = (seconds * 1000.0 - SLIVER) as u64 + 1;
        Err(filled_at + Duration::from_millis(millis))
    }

    /// The host answered. The rate grows only when it held work back of late: a rate that nothing filled is not proven.
    pub fn on_success(&mut self, now: Timestamp) {
        let was_held_back = self.held_back_at.is_some_and(|at| now.distance(at) <= HELD_BACK_LATELY);
        if self.is_off() || !was_held_back {
            return;
        }
        // One second's worth of answers adds `rate_max` * GROWTH; near a standstill each answer doubles at most.
        let growth = (self.rate_max * GROWTH / self.rate).min(self.rate);
        self.fill(now);
        self.rate = (self.rate + growth).min(self.rate_max);
    }

    /// The host said 429 or 503, or did not answer in time. Halves the rate, at most once per second of our clock: the
    /// requests under way tell of one congestion, not of many.
    pub fn on_congestion(&mut self, now: Timestamp) {
        let is_same = self.slowed_at.is_some_and(|at| now.distance(at) < Duration::from_secs(1));
        if self.is_off() || is_same {
            return;
        }
        self.fill(now);
        self.slowed_at = Some(now);
        self.rate = (self.rate / 2.0).max(self.rate_min);
    }

    /// From here on this part of the whole rate is ours: others who ask the same host have the rest. 0 counts as very
    /// little.
    pub fn set_part(&mut self, part: f64, now: Timestamp) {
        let part = if part > PART_MIN { part.min(1.0) } else { PART_MIN };
        if self.is_off() || part == self.part {
            return;
        }
        self.fill(now);
        let factor = part / self.part;
        self.rate_max *= factor;
        self.rate_min = RATE_MIN.min(self.rate_max);
        self.rate = (self.rate * factor).clamp(self.rate_min, self.rate_max);
        self.tokens = self.tokens.min(burst(self.rate));
        self.part = part;
    }

    /// Requests per second at present; infinite when pacing is off.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    fn is_off(&self) -> bool {
        self.rate == f64::INFINITY
    }

    /// Adds what has come in since the last time and returns up to when that is counted.
    ///
    /// An instant slightly behind (news that crossed, a clock that is slewed) does not move that back, or the same time
    /// would be counted twice; one far behind is a clock set back, from which counting starts anew.
    fn fill(&mut self, now: Timestamp) -> Timestamp {
        let last = self.filled_at.unwrap_or(now);
        let is_behind = now < last && now.distance(last) <= BEHIND_MAX;
        let filled_at = if is_behind { last } else { now };
        self.filled_at = Some(filled_at);
        self.tokens = (self.tokens + filled_at.since(last).as_secs_f64() * self.rate).min(burst(self.rate));
        filled_at
    }
}

/// What may be asked for at once: a quarter of a second's worth, so that a late timer loses nothing, and at least one.
fn burst(rate: f64) -> f64 {
    (rate * BURST_SECONDS).max(1.0)
}

fn positive(rate: f64) -> f64 {
    if rate > 0.0 { rate } else { RATE_MIN }
}

const RATE_MIN: f64 = 0.1;
/// One bucket of 4096.
const PART_MIN: f64 = 1.0 / 4096.0;
const BURST_SECONDS: f64 = 0.25;
/// The share of `rate_max` that a second of success adds: from nothing to all in 100 seconds.
const GROWTH: f64 = 0.01;
/// Longer than the longest wait for a token and the longest wait for an answer together.
const HELD_BACK_LATELY: Duration = Duration::from_secs(60);
const BEHIND_MAX: Duration = Duration::from_secs(1);
/// What rounding may cost a token that has come in.
const NEARLY_ONE: f64 = 1.0 - 1e-9;
const SLIVER: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_733_526_889);

    fn later(millis: u64) -> Timestamp {
        NOW + Duration::from_millis(millis)
    }

    /// Takes whatever is granted over `seconds`, going from one answer to the next; every request succeeds
    /// at once.
    fn run(pace: &mut Pace, from: Timestamp, seconds: u64) -> u64 {
        let (mut now, until, mut granted) = (from, from + Duration::from_secs(seconds), 0);
        while now < until {
            match pace.take(now) {
                Ok(()) => {
                    granted += 1;
                    pace.on_success(now);
                }
                Err(when) => {
                    assert!(when > now);
                    now = when;
                }
            }
        }
        granted
    }

    #[test]
    fn grants_its_rate() {
        let mut pace = Pace::new(20.0, 20.0);
        let granted = run(&mut pace, NOW, 60);
        assert!((1200..=1205).contains(&granted), "{granted}");
    }

    #[test]
    fn a_fast_pace_is_not_slowed_by_whole_milliseconds() {
        let mut pace = Pace::new(3333.0, 3333.0);
        let granted = run(&mut pace, NOW, 10);
        assert!((33_300..=34_200).contains(&granted), "{granted}");
    }

    #[test]
    fn grows_to_its_maximum_under_load() {
        let mut pace = Pace::new(20.0, 500.0);
        let granted = run(&mut pace, NOW, 300);
        assert_eq!(pace.rate(), 500.0);
        assert!(granted > 90_000, "{granted}");
    }

    #[test]
    fn does_not_grow_when_nothing_is_held_back() {
        let mut pace = Pace::new(20.0, 500.0);
        for second in 0..3600 {
            assert_eq!(pace.take(later(second * 1000)), Ok(()));
            pace.on_success(later(second * 1000 + 50));
        }
        assert_eq!(pace.rate(), 20.0);
    }

    #[test]
    fn halves_once_per_second_down_to_a_floor_and_recovers() {
        let mut pace = Pace::new(400.0, 500.0);
        for (millis, rate) in [(0, 200.0), (1, 200.0), (999, 200.0), (1000, 100.0), (2000, 50.0)] {
            pace.on_congestion(later(millis));
            assert_eq!(pace.rate(), rate, "{millis}");
        }
        (3..100).for_each(|second| pace.on_congestion(later(second * 1000)));
        assert_eq!(pace.rate(), 0.1);
        run(&mut pace, later(100_000), 300);
        assert_eq!(pace.rate(), 500.0);
    }

    #[test]
    fn a_congested_pace_drops_its_burst() {
        let mut pace = Pace::new(400.0, 400.0);
        (0..10).for_each(|second| pace.on_congestion(later(second * 1000)));
        let at = later(9000);
        assert_eq!(pace.take(at), Ok(()));
        assert!(pace.take(at).is_err());
    }

    #[test]
    fn parts_make_up_the_whole() {
        let mut parts = [(); 3].map(|()| Pace::new(30.0, 300.0));
        for pace in &mut parts {
            pace.set_part(1.0 / 3.0, NOW);
            assert!((pace.rate() - 10.0).abs() < 1e-9, "{}", pace.rate());
        }
        let granted: u64 = parts.iter_mut().map(|pace| run(pace, NOW, 400)).sum();
        assert!(parts.iter().all(|pace| (pace.rate() - 100.0).abs() < 1e-9));
        let most = 300.0 * 400.0 * 1.01;
        assert!(granted > 60_000 && (granted as f64) < most, "{granted}");
        // Two are gone: what they had comes back.
        let pace = &mut parts[0];
        pace.set_part(0.5, later(400_000));
        assert!((pace.rate() - 150.0).abs() < 1e-6, "{}", pace.rate());
        pace.set_part(0.0, later(400_000));
        assert!(pace.rate() > 0.0 && pace.rate() <= 0.1, "{}", pace.rate());
        pace.set_part(1.0, later(400_000));
        run(pace, later(400_000), 200);
        assert!((pace.rate() - 300.0).abs() < 1e-6, "{}", pace.rate());
    }

    #[test]
    fn off_means_off() {
        let mut pace = Pace::new(20.0, f64::INFINITY);
        assert!((0..100_000).all(|_| pace.take(NOW).is_ok()));
        pace.on_congestion(NOW);
        pace.on_success(NOW);
        assert_eq!(pace.rate(), f64::INFINITY);
    }

    #[test]
    fn a_clock_set_back_or_forward_by_40_days_costs_nothing_much() {
        let far = Duration::from_secs(40 * 86_400);
        let mut pace = Pace::new(20.0, 20.0);
        run(&mut pace, NOW, 2);
        for base in [NOW - far, NOW + far, NOW] {
            let granted = run(&mut pace, base, 2);
            assert!((39..=46).contains(&granted), "{granted} from {base}");
        }
    }

    #[test]
    fn news_that_crossed_does_not_count_time_twice() {
        let mut pace = Pace::new(20.0, 20.0);
        let granted = (0..1000).filter(|number| pace.take(later(1000 + number % 2 * 900)).is_ok()).count();
        assert!(granted <= 23, "{granted}");
    }

    #[test]
    fn nonsense_becomes_the_lowest_rate() {
        for (start, max) in [(f64::NAN, 5.0), (-1.0, 5.0), (0.0, 5.0), (5.0, f64::NAN), (5.0, -5.0), (5.0, 0.0)] {
            let mut pace = Pace::new(start, max);
            assert_eq!(pace.rate(), 0.1, "{start} {max}");
            assert_eq!(pace.take(NOW), Ok(()));
            assert_eq!(pace.take(NOW), Err(later(10_000)));
        }
    }
}
