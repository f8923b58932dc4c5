//! `WrongClock`: what the keeper takes for the time.

use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use storekeeper_clock::{Clock, Hold, Sleep};
use storekeeper_model::Timestamp;

/// The keeper's clock: the Store's, plus what it is wrong by.
#[derive(Debug, Default)]
pub(crate) struct WrongClock(AtomicI64);

impl WrongClock {
    /// So late it is for the keeper from now on.
    pub(crate) fn set(&self, now: Timestamp) {
        self.0.store(now.millis(), Ordering::Relaxed);
    }
}

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep_until(&self, _at: Timestamp) -> Sleep {
        Box::pin(std::future::pending())
    }
    fn hold(&self, _holder: &'static str) -> Hold {
        Hold::none()
    }
    fn delay(&self, _span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }
}
