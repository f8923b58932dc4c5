//! Makes the bytes a service would send: fills a fixture's placeholders, and mints keys and tickets whose signature is
//! random, since a client can check none.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use storekeeper_model::{Audience, ClientId, KeyKind, Timestamp};

use crate::fixture::{KeySpec, Successor, TicketSpec};

/// The development identity's tenant.
pub(crate) const TENANT_ID: &str = "11111111-1111-4111-8111-111111111111";
/// The development identity's client.
pub(crate) const CLIENT_ID: &str = "22222222-2222-4222-8222-222222222222";

/// What placeholders become.
pub(crate) struct Samples {
    pub(crate) key: String,
    pub(crate) access_token: String,
}

impl Samples {
    /// Fills every placeholder of a text.
    pub(crate) fn text(&self, pattern: &str) -> String {
        let Some((before, rest)) = pattern.split_once('<') else { return pattern.to_owned() };
        let (inside, after) = rest.split_once('>').expect("a placeholder ends");
        format!("{before}{}{}", self.placeholder(inside), self.text(after))
    }

    fn placeholder(&self, inside: &str) -> &str {
        match inside.split(':').next().unwrap_or_default() {
            "guid" => "bfebe80c-ff89-4c4b-8897-67b45b916e47",
            "digits" => "60",
            "lifetime" => "3599",
            "text" => "text",
            "rest" => "",
            "cv" => "xu2HW6SrSkyfHyFh.0.0",
            "key" => &self.key,
            "access_token" => &self.access_token,
            other => panic!("`<{other}>` is no placeholder"),
        }
    }

    /// Fills every placeholder of a JSON value.
    pub(crate) fn json(&self, pattern: &Value) -> Value {
        match pattern {
            Value::String(text) if text.starts_with("<lifetime_number") => 3599.into(),
            Value::String(text) => self.text(text).into(),
            Value::Array(items) => items.iter().map(|item| self.json(item)).collect(),
            Value::Object(members) => {
                Value::Object(members.iter().map(|(name, value)| (name.clone(), self.json(value))).collect())
            }
            other => other.clone(),
        }
    }
}

/// The key of a fixture.
pub(crate) fn key(spec: &KeySpec, now: Timestamp) -> String {
    let issued_at = aged(now, &spec.age).seconds();
    let lifetime = span_seconds(spec.lifetime.as_deref().unwrap_or("30d"));
    store_id_key(spec, issued_at, issued_at - 3600, issued_at + lifetime, "old")
}

/// The key that takes its place.
pub(crate) fn successor(spec: &KeySpec, times: &Successor) -> String {
    let seconds = |text: &str| text.parse::<Timestamp>().expect("an instant").seconds();
    store_id_key(spec, seconds(&times.issued_at), seconds(&times.not_before), seconds(&times.expires_at), "new")
}

fn store_id_key(spec: &KeySpec, iat: i64, nbf: i64, exp: i64, payload: &str) -> String {
    let kind: KeyKind = spec.kind.parse().expect("a kind");
    let client_id = ClientId::new(spec.client_id.as_deref().unwrap_or(CLIENT_ID));
    let mut claims = json!({"iat": iat, "nbf": nbf, "exp": exp, "iss": kind.audience(), "aud": kind.audience()});
    let refresh_uri = spec.refresh_uri.as_deref().unwrap_or(kind.refresh_uri());
    for (name, value) in [
        ("clientId", client_id.compact()),
        ("payload", payload),
        ("userId", &spec.user_id),
        ("refreshUri", refresh_uri),
    ] {
        claims[format!("http://schemas.microsoft.com/marketplace/2015/08/claims/key/{name}")] = value.into();
    }
    let kid = "615268B87F04ACC23D7BCA6E0123456789ABCDEF";
    jwt(&json!({"alg": "RS256", "kid": kid, "typ": "JWT", "x5t": "YVJouH8ErMI9e8puASNFZ4mrze8"}), &claims)
}

/// A service ticket of a fixture.
pub(crate) fn ticket(spec: &TicketSpec, now: Timestamp) -> String {
    let audience: Audience = spec.audience.parse().expect("an audience");
    let client_id = ClientId::new(spec.client_id.as_deref().unwrap_or(CLIENT_ID)).to_string();
    access_token(audience.resource(), &client_id, aged(now, &spec.age).seconds(), &spec.claims)
}

/// An Entra access token of version 1.0, living an hour.
pub(crate) fn access_token(resource: &str, client_id: &str, iat: i64, more: &Map<String, Value>) -> String {
    let mut claims = json!({
        "aud": resource, "iss": format!("https://sts.windows.net/{TENANT_ID}/"), "iat": iat, "nbf": iat - 300,
        "exp": iat + 3600, "appid": client_id, "appidacr": "1", "tid": TENANT_ID, "ver": "1.0",
    });
    for (name, value) in more {
        match value {
            Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    jwt(&json!({"typ": "JWT", "alg": "RS256", "x5t": "kid", "kid": "kid"}), &claims)
}

fn jwt(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    // Nobody but Microsoft can check a signature, so these bytes need only look like one.
    let signature: Vec<u8> = (0..=255_u8).map(|number| number.wrapping_mul(167).wrapping_add(13)).collect();
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}

fn aged(now: Timestamp, age: &str) -> Timestamp {
    let span = |text| storekeeper_model::parse_span(text).expect("a span");
    age.strip_prefix('-').map_or_else(|| now - span(age), |ahead| now + span(ahead))
}

fn span_seconds(text: &str) -> i64 {
    let span = storekeeper_model::parse_span(text).expect("a span");
    i64::try_from(span.as_secs()).expect("a span of a few days")
}
