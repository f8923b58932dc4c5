//! The keeper's clock: the true one, plus what it is wrong by.

use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use storekeeper_clock::{Clock, Hold, Sleep, VirtualClock};
use storekeeper_model::Timestamp;

#[derive(Debug)]
pub(crate) struct WrongClock {
    truth: VirtualClock,
    wrong_by: AtomicI64,
}

impl WrongClock {
    pub(crate) fn new(truth: VirtualClock) -> Self {
        Self { truth, wrong_by: AtomicI64::new(0) }
    }

    /// Somebody sets it, wrong by so many seconds. Whoever sleeps looks at it again.
    pub(crate) fn set_wrong_by(&self, seconds: i64) {
        self.wrong_by.store(seconds * 1000, Ordering::Relaxed);
        self.truth.set(self.truth.now());
    }
}

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.truth.now().millis() + self.wrong_by.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        self.truth.elapsed()
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        self.truth.sleep_until(Timestamp::from_millis(at.millis() - self.wrong_by.load(Ordering::Relaxed)))
    }

    fn hold(&self, holder: &'static str) -> Hold {
        self.truth.hold(holder)
    }

    fn delay(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.truth.delay(span)
    }
}
