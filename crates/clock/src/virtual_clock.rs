//! `VirtualClock`: time that is moved. *Advance* never passes work that is due and not finished; *set* jumps.
#![expect(
    clippy::disallowed_methods,
    reason = "a virtual clock that runs is paced by real time, and so is its watchdog"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use storekeeper_model::Timestamp;
use tokio::sync::{Notify, oneshot};

use crate::{Clock, Hold, Sleep};

/// How long an advance waits, in real time, for a holder that does not finish.
const WATCHDOG: Duration = Duration::from_secs(30);
/// How often, in real time, a clock that runs faster than real time takes a step.
const STEP: Duration = Duration::from_millis(10);

/// A clock that is advanced, set, run at a rate and frozen.
///
/// Clones share one time. While a rate is set somebody has to call [`VirtualClock::drive`] once, in a task of its own;
/// a frozen clock needs no task.
#[derive(Clone)]
pub struct VirtualClock {
    shared: Arc<Shared>,
}

/// What a virtual clock shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClockState {
    /// The instant it is.
    pub now: Timestamp,
    /// Virtual seconds per real second, a ceiling; 0 when frozen.
    pub rate: f64,
}

/// An advance met work that did not finish within 30 real seconds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the clock stopped at {at}: still at work after 30 s: {holders}")]
pub struct Stuck {
    /// Where the clock stands.
    pub at: Timestamp,
    /// Who holds it, with counts.
    pub holders: String,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    /// Somebody gave a hold back, or the set of sleepers or the rate changed.
    changed: Notify,
    /// Whoever moves time owns this; waiters are served in turn, so advances queue.
    mover: tokio::sync::Mutex<()>,
}

struct State {
    /// The instant at `anchor`.
    base: Timestamp,
    anchor: Instant,
    rate: f64,
    /// Time moves by steps (an advance is under way, or the rate exceeds real time), not with the anchor.
    stepped: bool,
    elapsed: Duration,
    sleepers: BTreeMap<(Timestamp, u64), oneshot::Sender<Hold>>,
    next_sleeper: u64,
    holds: BTreeMap<&'static str, usize>,
    /// Holds that count as given back because their holder waits for a delay.
    lent: usize,
}

impl State {
    fn now_at(&self, real: Instant) -> Timestamp {
        if self.stepped { self.base } else { self.base + real.duration_since(self.anchor).mul_f64(self.rate) }
    }

    /// Moves the anchor to the present without moving time.
    fn anchor_here(&mut self) {
        let real = Instant::now();
        let now = self.now_at(real);
        self.move_to(now);
        self.anchor = real;
    }

    fn move_to(&mut self, now: Timestamp) {
        self.elapsed += now.since(self.base);
        self.base = now;
    }

    fn runs_by_steps(&self) -> bool {
        self.rate > 1.0
    }

    fn is_idle(&self) -> bool {
        self.holds.values().sum::<usize>() <= self.lent
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.sleepers.first_key_value().map(|((at, _), _)| *at)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    pub(crate) fn hold(self: &Arc<Self>, holder: &'static str) -> Hold {
        *self.lock().holds.entry(holder).or_default() += 1;
        Hold(Some((Arc::clone(self), holder)))
    }

    pub(crate) fn give_back(&self, holder: &'static str) {
        let mut state = self.lock();
        if let Some(count) = state.holds.get_mut(holder) {
            *count -= 1;
            if *count == 0 {
                state.holds.remove(holder);
            }
        }
        let idle = state.is_idle();
        drop(state);
        if idle {
            self.changed.notify_waiters();
        }
    }

    /// Wakes whoever sleeps until `until` or earlier; each wakes holding the clock.
    fn wake(self: &Arc<Self>, until: Timestamp) {
        loop {
            let sleeper = {
                let mut state = self.lock();
                match state.sleepers.first_entry() {
                    Some(entry) if entry.key().0 <= until => entry.remove(),
                    _ => return,
                }
            };
            // A sleeper that is gone gives its hold straight back.
            drop(sleeper.send(self.hold("a woken sleeper")));
        }
    }

    fn sleep(self: &Arc<Self>, at: Timestamp) -> Sleeping {
        let mut state = self.lock();
        let (sender, woken) = oneshot::channel();
        let key = (at, state.next_sleeper);
        state.next_sleeper += 1;
        let due = at <= state.now_at(Instant::now());
        if !due {
            state.sleepers.insert(key, sender);
            drop(state);
            self.changed.notify_waiters();
            return Sleeping { shared: Arc::clone(self), key, woken };
        }
        drop(state);
        drop(sender.send(self.hold("a woken sleeper")));
        Sleeping { shared: Arc::clone(self), key, woken }
    }

    /// Resolves once nothing is outstanding.
    async fn idle(&self) -> Result<(), Stuck> {
        let watchdog = tokio::time::sleep(WATCHDOG);
        tokio::pin!(watchdog);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.lock().is_idle() {
                return Ok(());
            }
            tokio::select! {
                () = &mut changed => {}
                () = &mut watchdog => {
                    let state = self.lock();
                    let holders = state.holds.iter().map(|(who, count)| format!("{who} ({count})")).collect::<Vec<_>>();
                    return Err(Stuck { at: state.base, holders: holders.join(", ") });
                }
            }
        }
    }

    /// Moves time to `target`, one sleeper after the other, waiting for the work of each.
    async fn step_to(self: &Arc<Self>, target: Timestamp) -> Result<(), Stuck> {
        loop {
            self.idle().await?;
            let next = {
                let mut state = self.lock();
                let next = state.next_deadline().filter(|at| *at <= target);
                let now = next.unwrap_or(target).max(state.base);
                state.move_to(now);
                next
            };
            match next {
                Some(at) => self.wake(at),
                None => return Ok(()),
            }
        }
    }
}

struct Sleeping {
    shared: Arc<Shared>,
    key: (Timestamp, u64),
    woken: oneshot::Receiver<Hold>,
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        self.shared.lock().sleepers.remove(&self.key);
    }
}

/// One hold counts as given back while this lives.
struct Lent(Option<Arc<Shared>>);

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.lock().lent -= 1;
        }
    }
}

impl VirtualClock {
    /// A frozen clock that shows `now`.
    pub fn frozen_at(now: Timestamp) -> Self {
        let state = State {
            base: now,
            anchor: Instant::now(),
            rate: 0.0,
            stepped: false,
            elapsed: Duration::ZERO,
            sleepers: BTreeMap::new(),
            next_sleeper: 0,
            holds: BTreeMap::new(),
            lent: 0,
        };
        let shared = Shared { state: Mutex::new(state), changed: Notify::new(), mover: tokio::sync::Mutex::new(()) };
        Self { shared: Arc::new(shared) }
    }

    /// A clock that shows `now` and runs at `rate`.
    pub fn running_from(now: Timestamp, rate: f64) -> Self {
        let clock = Self::frozen_at(now);
        clock.set_rate(rate);
        clock
    }

    /// What it shows.
    pub fn state(&self) -> ClockState {
        let state = self.shared.lock();
        ClockState { now: state.now_at(Instant::now()), rate: state.rate }
    }

    /// Runs through `span`: wakes every sleeper at its instant, waits until the work of each is done, and returns when
    /// everything that fell due is. Advances queue.
    ///
    /// # Errors
    /// [`Stuck`] when a holder does not finish within 30 real seconds; time stands where that happened.
    pub async fn advance(&self, span: Duration) -> Result<Timestamp, Stuck> {
        let _mover = self.shared.mover.lock().await;
        let target = {
            let mut state = self.shared.lock();
            state.anchor_here();
            state.stepped = true;
            state.base + span
        };
        let result = self.shared.step_to(target).await;
        let mut state = self.shared.lock();
        state.anchor = Instant::now();
        state.stepped = state.runs_by_steps();
        let now = state.base;
        drop(state);
        self.shared.changed.notify_waiters();
        result.map(|()| now)
    }

    /// Jumps to `now`, in either direction, without running through what lies between; every sleeper wakes and looks
    /// again. [`Clock::elapsed`] does not jump. Keeps the rate, also a freeze.
    pub fn set(&self, now: Timestamp) {
        let mut state = self.shared.lock();
        state.anchor_here();
        state.base = now;
        drop(state);
        self.shared.wake(Timestamp::MAX);
    }

    /// Runs at most `rate` virtual seconds per real second from here on; ends a freeze. 0 freezes.
    pub fn set_rate(&self, rate: f64) {
        let mut state = self.shared.lock();
        state.anchor_here();
        state.rate = rate.max(0.0);
        state.stepped = state.runs_by_steps();
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// Stops time.
    pub fn freeze(&self) {
        self.set_rate(0.0);
    }

    /// Wakes sleepers while the clock runs at a rate. Never returns; spawn it once.
    pub async fn drive(self) {
        loop {
            let (rate, wait) = {
                let state = self.shared.lock();
                let wait = match state.next_deadline() {
                    _ if state.rate <= 0.0 => None,
                    _ if state.runs_by_steps() => Some(STEP),
                    Some(at) => Some(at.since(state.now_at(Instant::now())).div_f64(state.rate).min(WATCHDOG)),
                    None => None,
                };
                (state.rate, wait)
            };
            let changed = self.shared.changed.notified();
            match wait {
                Some(_) if rate > 1.0 => self.stride(rate).await,
                Some(wait) => tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = changed => {}
                },
                // Bounded, for the change that falls between looking and listening.
                None => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep(STEP * 10) => {}
                },
            }
            if rate > 0.0 && rate <= 1.0 {
                let _mover = self.shared.mover.lock().await;
                let now = self.now();
                self.shared.wake(now);
            }
        }
    }

    /// One step of a clock that runs faster than real time. A holder that does not finish only slows it down.
    async fn stride(&self, rate: f64) {
        let began = Instant::now();
        tokio::time::sleep(STEP).await;
        let _mover = self.shared.mover.lock().await;
        let target = {
            let state = self.shared.lock();
            if !state.runs_by_steps() {
                return;
            }
            state.base + began.elapsed().min(STEP * 4).mul_f64(rate)
        };
        drop(self.shared.step_to(target).await);
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VirtualClock({})", self.now())
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.shared.lock().now_at(Instant::now())
    }

    fn elapsed(&self) -> Duration {
        let state = self.shared.lock();
        state.elapsed + state.now_at(Instant::now()).since(state.base)
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        let mut sleeping = self.shared.sleep(at);
        Box::pin(async move { (&mut sleeping.woken).await.unwrap_or_else(|_| Hold::none()) })
    }

    fn hold(&self, holder: &'static str) -> Hold {
        self.shared.hold(holder)
    }

    fn delay(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let at = self.now() + span;
        let clock = self.clone();
        let lent = {
            let mut state = self.shared.lock();
            let somebody_waits = !state.is_idle();
            state.lent += usize::from(somebody_waits);
            Lent(somebody_waits.then(|| Arc::clone(&self.shared)))
        };
        self.shared.changed.notify_waiters();
        Box::pin(async move {
            let lent = lent;
            let mut hold = Hold::none();
            while clock.now() < at {
                let sleep = clock.sleep_until(at);
                // Woken too early, by a clock that was set: it may go on now that it knows until when.
                drop(hold);
                hold = sleep.await;
            }
            drop(lent);
            drop(hold);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_700_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test]
    async fn a_delay_goes_on_after_the_clock_was_set() {
        let clock = VirtualClock::frozen_at(START);
        let working = clock.hold("work that waits for something");
        let delay = clock.delay(DAY);
        let waiting = tokio::spawn(async move {
            delay.await;
            drop(working);
        });
        tokio::task::yield_now().await;
        clock.set(START);
        clock.advance(DAY).await.unwrap();
        waiting.await.unwrap();
        assert_eq!(clock.now(), START + DAY);
    }

    #[tokio::test]
    async fn advance_wakes_sleepers_at_their_instant_and_waits_for_their_work() {
        let clock = VirtualClock::frozen_at(START);
        let task = tokio::spawn({
            let clock = clock.clone();
            let first = clock.sleep_until(START + DAY);
            async move {
                let hold = first.await;
                let woken_at = clock.now();
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                let next = clock.sleep_until(START + DAY * 2);
                drop(hold);
                let _hold = next.await;
                (woken_at, clock.now())
            }
        });
        assert_eq!(clock.advance(DAY * 30).await.unwrap(), START + DAY * 30);
        assert_eq!(task.await.unwrap(), (START + DAY, START + DAY * 2));
    }

    #[tokio::test]
    async fn advances_queue_and_add_up() {
        let clock = VirtualClock::frozen_at(START);
        let (one, two) = tokio::join!(clock.advance(DAY), clock.advance(DAY));
        assert_eq!(one.unwrap(), START + DAY);
        assert_eq!(two.unwrap(), START + DAY * 2);
    }

    #[tokio::test]
    async fn set_jumps_without_moving_elapsed_and_keeps_a_freeze() {
        let clock = VirtualClock::frozen_at(START);
        let sleep = clock.sleep_until(START + DAY);
        clock.set(START - DAY);
        drop(sleep.await);
        assert_eq!(clock.state(), ClockState { now: START - DAY, rate: 0.0 });
        assert_eq!(clock.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_advance_names_the_holder() {
        let clock = VirtualClock::frozen_at(START);
        let _hold = clock.hold("a renewal");
        let stuck = clock.advance(DAY).await.unwrap_err();
        assert_eq!(stuck.holders, "a renewal (1)");
    }

    #[tokio::test]
    async fn a_delay_on_behalf_of_a_holder_does_not_hold_the_clock() {
        let clock = VirtualClock::frozen_at(START);
        let hold = clock.hold("a renewal");
        let answer = clock.delay(Duration::from_secs(5));
        let task = tokio::spawn(async move {
            answer.await;
            drop(hold);
        });
        clock.advance(Duration::from_secs(60)).await.unwrap();
        task.await.unwrap();
    }
}
