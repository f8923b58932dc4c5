//! Invariant 9: cost follows the work.

use std::collections::{BTreeMap, VecDeque};

use storekeeper_keeper::engine::{
    Action, Answer, Engine, Event, Finished, Order, Silence, TICK, TicketFetched, Waiter,
};
use storekeeper_keyring::{
    Expected, History, Keyring, MemoryKeyring, Record, Revision, Sealed, SealedKey, State, Write,
};
use storekeeper_model::{Identity, Secret, ServiceTicket, StoreIdKey, Timestamp};

use crate::support::mint::{Mint, ticket};
use crate::support::{DAY, HOUR, KIND, MINUTE, START, World, config, identity, player};

/// What one line holds at most: below the low-water mark, and then one whole scan.
const QUEUED_MAX: usize = 1024 + 4096;
/// What may be on its way to the disk.
const SETTLING_MAX: usize = 8192;
const CONCURRENCY: usize = 64;

/// An engine over a keyring, without a Store: whoever tests decides what comes back, and when.
struct Bare {
    engine: Engine,
    keyring: MemoryKeyring,
    now: Timestamp,
    calls: VecDeque<Box<storekeeper_keyring::Record>>,
    unsettled: VecDeque<std::sync::Arc<Vec<Write>>>,
    scans: usize,
    wakes: usize,
}

impl Bare {
    async fn new(keys: usize, age: std::time::Duration) -> Self {
        let config = storekeeper_keeper::KeeperConfig {
            concurrency: CONCURRENCY,
            limits: storekeeper_keeper::Limits::Off,
            ..config()
        };
        let keyring = MemoryKeyring::new();
        let key = key(age);
        let writes =
            (0..keys).map(|number| Write::Put { expected: Expected::Absent, record: Box::new(row(number, &key)) });
        keyring.settle(std::sync::Arc::new(writes.collect())).await.unwrap();
        let engine = Engine::new(&config, &[], &BTreeMap::new(), START);
        let (calls, unsettled) = (VecDeque::new(), VecDeque::new());
        Self { engine, keyring, now: START, calls, unsettled, scans: 0, wakes: 0 }
    }

    async fn tell(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = Vec::new();
            self.engine.handle(event, self.now, &mut actions);
            for action in actions {
                match action {
                    Action::Scan(query) => {
                        self.scans += 1;
                        events.push_back(Event::Scanned(self.keyring.due(query).await.unwrap()));
                    }
                    Action::FetchTicket { ticket: place, audience, .. } => {
                        let text = Secret::new(ticket(audience, self.now, 1));
                        let result = Ok(std::sync::Arc::new(ServiceTicket::parse(text).unwrap()));
                        events.push_back(Event::Ticket(place, TicketFetched { result, date: None }));
                    }
                    Action::Renew(call) => self.calls.push_back(call.record),
                    Action::Settle(writes) => self.unsettled.push_back(writes),
                    _ => {}
                }
            }
            self.check_bounds();
        }
    }

    /// The promise: memory follows concurrency, never the population.
    fn check_bounds(&self) {
        let seen = self.engine.observe(self.now);
        assert!(seen.in_flight <= CONCURRENCY, "{}", seen.in_flight);
        for line in &seen.lines {
            assert!(line.queued <= QUEUED_MAX, "{line:?}");
        }
        let most = QUEUED_MAX * seen.lines.len() + SETTLING_MAX + CONCURRENCY;
        assert!(seen.rows <= most, "{} rows in memory", seen.rows);
    }

    /// Answers the oldest attempt with nothing that is to be learnt from.
    async fn fail_one(&mut self) {
        let Some(record) = self.calls.pop_front() else { return };
        let finished = Finished {
            record,
            subject: storekeeper_keeper::engine::Subject::Held,
            answer: Answer::Silent(Silence { congested: false, broken: true, retry_after: None }),
            status: Some(500),
            code: "unavailable",
            correlation_id: None,
            store_date: None,
            took: None,
        };
        self.tell(Event::Finished(Box::new(finished))).await;
    }

    async fn settle_one(&mut self) {
        let Some(writes) = self.unsettled.pop_front() else { return };
        let results = self.keyring.settle(writes).await.unwrap();
        self.tell(Event::Settled(results)).await;
    }

    /// Lets time pass as a sleeper would, until `until`.
    async fn sleep(&mut self, until: Timestamp) {
        while let Some(at) = self.engine.wake_at(self.now).filter(|at| *at <= until) {
            assert!(at > self.now);
            (self.now, self.wakes) = (at, self.wakes + 1);
            self.tell(Event::Wake).await;
        }
        self.now = until;
    }
}

/// A key of this age, with a text that nobody will look at.
fn key(age: std::time::Duration) -> SealedKey {
    let key = StoreIdKey::parse(Secret::new(Mint::new(KIND, "anybody", START - age, 1).jwt())).unwrap();
    SealedKey::new(&key, Sealed { root_generation: 1, format: 0, bytes: vec![0; 8] })
}

/// A row that was proven.
fn row(number: usize, key: &SealedKey) -> Record {
    let identity = Identity { kind: KIND, ..identity(&player(number)) };
    let policy = config().apps[0].policy;
    let id = identity.key_id();
    Record {
        id,
        identity,
        revision: Revision::first(START),
        key_version: 2,
        enrolled: key.fingerprint,
        next_attempt_at: storekeeper_policy::renew_at(&policy, id, &key.lifetime),
        key: key.clone(),
        state: State::ACTIVE,
        proven: true,
        failures: 0,
        history: History::default(),
        last_used_day: None,
        newcomer: None,
    }
}

#[tokio::test]
async fn invariant_9_memory_follows_concurrency_and_not_what_is_due() {
    let mut bare = Bare::new(100_000, DAY * 12).await;
    bare.tell(Event::Wake).await;
    assert_eq!(bare.engine.observe(bare.now).in_flight, CONCURRENCY);
    // Nothing comes back: nothing more is fetched.
    let scans = bare.scans;
    bare.sleep(START + HOUR).await;
    assert!(bare.scans - scans <= 61, "{} scans in an hour in which nothing moved", bare.scans - scans);
    // Everything comes back, and nothing becomes durable.
    for _ in 0..40_000 {
        bare.fail_one().await;
    }
    assert!(bare.calls.len() <= CONCURRENCY);
    let stuck = bare.engine.observe(bare.now).rows;
    assert!(stuck <= SETTLING_MAX + QUEUED_MAX * 2 + CONCURRENCY, "{stuck}");
    // And then it does: on it goes.
    for _ in 0..20 {
        bare.settle_one().await;
        for _ in 0..1_000 {
            bare.fail_one().await;
        }
    }
    assert!(bare.scans > scans);
}

#[tokio::test]
async fn invariant_9_nothing_due_costs_nothing() {
    let mut bare = Bare::new(10_000, DAY).await;
    bare.tell(Event::Wake).await;
    let first = 1;
    assert_eq!(bare.scans, first);
    let key = key(DAY);
    let soonest = (0..10_000).filter_map(|number| row(number, &key).next_attempt_at).min().unwrap();
    assert!(soonest > START + DAY * 5);
    bare.sleep(soonest - TICK * 2).await;
    assert_eq!((bare.scans, bare.wakes), (first, 0), "it slept through");
    assert_eq!(bare.engine.observe(bare.now).rows, 0);
}

#[tokio::test]
async fn invariant_9_scans_come_once_in_a_minute_at_most() {
    let world = World::new().await;
    world.proven(500).await;
    world.advance(DAY * 7).await;
    world.keyring.take_scans();
    world.advance(DAY * 4).await;
    let scans = world.keyring.take_scans();
    assert!(scans <= 4 * 24 * 60, "{scans}");
    world.store.set(|store| store.mood = crate::support::store::Mood::Broken);
    world.advance(DAY * 6).await;
    world.keyring.take_scans();
    world.advance(DAY).await;
    let scans = world.keyring.take_scans();
    assert!(scans <= 24 * 60 * 2, "{scans} while the Store is down");
}

#[tokio::test]
async fn invariant_9_a_key_that_nobody_reads_is_not_renewed_for_ever() {
    let mut config = config();
    config.apps[0].policy.retain = Some(DAY * 15);
    let world = World::with(config).await;
    world.proven(2).await;
    for _ in 0..60 {
        world.advance(DAY).await;
        world.served(&player(0)).await;
    }
    let (read, unread) = (world.view(&player(0)).await, world.view(&player(1)).await);
    assert!(read.issued_at > world.now() - DAY * 12 && read.renew_at.is_some());
    assert_eq!(unread.renew_at, None);
    assert!(unread.issued_at < world.now() - DAY * 30);
    assert_eq!(world.counts().await.lapsed, 1);
}

#[tokio::test]
async fn invariant_9_a_key_laid_aside_is_renewed_once_it_is_read() {
    let mut config = config();
    config.apps[0].policy.retain = Some(DAY * 15);
    let world = World::with(config).await;
    world.proven(1).await;
    let laid_aside = async || world.view(&player(0)).await.renew_at.is_none();
    for _ in 0..40 {
        world.advance(DAY).await;
        if laid_aside().await {
            break;
        }
    }
    assert!(laid_aside().await);
    let before = world.served(&player(0)).await;
    world.advance(MINUTE).await;
    assert_ne!(world.served(&player(0)).await, before);
    assert!(world.view(&player(0)).await.renew_at.is_some());
}

#[tokio::test]
async fn invariant_9_an_order_is_answered_although_ten_thousand_rows_wait() {
    let mut bare = Bare::new(20_000, DAY * 12).await;
    bare.tell(Event::Wake).await;
    let mut actions = Vec::new();
    bare.engine.handle(
        Event::Order(Waiter(1), storekeeper_keeper::engine::AppIndex(0), Order::Pause),
        bare.now,
        &mut actions,
    );
    assert!(actions.iter().any(|action| matches!(action, Action::ReplyOrder(Waiter(1), _))));
    // What waited is given back, and nothing new is fetched.
    let rows = bare.engine.observe(bare.now).rows;
    assert!(rows <= CONCURRENCY, "{rows}");
}
