//! `Valve`: a way to a listener that lets so many bytes through and then no more, so that whoever speaks through it stands in
//! the middle of what it does for as long as the test likes.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Whose bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the listener: requests.
    Up,
    /// From the listener: answers.
    Down,
}

/// How many bytes have come through, and may.
#[derive(Debug, Default)]
struct Gauge {
    passed: u64,
    limit: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    up: Gauge,
    down: Gauge,
    /// Raised when it is opened: what was held back before that never comes through.
    era: u64,
}

impl State {
    fn of(&mut self, direction: Direction) -> &mut Gauge {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    opened: Condvar,
}

impl Shared {
    /// Waits until some may pass; how many of these. None ever, if it is of another era.
    fn pass(&self, direction: Direction, era: u64, wanted: usize) -> usize {
        let mut state = self.state.lock().unwrap();
        while state.era == era {
            let gauge = state.of(direction);
            let room = gauge.limit.map_or(u64::MAX, |limit| limit.saturating_sub(gauge.passed));
            let some = wanted.min(usize::try_from(room).unwrap_or(usize::MAX));
            if some > 0 {
                gauge.passed += some as u64;
                return some;
            }
            state = self.opened.wait(state).unwrap();
        }
        0
    }
}

/// The way.
#[derive(Debug)]
pub(crate) struct Valve {
    address: String,
    shared: Arc<Shared>,
}

impl Valve {
    /// To whoever listens there, and open.
    pub(crate) fn to(address: &str) -> Self {
        let (listener, shared) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(Shared::default()));
        let valve = Self { address: listener.local_addr().unwrap().to_string(), shared };
        let (shared, address) = (Arc::clone(&valve.shared), address.to_owned());
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // Whoever listened there may have been killed.
                let Ok(far) = TcpStream::connect(&address) else { continue };
                let era = shared.state.lock().unwrap().era;
                pump([near.try_clone().unwrap(), far.try_clone().unwrap()], Direction::Up, era, &shared);
                pump([far, near], Direction::Down, era, &shared);
            }
        });
        valve
    }

    /// Where to speak to.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// So many bytes more come through that way.
    pub(crate) fn let_through(&self, direction: Direction, bytes: u64) {
        let mut state = self.shared.state.lock().unwrap();
        let gauge = state.of(direction);
        gauge.limit = Some(gauge.passed + bytes);
    }

    /// Everything comes through of connections to come; those that are there are cut.
    pub(crate) fn open(&self) {
        let mut state = self.shared.state.lock().unwrap();
        (state.up.limit, state.down.limit) = (None, None);
        state.era += 1;
        self.shared.opened.notify_all();
    }

    /// How many bytes have come through that way.
    pub(crate) fn passed(&self, direction: Direction) -> u64 {
        self.shared.state.lock().unwrap().of(direction).passed
    }
}

/// Carries bytes until an end is closed, or the era is over.
fn pump([mut from, mut to]: [TcpStream; 2], direction: Direction, era: u64, shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let mut bytes = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let mut rest = &bytes[..count];
            while !rest.is_empty() {
                let some = shared.pass(direction, era, rest.len());
                if some == 0 || to.write_all(&rest[..some]).is_err() {
                    return drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
                }
                rest = &rest[some..];
            }
        }
        // The other end hears that this one has ended.
        drop(to.shutdown(Shutdown::Write));
    });
}
