//! A whole keeper over the memory keyring, on a clock that is moved, towards a Store that does as it is told.

pub(crate) mod clock;
pub(crate) mod fleet;
pub(crate) mod keyring;
pub(crate) mod link;
pub(crate) mod mint;
pub(crate) mod store;

use std::sync::Arc;
use std::time::Duration;

use storekeeper_client::{Endpoint, EntraVersion};
use storekeeper_clock::{Clock, VirtualClock};
use storekeeper_keeper::{
    AppConfig, AppStats, EnrollError, EnrollRequest, Enrolled, FixedSecret, Keeper, KeeperConfig, KeyView, KindStats,
    Limits, ListQuery, LiveKey, ReadError, RenewError, UserClaim, Visibility,
};
use storekeeper_keyring::{Keyring, MasterKey, Record};
use storekeeper_model::{AppName, ClientId, Fingerprint, Identity, KeyKind, Secret, Slot, Timestamp, UserName};
use storekeeper_policy::RenewalPolicy;

use self::clock::WrongClock;
use self::keyring::HeldKeyring;
use self::store::Store;

/// When the tests take place.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_790_000_000);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const CLIENT: &str = "22222222-2222-4222-8222-222222222222";
pub(crate) const SECRET: &str = "the-secret-of-the-application";
/// The kind of most keys here.
pub(crate) const KIND: KeyKind = KeyKind::Collections;

pub(crate) fn mygame() -> AppName {
    AppName::new("mygame").unwrap()
}

/// `player-0007`'s collections key.
pub(crate) fn identity(user: &str) -> Identity {
    Identity { app: mygame(), user: UserName::from_bytes(user.as_bytes()).unwrap(), slot: Slot::default(), kind: KIND }
}

pub(crate) fn player(number: usize) -> String {
    format!("player-{number:04}")
}

pub(crate) fn app(name: &str) -> AppConfig {
    AppConfig {
        name: AppName::new(name).unwrap(),
        tenant: String::from("11111111-1111-4111-8111-111111111111"),
        client_id: ClientId::new(CLIENT),
        credentials: vec![Arc::new(FixedSecret(Secret::new(SECRET.to_owned())))],
        user_claim: UserClaim::Ignore,
        policy: RenewalPolicy::default(),
    }
}

pub(crate) fn config() -> KeeperConfig {
    let endpoint = |host: &str| Endpoint::parse(&format!("https://{host}")).unwrap();
    KeeperConfig {
        apps: vec![app("mygame")],
        collections: endpoint("collections.mp.microsoft.com"),
        purchase: endpoint("purchase.mp.microsoft.com"),
        entra: endpoint("login.microsoftonline.com"),
        entra_version: EntraVersion::V2,
        concurrency: 16,
        request_timeout: Duration::from_secs(10),
        cache_rows: 100,
        limits: Limits::On,
        seed: 7,
        accept_orphans: false,
        rescue_folder: None,
        node: storekeeper_keeper::NodeConfig::default(),
    }
}

pub(crate) struct World {
    pub(crate) keeper: Keeper,
    pub(crate) keyring: Arc<HeldKeyring>,
    /// The true time.
    pub(crate) clock: VirtualClock,
    /// The keeper's.
    pub(crate) ours: Arc<WrongClock>,
    pub(crate) store: Arc<Store>,
    pub(crate) master: MasterKey,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: KeeperConfig) -> Self {
        let clock = VirtualClock::frozen_at(START);
        let ours = Arc::new(WrongClock::new(clock.clone()));
        let keyring = Arc::new(HeldKeyring::default());
        let store = Store::new(clock.clone());
        let master = MasterKey::generate();
        let (memory, transport) = (Arc::clone(&keyring) as _, Arc::clone(&store) as _);
        let keeper = Keeper::start(config, memory, &master, transport, Arc::clone(&ours) as _).await.unwrap();
        Self { keeper, keyring, clock, ours, store, master }
    }

    /// Another keeper on the same keyring.
    pub(crate) async fn another(&self, config: KeeperConfig) -> Keeper {
        let (keyring, store) = (Arc::clone(&self.keyring) as _, Arc::clone(&self.store) as _);
        Keeper::start(config, keyring, &self.master, store, Arc::clone(&self.ours) as _).await.unwrap()
    }

    /// Runs through so much time; everything that falls due in it is done.
    pub(crate) async fn advance(&self, span: Duration) {
        // What was just spawned takes its hold on the clock first.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        self.clock.advance(span).await.unwrap();
    }

    /// Waits for an answer, and lets time pass while there is none.
    pub(crate) async fn answer<T: Send + 'static>(&self, asked: impl Future<Output = T> + Send + 'static) -> T {
        let asked = tokio::spawn(asked);
        for _ in 0..300 {
            self.rest().await;
            if asked.is_finished() {
                return asked.await.unwrap();
            }
            self.advance(SECOND).await;
        }
        panic!("no answer within five minutes");
    }

    /// Has a player's key renewed now.
    pub(crate) async fn renew(&self, user: &str) -> Result<KeyView, RenewError> {
        let (keeper, identity) = (self.keeper.clone(), identity(user));
        self.answer(async move { keeper.renew(&identity).await }).await
    }

    /// Reads a key that is to live so much longer.
    pub(crate) async fn get_with(&self, user: &str, min_ttl: Duration) -> Result<LiveKey, ReadError> {
        let (keeper, identity) = (self.keeper.clone(), identity(user));
        self.answer(async move { keeper.get(&identity, Some(min_ttl)).await }).await
    }

    /// Lets everything that is due now be done.
    pub(crate) async fn rest(&self) {
        self.advance(Duration::ZERO).await;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets other tasks run until this holds; for when something is held back, and so the clock cannot tell.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if holds() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("this never happened: {what}");
    }

    /// A text that was issued so long ago.
    pub(crate) fn mint(&self, user: &str, age: Duration) -> String {
        self.store.mint(KIND, user, self.now() - age).jwt()
    }

    pub(crate) async fn try_enroll(&self, user: &str, key: &str) -> Result<Enrolled, EnrollError> {
        let mut answers = self.keeper.enroll(vec![request(&identity(user), key)]).await;
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    /// Hands in a key of this age and returns it.
    pub(crate) async fn enroll(&self, user: &str, age: Duration) -> String {
        let key = self.mint(user, age);
        self.try_enroll(user, &key).await.unwrap();
        key
    }

    /// Hands in a key that the Store refuses.
    pub(crate) async fn enroll_dead(&self, user: &str, age: Duration) -> String {
        let key = self.mint(user, age);
        self.store.kill(Fingerprint::of(&key));
        self.try_enroll(user, &key).await.unwrap();
        key
    }

    /// Players 0 to `count`, each with a proven key issued now.
    pub(crate) async fn proven(&self, count: usize) {
        let requests = (0..count).map(|number| {
            let user = player(number);
            request(&identity(&user), &self.mint(&user, DAY * 11))
        });
        for enrolled in self.keeper.enroll(requests.collect()).await {
            enrolled.unwrap();
        }
        for minute in 0.. {
            if self.counts().await.unproven == 0 {
                break;
            }
            assert!(minute < 100, "keys that are due are not renewed");
            self.advance(MINUTE).await;
        }
        self.store.take_log();
    }

    pub(crate) async fn get(&self, user: &str) -> Result<LiveKey, ReadError> {
        self.keeper.get(&identity(user), None).await
    }

    /// The fingerprint of the key that is served.
    pub(crate) async fn served(&self, user: &str) -> Fingerprint {
        let live = self.get(user).await.unwrap();
        assert_eq!(Fingerprint::of(live.key.expose()), live.view.fingerprint);
        live.view.fingerprint
    }

    pub(crate) async fn view(&self, user: &str) -> KeyView {
        self.keeper.show(&identity(user)).await.unwrap()
    }

    /// The row as it is kept.
    pub(crate) async fn row(&self, user: &str) -> Record {
        self.keyring.memory.find(&[identity(user).key_id()]).await.unwrap().remove(0).unwrap()
    }

    pub(crate) async fn everybody(&self) -> Vec<KeyView> {
        let query = ListQuery {
            app: None,
            standing: None,
            due_before: None,
            after: None,
            limit: 1000,
            visible: Visibility::All,
        };
        let mut query = query;
        let mut keys = Vec::new();
        loop {
            let page = self.keeper.list(query.clone()).await.unwrap();
            keys.extend(page.keys);
            query.after = page.next;
            if query.after.is_none() {
                return keys;
            }
        }
    }

    pub(crate) async fn app(&self) -> AppStats {
        self.keeper.stats().await.unwrap().apps.remove(0)
    }

    /// Both kinds added up.
    pub(crate) async fn counts(&self) -> KindStats {
        let mut sum = KindStats::default();
        for (_, kind) in self.app().await.kinds {
            sum.active += kind.active;
            sum.revoked += kind.revoked;
            sum.lapsed += kind.lapsed;
            sum.refused += kind.refused;
            sum.unproven += kind.unproven;
            sum.due_backlog += kind.due_backlog;
            sum.past_deadline += kind.past_deadline;
            sum.handed_over += kind.handed_over;
        }
        sum
    }

    /// Why the app is paused, if it is.
    pub(crate) async fn paused(&self) -> Option<String> {
        self.app().await.paused.map(|paused| paused.reason)
    }

    /// A sample of the metrics, by the start of its line.
    pub(crate) async fn metric(&self, line: &str) -> f64 {
        let text = self.keeper.metrics(&Visibility::All).await;
        let sample = text.lines().find_map(|found| found.strip_prefix(line));
        sample.map_or(0.0, |rest| rest.trim().parse().unwrap())
    }

    /// How often something of this type was announced.
    pub(crate) async fn events(&self, kind: &str) -> f64 {
        self.metric(&format!("storekeeper_events_total{{type=\"{kind}\"}}")).await
    }
}

pub(crate) fn request(identity: &Identity, key: &str) -> EnrollRequest {
    EnrollRequest {
        app: identity.app.clone(),
        user: identity.user.clone(),
        slot: identity.slot.clone(),
        kind: Some(identity.kind),
        key: Secret::new(key.to_owned()),
    }
}
