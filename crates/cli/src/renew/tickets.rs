//! `Tickets`: one app's service ticket, fetched once, shared, refreshed in use past half-life; at most one fetch that a
//! refusal forces in a minute.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use storekeeper_client::{Advice, Credential, Endpoint, EntraVersion, TicketError, Transport, entra};
use storekeeper_clock::Clock;
use storekeeper_keeper::{AppConfig, SecretError};
use storekeeper_model::{Audience, ServiceTicket, Timestamp};
use storekeeper_policy::TicketTimes;

use crate::compose::REQUEST_TIMEOUT;
use crate::exit::CommandError;
use crate::exit::Exit;

/// A refusal may force at most one fetch in this span (life.md 2).
const FORCED_PAUSE: Duration = Duration::from_secs(60);
/// A forced fetch waits so long for other refusals, which then share its ticket.
const GATHER: Duration = Duration::from_millis(500);
/// A fetch that failed for a passing reason is repeated after this, doubled each time.
const RETRY_FIRST: Duration = Duration::from_secs(2);
/// After a fetch that failed for good nobody asks again for so long.
const FAULT_LASTS: Duration = Duration::from_secs(60);

/// Where tickets come from.
#[derive(Debug, Clone)]
pub(super) struct Authority {
    pub(super) endpoint: Endpoint,
    pub(super) version: EntraVersion,
}

/// Why there is no ticket.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) code: Cow<'static, str>,
    pub(super) detail: String,
}

/// One app's ticket.
pub(super) struct Tickets {
    app: AppConfig,
    authority: Authority,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    patience: Duration,
    held: Mutex<Held>,
    /// Whoever fetches has this.
    fetching: tokio::sync::Mutex<Fetching>,
}

#[derive(Default)]
struct Held {
    ticket: Option<(Arc<ServiceTicket>, TicketTimes)>,
    fault: Option<(Fault, Timestamp)>,
}

#[derive(Default)]
struct Fetching {
    forced_at: Option<Timestamp>,
}

impl Tickets {
    pub(super) fn new(
        app: AppConfig,
        authority: Authority,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        patience: Duration,
    ) -> Self {
        Self { app, authority, transport, clock, patience, held: Mutex::default(), fetching: Default::default() }
    }

    /// A ticket that may be sent now; one that was asked for at or after `floor`, if that is given.
    pub(super) async fn get(&self, floor: Option<Timestamp>) -> Result<Arc<ServiceTicket>, Fault> {
        let now = self.clock.now();
        match self.usable(floor, now) {
            Some((ticket, times)) if !times.refresh_due(now) => Ok(ticket),
            Some((ticket, _)) => {
                // The old one is used while it is valid, so only one of its users looks for the next.
                if let Ok(fetching) = self.fetching.try_lock() {
                    drop(self.fetch_once().await);
                    drop(fetching);
                }
                Ok(self.usable(floor, self.clock.now()).map_or(ticket, |(newer, _)| newer))
            }
            None => self.fetch(floor).await,
        }
    }

    /// Fetches, unless somebody else just did.
    async fn fetch(&self, floor: Option<Timestamp>) -> Result<Arc<ServiceTicket>, Fault> {
        let mut fetching = self.fetching.lock().await;
        let now = self.clock.now();
        if let Some((ticket, _)) = self.usable(floor, now) {
            return Ok(ticket);
        }
        if let Some(fault) = self.recent_fault(now) {
            return Err(fault);
        }
        if floor.is_some() && self.usable(None, now).is_some() {
            self.wait_to_force(&mut fetching).await;
        }
        self.fetch_patiently().await
    }

    async fn wait_to_force(&self, fetching: &mut Fetching) {
        let gathered = self.clock.now() + GATHER;
        let allowed = fetching.forced_at.map_or(gathered, |at| gathered.max(at + FORCED_PAUSE));
        while self.clock.now() < allowed {
            drop(self.clock.sleep_until(allowed).await);
        }
        fetching.forced_at = Some(self.clock.now());
    }

    /// Fetches until it works, it is hopeless, or there is no patience left.
    async fn fetch_patiently(&self) -> Result<Arc<ServiceTicket>, Fault> {
        let gives_up_at = self.clock.now() + self.patience;
        let mut wait = RETRY_FIRST;
        loop {
            let error = match self.fetch_once().await {
                Ok(ticket) => return Ok(ticket),
                Err(error) => error,
            };
            let asked = match error.advice() {
                Advice::Retry { not_before } => not_before.map_or(wait, |asked| asked.wait().max(wait)),
                Advice::ReplaceTicket | Advice::Stop(_) => return Err(self.remember(&error)),
            };
            let next = self.clock.now() + asked;
            if next > gives_up_at {
                return Err(self.remember(&error));
            }
            while self.clock.now() < next {
                drop(self.clock.sleep_until(next).await);
            }
            wait *= 2;
        }
    }

    /// Asks once with each credential, until one is taken.
    async fn fetch_once(&self) -> Result<Arc<ServiceTicket>, TicketFailure> {
        let mut last = None;
        for source in &self.app.credentials {
            let failure = match source.read() {
                Ok(secret) => match self.exchange(Credential::ClientSecret(secret)).await {
                    Ok(ticket) => return Ok(ticket),
                    Err(error) => TicketFailure::Conversation(error),
                },
                Err(error) => TicketFailure::Secret(error),
            };
            let is_passing = matches!(failure.advice(), Advice::Retry { .. });
            last = Some(failure);
            if is_passing {
                break;
            }
        }
        Err(last
            .unwrap_or_else(|| TicketFailure::Secret(SecretError::Wrong(String::from("the app has no credential")))))
    }

    async fn exchange(&self, credential: Credential) -> Result<Arc<ServiceTicket>, TicketError> {
        let (authority, app) = (&self.authority, &self.app);
        let fetched_at = self.clock.now();
        let (id, audience) = (&app.client_id, Audience::Service);
        let request =
            entra::prepare_ticket(&authority.endpoint, &app.tenant, id, audience, &credential, authority.version);
        let answer = self.transport.send(request, REQUEST_TIMEOUT).await.map_err(TicketError::Transport)?;
        let ticket = Arc::new(entra::interpret_ticket(audience, id, &answer, self.clock.now())?);
        let times = TicketTimes { fetched_at, lifetime: ticket.lifetime() };
        let mut held = self.lock();
        held.ticket = Some((Arc::clone(&ticket), times));
        held.fault = None;
        Ok(ticket)
    }

    fn usable(&self, floor: Option<Timestamp>, now: Timestamp) -> Option<(Arc<ServiceTicket>, TicketTimes)> {
        let held = self.lock();
        let (ticket, times) = held.ticket.as_ref()?;
        let is_fresh = floor.is_none_or(|floor| times.fetched_at >= floor);
        (is_fresh && times.usable(now)).then(|| (Arc::clone(ticket), *times))
    }

    fn recent_fault(&self, now: Timestamp) -> Option<Fault> {
        let held = self.lock();
        let (fault, at) = held.fault.as_ref()?;
        (now.distance(*at) < FAULT_LASTS).then(|| fault.clone())
    }

    fn remember(&self, failure: &TicketFailure) -> Fault {
        let fault = Fault { code: failure.code(), detail: failure.detail() };
        self.lock().fault = Some((fault.clone(), self.clock.now()));
        fault
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no holder of this lock panics")
    }
}

/// Why one fetch brought no ticket.
enum TicketFailure {
    /// The secret cannot be read.
    Secret(SecretError),
    /// Entra, or the way there.
    Conversation(TicketError),
}

impl TicketFailure {
    fn advice(&self) -> Advice {
        match self {
            Self::Secret(SecretError::Unavailable(_)) => Advice::Retry { not_before: None },
            Self::Secret(SecretError::Wrong(_)) => Advice::Stop(storekeeper_client::StopReason::Credential),
            Self::Conversation(error) => error.advice(),
        }
    }

    fn code(&self) -> Cow<'static, str> {
        match self {
            Self::Secret(_) => Cow::Borrowed("secret_unreadable"),
            Self::Conversation(error) => Cow::Borrowed(error.code()),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Secret(error) => error.to_string(),
            Self::Conversation(error) => CommandError::with_causes(Exit::Failure, error).message,
        }
    }
}
