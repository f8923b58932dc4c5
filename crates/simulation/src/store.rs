//! The simulated Store: the emulator's verdicts behind the client's transport, with the weather of the moment, and the
//! truth about every key that only the Store knows.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, StatusCode};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storekeeper_client::{PreparedRequest, RawAnswer, Transport, TransportError};
use storekeeper_emulator::{Emulator, Endpoint, Revocation, StoreRequest, Superseded, VirtualHost};
use storekeeper_model::{Fingerprint, Timestamp};

use crate::op::Outage;

/// What is wrong at the moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// The renewal endpoint answers nothing useful.
    pub outage: Option<Outage>,
    /// This share of renewals is refused for no reason.
    pub false_refusals: f64,
    /// This share of the Store's answers is lost.
    pub lost_answers: f64,
    /// Entra gives no tickets; `Some(true)` when it refuses the credential.
    pub no_tickets: Option<bool>,
}

/// What only the Store knows.
#[derive(Debug, Default)]
pub struct Truth {
    /// Who came out of whom.
    pub predecessor: HashMap<Fingerprint, Fingerprint>,
    /// Keys that will never be renewed: revoked, forged, or superseded where that matters.
    pub dead: HashSet<Fingerprint>,
    /// Renewal requests in each second.
    pub requests: HashMap<i64, u32>,
}

/// The Store, as a transport.
pub struct SimulatedStore {
    emulator: Emulator,
    superseded: Superseded,
    inner: Mutex<Inner>,
}

struct Inner {
    now: Timestamp,
    weather: Weather,
    truth: Truth,
    rng: ChaCha8Rng,
}

impl SimulatedStore {
    /// A Store around an emulator.
    pub fn new(emulator: Emulator, superseded: Superseded, seed: u64, now: Timestamp) -> Arc<Self> {
        let rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5702e);
        let inner = Inner { now, weather: Weather::default(), truth: Truth::default(), rng };
        Arc::new(Self { emulator, superseded, inner: Mutex::new(inner) })
    }

    /// The emulator behind it.
    pub fn emulator(&self) -> &Emulator {
        &self.emulator
    }

    /// Moves the Store's clock.
    pub fn set_now(&self, now: Timestamp) {
        self.lock().now = now;
    }

    /// Changes the weather.
    pub fn change_weather(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.lock().weather);
    }

    /// Looks at the truth.
    pub fn with_truth<T>(&self, look: impl FnOnce(&Truth) -> T) -> T {
        look(&self.lock().truth)
    }

    /// Revokes a key.
    pub fn revoke(&self, fingerprint: Fingerprint) {
        self.emulator.revoke(Revocation::Fingerprint(fingerprint)).expect("any fingerprint can be revoked");
        self.lock().truth.dead.insert(fingerprint);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds the lock")
    }

    fn answer(&self, request: &PreparedRequest) -> Result<RawAnswer, TransportError> {
        let host = VirtualHost::ALL.into_iter().find(|host| Some(host.name()) == request.url.host());
        let host = host.expect("the keeper asks the three hosts and no other");
        let (now, weather) = {
            let inner = self.lock();
            (inner.now, inner.weather)
        };
        if host == VirtualHost::Login {
            if let Some(refused) = weather.no_tickets {
                return Ok(no_ticket(refused, now));
            }
        } else {
            let mut inner = self.lock();
            *inner.truth.requests.entry(now.seconds()).or_default() += 1;
            if let Some(outage) = weather.outage {
                return failing(outage, now);
            }
            if inner.rng.random_bool(weather.false_refusals) {
                return Ok(refusal(now));
            }
        }
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        let asked = StoreRequest {
            host,
            method: request.method.as_str(),
            path: request.url.path(),
            query: request.url.query(),
            content_type: header("content-type"),
            authorization: header("authorization"),
            ms_cv: header("ms-cv"),
            body: request.body.expose(),
        };
        let answer = self.emulator.answer(&asked, now);
        let mut inner = self.lock();
        if let (Endpoint::Renew, Some(old), Some(new)) =
            (answer.note.endpoint, answer.note.fingerprint, answer.note.successor)
        {
            inner.truth.predecessor.insert(new, old);
            if self.superseded == Superseded::Refused {
                inner.truth.dead.insert(old);
            }
            if inner.rng.random_bool(weather.lost_answers) {
                return Err(TransportError::Reset { reason: String::from("the answer was lost") });
            }
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &answer.headers {
            let value = HeaderValue::from_str(value).expect("the emulator writes header text");
            headers.insert(http::HeaderName::try_from(*name).expect("the emulator writes header names"), value);
        }
        let status = StatusCode::from_u16(answer.status).expect("the emulator answers with a status");
        Ok(RawAnswer { status, headers, body: answer.body })
    }
}

impl Transport for SimulatedStore {
    fn send(&self, request: PreparedRequest, _limit: Duration) -> BoxFuture<'_, Result<RawAnswer, TransportError>> {
        let answer = self.answer(&request);
        Box::pin(std::future::ready(answer))
    }
}

const REFUSAL: &str = r#"{"code":"Unauthorized","data":[],"details":[],"innererror":{"code":"AuthenticationTokenInvalid","data":[],"details":[],"message":"Authentication token supplied is invalid"},"message":"The client is not authorized to perform the requested operation.","source":"PurchaseFD"}"#;
const WRAPPED_FAULT: &str = r#"{"code":"Unauthorized","data":[],"details":[],"innererror":{"code":"AuthenticationFailure","data":["Processing of the HTTP request resulted in an error. StatusCode: InternalServerError, PurchaseFD : InternalServerError : An internal server error occurred while processing the operation. : { : InternalAadAuthenticationError : Internal error during AAD a"],"details":[],"message":"Authentication failed"},"message":"The client is not authorized to perform the requested operation."}"#;

fn raw(status: u16, body: &'static str, now: Timestamp) -> RawAnswer {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::DATE, http_date(now));
    let status = StatusCode::from_u16(status).expect("written by hand");
    RawAnswer { status, headers, body: Bytes::from_static(body.as_bytes()) }
}

fn refusal(now: Timestamp) -> RawAnswer {
    raw(401, REFUSAL, now)
}

fn no_ticket(refused: bool, now: Timestamp) -> RawAnswer {
    if refused {
        raw(
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.","error_codes":[7000215]}"#,
            now,
        )
    } else {
        raw(
            503,
            r#"{"error":"temporarily_unavailable","error_description":"AADSTS90033: A transient error has occurred.","error_codes":[90033]}"#,
            now,
        )
    }
}

fn failing(outage: Outage, now: Timestamp) -> Result<RawAnswer, TransportError> {
    match outage {
        Outage::Unavailable => Ok(raw(503, "", now)),
        Outage::Silent => Err(TransportError::TimedOut),
        Outage::Broken => Ok(raw(500, "<html><body>Internal Server Error</body></html>", now)),
        Outage::Throttling => {
            let mut answer = raw(429, "{}", now);
            answer.headers.insert(http::header::RETRY_AFTER, HeaderValue::from_static("60"));
            Ok(answer)
        }
        Outage::WrappedFault => Ok(raw(401, WRAPPED_FAULT, now)),
    }
}

/// `Date` as RFC 7231 has it; the weekday is left wrong on purpose, as the documentation's own examples have it.
fn http_date(now: Timestamp) -> HeaderValue {
    let text = now.to_string();
    let (day, time) = (&text[..10], &text[11..19]);
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = day[5..7].parse::<usize>().map_or("Jan", |month| MONTHS[month - 1]);
    let date = format!("Mon, {} {month} {} {time} GMT", &day[8..10], &day[..4]);
    HeaderValue::from_str(&date).expect("a date is header text")
}
