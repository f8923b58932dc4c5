//! `Renewer`: renews one key after the other, or many at once, and remembers nothing but how the hosts do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use storekeeper_client::renewal::{interpret, prepare};
use storekeeper_client::{
    ClockSkew, CorrelationVector, Endpoints, EntraVersion, RenewError, RenewalAnswer, RenewalCall, Transport,
    TransportError,
};
use storekeeper_clock::Clock;
use storekeeper_keeper::AppConfig;
use storekeeper_model::{KeyId, ServiceTicket, StoreIdKey, Timestamp};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::app::App;
use super::stop::Stop;
use super::tickets::{Authority, Fault};
use super::verdict::{Verdict, Word};
use crate::compose::{CONCURRENCY, REQUEST_TIMEOUT};
use crate::exit::{CommandError, Exit};

/// How often a key is tried that meets nothing but failures.
const ATTEMPTS_MAX: u32 = 4;
/// The wait after the first failure, doubled with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Once nothing new is sent, what is in flight is waited for twice as long as the slowest exchange took until then, within
/// these limits: a Store that has been silent all the time is hardly waited for, a slow one as long as a keeper drains.
const FINISH_MIN: Duration = Duration::from_secs(1);
const FINISH_MAX: Duration = Duration::from_secs(20);

const OPEN: &str = "no semaphore is ever closed";

/// Which keys are renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Every one that is given.
    All,
    /// Those that the policy says are due.
    Due,
}

/// What is to be known before the first key.
#[derive(Debug, Clone)]
pub struct RenewSettings {
    /// The apps; a key belongs to the one with its client ID.
    pub apps: Vec<AppConfig>,
    /// Where the services are.
    pub endpoints: Endpoints,
    /// Which of Entra's token endpoints is asked.
    pub entra_version: EntraVersion,
    /// Which keys are renewed.
    pub which: Which,
    /// How long a host that is down is waited for.
    pub patience: Duration,
    /// Whether to try every key however many are refused.
    pub keeps_going: bool,
    /// Seeds jitter and correlation vectors.
    pub seed: u64,
}

/// Renews keys.
pub struct Renewer {
    apps: Vec<App>,
    endpoints: Endpoints,
    which: Which,
    patience: Duration,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    permits: Semaphore,
    random: Mutex<SmallRng>,
    skew: Mutex<Option<ClockSkew>>,
    stop: Stop,
    slowest: Mutex<Duration>,
}

/// What an attempt means (life.md 2).
enum Meaning {
    Renewed(Box<StoreIdKey>),
    /// A refusal.
    Refused(RenewError),
    /// Our configuration.
    WrongClient(RenewError),
    /// Our fault; repeating it is of no use.
    Ours(RenewError),
    /// Nothing was learned.
    Silent(RenewError, Option<Duration>),
}

impl Renewer {
    /// Sends through `transport`, waits by `clock`.
    pub fn new(settings: RenewSettings, transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Self {
        let authority = Authority { endpoint: settings.endpoints.entra.clone(), version: settings.entra_version };
        let app = |config: AppConfig| {
            let transport = Arc::clone(&transport);
            let app = App::new(config, authority.clone(), transport, &clock, settings.patience, settings.seed);
            if settings.keeps_going { app.keep_going() } else { app }
        };
        Self {
            apps: settings.apps.into_iter().map(app).collect(),
            endpoints: settings.endpoints,
            which: settings.which,
            patience: settings.patience,
            transport: Arc::clone(&transport),
            clock: Arc::clone(&clock),
            permits: Semaphore::new(CONCURRENCY),
            random: Mutex::new(SmallRng::seed_from_u64(settings.seed)),
            skew: Mutex::default(),
            stop: Stop::default(),
            slowest: Mutex::default(),
        }
    }

    /// Sends nothing from here on. Keys that were not sent are answered at once as interrupted; the span is for how long
    /// it is worth waiting for those in flight.
    pub fn finish(&self) -> Duration {
        self.stop.finish();
        let slowest = *self.slowest.lock().expect("no holder of this lock panics");
        (slowest * 2).clamp(FINISH_MIN, FINISH_MAX)
    }

    /// Waits for no answer from here on.
    pub fn abandon(&self) {
        self.stop.abandon();
    }

    /// The clock that it waits by.
    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Renews one key.
    pub async fn renew(&self, key: &StoreIdKey) -> Verdict {
        let Some(app) = self.apps.iter().find(|app| app.client_id == *key.client_id()) else {
            let detail = format!("the key was made for client ID {}, which is not configured here", key.client_id());
            return Verdict::other(Word::Invalid, "key_wrong_client", detail);
        };
        if let Some(renew_at) = self.not_due_before(app, key) {
            return Verdict::other(Word::Kept, "not_due", format!("due at {renew_at}"));
        }
        let verdict = self.attempts(app, key).await;
        let now = self.clock.now();
        match verdict.word {
            Word::Renewed => app.record(key, false, now),
            Word::Refused => app.record(key, true, now),
            Word::Kept | Word::Failed | Word::Invalid => {}
        }
        verdict
    }

    /// How far this machine's clock is from the Store's, when that is too far.
    pub fn skew(&self) -> Option<ClockSkew> {
        *self.skew.lock().expect("no holder of this lock panics")
    }

    fn not_due_before(&self, app: &App, key: &StoreIdKey) -> Option<Timestamp> {
        if self.which == Which::All {
            return None;
        }
        // There is no row, so the key's own name gives it its place in the spread.
        let id = KeyId::from_bytes(*key.fingerprint().as_bytes());
        storekeeper_policy::renew_at(&app.policy, id, key.lifetime()).filter(|at| *at > self.clock.now())
    }

    async fn attempts(&self, app: &App, key: &StoreIdKey) -> Verdict {
        let (mut floor, mut failures, mut last) = (None, 0, None);
        let mut _retry = None;
        loop {
            let answer = match self.attempt(app, key, floor).await {
                Ok(answer) => answer,
                // What an earlier attempt came to says more than that there was no further one.
                Err(verdict) if verdict.is_interrupted() => return last.unwrap_or(verdict),
                Err(verdict) => return verdict,
            };
            match self.learn(app, key, answer) {
                Meaning::Renewed(successor) => return Verdict::renewed(successor),
                // Not issued after the refusal, so it may be the ticket that was refused.
                Meaning::Refused(_) if floor.is_none() => {
                    floor = Some(self.clock.now());
                    _retry = Some(app.refused.one_more());
                }
                Meaning::Refused(error) => return verdict_of(Word::Refused, &error),
                Meaning::WrongClient(error) => {
                    app.wrong_client();
                    return verdict_of(Word::Failed, &error);
                }
                Meaning::Ours(error) => return verdict_of(Word::Failed, &error),
                Meaning::Silent(error, asked) => {
                    failures += 1;
                    let wait = self.wait(failures, asked);
                    if failures >= ATTEMPTS_MAX || wait > self.patience {
                        return verdict_of(Word::Failed, &error);
                    }
                    tokio::select! {
                        biased;
                        () = self.stop.finishing() => return verdict_of(Word::Failed, &error),
                        hold = self.clock.sleep_until(self.clock.now() + wait) => drop(hold),
                    }
                    last = Some(verdict_of(Word::Failed, &error));
                }
            }
        }
    }

    /// One attempt, as soon as everything that holds it back lets it go, unless renewals end before.
    async fn attempt(&self, app: &App, key: &StoreIdKey, floor: Option<Timestamp>) -> Result<RenewalAnswer, Verdict> {
        let (_place, ticket) = tokio::select! {
            biased;
            () = self.stop.finishing() => return Err(Verdict::interrupted(match floor {
                None => "not sent: renewals were ended",
                Some(_) => "refused once; renewals were ended before it was sent with a fresh ticket",
            })),
            ready = self.ready(app, key, floor) => ready?,
        };
        let mut vector = {
            let mut random = self.random.lock().expect("no holder of this lock panics");
            CorrelationVector::seed(&mut *random)
        };
        vector.increment();
        let call = RenewalCall::new(self.endpoints.for_kind(key.kind()), key, &ticket, &vector);
        let sent_at = self.clock.elapsed();
        let answer = tokio::select! {
            biased;
            answer = self.transport.send(prepare(&call), REQUEST_TIMEOUT) => answer,
            () = self.stop.over() => return Err(Verdict::interrupted(
                "sent, and not answered before renewals were ended: the Store may have renewed it",
            )),
        };
        Ok(match answer {
            Ok(answer) => {
                let took = self.clock.elapsed().saturating_sub(sent_at);
                let mut slowest = self.slowest.lock().expect("no holder of this lock panics");
                *slowest = took.max(*slowest);
                interpret(key, &answer, self.clock.now())
            }
            Err(error) => RenewalAnswer::unanswered(error),
        })
    }

    /// Waits until the key may be sent: for its turn, its app's ticket and its host's pace.
    async fn ready(
        &self,
        app: &App,
        key: &StoreIdKey,
        floor: Option<Timestamp>,
    ) -> Result<(SemaphorePermit<'_>, Arc<ServiceTicket>), Verdict> {
        let no_ticket = |fault: Fault| Verdict::other(Word::Failed, fault.code, fault.detail);
        let place = loop {
            app.goes_on()?;
            // Waited for before a place is taken: a fresh ticket may take a minute, and others need none.
            if floor.is_none() {
                app.refused.are_few().await;
            }
            app.tickets.get(floor).await.map_err(no_ticket)?;
            let place = self.permits.acquire().await.expect(OPEN);
            if floor.is_some() || !app.refused.are_many() {
                break place;
            }
        };
        app.goes_on()?;
        app.gate(key.kind()).pass().await.map_err(|gave_up| {
            Verdict::other(
                Word::Failed,
                gave_up.code,
                "not tried: the host is down and patience (--patience) is at its end",
            )
        })?;
        let ticket = app.tickets.get(floor).await.map_err(no_ticket)?;
        Ok((place, ticket))
    }

    /// What the answer means, for the key and for the host.
    fn learn(&self, app: &App, key: &StoreIdKey, answer: RenewalAnswer) -> Meaning {
        if let Some(skew) = answer.clock_skew.filter(|skew| skew.is_large()) {
            *self.skew.lock().expect("no holder of this lock panics") = Some(skew);
        }
        let gate = app.gate(key.kind());
        let error = match answer.result {
            Ok(successor) => {
                gate.renewed();
                return Meaning::Renewed(Box::new(successor));
            }
            Err(error) => error,
        };
        let retry_after = match &error {
            RenewError::Throttled { retry_after }
            | RenewError::Unavailable { retry_after, .. }
            | RenewError::UnexpectedStatus { retry_after, .. } => retry_after.map(|asked| asked.wait()),
            _ => None,
        };
        match &error {
            RenewError::Refused { .. } | RenewError::InconsistentClientId { .. } | RenewError::BadRequest { .. } => {
                gate.answered();
            }
            RenewError::Throttled { .. } => {
                gate.congested();
                gate.answered();
            }
            RenewError::Unavailable { status: 408 | 503 | 504, .. }
            | RenewError::Transport(TransportError::TimedOut) => {
                gate.congested();
                gate.failed(error.code());
            }
            _ => gate.failed(error.code()),
        }
        match error {
            RenewError::Refused { .. } => Meaning::Refused(error),
            RenewError::InconsistentClientId { .. } => Meaning::WrongClient(error),
            RenewError::BadRequest { .. } | RenewError::Transport(TransportError::Insecure) => Meaning::Ours(error),
            _ => Meaning::Silent(error, retry_after),
        }
    }

    /// Doubled each time and jittered down to half; what the host asked for is the least.
    fn wait(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let longest = RETRY_FIRST * (1 << failures.saturating_sub(1).min(10));
        let jitter: f64 = self.random.lock().expect("no holder of this lock panics").random();
        let wait = longest.mul_f64(0.5 + jitter / 2.0);
        asked.map_or(wait, |asked| asked.max(wait))
    }
}

fn verdict_of(word: Word, error: &RenewError) -> Verdict {
    Verdict::other(word, error.code(), CommandError::with_causes(Exit::Failure, error).message)
}
