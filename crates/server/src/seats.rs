//! `Seats`: places for the connections of one listener. When every place is taken, the connection that has been idle
//! longest is closed in favour of the new one: first of those that have shown no valid token, then of the others. A
//! connection with a request under way is never closed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::metrics::ConnectionMetrics;

/// The connections of one listener.
#[derive(Debug)]
pub(crate) struct Seats {
    max: usize,
    began: Instant,
    table: Mutex<Table>,
    metrics: ConnectionMetrics,
}

#[derive(Debug, Default)]
struct Table {
    taken: HashMap<u64, Arc<State>>,
    next: u64,
}

/// What one connection is doing.
#[derive(Debug)]
struct State {
    phase: AtomicU8,
    /// Milliseconds from the beginning to the last byte that came or went.
    active_at: AtomicU64,
    /// Whether a request with a valid token came.
    is_known: AtomicBool,
    evicted: Notify,
}

/// No request is under way.
const IDLE: u8 = 0;
/// A request is under way.
const BUSY: u8 = 1;
/// Closed in favour of another connection; final.
const EVICTED: u8 = 2;

impl Seats {
    /// Places for this many connections, one at least.
    #[expect(clippy::disallowed_methods, reason = "how long a connection is idle goes by the operating system's time")]
    pub(crate) fn new(max: usize, metrics: ConnectionMetrics) -> Arc<Self> {
        Arc::new(Self { max: max.max(1), began: Instant::now(), table: Mutex::default(), metrics })
    }

    /// A place for one more connection; `None` where all are taken and each has a request under way.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Seat> {
        let mut table = self.table();
        if table.taken.len() >= self.max && !self.evict_from(&mut table) {
            return None;
        }
        let number = table.next;
        table.next += 1;
        let state = Arc::new(State {
            phase: AtomicU8::new(IDLE),
            active_at: AtomicU64::new(self.millis()),
            is_known: AtomicBool::new(false),
            evicted: Notify::new(),
        });
        table.taken.insert(number, Arc::clone(&state));
        self.metrics.open.set(signed(table.taken.len()));
        Some(Seat { seats: Arc::clone(self), state, number })
    }

    /// No connection could be accepted, for want of descriptors most likely: the one that has been idle longest gives its
    /// own back.
    pub(crate) fn accept_failed(&self) {
        self.metrics.accept_errors.inc();
        self.evict_from(&mut self.table());
    }

    /// Closes the connection that can be missed best; `false` where there is none.
    fn evict_from(&self, table: &mut Table) -> bool {
        loop {
            let idle = table.taken.iter().filter(|(_, state)| state.phase.load(Ordering::Acquire) == IDLE);
            let rank =
                |state: &State| (state.is_known.load(Ordering::Relaxed), state.active_at.load(Ordering::Relaxed));
            let Some((number, _)) = idle.min_by_key(|(_, state)| rank(state)) else { return false };
            let number = *number;
            // A request may have begun meanwhile; then another one is looked for.
            let state = &table.taken[&number];
            if state.phase.compare_exchange(IDLE, EVICTED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                state.evicted.notify_one();
                table.taken.remove(&number);
                self.metrics.open.set(signed(table.taken.len()));
                self.metrics.evicted.inc();
                return true;
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    state: Arc<State>,
    number: u64,
}

impl Seat {
    /// A byte came or went.
    pub(crate) fn touch(&self) {
        self.state.active_at.store(self.seats.millis(), Ordering::Relaxed);
    }

    /// A request begins; `false` where the connection was closed in favour of another one.
    pub(crate) fn begin(&self) -> bool {
        let begin = |phase: u8| (phase != EVICTED).then_some(BUSY);
        self.state.phase.fetch_update(Ordering::AcqRel, Ordering::Acquire, begin).is_ok()
    }

    /// The answer begins. One that is still being made while it is sent stays under way until the next request.
    pub(crate) fn answered(&self, is_known: bool, is_whole: bool) {
        if is_known {
            self.state.is_known.store(true, Ordering::Relaxed);
        }
        if is_whole {
            self.touch();
            // Only its own connection changes the phase while a request is under way.
            let _ = self.state.phase.compare_exchange(BUSY, IDLE, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// Resolves when the connection is closed in favour of another one.
    pub(crate) async fn evicted(&self) {
        self.state.evicted.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.seats.table();
        table.taken.remove(&self.number);
        self.seats.metrics.open.set(signed(table.taken.len()));
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(max: usize) -> (Arc<Seats>, ConnectionMetrics) {
        let metrics = ConnectionMetrics::default();
        (Seats::new(max, metrics.clone()), metrics)
    }

    /// Puts the last byte of a connection at this many milliseconds.
    fn active_at(seat: &Seat, millis: u64) {
        seat.state.active_at.store(millis, Ordering::Relaxed);
    }

    fn is_evicted(seat: &Seat) -> bool {
        seat.state.phase.load(Ordering::Acquire) == EVICTED
    }

    #[test]
    fn the_longest_idle_connection_gives_its_place() {
        let (seats, metrics) = seats(3);
        let taken: Vec<Seat> = (0..3).map(|_| seats.take().unwrap()).collect();
        taken.iter().zip([2, 1, 3]).for_each(|(seat, millis)| active_at(seat, millis));
        let newcomer = seats.take().unwrap();
        assert_eq!(taken.iter().map(is_evicted).collect::<Vec<_>>(), [false, true, false]);
        assert!(!taken[1].begin(), "a request that comes too late is not begun");
        assert_eq!((metrics.open.get(), metrics.evicted.get()), (3, 1));
        drop(taken);
        assert_eq!(metrics.open.get(), 1);
        drop(newcomer);
    }

    #[test]
    fn a_request_under_way_keeps_its_place_and_a_token_helps() {
        let (seats, _) = seats(3);
        let [stranger, busy, known] = std::array::from_fn(|_| seats.take().unwrap());
        known.answered(true, true);
        for (seat, millis) in [(&stranger, 3), (&busy, 1), (&known, 2)] {
            active_at(seat, millis);
        }
        assert!(busy.begin());
        let second = seats.take().unwrap();
        assert!(is_evicted(&stranger) && !is_evicted(&known), "strangers go first");
        assert!(second.begin());
        let third = seats.take().unwrap();
        assert!(is_evicted(&known) && third.begin());
        assert!(seats.take().is_none(), "every place has a request under way");
        busy.answered(true, false);
        assert!(seats.take().is_none(), "its answer is still being sent");
        second.answered(false, true);
        assert!(seats.take().is_some() && is_evicted(&second));
    }

    #[test]
    fn a_failed_accept_frees_a_descriptor() {
        let (seats, metrics) = seats(8);
        let idle = seats.take().unwrap();
        seats.accept_failed();
        assert!(is_evicted(&idle));
        assert_eq!((metrics.accept_errors.get(), metrics.evicted.get()), (1, 1));
        seats.accept_failed();
        assert_eq!(metrics.evicted.get(), 1);
    }
}
