//! `Gate`: what holds renewals towards one host and client ID back, and when to stop waiting for a host that is down.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use storekeeper_clock::Clock;
use storekeeper_model::Timestamp;
use storekeeper_policy::{Breaker, Pace, RenewalPolicy};

/// Pace, breaker and patience.
#[derive(Debug)]
pub(super) struct Gate {
    clock: Arc<dyn Clock>,
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pace: Pace,
    breaker: Breaker,
    /// Since when every attempt has failed, and with what.
    broken: Option<(Timestamp, &'static str)>,
    random: SmallRng,
}

/// The host is down, and patience is at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GaveUp {
    /// What the last attempt failed with.
    pub(super) code: &'static str,
}

impl Gate {
    pub(super) fn new(clock: Arc<dyn Clock>, policy: &RenewalPolicy, patience: Duration, seed: u64) -> Self {
        let state = State {
            pace: Pace::new(policy.pace_start, policy.pace_max),
            breaker: Breaker::new(),
            broken: None,
            random: SmallRng::seed_from_u64(seed),
        };
        Self { clock, patience, state: Mutex::new(state) }
    }

    /// Waits for leave to make one attempt; whoever gets it reports its outcome.
    pub(super) async fn pass(&self) -> Result<(), GaveUp> {
        while let Some(at) = self.ask()? {
            drop(self.clock.sleep_until(at).await);
        }
        Ok(())
    }

    /// `None` is leave; an instant is when to ask again.
    fn ask(&self) -> Result<Option<Timestamp>, GaveUp> {
        let now = self.clock.now();
        let mut state = self.lock();
        if let Err(at) = state.pace.take(now) {
            return Ok(Some(at));
        }
        let Err(at) = state.breaker.allow(now) else { return Ok(None) };
        match state.broken {
            Some((since, code)) if at > since + self.patience => Err(GaveUp { code }),
            _ => Ok(Some(at)),
        }
    }

    /// The host gave a successor.
    pub(super) fn renewed(&self) {
        let now = self.clock.now();
        self.lock().pace.on_success(now);
        self.answered();
    }

    /// The host answered with its considered opinion, whatever that is.
    pub(super) fn answered(&self) {
        let mut state = self.lock();
        state.breaker.on_success();
        state.broken = None;
    }

    /// The host asked to be asked less.
    pub(super) fn congested(&self) {
        let now = self.clock.now();
        self.lock().pace.on_congestion(now);
    }

    /// The host failed.
    pub(super) fn failed(&self, code: &'static str) {
        let now = self.clock.now();
        let mut state = self.lock();
        let jitter = state.random.random();
        state.breaker.on_failure(now, jitter);
        state.broken = Some(state.broken.map_or((now, code), |(since, _)| (since.min(now), code)));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use storekeeper_clock::VirtualClock;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_733_526_889);

    fn gate(clock: &VirtualClock, patience: u64) -> Gate {
        let policy = RenewalPolicy { pace_start: 1000.0, pace_max: 1000.0, ..RenewalPolicy::default() };
        Gate::new(Arc::new(clock.clone()), &policy, Duration::from_secs(patience), 7)
    }

    #[test]
    fn a_host_that_is_down_is_waited_for_only_as_long_as_there_is_patience() {
        let clock = VirtualClock::frozen_at(NOW);
        let gate = gate(&clock, 100);
        assert_eq!(gate.ask(), Ok(None));
        (0..Breaker::FAILURES).for_each(|_| gate.failed("timed_out"));
        let Ok(Some(first)) = gate.ask() else { panic!("it opened") };
        assert!(first > NOW && first <= NOW + Duration::from_secs(60));
        clock.set(first);
        assert_eq!(gate.ask(), Ok(None), "one probe");
        gate.failed("reset");
        let mut asked = gate.ask();
        while let Ok(Some(at)) = asked {
            clock.set(at);
            asked = gate.ask();
            if asked == Ok(None) {
                gate.failed("reset");
                asked = gate.ask();
            }
        }
        assert_eq!(asked, Err(GaveUp { code: "reset" }));
        assert!(clock.now() <= NOW + Duration::from_secs(100));
    }

    #[test]
    fn an_answer_brings_patience_back() {
        let clock = VirtualClock::frozen_at(NOW);
        let gate = gate(&clock, 40);
        (0..Breaker::FAILURES).for_each(|_| gate.failed("timed_out"));
        clock.set(NOW + Duration::from_secs(60));
        assert_eq!(gate.ask(), Ok(None));
        gate.answered();
        clock.set(NOW + Duration::from_secs(1000));
        (0..Breaker::FAILURES).for_each(|_| gate.failed("timed_out"));
        assert!(matches!(gate.ask(), Ok(Some(_)) | Err(_)));
        assert_eq!(gate.lock().broken, Some((NOW + Duration::from_secs(1000), "timed_out")));
    }
}
