//! Store ID keys as text: reading a presented one without copying its claims, and writing a new one.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use storekeeper_model::{KeyKind, StoreIdKey, Timestamp};

use crate::certificate::SigningCertificate;
use crate::entropy::Draw;
use crate::judgement::KeyFault;

/// The three parts of a presented JWT, still encoded.
#[derive(Clone, Copy)]
pub(crate) struct JwtText<'a> {
    /// The header.
    pub(crate) header: &'a str,
    claims: &'a str,
    /// Header and claims: what is signed.
    pub(crate) signed: &'a str,
    /// The signature.
    pub(crate) signature: &'a str,
}

impl<'a> JwtText<'a> {
    /// Splits a compact JWT; `None` unless there are exactly three parts, none of them empty.
    pub(crate) fn split(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let is_whole = !header.is_empty() && !claims.is_empty() && !signature.is_empty() && !claims.contains('.');
        is_whole.then_some(Self { header, claims, signed, signature })
    }

    /// The decoded header.
    pub(crate) fn decode_header(&self) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(self.header).ok()
    }

    /// The decoded claims.
    pub(crate) fn decode_claims(&self) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(self.claims).ok()
    }
}

/// A JWT's header, as far as anybody here looks at it.
#[derive(Deserialize)]
pub(crate) struct JwtHeader<'a> {
    /// The algorithm.
    #[serde(borrow)]
    pub(crate) alg: Cow<'a, str>,
    /// The key's name.
    #[serde(borrow, default)]
    pub(crate) kid: Option<Cow<'a, str>>,
    /// The certificate's SHA-1 thumbprint.
    #[serde(borrow, default)]
    pub(crate) x5t: Option<Cow<'a, str>>,
    /// The certificate's SHA-256 thumbprint.
    #[serde(borrow, default, rename = "x5t#S256")]
    pub(crate) x5t_s256: Option<Cow<'a, str>>,
}

impl<'a> JwtHeader<'a> {
    /// Reads a decoded header.
    pub(crate) fn parse(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

/// The claims of a Store ID key (store.md 3.2).
#[derive(Deserialize)]
pub(crate) struct KeyClaims<'a> {
    nbf: i64,
    exp: i64,
    #[serde(borrow)]
    iss: Cow<'a, str>,
    #[serde(borrow)]
    aud: Cow<'a, str>,
    /// The publisher's client ID.
    #[serde(borrow, rename = "http://schemas.microsoft.com/marketplace/2015/08/claims/key/clientId")]
    pub(crate) client_id: Cow<'a, str>,
    /// Opaque to all others.
    #[serde(borrow, default, rename = "http://schemas.microsoft.com/marketplace/2015/08/claims/key/payload")]
    pub(crate) payload: Cow<'a, str>,
    /// The publisher user ID.
    #[serde(borrow, default, rename = "http://schemas.microsoft.com/marketplace/2015/08/claims/key/userId")]
    pub(crate) user_id: Cow<'a, str>,
    /// Where the key says it is renewed.
    #[serde(borrow, default, rename = "http://schemas.microsoft.com/marketplace/2015/08/claims/key/refreshUri")]
    pub(crate) refresh_uri: Cow<'a, str>,
}

impl<'a> KeyClaims<'a> {
    /// Reads decoded claims.
    pub(crate) fn parse(json: &'a [u8]) -> Result<Self, KeyFault> {
        serde_json::from_slice(json).map_err(|_| KeyFault::Malformed)
    }

    /// The service that `iss` and `aud` both name.
    pub(crate) fn kind(&self) -> Option<KeyKind> {
        KeyKind::ALL.into_iter().find(|kind| kind.audience() == self.aud && self.iss == self.aud)
    }

    /// The claim `nbf`.
    pub(crate) fn not_before(&self) -> Timestamp {
        Timestamp::from_seconds(self.nbf)
    }

    /// The claim `exp`.
    pub(crate) fn expires_at(&self) -> Timestamp {
        Timestamp::from_seconds(self.exp)
    }
}

/// Splits a presented key: step 12 of store.md 4.5 but for what its JSON says.
pub(crate) fn split_key(text: &str) -> Result<JwtText<'_>, KeyFault> {
    if text.len() > StoreIdKey::BYTES_MAX {
        return Err(KeyFault::TooLarge);
    }
    JwtText::split(text).ok_or(KeyFault::Malformed)
}

/// What a new key says.
pub(crate) struct NewKey<'a> {
    /// The service it is for.
    pub(crate) kind: KeyKind,
    /// Without dashes.
    pub(crate) client_id: &'a str,
    /// The encoded payload.
    pub(crate) payload: &'a str,
    /// The publisher user ID.
    pub(crate) user_id: &'a str,
    /// See [`KeyClaims::refresh_uri`].
    pub(crate) refresh_uri: &'a str,
    /// The claim `iat`, in seconds.
    pub(crate) iat: i64,
    /// `exp` - `iat`, in seconds.
    pub(crate) lifetime_seconds: i64,
}

/// How far `nbf` lies before `iat` (store.md 3.4).
const BACKDATED_SECONDS: i64 = 3600;

impl NewKey<'_> {
    /// The claims in the order of the documentation's example (store.md 3.2).
    fn claims(&self) -> Vec<u8> {
        const NAMES: &str = "http://schemas.microsoft.com/marketplace/2015/08/claims/key/";
        let variable = self.payload.len() + self.user_id.len() + self.refresh_uri.len();
        let mut json = Vec::with_capacity(640 + variable);
        let texts = [
            ("clientId", self.client_id),
            ("payload", self.payload),
            ("userId", self.user_id),
            ("refreshUri", self.refresh_uri),
        ];
        json.push(b'{');
        for (name, value) in texts {
            json.push(b'"');
            json.extend_from_slice(NAMES.as_bytes());
            json.extend_from_slice(name.as_bytes());
            json.extend_from_slice(b"\":");
            serde_json::to_writer(&mut json, value).expect("text always serialises into memory");
            json.push(b',');
        }
        let audience = self.kind.audience();
        let exp = self.iat.saturating_add(self.lifetime_seconds);
        let nbf = self.iat.saturating_sub(BACKDATED_SECONDS);
        let rest = format!(r#""iat":{},"iss":"{audience}","aud":"{audience}","exp":{exp},"nbf":{nbf}}}"#, self.iat);
        json.extend_from_slice(rest.as_bytes());
        json
    }

    /// Appends the signed key to `out`.
    pub(crate) fn write(&self, header: &str, certificate: &SigningCertificate, draw: &mut Draw, out: &mut String) {
        let start = out.len();
        out.push_str(header);
        out.push('.');
        URL_SAFE_NO_PAD.encode_string(self.claims(), out);
        certificate.sign(out, start, draw);
    }
}

/// The encoded header of keys signed by `certificate`: `alg`, then `kid`, as observed (store.md 3.1).
pub(crate) fn key_header(certificate: &SigningCertificate) -> String {
    let (kid, x5t) = (certificate.id().as_str(), certificate.x5t());
    URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"RS256","kid":"{kid}","x5t":"{x5t}","typ":"JWT"}}"#))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_has_three_parts() {
        assert!(JwtText::split("a.b.c").is_some());
        for text in ["", "a", "a.b", "a.b.c.d", ".b.c", "a..c", "a.b."] {
            assert!(JwtText::split(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_header_begins_as_observed() {
        let header = key_header(&SigningCertificate::unsigned([0x61; 20]));
        // store.md 3.1: real keys of 2021-22.
        assert!(header.starts_with("eyJhbGciOiJSUzI1NiIsImtpZCI6Ij"), "{header}");
    }

    #[test]
    fn claims_are_escaped_and_read_back() {
        let key = NewKey {
            kind: KeyKind::Collections,
            client_id: "c",
            payload: "AA/+==",
            user_id: "quote\" back\\slash \u{7} ü",
            refresh_uri: "https://x/",
            iat: 1_733_526_889,
            lifetime_seconds: 2_592_000,
        };
        let json = key.claims();
        let claims = KeyClaims::parse(&json).unwrap();
        assert_eq!(claims.user_id, key.user_id);
        assert_eq!(claims.payload, key.payload);
        assert_eq!(claims.kind(), Some(KeyKind::Collections));
        // store.md 3.4, the example of 2024 swapped back.
        assert_eq!((claims.exp, claims.nbf), (1_736_118_889, 1_733_523_289));
    }

    #[test]
    fn keys_longer_than_16_kib_are_not_read() {
        assert_eq!(split_key(&"x".repeat(16 * 1024 + 1)).err(), Some(KeyFault::TooLarge));
        assert_eq!(split_key("x").err(), Some(KeyFault::Malformed));
    }
}
