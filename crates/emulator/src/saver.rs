//! Runs ahead of the clock: makes the certificates that will be needed, and keeps the data directory up to date, after
//! every change, now and then while time runs, and at the end.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use storekeeper_clock::{Clock, Hold, VirtualClock};
use storekeeper_model::Timestamp;
use tokio::sync::Notify;

use crate::Emulator;
use crate::data_dir::{DataDir, DataDirError, KeptClock, State};

/// How often, by the operating system's time, what changed by itself is saved.
const TICK: Duration = Duration::from_secs(20);
/// How far ahead of the clock the kept instant lies while time runs slowly, and at most when it runs fast.
const AHEAD_MIN: Duration = Duration::from_secs(60);
const AHEAD_MAX: Duration = Duration::from_secs(86_400);

/// The one writer of the data directory, if there is one. Without one, certificates are still made before they are
/// needed, so that no request waits for a new RSA key.
///
/// It keeps an instant that lies ahead of the clock and holds the clock when that instant is reached until a later one
/// is durable. So after a crash the clock goes on where it was or a little later, never earlier: no key that was issued
/// lies in the future.
pub(crate) struct Saver {
    dir: Option<DataDir>,
    seed: u64,
    emulator: Arc<Emulator>,
    clock: VirtualClock,
    kept: Mutex<Kept>,
    /// The kept instant was moved.
    moved: Notify,
}

struct Kept {
    bytes: Vec<u8>,
    resume_at: Timestamp,
    ahead: Duration,
    /// The directory was given up.
    is_over: bool,
}

impl Saver {
    pub(crate) fn new(dir: Option<DataDir>, seed: u64, emulator: Arc<Emulator>, clock: VirtualClock) -> Self {
        let kept = Kept { bytes: Vec::new(), resume_at: Timestamp::MIN, ahead: AHEAD_MIN, is_over: false };
        Self { dir, seed, emulator, clock, kept: Mutex::new(kept), moved: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        crate::sync::lock(&self.kept)
    }

    /// Saves after a change by the control port; blocks until it is durable.
    pub(crate) fn save_change(&self) -> Result<(), DataDirError> {
        let saved = self.save(None);
        self.moved.notify_one();
        saved
    }

    /// Saves for the last time, and gives the directory up: the clock will go on exactly where it is.
    pub(crate) fn save_last(&self) -> Result<(), DataDirError> {
        let saved = self.save(Some(Duration::ZERO));
        self.lock().is_over = true;
        self.dir.iter().for_each(DataDir::release);
        saved
    }

    /// Saves. Without `ahead` the clock runs by itself or not at all: a frozen one is kept exactly, and whoever advances
    /// it meets us a moment later.
    fn save(&self, ahead: Option<Duration>) -> Result<(), DataDirError> {
        let mut kept = self.lock();
        if kept.is_over {
            return Ok(());
        }
        let clock = self.clock.state();
        kept.ahead = ahead.unwrap_or(if clock.rate > 0.0 { AHEAD_MIN } else { Duration::ZERO });
        kept.resume_at = clock.now + kept.ahead;
        // A certificate that the schedule demands before the kept instant is made, and durable, before it signs.
        for at in [clock.now, kept.resume_at] {
            self.emulator.certificates(at);
        }
        let Some(dir) = &self.dir else { return Ok(()) };
        let keep = KeptClock { resume_at: kept.resume_at, rate: clock.rate };
        let state = State::new(self.seed, keep, self.emulator.snapshot());
        let bytes = serde_json::to_vec(&state).expect("the state has text and numbers only");
        if bytes != kept.bytes {
            dir.save(&bytes)?;
            kept.bytes = bytes;
        }
        Ok(())
    }

    /// When the clock has to be stopped until a later instant is durable.
    fn next(&self) -> (Timestamp, Duration) {
        let kept = self.lock();
        (kept.resume_at + Duration::from_millis(1), kept.ahead)
    }

    /// Saves as time goes by. Never returns; spawn it once.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut hold = Hold::none();
        loop {
            let (at, ahead) = self.next();
            let (armed, span) = (self.clock.elapsed(), at.since(self.clock.now()));
            let due = self.clock.sleep_until(at);
            drop(hold);
            let ahead = tokio::select! {
                held = due => {
                    hold = held;
                    // Whether time ran, and did not jump.
                    let ran = self.clock.elapsed().saturating_sub(armed) >= span;
                    ran.then(|| (ahead * 4).clamp(AHEAD_MIN, AHEAD_MAX))
                }
                () = tick() => {
                    hold = Hold::none();
                    None
                }
                () = self.moved.notified() => {
                    hold = Hold::none();
                    continue;
                }
            };
            let saver = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || saver.save(ahead)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the emulator's state could not be saved"),
                Err(_) => tracing::error!("saving the emulator's state failed"),
            }
        }
    }
}

async fn tick() {
    #[expect(
        clippy::disallowed_methods,
        reason = "how much a crash may lose is measured by the operating system's time"
    )]
    tokio::time::sleep(TICK).await;
}
