//! The core tasks of a process: which one has died, and which one makes no progress.
//!
//! A core task is one without which the process only seems to work: the engine, the writer of the keyring, a listener.
//! Each holds a [`Guard`], and a loop that must go round also a [`Heart`]. The owner of the process waits for
//! [`Supervisor::failed`], saves what the surviving tasks hold and ends the process, so that the supervisor of the
//! operating system starts it again.
//!
//! ```
//! use storekeeper_supervisor::Supervisor;
//!
//! let supervisor = Supervisor::default();
//! let guard = supervisor.guard("the writer");
//! let thread = std::thread::spawn(move || {
//!     let _guard = guard;
//!     panic!("a bug");
//! });
//! assert!(thread.join().is_err());
//! assert_eq!(supervisor.failure(), Some("the writer"));
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// A heart that is busy with one thing for longer than this has stalled.
pub const STALLED_AFTER: Duration = Duration::from_secs(30);

/// Watches the core tasks of one process. Clones share the state.
#[derive(Debug, Clone)]
pub struct Supervisor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    failure: watch::Sender<Option<&'static str>>,
    hearts: Mutex<Vec<Weak<Beat>>>,
    started_at: Instant,
}

impl Default for Supervisor {
    #[expect(clippy::disallowed_methods, reason = "progress is measured on the operating system's monotonic clock")]
    fn default() -> Self {
        Self(Arc::new(Inner {
            failure: watch::Sender::new(None),
            hearts: Mutex::default(),
            started_at: Instant::now(),
        }))
    }
}

impl Supervisor {
    /// A guard for a task of this name: when the task panics while it holds the guard, the process has failed.
    pub fn guard(&self, task: &'static str) -> Guard {
        Guard { supervisor: self.clone(), task }
    }

    /// A heart for a loop of this name, idle at first.
    pub fn heart(&self, task: &'static str) -> Heart {
        let beat = Arc::new(Beat { task, busy_since: AtomicU64::new(IDLE) });
        let mut hearts = self.hearts();
        hearts.retain(|heart| heart.strong_count() > 0);
        hearts.push(Arc::downgrade(&beat));
        Heart { supervisor: self.clone(), beat }
    }

    /// The first core task that died, if one did.
    pub fn failure(&self) -> Option<&'static str> {
        *self.0.failure.borrow()
    }

    /// Waits until a core task dies; returns its name.
    pub async fn failed(&self) -> &'static str {
        let mut failure = self.0.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await.ok().and_then(|failed| *failed);
        failed.expect("the sender lives in `self`, and the value was just seen to be there")
    }

    /// A loop that has been busy with one thing for longer than [`STALLED_AFTER`], and for how long.
    pub fn stalled(&self) -> Option<(&'static str, Duration)> {
        let now = self.elapsed();
        let hearts = self.hearts();
        let busy = hearts.iter().filter_map(Weak::upgrade).filter_map(|beat| {
            let since = beat.busy_since.load(Ordering::Relaxed);
            (since != IDLE).then(|| (beat.task, Duration::from_millis(now.saturating_sub(since))))
        });
        busy.filter(|(_, span)| *span > STALLED_AFTER).max_by_key(|(_, span)| *span)
    }

    fn fail(&self, task: &'static str) {
        self.0.failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert(task);
            is_first
        });
    }

    fn hearts(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Beat>>> {
        self.0.hearts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the start, from 1 on.
    #[expect(clippy::disallowed_methods, reason = "progress is measured on the operating system's monotonic clock")]
    fn elapsed(&self) -> u64 {
        let span = Instant::now().duration_since(self.0.started_at);
        u64::try_from(span.as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// Held by a core task: reports a panic of the task.
#[derive(Debug)]
pub struct Guard {
    supervisor: Supervisor,
    task: &'static str,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.supervisor.fail(self.task);
        }
    }
}

const IDLE: u64 = 0;

#[derive(Debug)]
struct Beat {
    task: &'static str,
    /// In milliseconds of [`Supervisor::elapsed`], or [`IDLE`].
    busy_since: AtomicU64,
}

/// Held by a loop that must go round. A loop that waits, for work or for a database, is idle and well.
#[derive(Debug)]
pub struct Heart {
    supervisor: Supervisor,
    beat: Arc<Beat>,
}

impl Heart {
    /// The loop is busy until the returned value is dropped.
    pub fn busy(&self) -> Busy<'_> {
        self.beat.busy_since.store(self.supervisor.elapsed(), Ordering::Relaxed);
        Busy(&self.beat)
    }
}

/// The loop is busy with one thing.
#[derive(Debug)]
pub struct Busy<'a>(&'a Beat);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy_since.store(IDLE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_panic_of_a_task_is_the_failure() {
        let supervisor = Supervisor::default();
        drop(supervisor.guard("a task that ends well"));
        assert_eq!(supervisor.failure(), None);
        for task in ["the first", "the second"] {
            let guard = supervisor.guard(task);
            let panicking = tokio::spawn(async move {
                let _guard = guard;
                tokio::task::yield_now().await;
                panic!("a bug");
            });
            assert!(panicking.await.is_err());
        }
        assert_eq!((supervisor.failed().await, supervisor.failure()), ("the first", Some("the first")));
    }

    #[test]
    fn only_a_loop_that_is_busy_for_long_has_stalled() {
        let supervisor = Supervisor::default();
        let (first, second) = (supervisor.heart("first"), supervisor.heart("second"));
        let busy = first.busy();
        let _also = second.busy();
        assert_eq!(supervisor.stalled(), None, "both have just begun");
        let later = |task: &Heart, span: Duration| {
            let inner = Inner {
                failure: watch::Sender::new(None),
                hearts: Mutex::new(vec![Arc::downgrade(&task.beat)]),
                started_at: supervisor.0.started_at.checked_sub(span).unwrap(),
            };
            Supervisor(Arc::new(inner))
        };
        let span = STALLED_AFTER + Duration::from_secs(1);
        let (task, stalled) = later(&first, span).stalled().unwrap();
        assert!(task == "first" && stalled >= span);
        assert_eq!(later(&first, STALLED_AFTER / 2).stalled(), None);
        drop(busy);
        assert_eq!(later(&first, span).stalled(), None, "a loop that waits is well");
    }
}
