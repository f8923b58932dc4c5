//! `SystemClock`: the operating system's time, asked here and nowhere else.
#![expect(clippy::disallowed_methods, reason = "this file is the one place that asks the operating system")]

use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use storekeeper_model::Timestamp;

use crate::{Clock, Hold, Sleep};

/// A sleep is cut in pieces of this length, so that a step of the system's clock is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// The operating system's clock.
#[derive(Debug, Clone)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose [`Clock::elapsed`] starts at zero.
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::EPOCH + since_epoch
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        let span = at.since(self.now()).min(SLEEP_MAX);
        Box::pin(async move {
            tokio::time::sleep(span).await;
            Hold::none()
        })
    }

    fn hold(&self, _holder: &'static str) -> Hold {
        Hold::none()
    }

    fn delay(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(span))
    }
}
