//! Made-up keys in the shape of real ones (store.md 3), from a seeded generator: for tests, benches and the packing dictionary.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rand::Rng;
use storekeeper_model::{KeyKind, Secret, StoreIdKey, Timestamp};

const CLAIM: &str = "http://schemas.microsoft.com/marketplace/2015/08/claims/key";

/// What a made-up key is to look like.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Which service it is for.
    pub kind: KeyKind,
    /// The claim `iat`.
    pub issued_at: Timestamp,
    /// `exp` - `iat` in seconds.
    pub lifetime: i64,
    /// The claim `clientId` as it stands.
    pub client_id: String,
    /// The claim `userId`.
    pub user_id: String,
    /// The SHA-1 thumbprint of the certificate, for `kid` and `x5t`.
    pub certificate: [u8; 20],
    /// Bytes behind the claim `payload`.
    pub payload_length: usize,
    /// In which order header and claims are written; every number is one.
    pub order: u8,
}

impl Shape {
    /// So many orders are different.
    pub const ORDERS: u8 = 25;

    /// A key of 30 days with everything as usual.
    pub fn usual(kind: KeyKind, issued_at: Timestamp) -> Self {
        Self {
            kind,
            issued_at,
            lifetime: 2_592_000,
            client_id: String::from("22222222222242228222222222222222"),
            user_id: String::from("player-0001"),
            certificate: [0x36; 20],
            payload_length: 256,
            order: 0,
        }
    }

    /// The key's text. Payload and signature are random bytes: nobody but the Store could tell.
    pub fn jwt(&self, rng: &mut impl Rng) -> String {
        let mut payload = vec![0; self.payload_length];
        rng.fill(payload.as_mut_slice());
        let mut signature = [0; 256];
        rng.fill(&mut signature);
        let claims = self.claims(&STANDARD.encode(&payload));
        let parts = [self.header().as_bytes(), claims.as_bytes(), &signature].map(|part| URL_SAFE_NO_PAD.encode(part));
        parts.join(".")
    }

    /// The same, parsed.
    pub fn key(&self, rng: &mut impl Rng) -> StoreIdKey {
        StoreIdKey::parse(Secret::new(self.jwt(rng))).expect("a made-up key has the shape of a real one")
    }

    fn header(&self) -> String {
        let kid: String = self.certificate.iter().map(|byte| format!("{byte:02X}")).collect();
        let x5t = URL_SAFE_NO_PAD.encode(self.certificate);
        match self.order % 5 {
            0 => format!(r#"{{"alg":"RS256","kid":"{kid}","typ":"JWT","x5t":"{x5t}"}}"#),
            1 => format!(r#"{{"typ":"JWT","alg":"RS256","x5t":"{x5t}","kid":"{kid}"}}"#),
            2 => format!(r#"{{"alg":"RS256","kid":"{kid}","x5t":"{x5t}","typ":"JWT"}}"#),
            3 => format!(r#"{{"alg":"RS256","kid":"{kid}","typ":"JWT"}}"#),
            _ => format!(r#"{{"typ":"JWT","alg":"RS256","x5t":"{x5t}"}}"#),
        }
    }

    fn claims(&self, payload: &str) -> String {
        let (kind, iat) = (self.kind, self.issued_at.seconds());
        let (nbf, exp) = (iat - 3600, iat + self.lifetime);
        let own = [
            format!(r#""{CLAIM}/clientId":"{}""#, self.client_id),
            format!(r#""{CLAIM}/payload":"{payload}""#),
            format!(r#""{CLAIM}/userId":"{}""#, self.user_id),
            format!(r#""{CLAIM}/refreshUri":"{}""#, kind.refresh_uri()),
        ]
        .join(",");
        let times = format!(r#""iat":{iat},"nbf":{nbf},"exp":{exp}"#);
        let names = format!(r#""iss":"{0}","aud":"{0}""#, kind.audience());
        match self.order / 5 % 5 {
            0 => format!("{{{own},{times},{names}}}"),
            1 => format!("{{{own},{names},\"exp\":{exp},\"nbf\":{nbf},\"iat\":{iat}}}"),
            2 => format!("{{{names},{times},{own}}}"),
            3 => format!("{{{own},\"iat\":{iat},{names},\"exp\":{exp},\"nbf\":{nbf}}}"),
            _ => format!("{{{times},{names},{own}}}"),
        }
    }
}
