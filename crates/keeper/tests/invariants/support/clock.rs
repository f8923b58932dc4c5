//! The keeper's clock: the true one, plus what it is wrong by; it may run faster or slower than that.

use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use storekeeper_clock::{Clock, Hold, Sleep, VirtualClock};
use storekeeper_model::Timestamp;

#[derive(Debug)]
pub(crate) struct WrongClock {
    truth: VirtualClock,
    wrong_by: AtomicI64,
    /// How much faster it runs than the truth, and since when.
    drift: f64,
    since: Timestamp,
}

impl WrongClock {
    pub(crate) fn new(truth: VirtualClock) -> Self {
        Self::drifting(truth, 0.0)
    }

    /// It gains this share of each span, or loses it.
    pub(crate) fn drifting(truth: VirtualClock, drift: f64) -> Self {
        let since = truth.now();
        Self { truth, wrong_by: AtomicI64::new(0), drift, since }
    }

    /// What it shows is so many milliseconds ahead.
    fn ahead(&self) -> i64 {
        let gained = self.truth.now().since(self.since).as_secs_f64() * self.drift * 1000.0;
        self.wrong_by.load(Ordering::Relaxed) + gained as i64
    }

    /// Somebody sets it, wrong by so many seconds. Whoever sleeps looks at it again.
    pub(crate) fn set_wrong_by(&self, seconds: i64) {
        self.wrong_by.store(seconds * 1000, Ordering::Relaxed);
        self.truth.set(self.truth.now());
    }
}

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.truth.now().millis() + self.ahead())
    }

    fn elapsed(&self) -> Duration {
        self.truth.elapsed().mul_f64(1.0 + self.drift)
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        self.truth.sleep_until(Timestamp::from_millis(at.millis() - self.ahead()))
    }

    fn hold(&self, holder: &'static str) -> Hold {
        self.truth.hold(holder)
    }

    fn delay(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.truth.delay(span.div_f64(1.0 + self.drift))
    }
}
