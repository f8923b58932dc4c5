//! `Keeper`: the handle through which everybody else speaks with the keeper.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use storekeeper_client::Transport;
use storekeeper_clock::Clock;
use storekeeper_keyring::seal::{MasterKey, Role, Sealer};
use storekeeper_keyring::{ClockReport, Expected, Keyring, KeyringError, Outcome, Presence, Record, Settled, Write};
use storekeeper_model::{AppName, Audience, Bucket, Identity, KeyId, KeyKind, Slot, UserName};
use storekeeper_policy::Standing;
use storekeeper_supervisor::Supervisor;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};

use crate::attempt::Attempts;
use crate::config::{AppConfig, KeeperConfig};
use crate::engine::{AppIndex, Asked, Engine, Event, Observation, Order};
use crate::error::{EnrollError, OrderError, ReadError, RenewError, TicketError};
use crate::fleet::{Fleet, FleetPostbox, FleetTask};
use crate::health::Surroundings;
use crate::holding::Holding;
use crate::intake::{Intake, OurClock};
use crate::keyring_state::KeyringState;
use crate::metrics::Metrics;
use crate::rescuer::{open_rescue, take_up_again};
use crate::rows::Rows;
use crate::shell::{self, Message, Postbox, Shell, Tools};
use crate::shutdown::Drain;
use crate::start::{StartError, check_apps, open_sealer};
use crate::store_time::StoreTime;
use crate::survey::Survey;
use crate::timed::Timed;
use crate::view::{EnrollRequest, Enrolled, KeyView, LiveKey, TicketView};

/// A row that many callers write at once is tried this often.
const ROUNDS_MAX: usize = 8;
/// How long somebody who asks for a renewal waits for it.
const ASKED_MAX: Duration = Duration::from_secs(10);
/// A running keeper. Clones share it.
#[derive(Clone)]
pub struct Keeper {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: Arc<KeeperConfig>,
    pub(crate) names: Vec<AppName>,
    pub(crate) apps: BTreeMap<AppName, AppConfig>,
    pub(crate) index: BTreeMap<AppName, AppIndex>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) tools: Arc<Tools>,
    pub(crate) postbox: Postbox,
    pub(crate) survey: Survey,
    pub(crate) keyring_state: Arc<KeyringState>,
    pub(crate) surroundings: OnceLock<Arc<dyn Surroundings>>,
    pub(crate) shell: Mutex<Option<JoinHandle<()>>>,
    pub(crate) fleet: Mutex<Option<(FleetPostbox, JoinHandle<()>)>>,
    used: Mutex<HashMap<KeyId, i64>>,
    flushing: AtomicBool,
    /// The search for rescue files, where there is a folder.
    pub(crate) taking_up: Option<AbortHandle>,
    pub(crate) drain: Drain,
}

impl Keeper {
    /// Starts a keeper on the current Tokio runtime: checks the apps against the keyring, unwraps the roots (or makes
    /// the first one, durably), and begins to renew what is due.
    ///
    /// # Errors
    /// See [`StartError`]; nothing was changed but, perhaps, the first root and new apps' rows.
    pub async fn start(
        config: KeeperConfig,
        keyring: Arc<dyn Keyring>,
        master: &MasterKey,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let is_shared = keyring.leases().is_some();
        let metrics = Metrics::new();
        let supervisor = keyring.supervisor().cloned().unwrap_or_default();
        let keyring_state = Arc::new(KeyringState::new(keyring.location()));
        let keyring: Arc<dyn Keyring> = Arc::new(Timed::new(keyring, Arc::clone(&keyring_state), &metrics));
        let expiries = |app: &AppConfig| app.credentials.iter().map(|credential| credential.expires_at()).collect();
        let credentials: Vec<_> = config.apps.iter().map(|app| (app.name.clone(), expiries(app))).collect();
        let survey = Survey::new(&metrics, &credentials);
        let now = clock.now();
        let (rows, populations) = check_apps(&config, &*keyring, now).await?;
        let sealer = Arc::new(open_sealer(&*keyring, master, now).await?);
        let rescue = open_rescue(&config, &sealer, now).await;
        let mut engine = Engine::new(&config, &rows, &populations, now);
        if is_shared {
            engine.join_fleet();
        }
        let config = Arc::new(config);
        let attempts = Attempts::new(Arc::clone(&config), Arc::clone(&sealer), transport, Arc::clone(&clock));
        let tools = Arc::new(Tools {
            keyring: Rows::new(keyring, config.cache_rows, supervisor.clone()),
            clock,
            attempts,
            metrics,
            holding: if is_shared { Holding::shared() } else { Holding::alone() },
            store_time: StoreTime::new(),
            supervisor,
            rescue: Arc::clone(&rescue),
        });
        // Before any of their predecessors is tried.
        rescue.take_up(&tools.keyring, &sealer, now).await;
        let (postbox, shell) = Shell::spawn(engine, Arc::clone(&tools));
        tools.metrics.leases(if is_shared { 0 } else { usize::from(Bucket::COUNT) }, 0);
        let fleet = is_shared.then(|| {
            let node = &config.node;
            let me = Presence {
                id: node.id,
                name: node.name.clone(),
                draining: false,
                leaving: false,
                clock: ClockReport::Unknown,
            };
            FleetTask::spawn(Fleet::new(me, node.times), Arc::clone(&tools), postbox.clone())
        });
        let taking_up = rescue.has_folder().then(|| {
            tokio::spawn(take_up_again(Arc::clone(&tools), Arc::clone(&sealer), postbox.clone())).abort_handle()
        });
        let names: Vec<AppName> = config.apps.iter().map(|app| app.name.clone()).collect();
        let inner = Inner {
            apps: config.apps.iter().map(|app| (app.name.clone(), app.clone())).collect(),
            index: names.iter().enumerate().map(|(index, name)| (name.clone(), AppIndex(index))).collect(),
            names,
            config,
            sealer,
            tools,
            postbox,
            survey,
            keyring_state,
            surroundings: OnceLock::new(),
            shell: Mutex::new(Some(shell)),
            fleet: Mutex::new(fleet),
            used: Mutex::default(),
            flushing: AtomicBool::new(false),
            taking_up,
            drain: Drain::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes keys in, in order; each answers for itself, and an `Ok` is durable.
    pub async fn enroll(&self, requests: Vec<EnrollRequest>) -> Vec<Result<Enrolled, EnrollError>> {
        let keeper = self.clone();
        let hold = self.clock().hold("an enrollment");
        let work = async move {
            let inner = &keeper.inner;
            let intake = Intake { apps: &inner.apps, keyring: &inner.tools.keyring, sealer: &inner.sealer };
            let checked = intake.check_all(requests);
            keeper.wait_for_the_time(intake.depends_on_clock(&checked, keeper.clock().now())).await;
            let (now, clock) = (keeper.clock().now(), inner.tools.our_clock());
            let (answers, due_at) = intake.take_in(checked, now, clock).await;
            if let Some(due_at) = due_at {
                inner.postbox.send(Message::Event(Event::Changed(due_at)));
            }
            drop(hold);
            answers
        };
        // In a task of its own, so that a caller who goes away undoes nothing half-way.
        tokio::spawn(work).await.unwrap_or_else(|_| vec![Err(EnrollError::ShuttingDown)])
    }

    /// Hands out a live key. With `min_ttl` a key with less life than that is renewed first, single flight; if that
    /// fails the live key is served and [`LiveKey::renewal_failed`] says so.
    ///
    /// # Errors
    /// [`ReadError`]: only `Revoked` and `Lapsed` mean that the player has to mint a new key.
    pub async fn get(&self, identity: &Identity, min_ttl: Option<Duration>) -> Result<LiveKey, ReadError> {
        let record = self.read(identity).await?;
        self.wait_for_the_time(self.has_expired(&record)).await;
        let key = self.live(&record)?;
        match min_ttl {
            Some(min_ttl) if self.lives_shorter(&record, min_ttl)? => self.get_renewed(record, key).await,
            _ => Ok(key),
        }
    }

    /// Hands out many, in order; one read for all.
    pub async fn get_many(&self, identities: &[Identity]) -> Vec<Result<LiveKey, ReadError>> {
        let ids: Vec<KeyId> = identities.iter().map(Identity::key_id).collect();
        let rows = self.inner.tools.keyring.read_many(&ids).await;
        let expired = rows.iter().any(|row| matches!(row, Ok(Some(row)) if self.has_expired(row)));
        self.wait_for_the_time(expired).await;
        let answer = |(identity, row): (&Identity, Result<Option<Arc<Record>>, KeyringError>)| {
            self.known_app(&identity.app)?;
            let row = row?.ok_or(ReadError::NotFound)?;
            self.live(&row)
        };
        identities.iter().zip(rows).map(answer).collect()
    }

    /// What is known of a key in any state, without the key and without noting a use.
    ///
    /// # Errors
    /// [`ReadError::AppUnknown`], [`ReadError::NotFound`], [`ReadError::Keyring`].
    pub async fn show(&self, identity: &Identity) -> Result<KeyView, ReadError> {
        let record = self.read(identity).await?;
        Ok(KeyView::of(&record, self.clock().now()))
    }

    /// The last outcomes, oldest first.
    ///
    /// # Errors
    /// As [`Keeper::show`].
    pub async fn history(&self, identity: &Identity) -> Result<Vec<Outcome>, ReadError> {
        let record = self.read(identity).await?;
        Ok(record.history.iter().collect())
    }

    /// Renews now, single flight; also a key that is not due.
    ///
    /// # Errors
    /// See [`RenewError`]; the held key is untouched and served while it lives.
    pub async fn renew(&self, identity: &Identity) -> Result<KeyView, RenewError> {
        let record = self.read(identity).await?;
        self.wait_for_the_time(self.has_expired(&record)).await;
        self.check_alive(&record)?;
        if record.is_handed_over() {
            return Err(ReadError::HandedOver.into());
        }
        let until = self.clock().now() + ASKED_MAX;
        let (reply, asked) = oneshot::channel();
        self.inner.postbox.send(Message::Ask(Box::new(Record::clone(&record)), reply));
        let asked = tokio::select! {
            asked = asked => asked.map_err(|_| RenewError::ShuttingDown)?,
            // It goes on without this caller.
            _ = self.clock().sleep_until(until) => Asked::Failed("under_way", None),
        };
        match asked {
            Asked::Renewed(view) => Ok(*view),
            Asked::Overtaken => Ok(self.show(identity).await?),
            Asked::Elsewhere => self.renew_elsewhere(&record, until).await,
            Asked::Paused(reason) => Err(RenewError::Paused { reason }),
            Asked::Refused => Err(RenewError::Refused),
            Asked::Failed(code, retry_after) => Err(RenewError::Failed { code, retry_after }),
        }
    }

    /// Forgets one key, or with `kind: None` every key of the player (in `slot` if given, else in all slots). Returns
    /// how many there were.
    ///
    /// # Errors
    /// [`ReadError::AppUnknown`], [`ReadError::Keyring`].
    pub async fn forget(
        &self,
        app: &AppName,
        user: &UserName,
        slot: Option<&Slot>,
        kind: Option<KeyKind>,
    ) -> Result<usize, ReadError> {
        self.known_app(app)?;
        let mut forgotten = 0;
        for _ in 0..ROUNDS_MAX {
            let mut rows = self.inner.tools.keyring.of_user(app, user).await?;
            rows.retain(|row| {
                slot.is_none_or(|slot| row.identity.slot == *slot) && kind.is_none_or(|kind| row.identity.kind == kind)
            });
            if rows.is_empty() {
                return Ok(forgotten);
            }
            forgotten += self.forget_rows(rows).await?;
        }
        Err(KeyringError::Unavailable(String::from("the player's rows are being written by many callers at once"))
            .into())
    }

    async fn forget_rows(&self, rows: Vec<Record>) -> Result<usize, ReadError> {
        let tools = &self.inner.tools;
        let write =
            |row: &Record| Write::Forget { id: row.id, identity: row.identity.clone(), expected: Expected::of(row) };
        let settled = tools.keyring.settle(Arc::new(rows.iter().map(write).collect())).await?;
        let mut forgotten = 0;
        for (row, settled) in rows.iter().zip(settled) {
            if let Settled::Done(_) = settled {
                forgotten += 1;
                tools.metrics.event("key.forgotten");
                tracing::info!(event = "key.forgotten", app = %row.identity.app, key = %row.key.fingerprint);
            }
        }
        Ok(forgotten)
    }

    /// A ticket for a caller, from the one cache.
    ///
    /// # Errors
    /// See [`TicketError`].
    pub async fn ticket(&self, app: &AppName, audience: Audience) -> Result<TicketView, TicketError> {
        let index = *self.inner.index.get(app).ok_or(TicketError::AppUnknown)?;
        let (reply, ticket) = oneshot::channel();
        self.inner.postbox.send(Message::AskTicket(index, audience, reply));
        match ticket.await.map_err(|_| TicketError::ShuttingDown)? {
            Ok((ticket, expires_at)) => Ok(TicketView { access_token: ticket.token().clone(), expires_at }),
            Err(fault) if fault.refused => Err(TicketError::Refused { code: fault.code }),
            Err(fault) => Err(TicketError::Unavailable { code: fault.code, retry_after: fault.retry_after }),
        }
    }

    /// Stops renewing an app's keys until an operator resumes it. They are served. Durable when this returns.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn pause(&self, app: &AppName) -> Result<(), OrderError> {
        self.order(app, Order::Pause).await.map(|_| ())
    }

    /// Resumes an app. With `condemn`, keys that wait because of the daily cap are judged now without it; returns how
    /// many those are.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn resume(&self, app: &AppName, condemn: bool) -> Result<u64, OrderError> {
        self.order(app, Order::Resume { condemn }).await
    }

    pub(crate) async fn order(&self, app: &AppName, order: Order) -> Result<u64, OrderError> {
        let index = *self.inner.index.get(app).ok_or(OrderError::AppUnknown)?;
        let (reply, done) = oneshot::channel();
        self.inner.postbox.send(Message::Order(index, order, reply));
        Ok(done.await.map_err(|_| OrderError::ShuttingDown)??)
    }

    /// Credentials may have changed: tickets that could not be fetched are asked for again at once.
    pub fn retry_tickets(&self) {
        self.inner.postbox.event(Event::CredentialsChanged);
    }

    /// The configured apps, in order.
    pub fn apps(&self) -> &[AppName] {
        &self.inner.names
    }

    /// What watches the core tasks of the keeper and of its keyring. A failure of one ends the process: see
    /// [`Supervisor::failed`], then [`Keeper::shutdown`].
    pub fn supervisor(&self) -> &Supervisor {
        &self.inner.tools.supervisor
    }

    /// The clock everything runs by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.tools.clock
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.inner.shell.lock().expect("no holder of this lock panics").is_none()
    }

    pub(crate) async fn observe(&self) -> Observation {
        let (reply, seen) = oneshot::channel();
        self.inner.postbox.send(Message::Observe(reply));
        seen.await.unwrap_or_default()
    }

    pub(crate) fn known_app(&self, app: &AppName) -> Result<(), ReadError> {
        if self.inner.index.contains_key(app) { Ok(()) } else { Err(ReadError::AppUnknown) }
    }

    /// The row, or what was last seen of it while the keyring is down.
    async fn read(&self, identity: &Identity) -> Result<Arc<Record>, ReadError> {
        self.known_app(&identity.app)?;
        self.inner.tools.keyring.read(identity.key_id()).await?.ok_or(ReadError::NotFound)
    }

    /// Where an answer rests on our clock, it waits until the first request for a ticket has shown whether that is right.
    pub(crate) async fn wait_for_the_time(&self, is_needed: bool) {
        if !is_needed {
            return;
        }
        if self.inner.tools.our_clock() == OurClock::Doubted {
            // An idle engine may not have seen that the clock was set; it has the clocks compared.
            self.inner.postbox.event(Event::Wake);
        }
        self.inner.tools.store_time.first_word().await;
    }

    fn has_expired(&self, record: &Record) -> bool {
        record.key.lifetime.expires_at().is_some_and(|at| at <= self.clock().now())
    }

    fn check_alive(&self, record: &Record) -> Result<(), ReadError> {
        let now = self.clock().now();
        match storekeeper_policy::standing(record.state.is_revoked(), record.key.lifetime.expires_at(), now) {
            Standing::Active => Ok(()),
            Standing::Revoked => Err(ReadError::Revoked),
            Standing::Lapsed if record.is_handed_over() => Err(ReadError::HandedOver),
            Standing::Lapsed => match self.inner.tools.our_clock() {
                OurClock::Trusted => Err(ReadError::Lapsed),
                OurClock::Unverified => Err(ReadError::ClockUnverified),
                OurClock::Doubted => Err(ReadError::ClockSkewed),
            },
        }
    }

    fn live(&self, record: &Record) -> Result<LiveKey, ReadError> {
        if record.is_handed_over() {
            self.inner.tools.metrics.handed_over_read(&record.identity.app, self.clock().now());
        }
        self.check_alive(record)?;
        let now = self.clock().now();
        let sealed = &record.key.sealed;
        let key = self.inner.sealer.unseal(&record.identity, record.id, Role::Held, record.key_version, sealed);
        let key = key.map_err(|error| KeyringError::Corrupt(error.to_string()))?;
        if record.last_used_day != Some(now.day()) {
            self.note_used(record.id, now.day());
        }
        if record.next_attempt_at.is_none() {
            self.take_up_again(record.id, now.day());
        }
        Ok(LiveKey { key, view: KeyView::of(record, now), renewal_failed: None })
    }

    fn lives_shorter(&self, record: &Record, min_ttl: Duration) -> Result<bool, ReadError> {
        let lifetime = &record.key.lifetime;
        if lifetime.length().is_some_and(|length| min_ttl > length / 2) {
            return Err(ReadError::MinTtlTooLong);
        }
        let rest = lifetime.expires_at().map(|at| at.since(self.clock().now()));
        Ok(rest.is_none_or(|rest| rest < min_ttl))
    }

    async fn get_renewed(&self, record: Arc<Record>, key: LiveKey) -> Result<LiveKey, ReadError> {
        match self.renew(&record.identity).await {
            Ok(_) => {
                let renewed = self.read(&record.identity).await?;
                self.live(&renewed)
            }
            Err(error) => Ok(LiveKey { renewal_failed: Some(error.code().as_str()), ..key }),
        }
    }

    /// Nobody had read the key for so long that it was no longer renewed; now somebody has.
    fn take_up_again(&self, id: KeyId, day: i64) {
        let keeper = self.clone();
        let hold = self.clock().hold("a key to be renewed again");
        tokio::spawn(async move {
            shell::hasten(&keeper.inner.tools, vec![id], Some(day)).await;
            keeper.inner.postbox.send(Message::Event(Event::Changed(keeper.clock().now())));
            drop(hold);
        });
    }

    /// Remembers a use; written behind the reader's back, many at a time.
    fn note_used(&self, id: KeyId, day: i64) {
        self.inner.used.lock().expect("no holder of this lock panics").insert(id, day);
        if self.inner.flushing.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::clone(&self.inner);
        let guard = self.supervisor().guard("the writer of uses");
        tokio::spawn(async move {
            let _guard = guard;
            loop {
                let used = std::mem::take(&mut *inner.used.lock().expect("no holder of this lock panics"));
                if used.is_empty() {
                    break;
                }
                let used: Vec<(KeyId, i64)> = used.into_iter().collect();
                if let Err(error) = inner.tools.keyring.note_used(&used).await {
                    tracing::warn!(%error, keys = used.len(), "uses are not noted");
                }
            }
            inner.flushing.store(false, Ordering::Release);
        });
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("apps", &self.inner.names).finish_non_exhaustive()
    }
}
