//! Several keepers that share one keyring, each with a clock and a way to the keyring of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use storekeeper_client::{PreparedRequest, RawAnswer, Transport, TransportError};
use storekeeper_clock::{Clock, VirtualClock};
use storekeeper_keeper::{Keeper, NodeConfig, Visibility};
use storekeeper_keyring::{Keyring, MasterKey, MemoryKeyring, NodeId, OutcomeResult, Record};
use storekeeper_model::{Secret, StoreIdKey};

use super::clock::WrongClock;
use super::link::Link;
use super::store::Store;
use super::{KIND, START, config, identity, request};

/// How a keeper's way to the Store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// The Store hears nothing.
    Cut,
    /// The Store hears and does, and the answer is lost.
    LosesAnswers,
}

/// One keeper's way to the Store and to Entra, on which answers to renewals may be late by a span.
struct Road {
    id: NodeId,
    store: Arc<Store>,
    memory: Arc<MemoryKeyring>,
    clock: VirtualClock,
    way: Mutex<(Way, Duration)>,
    /// Renewals that were sent where another one held the lease.
    trespasses: Arc<Mutex<Vec<String>>>,
    /// The limit of each request.
    limits: Mutex<Vec<Duration>>,
}

impl Road {
    /// A renewal is for the owner of its bucket alone, at the moment at which it is sent.
    fn check(&self, request: &PreparedRequest) {
        let body: serde_json::Value = serde_json::from_slice(request.body.expose()).unwrap();
        let key = StoreIdKey::parse(Secret::new(body["key"].as_str().unwrap().to_owned())).unwrap();
        let bucket = identity(key.user_id().as_str()).key_id().bucket();
        let leases = self.memory.leases().unwrap().all().now_or_never().expect("memory answers at once").unwrap();
        let owner = leases[usize::from(bucket.number())].owner;
        if owner != Some(self.id) {
            let told = format!("{:?} renews in the bucket of {owner:?} at {}", self.id, self.clock.now());
            self.trespasses.lock().unwrap().push(told);
        }
    }
}

impl Transport for Road {
    fn send(&self, request: PreparedRequest, timeout: Duration) -> BoxFuture<'_, Result<RawAnswer, TransportError>> {
        self.limits.lock().unwrap().push(timeout);
        let (way, late_by) = *self.way.lock().unwrap();
        let is_renewal = request.url.path().ends_with("/keys/renew");
        if is_renewal {
            self.check(&request);
        }
        if way == Way::Cut {
            return std::future::ready(Err(TransportError::TimedOut)).boxed();
        }
        let answer = self.store.send(request, timeout);
        async move {
            let answer = answer.await;
            if is_renewal && !late_by.is_zero() {
                self.clock.delay(late_by).await;
            }
            if way == Way::LosesAnswers { Err(TransportError::TimedOut) } else { answer }
        }
        .boxed()
    }
}

pub(crate) struct Member {
    pub(crate) keeper: Keeper,
    pub(crate) link: Arc<Link>,
    pub(crate) clock: Arc<WrongClock>,
    pub(crate) id: NodeId,
    road: Arc<Road>,
}

impl Member {
    /// The Store's answers reach this keeper so much later from now on.
    pub(crate) fn hear_late_by(&self, late_by: Duration) {
        self.road.way.lock().unwrap().1 = late_by;
    }

    /// The way to the Store and to Entra is so from now on.
    pub(crate) fn reach_store(&self, way: Way) {
        self.road.way.lock().unwrap().0 = way;
    }

    /// The limits of the requests that it has sent.
    pub(crate) fn limits(&self) -> Vec<Duration> {
        self.road.limits.lock().unwrap().clone()
    }

    pub(crate) async fn metric(&self, line: &str) -> f64 {
        let text = self.keeper.metrics(&Visibility::All).await;
        let samples = text.lines().filter_map(|found| found.strip_prefix(line));
        samples.filter_map(|rest| rest.split_whitespace().last()).map(|value| value.parse::<f64>().unwrap()).sum()
    }

    /// How many leases are its own in its own opinion.
    pub(crate) async fn held(&self) -> f64 {
        self.metric("storekeeper_lease_held").await
    }
}

pub(crate) struct Fleet {
    pub(crate) members: Vec<Member>,
    pub(crate) memory: Arc<MemoryKeyring>,
    pub(crate) clock: VirtualClock,
    pub(crate) store: Arc<Store>,
    master: MasterKey,
    trespasses: Arc<Mutex<Vec<String>>>,
}

impl Fleet {
    /// So many keepers, who have shared the buckets.
    pub(crate) async fn of(count: u8) -> Self {
        let clock = VirtualClock::frozen_at(START);
        let mut fleet = Self {
            members: Vec::new(),
            memory: Arc::new(MemoryKeyring::shared()),
            store: Store::new(clock.clone()),
            clock,
            master: MasterKey::generate(),
            trespasses: Arc::default(),
        };
        for number in 1..=count {
            fleet.join(number).await;
        }
        fleet.advance(Duration::from_secs(8)).await;
        fleet
    }

    pub(crate) async fn join(&mut self, number: u8) {
        self.join_drifting(number, 0.0).await;
    }

    /// The same with a clock that gains this share of each span.
    pub(crate) async fn join_drifting(&mut self, number: u8, drift: f64) {
        let id = NodeId::from_bytes([number; 16]);
        let node = NodeConfig { id, name: format!("node-{number}"), ..NodeConfig::default() };
        let config = storekeeper_keeper::KeeperConfig { node, seed: u64::from(number), ..config() };
        let clock = Arc::new(WrongClock::drifting(self.clock.clone(), drift));
        let link = Link::to(&self.memory);
        let road = Arc::new(Road {
            id,
            store: Arc::clone(&self.store),
            memory: Arc::clone(&self.memory),
            clock: self.clock.clone(),
            way: Mutex::new((Way::Open, Duration::ZERO)),
            trespasses: Arc::clone(&self.trespasses),
            limits: Mutex::default(),
        });
        let (keyring, way, ours) = (Arc::clone(&link) as _, Arc::clone(&road) as _, Arc::clone(&clock) as _);
        let keeper = Keeper::start(config, keyring, &self.master, way, ours).await.unwrap();
        self.members.push(Member { keeper, link, clock, id, road });
    }

    pub(crate) async fn advance(&self, span: Duration) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        self.clock.advance(span).await.unwrap();
    }

    /// Waits for an answer, and lets time pass while there is none.
    pub(crate) async fn answer<T: Send + 'static>(&self, asked: impl Future<Output = T> + Send + 'static) -> T {
        let asked = tokio::spawn(asked);
        for _ in 0..300 {
            self.advance(Duration::from_millis(100)).await;
            if asked.is_finished() {
                return asked.await.unwrap();
            }
        }
        panic!("no answer within thirty seconds");
    }

    pub(crate) async fn held(&self) -> Vec<f64> {
        let mut held = Vec::new();
        for member in &self.members {
            held.push(member.held().await);
        }
        held
    }

    /// Renewals that were sent by another than the owner of their bucket.
    pub(crate) fn trespasses(&self) -> Vec<String> {
        self.trespasses.lock().unwrap().clone()
    }

    /// Whose a player's key is.
    pub(crate) async fn owner(&self, user: &str) -> usize {
        let bucket = identity(user).key_id().bucket();
        let leases = self.memory.leases().unwrap().all().await.unwrap();
        let owner = leases[usize::from(bucket.number())].owner.unwrap();
        self.members.iter().position(|member| member.id == owner).unwrap()
    }

    /// Hands a key of this age to one of the keepers; returns it.
    pub(crate) async fn enroll(&self, member: usize, user: &str, age: Duration) -> String {
        let key = self.store.mint(KIND, user, self.clock.now() - age).jwt();
        for enrolled in self.members[member].keeper.enroll(vec![request(&identity(user), &key)]).await {
            enrolled.unwrap();
        }
        key
    }

    pub(crate) async fn row(&self, user: &str) -> Record {
        self.memory.find(&[identity(user).key_id()]).await.unwrap().remove(0).unwrap()
    }

    /// How many renewals stand in a row's history.
    pub(crate) async fn renewed(&self, user: &str) -> usize {
        self.row(user).await.history.iter().filter(|outcome| outcome.result == OutcomeResult::Renewed).count()
    }
}
