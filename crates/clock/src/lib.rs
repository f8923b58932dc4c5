//! Now and sleep together: a [`Clock`] owns both, so that a year can pass in seconds.
//!
//! Logic takes `now` and never holds a clock; what waits takes a `Clock`. [`SystemClock`] is the only place that asks
//! the operating system, [`VirtualClock`] the one that tests, `dev` and the emulator move.

mod system;
mod virtual_clock;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use storekeeper_model::Timestamp;

pub use system::SystemClock;
pub use virtual_clock::{ClockState, Stuck, VirtualClock};

/// What [`Clock::sleep_until`] returns: resolves to a [`Hold`], so that whoever was woken is known to be at work.
pub type Sleep = Pin<Box<dyn Future<Output = Hold> + Send>>;

/// Both halves of time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The instant it is. May step in either direction between two calls: clocks are set.
    fn now(&self) -> Timestamp;

    /// Time since some fixed start. Never steps; no two clocks' values may be compared.
    fn elapsed(&self) -> Duration;

    /// Resolves once `at` has come. **May resolve early** (the clock was set, or a long sleep was cut in pieces): look
    /// at [`Clock::now`] again and sleep on.
    ///
    /// Take the next sleep *before* dropping the [`Hold`] of the last one, or a virtual clock runs past you.
    fn sleep_until(&self, at: Timestamp) -> Sleep;

    /// Says that work is outstanding: a virtual clock does not advance until every hold is dropped. `holder` is what a
    /// stuck clock names. Costs nothing on the system's clock.
    fn hold(&self, holder: &'static str) -> Hold;

    /// Waits for `span` on behalf of somebody who holds the clock and waits for us, such as the sender of a request
    /// whose answer a fault delays: while it lasts, one hold counts as given back.
    fn delay(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Work is outstanding until this is dropped.
#[must_use = "dropping a hold lets the clock go on"]
pub struct Hold(Option<(Arc<virtual_clock::Shared>, &'static str)>);

impl Hold {
    /// A hold on nothing, for clocks that cannot be held.
    pub const fn none() -> Self {
        Self(None)
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        match &self.0 {
            Some((shared, holder)) => shared.hold(holder),
            None => Self(None),
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hold({})", self.0.as_ref().map_or("nothing", |(_, holder)| holder))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some((shared, holder)) = self.0.take() {
            shared.give_back(holder);
        }
    }
}
