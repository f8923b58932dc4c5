//! Mints keys and tickets for the tests. Nobody but Microsoft can check a key's signature, so random-looking bytes do.
#![allow(dead_code, reason = "each test file uses its own part")]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use storekeeper_client::RawAnswer;
use storekeeper_model::{Audience, KeyKind, Secret, ServiceTicket, StoreIdKey, Timestamp};

pub(crate) const CLIENT: &str = "22222222-2222-4222-8222-222222222222";
pub(crate) const DAY: i64 = 86_400;
/// When the tests take place: 2026-01-01T00:00:00Z.
pub(crate) const NOW: i64 = 1_767_225_600;

pub(crate) fn now() -> Timestamp {
    Timestamp::from_seconds(NOW)
}

/// What a key says; the default is a collections key, ten days old, that lives thirty.
pub(crate) struct KeySpec {
    pub(crate) kind: KeyKind,
    pub(crate) client_id: &'static str,
    pub(crate) user_id: &'static str,
    pub(crate) iat: i64,
    pub(crate) nbf: i64,
    pub(crate) exp: i64,
    pub(crate) refresh_uri: &'static str,
    pub(crate) payload_length: usize,
}

impl Default for KeySpec {
    fn default() -> Self {
        let iat = NOW - 10 * DAY;
        Self {
            kind: KeyKind::Collections,
            client_id: "22222222222242228222222222222222",
            user_id: "player-0001",
            iat,
            nbf: iat - 3600,
            exp: iat + 30 * DAY,
            refresh_uri: KeyKind::Collections.refresh_uri(),
            payload_length: 344,
        }
    }
}

impl KeySpec {
    /// A successor issued now.
    pub(crate) fn fresh() -> Self {
        Self { iat: NOW, nbf: NOW - 3600, exp: NOW + 30 * DAY, ..Self::default() }
    }

    pub(crate) fn jwt(&self) -> String {
        let mut claims = json!({
            "iat": self.iat, "nbf": self.nbf, "exp": self.exp, "iss": self.kind.audience(), "aud": self.kind.audience(),
        });
        let payload: String = "Qm9n+/0a".chars().cycle().take(self.payload_length).collect();
        for (name, value) in [
            ("clientId", self.client_id),
            ("payload", payload.as_str()),
            ("userId", self.user_id),
            ("refreshUri", self.refresh_uri),
        ] {
            claims[format!("http://schemas.microsoft.com/marketplace/2015/08/claims/key/{name}")] = value.into();
        }
        jwt(&json!({"alg": "RS256", "kid": "36D101AF67A9F61B8017FB96F91EDD4B22F05804", "typ": "JWT"}), &claims)
    }

    pub(crate) fn key(&self) -> StoreIdKey {
        StoreIdKey::parse(Secret::new(self.jwt())).expect("a minted key parses")
    }
}

/// An access token of version 1.0, as Entra issues them for the Store: `iat` five minutes ago.
pub(crate) fn access_token(audience: Audience, more: &Value) -> String {
    let mut claims = json!({
        "aud": audience.resource(), "appid": CLIENT, "appidacr": "1", "ver": "1.0",
        "iat": NOW - 300, "nbf": NOW - 300, "exp": NOW + 3600,
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    jwt(&json!({"typ": "JWT", "alg": "RS256", "x5t": "x", "kid": "x"}), &claims)
}

pub(crate) fn ticket() -> ServiceTicket {
    ServiceTicket::parse(Secret::new(access_token(Audience::Service, &json!({})))).expect("a minted ticket parses")
}

pub(crate) fn jwt(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signature: Vec<u8> = (0..=255_u8).map(|number| number.wrapping_mul(167).wrapping_add(13)).collect();
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}

pub(crate) fn answer(status: u16, headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> RawAnswer {
    let headers = headers.iter().map(|(name, value)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a test's header value"))
    });
    RawAnswer {
        status: StatusCode::from_u16(status).expect("a test's status"),
        headers: HeaderMap::from_iter(headers),
        body: body.into(),
    }
}

/// An error document in the plain shape.
pub(crate) fn plain(code: &str, inner_code: &str, message: &str) -> String {
    json!({
        "code": code, "data": [], "details": [], "message": message, "source": "PurchaseFD",
        "innererror": {"code": inner_code, "data": [], "details": [], "message": message},
    })
    .to_string()
}

/// An error document in the wrapped shape.
pub(crate) fn wrapped(data: &str) -> String {
    json!({
        "code": "Unauthorized", "data": [], "details": [], "source": "PurchaseFD",
        "message": "The client is not authorized to perform the requested operation.",
        "innererror": {"code": "AuthenticationFailure", "data": [data], "details": [], "message": "m"},
    })
    .to_string()
}
