//! What the tests of the emulator share: requests in one line, answers as JSON, and an independent reader of JWTs.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::LazyLock;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use storekeeper_emulator::{
    DEV_CLIENT_ID, DEV_CLIENT_SECRET, DEV_TENANT_ID, Emulator, EmulatorOptions, ErrorShape, MintKey, MintTicket,
    ProfileChange, StoreAnswer, StoreRequest, Switches, VirtualHost,
};
use storekeeper_model::{Audience, KeyKind, Timestamp};

pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// 2026-06-01T12:00:00Z
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_780_315_200);

pub(crate) const RENEW: &str = "/v6.0/b2b/keys/renew";
pub(crate) const SCOPE: &str = "https://onestore.microsoft.com/.default";
pub(crate) const JSON: &str = "application/json";
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
pub(crate) const NAMES: &str = "http://schemas.microsoft.com/marketplace/2015/08/claims/key/";

/// Made once: its keys cost tenths of a second. Tests that change switches or state make their own.
static PLAIN: LazyLock<Emulator> = LazyLock::new(|| emulator(Switches::default()));
static WRAPPED: LazyLock<Emulator> =
    LazyLock::new(|| emulator(Switches { errors: ErrorShape::Wrapped, ..Switches::default() }));

pub(crate) fn plain() -> &'static Emulator {
    &PLAIN
}

pub(crate) fn wrapped() -> &'static Emulator {
    &WRAPPED
}

pub(crate) fn emulator(switches: Switches) -> Emulator {
    Emulator::new(EmulatorOptions { switches, seed: 7, ..EmulatorOptions::default() }, NOW)
}

pub(crate) fn changed(change: ProfileChange) -> Emulator {
    emulator(change.apply(Switches::default()))
}

/// A request without a header but the media type.
pub(crate) fn request<'a>(host: VirtualHost, method: &'a str, path: &'a str, body: &'a str) -> StoreRequest<'a> {
    let content_type = Some(if host == VirtualHost::Login { FORM } else { JSON });
    StoreRequest {
        host,
        method,
        path,
        query: None,
        content_type,
        authorization: None,
        ms_cv: None,
        body: body.as_bytes(),
    }
}

pub(crate) fn mint(emulator: &Emulator, kind: KeyKind, age: Duration) -> String {
    mint_with(emulator, MintKey { issued_at: Some(NOW - age), ..MintKey::new(kind, "user") })
}

pub(crate) fn mint_with(emulator: &Emulator, wish: MintKey) -> String {
    emulator.mint_key(wish, NOW).unwrap().expose().clone()
}

pub(crate) fn ticket(emulator: &Emulator) -> String {
    ticket_with(emulator, Audience::Service, json!({}))
}

pub(crate) fn ticket_with(emulator: &Emulator, audience: Audience, claims: Value) -> String {
    let claims = claims.as_object().unwrap().clone();
    emulator.mint_ticket(MintTicket { audience, client_id: None, claims }, NOW).expose().clone()
}

pub(crate) fn renew_body(ticket: &str, key: &str) -> String {
    json!({ "serviceTicket": ticket, "key": key }).to_string()
}

/// Renews and answers status, body and the whole answer.
pub(crate) fn renew_at(emulator: &Emulator, kind: KeyKind, ticket: &str, key: &str, now: Timestamp) -> StoreAnswer {
    emulator.answer(&request(kind.into(), "POST", RENEW, &renew_body(ticket, key)), now)
}

pub(crate) fn renew(emulator: &Emulator, kind: KeyKind, ticket: &str, key: &str) -> StoreAnswer {
    renew_at(emulator, kind, ticket, key, NOW)
}

pub(crate) fn body(answer: &StoreAnswer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
}

/// `code`, inner code and the first text of `data`.
pub(crate) fn codes(answer: &StoreAnswer) -> (String, String, String) {
    let body = body(answer);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&body["code"]), text(&body["innererror"]["code"]), text(&body["innererror"]["data"][0]))
}

/// The claims of a JWT whose signature an independent library has verified against a certificate's key.
pub(crate) fn verified(jwt: &str, key: &DecodingKey) -> Value {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    jsonwebtoken::decode(jwt, key, &validation).expect("the signature is right").claims
}

/// The claims without a look at the signature.
pub(crate) fn claims(jwt: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode(jwt).unwrap().claims
}

pub(crate) fn token(emulator: &Emulator, path: &str, pairs: &[(&str, &str)]) -> StoreAnswer {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    emulator.answer(&request(VirtualHost::Login, "POST", path, &pairs.join("&")), NOW)
}

/// The v2 request of the development client, with some pairs replaced; an empty value leaves one out.
pub(crate) fn token_v2(emulator: &Emulator, change: &[(&str, &str)]) -> StoreAnswer {
    let mut pairs = vec![
        ("client_id", DEV_CLIENT_ID),
        ("client_secret", DEV_CLIENT_SECRET),
        ("grant_type", "client_credentials"),
        ("scope", SCOPE),
    ];
    for (name, value) in change {
        pairs.retain(|(known, _)| known != name);
        if !value.is_empty() {
            pairs.push((name, value));
        }
    }
    token(emulator, &format!("/{DEV_TENANT_ID}/oauth2/v2.0/token"), &pairs)
}

/// `status`, `error` and the AADSTS number.
pub(crate) fn entra_error(answer: &StoreAnswer) -> (u16, String, i64) {
    let body = body(answer);
    let error = body["error"].as_str().unwrap_or_default().to_owned();
    (answer.status, error, body["error_codes"][0].as_i64().unwrap_or_default())
}

/// Percent encoding of everything but letters and digits.
pub(crate) fn encode(text: &str) -> String {
    let one =
        |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

/// The key that Entra's tickets are verified with, from its published key set.
pub(crate) fn entra_key(emulator: &Emulator) -> DecodingKey {
    let path = format!("/{DEV_TENANT_ID}/discovery/v2.0/keys");
    let answer = emulator.answer(&request(VirtualHost::Login, "GET", &path, ""), NOW);
    let keys = body(&answer);
    let key = &keys["keys"][0];
    DecodingKey::from_rsa_components(key["n"].as_str().unwrap(), key["e"].as_str().unwrap()).unwrap()
}
