//! Several keepers that share one keyring, each with a clock and a way to the keyring of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use storekeeper_client::{PreparedRequest, RawAnswer, Transport, TransportError};
use storekeeper_clock::{Clock, VirtualClock};
use storekeeper_keeper::{Keeper, NodeConfig};
use storekeeper_keyring::{Keyring, MasterKey, MemoryKeyring, NodeId, OutcomeResult, Record};

use super::clock::WrongClock;
use super::link::Link;
use super::store::Store;
use super::{KIND, START, config, identity, request};

/// The Store, whose answers to renewals reach this keeper so much later.
struct Slow {
    store: Arc<Store>,
    clock: VirtualClock,
    late_by: Mutex<Duration>,
}

impl Transport for Slow {
    fn send(&self, request: PreparedRequest, timeout: Duration) -> BoxFuture<'_, Result<RawAnswer, TransportError>> {
        let is_renewal = request.url.path().ends_with("/keys/renew");
        let answer = self.store.send(request, timeout);
        let late_by = if is_renewal { *self.late_by.lock().unwrap() } else { Duration::ZERO };
        async move {
            let answer = answer.await;
            if !late_by.is_zero() {
                self.clock.delay(late_by).await;
            }
            answer
        }
        .boxed()
    }
}

pub(crate) struct Member {
    pub(crate) keeper: Keeper,
    pub(crate) link: Arc<Link>,
    pub(crate) clock: Arc<WrongClock>,
    pub(crate) id: NodeId,
    transport: Arc<Slow>,
}

impl Member {
    /// The Store's answers reach this keeper so much later from now on.
    pub(crate) fn hear_late_by(&self, late_by: Duration) {
        *self.transport.late_by.lock().unwrap() = late_by;
    }

    pub(crate) async fn metric(&self, line: &str) -> f64 {
        let text = self.keeper.metrics().await;
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
        };
        for number in 1..=count {
            fleet.join(number).await;
        }
        fleet.advance(Duration::from_secs(8)).await;
        fleet
    }

    pub(crate) async fn join(&mut self, number: u8) {
        let id = NodeId::from_bytes([number; 16]);
        let node = NodeConfig { id, name: format!("node-{number}"), ..NodeConfig::default() };
        let config = storekeeper_keeper::KeeperConfig { node, seed: u64::from(number), ..config() };
        let clock = Arc::new(WrongClock::new(self.clock.clone()));
        let link = Link::to(&self.memory);
        let late_by = Mutex::new(Duration::ZERO);
        let transport = Arc::new(Slow { store: Arc::clone(&self.store), clock: self.clock.clone(), late_by });
        let (keyring, way, ours) = (Arc::clone(&link) as _, Arc::clone(&transport) as _, Arc::clone(&clock) as _);
        let keeper = Keeper::start(config, keyring, &self.master, way, ours).await.unwrap();
        self.members.push(Member { keeper, link, clock, id, transport });
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
