//! A Store and an Entra ID that do as they are told, and remember what they were asked.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use storekeeper_client::{PreparedRequest, RawAnswer, Transport, TransportError};
use storekeeper_clock::{Clock, VirtualClock};
use storekeeper_model::{Audience, Fingerprint, KeyKind, Secret, StoreIdKey, Timestamp};
use tokio::sync::Semaphore;

use super::DAY;
use super::mint::{Mint, serial_of, ticket};

/// What the Store says to a renewal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    /// A successor.
    Renew,
    /// `AuthenticationTokenInvalid`.
    Refuse,
    /// `InconsistentClientId`.
    WrongClient,
    /// 400.
    BadRequest,
    /// 500 with an HTML page.
    Broken,
    /// 503.
    Unavailable,
    /// 429, and to come back after so many seconds.
    Throttle(u64),
    /// The Store's own fault, called Unauthorized.
    WrappedFault,
    /// 200 without a key.
    Empty,
    /// 200 with the very key that was sent.
    SameKey,
    /// 307 to somewhere else.
    Redirect,
    /// Nothing, and so no `Date` either.
    Silent,
}

/// What Entra ID says to a request for a ticket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Entra {
    Issue,
    /// `invalid_client`.
    Refuse,
    Unavailable,
    /// Nothing, and so no `Date` either.
    Silent,
}

/// What somebody asked for, and when.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) at: Timestamp,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Ticket,
    Renewal {
        user: String,
        key: Fingerprint,
        expires_at: Option<Timestamp>,
        /// The number of the ticket that came along.
        ticket: u64,
        successor: Option<Fingerprint>,
    },
}

/// How the Store is at the moment.
pub(crate) struct State {
    pub(crate) mood: Mood,
    /// What it says to these users, whatever its mood.
    pub(crate) users: HashMap<String, Mood>,
    /// What it says to these keys, whatever its mood.
    pub(crate) keys: HashMap<Fingerprint, Mood>,
    /// Keys that it refuses.
    pub(crate) dead: HashSet<Fingerprint>,
    /// Tickets that it refuses, whatever the key.
    pub(crate) bad_tickets: BTreeSet<u64>,
    /// This share of renewals is refused for no reason.
    pub(crate) false_refusals: f64,
    /// Whether a key that has a successor is refused.
    pub(crate) refuses_superseded: bool,
    /// How long the keys live that it issues.
    pub(crate) life: Duration,
    /// The same for purchase keys, where they are treated apart.
    pub(crate) purchase_life: Option<Duration>,
    pub(crate) entra: Entra,
    /// How many seconds its `Date` is wrong by.
    pub(crate) date_off: i64,
    /// A text that it repeats in its errors.
    pub(crate) gossip: Option<String>,
    /// Answers wait here.
    gate: Option<Arc<Semaphore>>,
    log: Vec<Exchange>,
    serial: u64,
    rng: SmallRng,
}

pub(crate) struct Store {
    clock: VirtualClock,
    state: Mutex<State>,
}

impl Store {
    pub(crate) fn new(clock: VirtualClock) -> Arc<Self> {
        let state = State {
            mood: Mood::Renew,
            users: HashMap::new(),
            keys: HashMap::new(),
            dead: HashSet::new(),
            bad_tickets: BTreeSet::new(),
            false_refusals: 0.0,
            refuses_superseded: false,
            life: DAY * 30,
            purchase_life: None,
            entra: Entra::Issue,
            date_off: 0,
            gossip: None,
            gate: None,
            log: Vec::new(),
            serial: 0,
            rng: SmallRng::seed_from_u64(7),
        };
        Arc::new(Self { clock, state: Mutex::new(state) })
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
    }

    /// From here on it refuses this key.
    pub(crate) fn kill(&self, key: Fingerprint) {
        self.lock().dead.insert(key);
    }

    /// From here on it says this to this key, whatever its mood.
    pub(crate) fn treat_key(&self, key: Fingerprint, mood: Mood) {
        self.lock().keys.insert(key, mood);
    }

    /// From here on it says this to this user's keys, whatever its mood.
    pub(crate) fn treat_user(&self, user: String, mood: Mood) {
        self.lock().users.insert(user, mood);
    }

    /// The Store's own time, which is the true one.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A key that differs from every other.
    pub(crate) fn mint(&self, kind: KeyKind, user: &str, issued_at: Timestamp) -> Mint {
        let life = {
            let state = self.lock();
            state.purchase_life.filter(|_| kind == KeyKind::Purchase).unwrap_or(state.life)
        };
        Mint { life, ..Mint::new(kind, user, issued_at, self.serial()) }
    }

    /// Lets no answer to a renewal out until [`Store::open`].
    pub(crate) fn shut(&self) {
        self.lock().gate = Some(Arc::new(Semaphore::new(0)));
    }

    pub(crate) fn open(&self) {
        if let Some(gate) = self.lock().gate.take() {
            gate.add_permits(Semaphore::MAX_PERMITS);
        }
    }

    /// Everything that was asked since the last call.
    pub(crate) fn take_log(&self) -> Vec<Exchange> {
        std::mem::take(&mut self.lock().log)
    }

    /// How many renewals were asked for since the log was last taken.
    pub(crate) fn renewals(&self) -> usize {
        self.lock().log.iter().filter(|exchange| matches!(exchange.what, What::Renewal { .. })).count()
    }

    /// How many tickets were asked for since the log was last taken.
    pub(crate) fn tickets(&self) -> usize {
        self.lock().log.iter().filter(|exchange| matches!(exchange.what, What::Ticket)).count()
    }

    /// The number of the ticket issued last.
    pub(crate) fn last_serial(&self) -> u64 {
        self.lock().serial
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serial(&self) -> u64 {
        let mut state = self.lock();
        state.serial += 1;
        state.serial
    }

    fn note(&self, request: &PreparedRequest, what: What) {
        let (host, path) = (request.url.host().unwrap().to_owned(), request.url.path().to_owned());
        let at = self.now();
        self.lock().log.push(Exchange { at, host, path, what });
    }

    fn answer(&self, request: &PreparedRequest) -> Result<RawAnswer, TransportError> {
        let body = request.body.expose();
        let (status, body, more) = if request.url.path().ends_with("/keys/renew") {
            let body: Value = serde_json::from_slice(body).unwrap();
            let (mood, successor) = self.renew(request, &body);
            if mood == Mood::Silent {
                return Err(TransportError::TimedOut);
            }
            let same = body["key"].as_str().unwrap().to_owned();
            self.tell(mood, successor, same)
        } else {
            self.note(request, What::Ticket);
            if self.lock().entra == Entra::Silent {
                return Err(TransportError::TimedOut);
            }
            self.ticket(std::str::from_utf8(body).unwrap())
        };
        let mut headers = HeaderMap::new();
        headers.extend(more);
        headers.insert("ms-correlationid", HeaderValue::from_static("6e5a3f2e-0d52-4a53-9c3a-0f3d8f3a1b2c"));
        let date = Timestamp::from_seconds(self.now().seconds() + self.lock().date_off);
        headers.insert(header::DATE, http_date(date));
        Ok(RawAnswer { status: StatusCode::from_u16(status).unwrap(), headers, body: body.into() })
    }

    /// Decides, and makes the successor if there is to be one.
    fn renew(&self, request: &PreparedRequest, body: &Value) -> (Mood, Option<String>) {
        let old = StoreIdKey::parse(Secret::new(body["key"].as_str().unwrap().to_owned())).unwrap();
        let ticket = serial_of(body["serviceTicket"].as_str().unwrap());
        let user = old.user_id().as_str().to_owned();
        let mood = self.mood_towards(&old, &user, ticket);
        let successor = (mood == Mood::Renew).then(|| self.mint(old.kind(), &user, self.now()).jwt());
        if successor.is_some() {
            let mut state = self.lock();
            if state.refuses_superseded {
                state.dead.insert(old.fingerprint());
            }
        }
        self.note(
            request,
            What::Renewal {
                user,
                key: old.fingerprint(),
                expires_at: old.lifetime().expires_at(),
                ticket,
                successor: successor.as_deref().map(Fingerprint::of),
            },
        );
        (mood, successor)
    }

    fn mood_towards(&self, key: &StoreIdKey, user: &str, ticket: u64) -> Mood {
        let mut state = self.lock();
        if let Some(mood) = state.keys.get(&key.fingerprint()).or_else(|| state.users.get(user)) {
            return *mood;
        }
        let share = state.false_refusals;
        let refuses = state.bad_tickets.contains(&ticket)
            || state.dead.contains(&key.fingerprint())
            || key.lifetime().expires_at().is_some_and(|at| at <= self.now())
            || state.rng.random_bool(share);
        if refuses && state.mood == Mood::Renew { Mood::Refuse } else { state.mood }
    }

    fn tell(&self, mood: Mood, successor: Option<String>, same: String) -> (u16, String, HeaderMap) {
        let gossip = self.lock().gossip.clone();
        let message = gossip.as_deref().unwrap_or("Authentication token supplied is invalid");
        let mut headers = HeaderMap::new();
        let (status, body) = match mood {
            Mood::Renew => (200, json!({ "key": successor.unwrap() })),
            Mood::SameKey => (200, json!({ "key": same })),
            Mood::Empty => (200, json!({})),
            Mood::Refuse => (401, document("AuthenticationTokenInvalid", &[], message)),
            Mood::WrongClient => (401, document("InconsistentClientId", &[], message)),
            Mood::WrappedFault => (401, document("AuthenticationFailure", &[FAULT], message)),
            Mood::BadRequest => {
                let mut body = document("InvalidParameter", &[], message);
                body["code"] = "BadRequest".into();
                (400, body)
            }
            Mood::Unavailable => (503, Value::Null),
            Mood::Broken => return (500, format!("<html><body>{message}</body></html>"), headers),
            Mood::Throttle(seconds) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                (429, Value::Null)
            }
            Mood::Redirect => {
                headers.insert(header::LOCATION, HeaderValue::from_static("https://elsewhere.example/keys/renew"));
                (307, Value::Null)
            }
            Mood::Silent => unreachable!("nothing is told"),
        };
        (status, if body.is_null() { String::new() } else { body.to_string() }, headers)
    }

    fn ticket(&self, form: &str) -> (u16, String, HeaderMap) {
        let audience = if form.contains("create%2Fcollections") {
            Audience::Collections
        } else if form.contains("create%2Fpurchase") {
            Audience::Purchase
        } else {
            Audience::Service
        };
        let (entra, gossip) = {
            let state = self.lock();
            (state.entra, state.gossip.clone().unwrap_or_default())
        };
        let (status, body) = match entra {
            Entra::Issue => {
                let token = ticket(audience, self.now(), self.serial());
                (200, json!({"token_type": "Bearer", "expires_in": 3599, "access_token": token}))
            }
            Entra::Refuse => {
                let told = format!("AADSTS7000215: Invalid client secret provided. {gossip}\r\nTrace ID: 1");
                (401, json!({"error": "invalid_client", "error_description": told, "error_codes": [7_000_215]}))
            }
            Entra::Silent => unreachable!("there is no response"),
            Entra::Unavailable => (503, json!({"error": "temporarily_unavailable", "error_description": gossip})),
        };
        (status, body.to_string(), HeaderMap::new())
    }
}

impl Transport for Store {
    fn send(&self, request: PreparedRequest, _limit: Duration) -> BoxFuture<'_, Result<RawAnswer, TransportError>> {
        let gate = self.lock().gate.clone().filter(|_| request.url.path().ends_with("/keys/renew"));
        // It has processed the request before its answer is on the way.
        let answer = self.answer(&request);
        async move {
            if let Some(gate) = gate {
                drop(gate.acquire().await.unwrap());
            }
            answer
        }
        .boxed()
    }
}

const FAULT: &str = "Processing of the HTTP request resulted in an error. StatusCode: InternalServerError, PurchaseFD : InternalServerError : An internal server error occurred while processing the operation. : { : InternalAadAuthenticationError : Internal error during AAD a";

fn document(inner: &str, data: &[&str], message: &str) -> Value {
    json!({
        "code": "Unauthorized", "data": [], "details": [], "message": message, "source": "CollectionsFD",
        "innererror": {"code": inner, "data": data, "details": [], "message": message},
    })
}

/// `Date`; the weekday is left wrong on purpose, as the documentation's own examples have it.
fn http_date(at: Timestamp) -> HeaderValue {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = at.to_string();
    let month = MONTHS[text[5..7].parse::<usize>().unwrap() - 1];
    let date = format!("Mon, {} {month} {} {} GMT", &text[8..10], &text[..4], &text[11..19]);
    HeaderValue::from_str(&date).unwrap()
}
