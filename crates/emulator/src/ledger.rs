//! The ledger: every exchange with the Store's hosts in the order of its end, bounded, without secrets.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use serde::Serialize;
use storekeeper_model::{Fingerprint, Timestamp};

use crate::request::{Endpoint, VirtualHost};
use crate::sync::lock;

/// How many exchanges are kept: two years of 2,000 keys.
pub const EXCHANGES_MAX: usize = 262_144;

/// What happened, before it has a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// When the request had arrived, on the emulator's clock.
    pub(crate) began_at: Timestamp,
    /// When the answer left, or the connection was broken off.
    pub(crate) ended_at: Timestamp,
    /// What was called.
    pub(crate) endpoint: Endpoint,
    /// Which host it was called at; `None` when it is none of ours.
    pub(crate) host: Option<VirtualHost>,
    /// The answer's status; `None` when there was no answer.
    pub(crate) status: Option<u16>,
    /// The error document's inner code.
    pub(crate) inner_code: Option<String>,
    /// The Store ID key the request carried.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// The Store ID key that was minted, whether or not the answer arrived.
    pub(crate) successor: Option<Fingerprint>,
}

/// One exchange, as the control port shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// Its number: one more than the exchange's that ended before it, from 1; never used again.
    pub seq: u64,
    /// When the request had arrived, on the emulator's clock.
    pub began_at: Timestamp,
    /// When the answer left, or the connection was broken off.
    pub ended_at: Timestamp,
    /// What was called.
    pub endpoint: &'static str,
    /// Which host it was called at; `None` when it is none of ours.
    pub host: Option<&'static str>,
    /// The answer's status; `None` when there was no answer.
    pub status: Option<u16>,
    /// The error document's inner code.
    pub inner_code: Option<String>,
    /// The Store ID key the request carried.
    pub fingerprint: Option<Fingerprint>,
    /// The Store ID key that was minted, whether or not the answer arrived.
    pub successor: Option<Fingerprint>,
}

/// A part of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page {
    /// In the order of their numbers. A gap before the first says that older ones have been given up.
    pub exchanges: Vec<Exchange>,
    /// What to ask for next: the last number given; `None` when there is no later exchange yet.
    pub next: Option<u64>,
}

/// A ring of the last exchanges.
pub(crate) struct Ledger {
    capacity: usize,
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    /// How many exchanges there were before the first that is kept.
    given_up: u64,
    events: VecDeque<Event>,
}

impl Ring {
    fn len(&self) -> u64 {
        u64::try_from(self.events.len()).expect("a length in memory fits 64 bits")
    }
}

impl Ledger {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), ring: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        lock(&self.ring)
    }

    /// Writes an exchange down.
    pub(crate) fn record(&self, event: Event) {
        let mut ring = self.lock();
        if ring.events.len() == self.capacity {
            ring.events.pop_front();
            ring.given_up += 1;
        }
        ring.events.push_back(event);
    }

    /// At most `limit` exchanges with numbers above `after`.
    pub(crate) fn page(&self, after: u64, limit: usize) -> Page {
        let ring = self.lock();
        let skipped = after.saturating_sub(ring.given_up).min(ring.len());
        let first = ring.given_up + skipped + 1;
        let start = usize::try_from(skipped).expect("not above the length");
        let exchanges: Vec<_> = (first..).zip(ring.events.range(start..).take(limit)).map(shown).collect();
        let last = exchanges.last().map(|exchange| exchange.seq);
        Page { exchanges, next: last.filter(|last| *last < ring.given_up + ring.len()) }
    }

    /// Gives up every exchange; numbers go on.
    pub(crate) fn clear(&self) {
        let mut ring = self.lock();
        ring.given_up += ring.len();
        ring.events.clear();
    }
}

fn shown((seq, event): (u64, &Event)) -> Exchange {
    Exchange {
        seq,
        began_at: event.began_at,
        ended_at: event.ended_at,
        endpoint: event.endpoint.as_str(),
        host: event.host.map(VirtualHost::name),
        status: event.status,
        inner_code: event.inner_code.clone(),
        fingerprint: event.fingerprint,
        successor: event.successor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(status: u16) -> Event {
        Event {
            began_at: Timestamp::EPOCH,
            ended_at: Timestamp::EPOCH,
            endpoint: Endpoint::Renew,
            host: Some(VirtualHost::Purchase),
            status: Some(status),
            inner_code: None,
            fingerprint: None,
            successor: None,
        }
    }

    fn check(ledger: &Ledger, after: u64, limit: usize, numbers: &[u64], next: Option<u64>) {
        let page = ledger.page(after, limit);
        assert_eq!(page.exchanges.iter().map(|exchange| exchange.seq).collect::<Vec<_>>(), numbers);
        assert_eq!(page.next, next);
    }

    #[test]
    fn pages_follow_one_another_and_end() {
        let ledger = Ledger::new(10);
        check(&ledger, 0, 10, &[], None);
        (0..5).for_each(|_| ledger.record(event(200)));
        check(&ledger, 0, 2, &[1, 2], Some(2));
        check(&ledger, 2, 2, &[3, 4], Some(4));
        check(&ledger, 4, 2, &[5], None);
        check(&ledger, 99, 2, &[], None);
        check(&ledger, 0, 0, &[], None);
    }

    #[test]
    fn the_oldest_are_given_up_and_numbers_go_on() {
        let ledger = Ledger::new(3);
        (0..5).for_each(|_| ledger.record(event(200)));
        check(&ledger, 0, 10, &[3, 4, 5], None);
        ledger.clear();
        ledger.record(event(401));
        check(&ledger, 0, 10, &[6], None);
        assert_eq!(ledger.page(0, 1).exchanges[0].status, Some(401));
    }
}
