//! Client assertions: a client proving itself with a JWT of its own or of a provider it trusts (store.md 2.4, 2.5).

use std::time::Duration;

use serde::Deserialize;
use storekeeper_model::{ClientId, Timestamp};

use crate::FederatedCredential;
use crate::client_registry::Client;
use crate::entra_error::EntraError;
use crate::key_text::{JwtHeader, JwtText};
use crate::state::{Exchange, State};

#[derive(Deserialize)]
struct AssertionClaims {
    iss: String,
    sub: String,
    aud: String,
    exp: i64,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(default)]
    iat: Option<i64>,
}

impl AssertionClaims {
    /// Within its times: they are judged before the signature, so that an old assertion is told so whoever signed it.
    fn check_times(&self, exchange: &Exchange<'_>) -> Result<(), EntraError> {
        let skew = Duration::from_secs(exchange.switches.skew_seconds.into());
        let until = Timestamp::from_seconds(self.exp);
        let from = Timestamp::from_seconds(self.nbf.or(self.iat).unwrap_or(i64::MIN / 1000));
        if from > exchange.now + skew || exchange.now >= until + skew {
            return Err(EntraError::assertion_out_of_time(exchange.now, from, until));
        }
        Ok(())
    }

    /// Meant for this tenant, in any of the forms that editions of the documentation print. The host is not compared:
    /// whoever reaches the emulator by a path prefix names another one.
    fn is_for(&self, tenant: &str) -> bool {
        let forms = ["/oauth2/v2.0/token", "/oauth2/token", "/v2.0"];
        let aud = self.aud.to_ascii_lowercase();
        forms.iter().any(|form| aud.strip_suffix(form).is_some_and(|base| base.ends_with(&format!("/{tenant}"))))
    }
}

impl State {
    /// Whether the assertion proves the caller to be the client.
    pub(crate) fn check_assertion(
        &self,
        client: &Client,
        client_id: &ClientId,
        tenant: &str,
        assertion: &str,
        exchange: &Exchange<'_>,
    ) -> Result<(), EntraError> {
        let jwt = JwtText::split(assertion).ok_or_else(EntraError::assertion_unverified)?;
        let (header, claims) = (jwt.decode_header(), jwt.decode_claims());
        let header = header.as_deref().and_then(JwtHeader::parse).ok_or_else(EntraError::assertion_unverified)?;
        let claims = claims.and_then(|claims| serde_json::from_slice::<AssertionClaims>(&claims).ok());
        let claims = claims.ok_or_else(EntraError::assertion_unverified)?;
        claims.check_times(exchange)?;
        let is_own = ClientId::new(&claims.iss) == *client_id;
        if !is_own {
            return self.check_federated(client.federated.as_ref(), &jwt, &header, &claims);
        }
        let names = (header.kid.as_deref(), header.x5t.as_deref(), header.x5t_s256.as_deref());
        let signer = client.certificate.as_ref().filter(|known| known.is_named(names.0, names.1, names.2));
        let is_verified = signer.is_some_and(|known| known.verifies(&header.alg, jwt.signed, jwt.signature));
        if !is_verified || ClientId::new(&claims.sub) != *client_id {
            return Err(EntraError::assertion_unverified());
        }
        if claims.is_for(tenant) { Ok(()) } else { Err(EntraError::assertion_audience()) }
    }

    fn check_federated(
        &self,
        trusted: Option<&FederatedCredential>,
        jwt: &JwtText<'_>,
        header: &JwtHeader<'_>,
        claims: &AssertionClaims,
    ) -> Result<(), EntraError> {
        let trusted = trusted.ok_or_else(EntraError::federation_missing)?;
        if claims.iss != trusted.issuer {
            return Err(EntraError::federation_issuer(&claims.iss));
        }
        if claims.sub != trusted.subject {
            let differs_in_case = claims.sub.eq_ignore_ascii_case(&trusted.subject);
            let error =
                if differs_in_case { EntraError::federation_subject_case } else { EntraError::federation_subject };
            return Err(error(&claims.sub));
        }
        if claims.aud != trusted.audience {
            return Err(EntraError::federation_missing());
        }
        let is_ours = header.alg == "RS256" && header.kid.as_deref() == Some(self.entra.x5t());
        let is_verified = is_ours && self.entra.verifies(jwt.signed, jwt.signature);
        if is_verified { Ok(()) } else { Err(EntraError::assertion_unverified()) }
    }
}
