//! Keys and tickets in the shape of real ones. Nobody but Microsoft can check a signature, so any bytes do.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use serde_json::{Value, json};
use storekeeper_model::{Audience, KeyKind, Timestamp};

use super::{CLIENT, DAY};

/// What a key says.
#[derive(Debug, Clone)]
pub(crate) struct Mint {
    pub(crate) kind: KeyKind,
    pub(crate) client_id: String,
    pub(crate) user: String,
    pub(crate) issued_at: Timestamp,
    pub(crate) life: Duration,
    pub(crate) refresh_uri: String,
    /// `exp` and `nbf` in each other's place, as the vendor has printed it.
    pub(crate) is_swapped: bool,
    /// No two keys have the same.
    pub(crate) serial: u64,
}

impl Mint {
    pub(crate) fn new(kind: KeyKind, user: &str, issued_at: Timestamp, serial: u64) -> Self {
        Self {
            kind,
            client_id: CLIENT.replace('-', ""),
            user: user.to_owned(),
            issued_at,
            life: DAY * 30,
            refresh_uri: kind.refresh_uri().to_owned(),
            is_swapped: false,
            serial,
        }
    }

    /// The compact JWT.
    pub(crate) fn jwt(&self) -> String {
        let (mut starts, mut ends) = (self.issued_at, self.issued_at + self.life);
        if self.is_swapped {
            std::mem::swap(&mut starts, &mut ends);
        }
        let mut claims = json!({
            "iat": self.issued_at.seconds(), "nbf": starts.seconds(), "exp": ends.seconds(),
            "iss": self.kind.audience(), "aud": self.kind.audience(),
        });
        let payload = "Qm9n+/0a".repeat(43);
        for (name, value) in [
            ("clientId", &self.client_id),
            ("payload", &payload),
            ("userId", &self.user),
            ("refreshUri", &self.refresh_uri),
        ] {
            claims[format!("http://schemas.microsoft.com/marketplace/2015/08/claims/key/{name}")] =
                value.as_str().into();
        }
        let header = json!({"alg": "RS256", "kid": "36D101AF67A9F61B8017FB96F91EDD4B22F05804", "typ": "JWT"});
        jwt(&header, &claims, self.serial)
    }
}

/// An access token; `uti` tells it from every other.
pub(crate) fn ticket(audience: Audience, issued_at: Timestamp, serial: u64) -> String {
    let iat = issued_at.seconds();
    let claims = json!({
        "aud": audience.resource(), "appid": CLIENT, "appidacr": "1", "ver": "1.0",
        "iat": iat, "nbf": iat, "exp": iat + 3600, "uti": serial,
    });
    jwt(&json!({"typ": "JWT", "alg": "RS256", "kid": "x"}), &claims, serial ^ 0x71c4e7)
}

/// The number in a ticket's claim `uti`.
pub(crate) fn serial_of(ticket: &str) -> u64 {
    let claims = URL_SAFE_NO_PAD.decode(ticket.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&claims).unwrap()["uti"].as_u64().unwrap()
}

fn jwt(header: &Value, claims: &Value, serial: u64) -> String {
    let mut signature = [0; 256];
    SmallRng::seed_from_u64(serial).fill_bytes(&mut signature);
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}
