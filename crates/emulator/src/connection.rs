//! Seats for connections: how many there may be, and how long each may take, so that thousands of them do no harm.
//!
//! Three guards run by the operating system's time: a connection may be silent between requests only so long, a request
//! must arrive whole within its time, and an answer must be taken within the same time. When every seat is taken, the
//! connection that has been silent longest gives way, or else the one that has been sending its request longest, if that
//! is longer than anybody needs; when there is none, newcomers wait in the kernel's queue.
#![expect(clippy::disallowed_methods, reason = "guards against slow or idle sockets use the operating system's time")]

mod guard;

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::guard::GuardedStream;
use crate::sync::lock;

/// What a connection may take; all spans are of the operating system's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections to the Store's listeners at one time; a second, smaller allowance serves the control listener.
    pub connections_max: usize,
    /// How long a connection may be silent between requests.
    pub idle_max: Duration,
    /// How long a request may take to arrive whole, from its first byte, and how long an answer may wait to be taken.
    pub transfer_max: Duration,
    /// How long a shutdown waits for answers that are under way.
    pub drain_max: Duration,
}

impl Default for Limits {
    /// 4,096 connections, fewer where the system allows fewer files; 60 s of silence, 10 s for a request, 5 s to drain.
    fn default() -> Self {
        Self {
            connections_max: 4096.min(files_max() / 4 * 3),
            idle_max: Duration::from_secs(60),
            transfer_max: Duration::from_secs(10),
            drain_max: Duration::from_secs(5),
        }
    }
}

/// How many files this process may have open, where the system says so.
fn files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(1024)
}

/// The connections of one group of listeners.
pub(crate) struct Connections {
    limits: Limits,
    began: Instant,
    seats: Mutex<Seats>,
    /// How many newcomers wait for a seat.
    waiting: AtomicUsize,
    /// A seat may have become free, or the group closes.
    freed: Notify,
}

#[derive(Default)]
struct Seats {
    taken: HashMap<u64, Arc<Seat>>,
    next: u64,
    closing: bool,
}

/// One connection's place and what it is doing.
pub(crate) struct Seat {
    phase: AtomicU8,
    /// Milliseconds from the group's start to the last change of phase.
    since: AtomicU64,
    /// Since when a write waits for the peer to take what was sent, or [`NEVER`].
    write_since: AtomicU64,
    reset: AtomicBool,
    /// The connection is to end: at once when it was evicted, else after the answer under way.
    end: Notify,
}

/// Silent between requests.
const IDLE: u8 = 0;
/// A request is arriving.
const RECEIVING: u8 = 1;
/// A request has arrived; its answer is not ready.
const ANSWERING: u8 = 2;
/// Gave way to a newcomer; final.
const EVICTED: u8 = 3;
/// For how many milliseconds a sender may take its time while others wait for its seat.
const SENDING_MILLIS: u64 = 1000;
/// How often somebody who waits for a seat looks for such a sender.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// No write waits for the peer.
const NEVER: u64 = u64::MAX;

impl Seat {
    fn new(since: u64) -> Self {
        Self {
            phase: AtomicU8::new(IDLE),
            since: AtomicU64::new(since),
            write_since: AtomicU64::new(NEVER),
            reset: AtomicBool::new(false),
            end: Notify::new(),
        }
    }

    /// Moves on, unless the connection was evicted.
    fn enter(&self, phase: u8, since: u64) -> bool {
        let moved =
            self.phase.fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| (old != EVICTED).then_some(phase));
        if moved.is_ok() {
            self.since.store(since, Ordering::Release);
        }
        moved.is_ok()
    }

    fn evict(&self, from: u8) -> bool {
        let evicted = self.phase.compare_exchange(from, EVICTED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if evicted {
            self.end.notify_one();
        }
        evicted
    }

    fn is_evicted(&self) -> bool {
        self.phase.load(Ordering::Acquire) == EVICTED
    }

    /// The connection is to be broken off without a word when it closes, not ended politely.
    pub(crate) fn reset_on_close(&self) {
        self.reset.store(true, Ordering::Release);
    }
}

impl Connections {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            began: Instant::now(),
            seats: Mutex::default(),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        lock(&self.seats)
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits until there is a place for one more connection.
    pub(crate) async fn seat(self: &Arc<Self>) -> Seated {
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let freed = self.freed.notified();
            if let Some(seated) = self.try_seat() {
                return seated;
            }
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    fn try_seat(self: &Arc<Self>) -> Option<Seated> {
        let mut seats = self.lock();
        if seats.taken.len() >= self.limits.connections_max {
            let evicted = seats.evict(self.millis())?;
            seats.taken.remove(&evicted);
        }
        let number = seats.next;
        seats.next += 1;
        let seat = Arc::new(Seat::new(self.millis()));
        seats.taken.insert(number, Arc::clone(&seat));
        Some(Seated { group: Arc::clone(self), seat, number })
    }

    /// Asks every connection to end after the answer under way, and every later one at once.
    pub(crate) fn close(&self) {
        let mut seats = self.lock();
        seats.closing = true;
        seats.taken.values().for_each(|seat| seat.end.notify_one());
        drop(seats);
        self.freed.notify_waiters();
    }

    /// Resolves once [`Connections::close`] was called.
    pub(crate) async fn closing(&self) {
        loop {
            let freed = self.freed.notified();
            if self.lock().closing {
                return;
            }
            freed.await;
        }
    }

    /// Waits until no connection is left, or until [`Limits::drain_max`] has passed.
    pub(crate) async fn drained(&self) {
        let all_gone = async {
            loop {
                let freed = self.freed.notified();
                if self.lock().taken.is_empty() {
                    return;
                }
                freed.await;
            }
        };
        drop(tokio::time::timeout(self.limits.drain_max, all_gone).await);
    }

    /// Waits as long as a request may take to arrive.
    pub(crate) async fn transfer_time(&self) {
        tokio::time::sleep(self.limits.transfer_max).await;
    }

    /// Waits a moment before a failed `accept` is tried again.
    pub(crate) async fn breathe(&self) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Seats {
    /// Evicts the connection that has been silent longest, or one that has been sending for long; says which.
    fn evict(&self, now: u64) -> Option<u64> {
        self.evict_longest(IDLE, now).or_else(|| self.evict_longest(RECEIVING, now.saturating_sub(SENDING_MILLIS)))
    }

    /// Evicts the connection that has been in a phase longest, if it entered it by `latest`.
    fn evict_longest(&self, phase: u8, latest: u64) -> Option<u64> {
        loop {
            let there = self.taken.iter().filter(|(_, seat)| seat.phase.load(Ordering::Acquire) == phase);
            let since = there.map(|(number, seat)| (seat.since.load(Ordering::Acquire), number, seat));
            let (_, number, seat) = since.filter(|(since, ..)| *since <= latest).min_by_key(|(since, ..)| *since)?;
            if seat.evict(phase) {
                return Some(*number);
            }
        }
    }
}

/// Counts a newcomer while it waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A seat that is taken until this is dropped.
pub(crate) struct Seated {
    group: Arc<Connections>,
    seat: Arc<Seat>,
    number: u64,
}

/// Why a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// At once: it was silent or slow, and somebody else needs the seat.
    Evicted,
    /// After the answer under way: the server shuts down.
    Closing,
}

impl Seated {
    pub(crate) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    pub(crate) fn group(&self) -> &Arc<Connections> {
        &self.group
    }

    /// Resolves when the connection is to end.
    pub(crate) async fn end(&self) -> End {
        if !self.group.lock().closing {
            self.seat.end.notified().await;
        }
        if self.seat.is_evicted() { End::Evicted } else { End::Closing }
    }

    /// The request has arrived whole. `false` when the connection was evicted meanwhile.
    pub(crate) fn request_arrived(&self) -> bool {
        self.seat.enter(ANSWERING, self.group.millis())
    }

    /// The answer, or the handshake, is done: the connection is silent until its next byte.
    pub(crate) fn answered(&self) {
        self.seat.enter(IDLE, self.group.millis());
        if self.group.waiting.load(Ordering::Acquire) > 0 {
            self.group.freed.notify_waiters();
        }
    }

    /// Resolves when the peer is too slow or has been silent for too long. Has to be polled after every step of the
    /// connection, since that may move the deadline. The timer is moved only when it would fire too late, so that a busy
    /// connection costs one timer per span and not one per request.
    pub(crate) async fn overdue(&self) {
        let timer = tokio::time::sleep_until(self.group.began + Duration::from_secs(86_400));
        let mut timer = pin!(timer);
        poll_fn(|cx| {
            let Some(deadline) = self.deadline() else { return Poll::Pending };
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            loop {
                ready!(timer.as_mut().poll(cx));
                if timer.deadline() >= deadline {
                    return Poll::Ready(());
                }
                timer.as_mut().reset(deadline);
            }
        })
        .await;
    }

    fn deadline(&self) -> Option<Instant> {
        let Limits { idle_max, transfer_max, .. } = self.group.limits;
        let after = |since: &AtomicU64, span| Duration::from_millis(since.load(Ordering::Acquire)) + span;
        let reading = match self.seat.phase.load(Ordering::Acquire) {
            IDLE => Some(after(&self.seat.since, idle_max)),
            RECEIVING => Some(after(&self.seat.since, transfer_max)),
            _ => None,
        };
        let writes = self.seat.write_since.load(Ordering::Acquire) != NEVER;
        let writing = writes.then(|| after(&self.seat.write_since, transfer_max));
        let first = reading.into_iter().chain(writing).min()?;
        Some(self.group.began + first)
    }

    /// Puts a socket in the seat.
    pub(crate) fn guard(&self, tcp: TcpStream) -> GuardedStream {
        GuardedStream::new(tcp, Arc::clone(&self.seat), Arc::clone(&self.group))
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.group.lock().taken.remove(&self.number);
        self.group.freed.notify_waiters();
    }
}
