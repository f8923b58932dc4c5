//! A Store and an Entra ID that do as they are told.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use storekeeper_client::{PreparedRequest, RawAnswer, Transport, TransportError};
use storekeeper_clock::{Clock, VirtualClock};
use storekeeper_model::{Audience, Secret, StoreIdKey};

use super::{DAY, Mint, jwt};

/// What the Store says to a renewal.
#[derive(Clone, Copy)]
pub(crate) enum Renewal {
    /// A successor.
    Renew,
    /// `AuthenticationTokenInvalid`.
    Refuse,
    /// An empty answer with this status.
    Status(u16),
}

/// What Entra ID says to a request for a ticket.
#[derive(Clone, Copy)]
pub(crate) enum Entra {
    Issue,
    /// `invalid_client`.
    Refuse,
    /// 503, and when to come back.
    Unavailable,
}

pub(crate) struct Store {
    clock: VirtualClock,
    renewal: Mutex<Renewal>,
    entra: Mutex<Entra>,
    /// What the Store's `Date` says, if it says anything.
    date: Mutex<Option<&'static str>>,
    /// Whose keys are refused, whatever else is said.
    refused: Mutex<Option<&'static str>>,
    serial: AtomicU64,
    renewals: AtomicU64,
}

impl Store {
    pub(crate) fn new(clock: VirtualClock) -> Self {
        Self {
            clock,
            renewal: Mutex::new(Renewal::Renew),
            entra: Mutex::new(Entra::Issue),
            date: Mutex::new(None),
            refused: Mutex::new(None),
            serial: AtomicU64::new(1_000_000),
            renewals: AtomicU64::new(0),
        }
    }

    pub(crate) fn answer_renewals(&self, renewal: Renewal) {
        *self.renewal.lock().unwrap() = renewal;
    }

    pub(crate) fn answer_tickets(&self, entra: Entra) {
        *self.entra.lock().unwrap() = entra;
    }

    pub(crate) fn say_date(&self, date: &'static str) {
        *self.date.lock().unwrap() = Some(date);
    }

    pub(crate) fn refuse_user(&self, user: &'static str) {
        *self.refused.lock().unwrap() = Some(user);
    }

    /// How many renewals were asked for.
    pub(crate) fn renewals(&self) -> u64 {
        self.renewals.load(Ordering::Relaxed)
    }

    fn serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    fn renew(&self, body: &Value) -> (u16, Value) {
        self.renewals.fetch_add(1, Ordering::Relaxed);
        let old = StoreIdKey::parse(Secret::new(body["key"].as_str().unwrap().to_owned())).unwrap();
        let is_refused = *self.refused.lock().unwrap() == Some(old.user_id().as_str());
        let renewal = if is_refused { Renewal::Refuse } else { *self.renewal.lock().unwrap() };
        match renewal {
            Renewal::Renew => {
                let successor = Mint {
                    kind: old.kind(),
                    user_id: old.user_id().as_str().to_owned(),
                    issued_at: self.clock.now(),
                    life: DAY * 30,
                    serial: self.serial(),
                    ..Mint::default()
                };
                (200, json!({ "key": successor.jwt() }))
            }
            Renewal::Refuse => {
                let inner = json!({"code": "AuthenticationTokenInvalid", "data": [], "details": [], "message": "Authentication token supplied is invalid"});
                (
                    401,
                    json!({"code": "Unauthorized", "data": [], "details": [], "innererror": inner, "message": "no", "source": "CollectionsFD"}),
                )
            }
            Renewal::Status(status) => (status, Value::Null),
        }
    }

    fn ticket(&self, form: &str) -> (u16, Value) {
        match *self.entra.lock().unwrap() {
            Entra::Issue => {
                let audience = if form.contains("create%2Fcollections") {
                    Audience::Collections
                } else if form.contains("create%2Fpurchase") {
                    Audience::Purchase
                } else {
                    Audience::Service
                };
                let now = self.clock.now().seconds();
                let client_id = form.split('&').find_map(|field| field.strip_prefix("client_id=")).unwrap();
                let claims =
                    json!({"aud": audience.resource(), "appid": client_id, "iat": now, "nbf": now, "exp": now + 3600});
                let token = jwt(&json!({"alg": "RS256", "typ": "JWT"}), &claims, self.serial());
                (200, json!({"token_type": "Bearer", "expires_in": 3599, "access_token": token}))
            }
            Entra::Refuse => {
                let told = "AADSTS7000215: Invalid client secret provided.";
                (401, json!({"error": "invalid_client", "error_description": told, "error_codes": [7_000_215]}))
            }
            Entra::Unavailable => (503, json!({"error": "temporarily_unavailable"})),
        }
    }
}

impl Transport for Store {
    fn send(&self, request: PreparedRequest, _limit: Duration) -> BoxFuture<'_, Result<RawAnswer, TransportError>> {
        let body = request.body.expose();
        let (status, body) = if request.url.path().ends_with("/keys/renew") {
            self.renew(&serde_json::from_slice(body).unwrap())
        } else {
            self.ticket(std::str::from_utf8(body).unwrap())
        };
        let mut headers = HeaderMap::new();
        headers.insert("ms-correlationid", HeaderValue::from_static("6e5a3f2e-0d52-4a53-9c3a-0f3d8f3a1b2c"));
        if let Some(date) = *self.date.lock().unwrap() {
            headers.insert("date", HeaderValue::from_static(date));
        }
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = RawAnswer { status: StatusCode::from_u16(status).unwrap(), headers, body: body.into() };
        std::future::ready(Ok(answer)).boxed()
    }
}
