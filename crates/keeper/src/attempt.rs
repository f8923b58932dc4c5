//! One attempt, executed: unseal, ask the Store, read the answer, seal the successor. And one ticket, fetched.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use storekeeper_client::renewal::{interpret, prepare};
use storekeeper_client::{
    Advice, CorrelationVector, Credential, RenewError, RenewalAnswer, RenewalCall, Transport, TransportError, entra,
};
use storekeeper_clock::Clock;
use storekeeper_keyring::SealedKey;
use storekeeper_keyring::seal::{Role, Sealer};
use storekeeper_model::{Audience, Fingerprint, ServiceTicket, StoreIdKey};

use crate::config::{AppConfig, KeeperConfig, SecretError};
use crate::engine::{Answer, Call, Finished, Silence, Subject, TicketFault, TicketFetched};
use crate::intake::NEWCOMER_VERSION;

/// What executing an attempt needs, shared by all. The shell uses it, and so does whoever drives the engine in a plain
/// loop.
pub struct Attempts {
    pub(crate) config: Arc<KeeperConfig>,
    sealer: Arc<Sealer>,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    vectors: Mutex<SmallRng>,
}

impl Attempts {
    /// Attempts of a keeper with this configuration.
    pub fn new(
        config: Arc<KeeperConfig>,
        sealer: Arc<Sealer>,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let vectors = Mutex::new(SmallRng::seed_from_u64(config.seed ^ 0x5eed));
        Self { config, sealer, transport, clock, vectors }
    }

    /// Makes one attempt. Whatever happens, the row comes back.
    pub async fn renew(&self, call: Call) -> Finished {
        let Call { record, subject, ticket, .. } = call;
        let unsealed = match (subject, &record.newcomer) {
            (Subject::Newcomer, Some(newcomer)) => {
                self.sealer.unseal(&record.identity, record.id, Role::Newcomer, NEWCOMER_VERSION, &newcomer.key.sealed)
            }
            _ => self.sealer.unseal(&record.identity, record.id, Role::Held, record.key_version, &record.key.sealed),
        };
        let key = unsealed.map_err(|error| error.to_string());
        let known = tried(&record, subject);
        let key = key.and_then(|jwt| StoreIdKey::parse_again(jwt, known).map_err(|error| error.to_string()));
        let key = match key {
            Ok(key) => key,
            Err(error) => {
                tracing::error!(key = %record.key.fingerprint, error, "a key at rest cannot be read");
                return Finished {
                    record,
                    subject,
                    answer: Answer::Unsealable,
                    status: None,
                    code: "unsealable",
                    correlation_id: None,
                    store_date: None,
                    took: None,
                };
            }
        };
        let began = self.clock.elapsed();
        let answer = self.exchange(&key, &ticket).await;
        let took = self.clock.elapsed().saturating_sub(began);
        Finished { took: Some(took), ..self.finish(record, subject, answer) }
    }

    async fn exchange(&self, key: &StoreIdKey, ticket: &ServiceTicket) -> RenewalAnswer {
        let mut vector = {
            let mut random = self.vectors.lock().expect("no holder of this lock panics");
            CorrelationVector::seed(&mut *random)
        };
        vector.increment();
        if !key.refresh_uri_is_known() {
            tracing::debug!(key = %key.fingerprint(), "the key names another refreshUri; it is not followed");
        }
        let endpoint = self.config.endpoint(key.kind());
        let request = prepare(&RenewalCall::new(endpoint, key, ticket, &vector));
        match self.transport.send(request, self.config.request_timeout).await {
            Ok(answer) => interpret(key, &answer, self.clock.now()),
            Err(error) => RenewalAnswer::unanswered(error),
        }
    }

    fn finish(&self, record: Box<storekeeper_keyring::Record>, subject: Subject, answer: RenewalAnswer) -> Finished {
        let (mut status, mut code) = match &answer.result {
            Ok(_) => (Some(200), "renewed"),
            Err(error) => (error.status(), error.code()),
        };
        let meaning = match answer.result {
            // The very key that was sent proves nothing new, and would be due again at once.
            Ok(key) if key.fingerprint() == tried(&record, subject) => {
                (status, code) = (Some(200), "same_key");
                Answer::Silent(Silence { congested: false, broken: true, retry_after: None })
            }
            Ok(key) => {
                let version = record.key_version + 1;
                let sealed = self.sealer.seal(&record.identity, record.id, Role::Held, version, key.jwt());
                Answer::Renewed(SealedKey::new(&key, sealed))
            }
            Err(error) => {
                match error.advice() {
                    // Only an operator can mend these.
                    Advice::Stop(reason) => {
                        tracing::error!(key = %record.key.fingerprint, %error, %reason, "no successor")
                    }
                    _ => tracing::debug!(key = %record.key.fingerprint, %error, "no successor"),
                }
                meaning(&error)
            }
        };
        Finished {
            record,
            subject,
            answer: meaning,
            status,
            code,
            correlation_id: answer.correlation.correlation_id,
            store_date: answer.store_date,
            took: None,
        }
    }

    /// Asks Entra for a ticket, with this one of the app's credentials.
    pub async fn fetch_ticket(&self, app: &AppConfig, audience: Audience, credential: usize) -> TicketFetched {
        let Some(source) = app.credentials.get(credential) else {
            return unasked("no_credential", String::from("the app has no credential configured"), true);
        };
        let secret = match source.read() {
            Ok(secret) => secret,
            Err(error) => return unreadable(&error),
        };
        let secret = Credential::ClientSecret(secret);
        let (entra, version) = (&self.config.entra, self.config.entra_version);
        let request = entra::prepare_ticket(entra, &app.tenant, &app.client_id, audience, &secret, version);
        let (result, date) = match self.transport.send(request, self.config.request_timeout).await {
            Ok(answer) => {
                let ticket = entra::interpret_ticket(audience, &app.client_id, &answer, self.clock.now());
                (ticket, entra::dated(&answer))
            }
            Err(error) => (Err(storekeeper_client::TicketError::Transport(error)), None),
        };
        let result = result.map(Arc::new).map_err(|error| {
            let (refused, retry_after) = match error.advice() {
                Advice::Retry { not_before } => (false, not_before.map(|wait| wait.wait())),
                Advice::ReplaceTicket | Advice::Stop(_) => (true, None),
            };
            TicketFault { code: error.code().to_owned(), detail: with_sources(&error), refused, retry_after }
        });
        TicketFetched { result, date }
    }
}

fn tried(record: &storekeeper_keyring::Record, subject: Subject) -> Fingerprint {
    match (&record.newcomer, subject) {
        (Some(newcomer), Subject::Newcomer) => newcomer.key.fingerprint,
        _ => record.key.fingerprint,
    }
}

/// What this machine cannot read at the moment is asked for again soon; only the rest waits for the operator.
fn unreadable(error: &SecretError) -> TicketFetched {
    let refused = matches!(error, SecretError::Wrong(_));
    unasked("secret_unreadable", error.to_string(), refused)
}

/// Entra was not asked.
fn unasked(code: &str, detail: String, refused: bool) -> TicketFetched {
    let fault = TicketFault { code: code.to_owned(), detail, refused, retry_after: None };
    TicketFetched { result: Err(fault), date: None }
}

/// An error's message and those of its sources, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// What a failed conversation says about the key (life.md 2, store.md 4.7).
fn meaning(error: &RenewError) -> Answer {
    let silence =
        |congested, broken, retry_after: Option<Duration>| Answer::Silent(Silence { congested, broken, retry_after });
    match error {
        RenewError::Refused { .. } => Answer::Refused,
        RenewError::InconsistentClientId { .. } => Answer::WrongClient,
        RenewError::BadRequest { .. } => Answer::BadRequest,
        RenewError::Throttled { retry_after } => silence(true, false, retry_after.map(|wait| wait.wait())),
        RenewError::Unavailable { status, retry_after, .. } => {
            silence(matches!(status, 408 | 503 | 504), true, retry_after.map(|wait| wait.wait()))
        }
        RenewError::Transport(error) => silence(matches!(error, TransportError::TimedOut), true, None),
        RenewError::Unreadable { .. } => silence(false, true, None),
        RenewError::Redirected { .. } => silence(false, true, None),
        RenewError::UnexpectedStatus { retry_after, .. } => silence(false, true, retry_after.map(|wait| wait.wait())),
    }
}
