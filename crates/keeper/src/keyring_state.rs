//! `KeyringState`: whether the keyring answers reads and takes writes, as its last answers showed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use storekeeper_keyring::KeyringError;

/// A failure is logged at most this often for each side; those in between are counted.
const LOG_PAUSE: Duration = Duration::from_secs(10);
/// A failure that nothing has confirmed for this long says nothing about now: nothing was asked for since.
const STALE_AFTER: Duration = Duration::from_secs(120);

/// What a verb of the keyring does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// It only reads.
    Reads,
    /// It makes something durable.
    Writes,
    /// It writes where there is something to write: a failure is one of writes, a success may have changed nothing.
    PerhapsWrites,
}

/// Whether the keyring works. Fed with every answer, so a success costs one look at a flag.
#[derive(Debug)]
pub(crate) struct KeyringState {
    location: String,
    reads: Condition,
    writes: Condition,
    perhaps_writes: Condition,
}

#[derive(Debug, Default)]
struct Condition {
    fails: AtomicBool,
    failure: Mutex<Failure>,
}

#[derive(Debug, Default)]
struct Failure {
    error: String,
    failed_at: Option<Instant>,
    logged_at: Option<Instant>,
    unlogged: u64,
}

impl KeyringState {
    /// A keyring at this location, of which nothing is known yet.
    pub(crate) fn new(location: &str) -> Self {
        let [reads, writes, perhaps_writes] = std::array::from_fn(|_| Condition::default());
        Self { location: location.to_owned(), reads, writes, perhaps_writes }
    }

    /// Where the rows are, for people.
    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// A verb was answered.
    pub(crate) fn note(&self, side: Side, operation: &'static str, error: Option<&KeyringError>) {
        match error {
            None => {
                self.side(side).fails.store(false, Ordering::Relaxed);
                if side == Side::Writes {
                    self.perhaps_writes.fails.store(false, Ordering::Relaxed);
                }
            }
            // A fault of one row or of one call, not of the keyring.
            Some(KeyringError::Refused(_) | KeyringError::Corrupt(_) | KeyringError::RootExists { .. }) => {}
            Some(error) => self.failed(side, operation, error),
        }
    }

    /// Why reads fail, if the last one did.
    pub(crate) fn reads_fail(&self) -> Option<String> {
        self.reads.reason()
    }

    /// Why writes fail, if the last one did.
    pub(crate) fn writes_fail(&self) -> Option<String> {
        self.writes.reason().or_else(|| self.perhaps_writes.reason())
    }

    fn side(&self, side: Side) -> &Condition {
        match side {
            Side::Reads => &self.reads,
            Side::Writes => &self.writes,
            Side::PerhapsWrites => &self.perhaps_writes,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "log lines are spaced on the operating system's monotonic clock")]
    fn failed(&self, side: Side, operation: &'static str, error: &KeyringError) {
        let condition = self.side(side);
        let mut failure = condition.failure.lock().unwrap_or_else(PoisonError::into_inner);
        condition.fails.store(true, Ordering::Relaxed);
        failure.error = error.to_string();
        let now = Instant::now();
        failure.failed_at = Some(now);
        if failure.logged_at.is_some_and(|at| now.duration_since(at) < LOG_PAUSE) {
            failure.unlogged += 1;
            return;
        }
        let more = std::mem::take(&mut failure.unlogged);
        failure.logged_at = Some(now);
        tracing::warn!(keyring = self.location, operation, %error, more, "the keyring failed");
    }
}

impl Condition {
    fn reason(&self) -> Option<String> {
        if !self.fails.load(Ordering::Relaxed) {
            return None;
        }
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = failure.failed_at.is_some_and(|at| at.elapsed() < STALE_AFTER);
        is_fresh.then(|| failure.error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_of_each_side_decides() {
        let state = KeyringState::new("storekeeper.db");
        let full = KeyringError::Unavailable(String::from("database or disk is full"));
        state.note(Side::Writes, "settle", Some(&full));
        assert_eq!(state.reads_fail(), None);
        assert!(state.writes_fail().unwrap().contains("disk is full"));
        state.note(Side::Reads, "find", None);
        assert!(state.writes_fail().is_some(), "a read shows nothing about writes");
        state.note(Side::PerhapsWrites, "note_used", None);
        assert!(state.writes_fail().is_some(), "a write that changed nothing shows nothing");
        state.note(Side::Writes, "settle", None);
        assert_eq!(state.writes_fail(), None);
        state.note(Side::PerhapsWrites, "note_used", Some(&full));
        assert!(state.writes_fail().is_some());
        state.note(Side::PerhapsWrites, "note_used", None);
        assert_eq!(state.writes_fail(), None);
    }

    #[test]
    fn a_row_that_cannot_be_read_is_no_outage() {
        let state = KeyringState::new("storekeeper.db");
        state.note(Side::Reads, "find", Some(&KeyringError::Corrupt(String::from("a row's key"))));
        assert_eq!(state.reads_fail(), None);
    }
}
