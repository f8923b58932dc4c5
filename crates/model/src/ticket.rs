//! Service tickets: the Entra ID access tokens that accompany a key, and what they are good for.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64_simd::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::{ClientId, Secret, Timestamp};

/// What a ticket may be used for (store.md 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Audience {
    /// Authenticates the publisher's service; never leaves it.
    Service,
    /// Handed to the client app, which trades it for a Collections key.
    Collections,
    /// Handed to the client app, which trades it for a Purchase key.
    Purchase,
}

impl Audience {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Service, Self::Collections, Self::Purchase];

    /// The v1 `resource`, which is also the `aud` claim. No trailing slash.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Service => "https://onestore.microsoft.com",
            Self::Collections => "https://onestore.microsoft.com/b2b/keys/create/collections",
            Self::Purchase => "https://onestore.microsoft.com/b2b/keys/create/purchase",
        }
    }

    /// The v2 `scope`: the resource and `/.default`.
    pub fn scope(self) -> String {
        format!("{}/.default", self.resource())
    }

    /// The name used in routes and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Collections => "collections",
            Self::Purchase => "purchase",
        }
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Audience {
    type Err = ParseTicketError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|audience| audience.as_str() == text).ok_or(ParseTicketError::Audience)
    }
}

/// Why an access token cannot serve as a ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTicketError {
    /// Not three parts with readable claims.
    #[error("the access token is not a JWT with readable claims")]
    Malformed,
    /// The claim `aud` is none of the three, or not the one asked for.
    #[error("the access token is for another audience")]
    Audience,
    /// No claim `appid`: the Store refuses such a token (store.md 2.8).
    #[error("the access token carries no `appid`")]
    NoAppId,
    /// `exp` does not lie after `iat`.
    #[error("the access token has no usable lifetime")]
    Times,
}

/// An Entra ID access token, read once.
#[derive(Debug, Clone)]
pub struct ServiceTicket {
    token: Secret<String>,
    audience: Audience,
    client_id: ClientId,
    issued_at: Timestamp,
    expires_at: Timestamp,
}

#[derive(Deserialize)]
struct Claims {
    aud: String,
    appid: Option<String>,
    iat: i64,
    exp: i64,
}

impl ServiceTicket {
    /// Reads the claims of an access token. The signature is Entra's business, not ours.
    ///
    /// # Errors
    /// See [`ParseTicketError`].
    pub fn parse(token: Secret<String>) -> Result<Self, ParseTicketError> {
        let claims = token.expose().split('.').nth(1).ok_or(ParseTicketError::Malformed)?;
        let claims = URL_SAFE_NO_PAD.decode_to_vec(claims).map_err(|_| ParseTicketError::Malformed)?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| ParseTicketError::Malformed)?;
        let audience = Audience::ALL
            .into_iter()
            .find(|audience| audience.resource() == claims.aud)
            .ok_or(ParseTicketError::Audience)?;
        let client_id = ClientId::new(&claims.appid.ok_or(ParseTicketError::NoAppId)?);
        if claims.exp <= claims.iat {
            return Err(ParseTicketError::Times);
        }
        Ok(Self {
            token,
            audience,
            client_id,
            issued_at: Timestamp::from_seconds(claims.iat),
            expires_at: Timestamp::from_seconds(claims.exp),
        })
    }

    /// The compact JWT, for the request body.
    pub fn token(&self) -> &Secret<String> {
        &self.token
    }

    /// What it is good for.
    pub fn audience(&self) -> Audience {
        self.audience
    }

    /// The claim `appid`.
    pub fn client_id(&self) -> &ClientId {
        &self.client_id
    }

    /// `exp - iat`: on Entra's clock, so free of ours.
    pub fn lifetime(&self) -> Duration {
        self.expires_at.since(self.issued_at)
    }

    /// Shortens the lifetime to what the token endpoint promised, where that is less: Entra issues tokens whose `iat`
    /// lies minutes in the past (store.md 2.2), which `exp - iat` alone would add to their end.
    #[must_use]
    pub fn limited_to(self, promised: Duration) -> Self {
        Self { expires_at: self.expires_at.min(self.issued_at + promised), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_only_ever_shortened() {
        let claims = br#"{"aud":"https://onestore.microsoft.com","appid":"a","iat":1000,"exp":4900}"#;
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode_to_string(claims));
        for (promised, expected) in [(3599, 3599), (3900, 3900), (86_400, 3900), (0, 0)] {
            let ticket = ServiceTicket::parse(Secret::new(token.clone())).unwrap();
            assert_eq!(ticket.lifetime(), Duration::from_secs(3900));
            assert_eq!(ticket.limited_to(Duration::from_secs(promised)).lifetime(), Duration::from_secs(expected));
        }
    }
}
