//! `EntraPasswords`: a database's password that is a token of Entra ID: fetched once and shared, the next one fetched past half
//! its life, the old one used while it is valid.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use storekeeper_client::{Advice, Credential, StopReason, TicketError, Transport, entra};
use storekeeper_clock::Clock;
use storekeeper_keeper::SecretError;
use storekeeper_keyring_postgres::{NoPassword, Passwords};
use storekeeper_model::{Secret, Timestamp};
use storekeeper_policy::TicketTimes;

use crate::config::EntraPassword;
use crate::exit::{CommandError, Exit};

/// Whoever makes a connection waits no longer than this for a token, so that it hears why there is none.
const FETCH_MAX: Duration = Duration::from_secs(3);
/// After a fetch that failed nobody else asks for so long.
const FAULT_LASTS: Duration = Duration::from_secs(2);
/// A fetch ahead of time that failed is repeated after this, or sooner where tokens live shorter.
const RETRY_MAX: Duration = Duration::from_secs(30);
const RETRY_MIN: Duration = Duration::from_secs(1);

/// Where a database's password comes from.
pub(crate) struct EntraPasswords {
    source: EntraPassword,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
    /// Whoever fetches has this.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Held {
    token: Option<(Secret<String>, TicketTimes)>,
    fault: Option<(NoPassword, Timestamp)>,
}

impl EntraPasswords {
    /// Nothing is fetched yet.
    pub(crate) fn new(source: EntraPassword, transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Self {
        Self { source, transport, clock, held: Mutex::default(), fetching: tokio::sync::Mutex::default() }
    }

    /// Sees to it that there is a token before somebody needs it, for as long as anybody has this.
    pub(crate) fn keep_fresh(self: &Arc<Self>) {
        let (this, clock) = (Arc::downgrade(self), Arc::clone(&self.clock));
        tokio::spawn(async move {
            while let Some(next) = this.upgrade().map(|this| this.next_fetch()) {
                while clock.now() < next {
                    drop(clock.sleep_until(next).await);
                }
                let Some(this) = this.upgrade() else { return };
                let _turn = this.fetching.lock().await;
                if this.next_fetch() <= clock.now() {
                    drop(this.fetch(crate::compose::REQUEST_TIMEOUT).await);
                }
            }
        });
    }

    /// When the next token is to be fetched ahead of time. Where there is none whoever needs one fetches it.
    fn next_fetch(&self) -> Timestamp {
        let (held, now) = (self.lock(), self.clock.now());
        let Some((_, times)) = &held.token else { return now + RETRY_MIN };
        let half = times.fetched_at + times.lifetime / 2;
        let pause = (times.lifetime / 20).clamp(RETRY_MIN, RETRY_MAX);
        match &held.fault {
            Some((_, at)) => half.max(*at + pause),
            // A clock that was set back must not put it off.
            None => half.min(now + times.lifetime / 2),
        }
    }

    fn usable(&self) -> Option<Secret<String>> {
        let (held, now) = (self.lock(), self.clock.now());
        held.token.as_ref().filter(|(_, times)| times.usable(now)).map(|(token, _)| token.clone())
    }

    fn recent_fault(&self) -> Option<NoPassword> {
        let (held, now) = (self.lock(), self.clock.now());
        held.fault.as_ref().filter(|(_, at)| now.distance(*at) < FAULT_LASTS).map(|(fault, _)| fault.clone())
    }

    /// Asks Entra, and keeps what came of it.
    async fn fetch(&self, limit: Duration) -> Result<Secret<String>, NoPassword> {
        let fetched_at = self.clock.now();
        let fetched = self.ask(limit).await;
        let mut held = self.lock();
        match fetched {
            Ok(entra::AccessToken { token, lifetime }) => {
                if held.fault.take().is_some() {
                    tracing::info!("Entra gives tokens for the database again");
                }
                held.token = Some((token.clone(), TicketTimes { fetched_at, lifetime }));
                Ok(token)
            }
            Err(fault) => {
                if held.fault.as_ref().is_none_or(|(known, _)| *known != fault) {
                    tracing::warn!(%fault, "no new token for the database; the old one is used while it is valid");
                }
                held.fault = Some((fault.clone(), self.clock.now()));
                Err(fault)
            }
        }
    }

    async fn ask(&self, limit: Duration) -> Result<entra::AccessToken, NoPassword> {
        let EntraPassword { authority, tenant_id, client_id, scope, .. } = &self.source;
        let secret = self.source.secret().map_err(|error| match error {
            SecretError::Wrong(why) => NoPassword::Refused(why),
            SecretError::Unavailable(why) => NoPassword::Unavailable(why),
        });
        let credential = Credential::ClientSecret(secret?);
        let request = entra::prepare_token(authority.endpoint(), tenant_id, client_id, scope, &credential);
        let answer = self.transport.send(request, limit).await.map_err(TicketError::Transport);
        let token = answer.and_then(|answer| entra::interpret_token(&answer, self.clock.now()));
        token.map_err(|error| self.told(&error))
    }

    /// What went wrong, and who has to do what about it.
    fn told(&self, error: &TicketError) -> NoPassword {
        let said = CommandError::with_causes(Exit::Failure, error).message;
        let client_id = &self.source.client_id;
        NoPassword::Refused(match error.advice() {
            Advice::Retry { .. } => return NoPassword::Unavailable(said),
            Advice::Stop(StopReason::Credential) => format!(
                "{said}: whoever owns the app registration {client_id} has to make a new client secret for [keyring.entra]"
            ),
            Advice::Stop(StopReason::Endpoint) => format!("{said}: correct `entra` in [endpoint]"),
            Advice::Stop(_) | Advice::ReplaceTicket => format!(
                "{said}: correct tenant_id, client_id and scope in [keyring.entra], or let whoever administers the tenant allow the app registration {client_id} that scope"
            ),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no holder of this lock panics")
    }
}

impl Passwords for EntraPasswords {
    fn password(&self) -> BoxFuture<'_, Result<Secret<String>, NoPassword>> {
        async move {
            if let Some(token) = self.usable() {
                return Ok(token);
            }
            let _turn = self.fetching.lock().await;
            match (self.usable(), self.recent_fault()) {
                (Some(token), _) => Ok(token),
                (None, Some(fault)) => Err(fault),
                (None, None) => self.fetch(FETCH_MAX).await,
            }
        }
        .boxed()
    }
}

impl std::fmt::Debug for EntraPasswords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntraPasswords").field("client_id", &self.source.client_id).finish_non_exhaustive()
    }
}
