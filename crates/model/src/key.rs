//! `StoreIdKey`: the JWT that stands for one Store user towards one publisher service, parsed once.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64_simd::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::{CertificateId, ClientId, Fingerprint, Lifetime, PublisherUserId, Secret, Timestamp};

/// Which service a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// `collections.mp.microsoft.com`
    Collections,
    /// `purchase.mp.microsoft.com`
    Purchase,
}

impl KeyKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Collections, Self::Purchase];

    /// The name used in routes, rows and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Collections => "collections",
            Self::Purchase => "purchase",
        }
    }

    /// Microsoft's host for this kind.
    pub const fn host(self) -> &'static str {
        match self {
            Self::Collections => "collections.mp.microsoft.com",
            Self::Purchase => "purchase.mp.microsoft.com",
        }
    }

    /// The key's `aud` and `iss` claims (store.md 3.2).
    pub const fn audience(self) -> &'static str {
        match self {
            Self::Collections => "https://collections.mp.microsoft.com/v6.0/keys",
            Self::Purchase => "https://purchase.mp.microsoft.com/v6.0/keys",
        }
    }

    /// The key's `refreshUri` claim as Microsoft issues it. Compared and reported, never followed.
    pub const fn refresh_uri(self) -> &'static str {
        match self {
            Self::Collections => "https://collections.mp.microsoft.com/v6.0/b2b/keys/renew",
            Self::Purchase => "https://purchase.mp.microsoft.com/v6.0/b2b/keys/renew",
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names neither kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key's kind is `collections` or `purchase`")]
pub struct UnknownKind;

impl FromStr for KeyKind {
    type Err = UnknownKind;
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownKind)
    }
}

/// Why a text is not a Store ID key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// No text at all.
    #[error("the key is empty")]
    Empty,
    /// Longer than [`StoreIdKey::BYTES_MAX`]; not looked at any further.
    #[error("the key is longer than 16 KiB")]
    TooLarge,
    /// Not three base64url parts with a signature.
    #[error("the key is not three base64url parts separated by dots, the last one a signature")]
    Parts,
    /// The header is not JSON, or its `alg` is not RS256.
    #[error("the key's header is not JSON with `alg` RS256")]
    Header,
    /// The claims are not JSON, or one that matters is absent or of another type.
    #[error("the key's claims are not JSON with integer `iat`, `nbf`, `exp` and text `aud`, `clientId`, `userId`")]
    Claims,
    /// `aud` names neither service.
    #[error("the key's `aud` names neither Collections nor Purchase")]
    Audience,
}

/// A Store ID key: its text, sealed in a [`Secret`], and what its claims say.
///
/// The signature cannot be checked by anyone but Microsoft (store.md 2.9), so parsing proves form, not authenticity.
#[derive(Debug, Clone)]
pub struct StoreIdKey {
    jwt: Secret<String>,
    fingerprint: Fingerprint,
    kind: KeyKind,
    client_id: ClientId,
    user_id: PublisherUserId,
    certificate: CertificateId,
    lifetime: Lifetime,
    refresh_uri_is_known: bool,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Text<'a>,
    #[serde(borrow, default)]
    kid: Option<Text<'a>>,
    #[serde(borrow, default)]
    x5t: Option<Text<'a>>,
}

/// Text that is copied only where it has escapes; an `Option` of a `Cow` alone would always be.
#[derive(Deserialize, Default)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Claims<'a> {
    iat: i64,
    nbf: i64,
    exp: i64,
    #[serde(borrow)]
    aud: Text<'a>,
    #[serde(borrow, rename = "http://schemas.microsoft.com/marketplace/2015/08/claims/key/clientId")]
    client_id: Text<'a>,
    #[serde(borrow, default, rename = "http://schemas.microsoft.com/marketplace/2015/08/claims/key/userId")]
    user_id: Text<'a>,
    #[serde(borrow, default, rename = "http://schemas.microsoft.com/marketplace/2015/08/claims/key/refreshUri")]
    refresh_uri: Option<Text<'a>>,
}

impl StoreIdKey {
    /// The longest key that is looked at, in bytes (store.md 3.3).
    pub const BYTES_MAX: usize = 16 * 1024;

    /// Parses a compact JWT: three base64url parts, `alg` RS256, a signature, and the claims of store.md 3.2.
    ///
    /// # Errors
    /// See [`ParseKeyError`].
    pub fn parse(jwt: Secret<String>) -> Result<Self, ParseKeyError> {
        Self::read(jwt, Fingerprint::of)
    }

    /// As [`StoreIdKey::parse`], of a key that was parsed before and whose fingerprint was kept.
    ///
    /// # Errors
    /// See [`ParseKeyError`].
    pub fn parse_again(jwt: Secret<String>, fingerprint: Fingerprint) -> Result<Self, ParseKeyError> {
        Self::read(jwt, |_| fingerprint)
    }

    fn read(jwt: Secret<String>, fingerprint: impl FnOnce(&str) -> Fingerprint) -> Result<Self, ParseKeyError> {
        let text = jwt.expose().as_str();
        if text.is_empty() {
            return Err(ParseKeyError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(ParseKeyError::TooLarge);
        }
        let [header, claims] = decoded_parts(text)?;
        let header: Header<'_> = serde_json::from_str(&header).map_err(|_| ParseKeyError::Header)?;
        if header.alg.0 != "RS256" {
            return Err(ParseKeyError::Header);
        }
        let claims: Claims<'_> = serde_json::from_str(&claims).map_err(|_| ParseKeyError::Claims)?;
        let kind =
            KeyKind::ALL.into_iter().find(|kind| kind.audience() == claims.aud.0).ok_or(ParseKeyError::Audience)?;
        Ok(Self {
            fingerprint: fingerprint(text),
            kind,
            client_id: ClientId::new(&claims.client_id.0),
            user_id: PublisherUserId::new(&claims.user_id.0),
            certificate: CertificateId::new(&header.kid.or(header.x5t).unwrap_or_default().0),
            lifetime: Lifetime::new(
                Timestamp::from_seconds(claims.iat),
                Timestamp::from_seconds(claims.nbf),
                Timestamp::from_seconds(claims.exp),
            ),
            refresh_uri_is_known: claims.refresh_uri.is_some_and(|uri| uri.0 == kind.refresh_uri()),
            jwt,
        })
    }

    /// The compact JWT.
    pub fn jwt(&self) -> &Secret<String> {
        &self.jwt
    }

    /// How to speak of it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Which service it is for, from `aud`.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The claim `clientId`, normalised.
    pub fn client_id(&self) -> &ClientId {
        &self.client_id
    }

    /// The claim `userId`.
    pub fn user_id(&self) -> &PublisherUserId {
        &self.user_id
    }

    /// Which certificate signed it.
    pub fn certificate(&self) -> &CertificateId {
        &self.certificate
    }

    /// Its three instants.
    pub fn lifetime(&self) -> &Lifetime {
        &self.lifetime
    }

    /// Whether `refreshUri` is Microsoft's own for this kind. Anything else is reported and ignored.
    pub fn refresh_uri_is_known(&self) -> bool {
        self.refresh_uri_is_known
    }
}

fn decoded_parts(text: &str) -> Result<[String; 2], ParseKeyError> {
    let mut dots = memchr::memchr_iter(b'.', text.as_bytes());
    let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
        return Err(ParseKeyError::Parts);
    };
    let (header, claims, signature) = (&text[..first], &text[first + 1..second], &text[second + 1..]);
    // Without an early exit the compiler looks at many bytes at once.
    let is_base64url =
        |part: &str| part.bytes().fold(true, |is, b| is & (b.is_ascii_alphanumeric() | (b == b'-') | (b == b'_')));
    if signature.is_empty() || signature.len() % 4 == 1 || !is_base64url(signature) {
        return Err(ParseKeyError::Parts);
    }
    let decode = |part| URL_SAFE_NO_PAD.decode_to_vec(part).map_err(|_| ParseKeyError::Parts);
    // As text at once: a reader of bytes would look at each text in it for itself.
    let [header, claims] = [decode(header)?, decode(claims)?].map(String::from_utf8);
    Ok([header.map_err(|_| ParseKeyError::Header)?, claims.map_err(|_| ParseKeyError::Claims)?])
}
