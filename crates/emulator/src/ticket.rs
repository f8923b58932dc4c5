//! Tickets as the Store sees them: reading and verifying one, remembering the verdict by digest, and issuing new ones.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use storekeeper_model::{Audience, ClientId, Timestamp};

use crate::FormatV2Tickets;
use crate::certificate::SigningCertificate;
use crate::entropy::{Draw, Entropy};
use crate::judgement::{TicketFacts, TicketFault};
use crate::key_text::{JwtHeader, JwtText};
use crate::sync::lock;

/// The claims of an access token that are judged (store.md 2.8).
#[derive(Deserialize)]
struct TicketClaims<'a> {
    #[serde(borrow, default)]
    iss: Cow<'a, str>,
    #[serde(borrow, default)]
    aud: Cow<'a, str>,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(default)]
    exp: Option<i64>,
    #[serde(borrow, default)]
    appid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    azp: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    appidacr: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    azpacr: Option<Cow<'a, str>>,
}

/// Reads a ticket and verifies its signature: step 8 of store.md 4.5, and the facts for the steps after it.
///
/// # Errors
/// [`TicketFault::Malformed`], [`TicketFault::KeyUnknown`] or [`TicketFault::Signature`].
pub(crate) fn read_ticket(
    text: &str,
    entra: &SigningCertificate,
    format_v2: FormatV2Tickets,
    tenant_known: impl Fn(&str) -> bool,
) -> Result<TicketFacts, TicketFault> {
    let jwt = JwtText::split(text).ok_or(TicketFault::Malformed)?;
    let header = jwt.decode_header().ok_or(TicketFault::Malformed)?;
    let header = JwtHeader::parse(&header).filter(|header| header.alg == "RS256").ok_or(TicketFault::Malformed)?;
    if header.kid.or(header.x5t).as_deref() != Some(entra.x5t()) {
        return Err(TicketFault::KeyUnknown);
    }
    if !entra.verifies(jwt.signed, jwt.signature) {
        return Err(TicketFault::Signature);
    }
    let claims = jwt.decode_claims().ok_or(TicketFault::Malformed)?;
    let claims: TicketClaims<'_> = serde_json::from_slice(&claims).map_err(|_| TicketFault::Malformed)?;
    let azp = claims.azp.filter(|_| format_v2 == FormatV2Tickets::Accepted);
    let obtained_by = claims.appidacr.or(claims.azpacr);
    Ok(TicketFacts {
        issuer_known: tenant_of(&claims.iss).is_some_and(tenant_known),
        not_before: claims.nbf.map(Timestamp::from_seconds),
        expires_at: claims.exp.map(Timestamp::from_seconds),
        audience: Audience::ALL.into_iter().find(|audience| audience.resource() == claims.aud),
        client_id: claims.appid.or(azp).as_deref().map(ClientId::new),
        obtained_by_certificate: obtained_by.as_deref() == Some("2"),
    })
}

/// The tenant that an issuer names, in the form of either token version.
fn tenant_of(issuer: &str) -> Option<&str> {
    let v1 = issuer.strip_prefix("https://sts.windows.net/").and_then(|rest| rest.strip_suffix('/'));
    v1.or_else(|| issuer.strip_prefix("https://login.microsoftonline.com/")?.strip_suffix("/v2.0"))
}

const SHARDS: usize = 16;
/// Tickets remembered in all: one per tenant, client and audience is in use at a time.
const REMEMBERED_MAX: usize = 4096;

type TicketShard = HashMap<[u8; 32], Arc<TicketFacts>>;

/// Remembers what tickets say once their signature has been verified; their times are judged at every use.
#[derive(Default)]
pub(crate) struct TicketCache {
    shards: [Mutex<TicketShard>; SHARDS],
}

impl TicketCache {
    /// The remembered facts, or those that `read` finds. Faults and tickets of unknown tenants are not remembered.
    pub(crate) fn facts(
        &self,
        text: &str,
        read: impl FnOnce() -> Result<TicketFacts, TicketFault>,
    ) -> Result<Arc<TicketFacts>, TicketFault> {
        let digest: [u8; 32] = Sha256::digest(text).into();
        let shard = &self.shards[usize::from(digest[0]) % SHARDS];
        if let Some(facts) = lock(shard).get(&digest) {
            return Ok(Arc::clone(facts));
        }
        let facts = Arc::new(read()?);
        if facts.issuer_known {
            let mut shard = lock(shard);
            if shard.len() >= REMEMBERED_MAX / SHARDS {
                shard.clear();
            }
            shard.insert(digest, Arc::clone(&facts));
        }
        Ok(facts)
    }

    /// Forgets everything: what a ticket says may have changed.
    pub(crate) fn clear(&self) {
        self.shards.iter().for_each(|shard| lock(shard).clear());
    }
}

/// What a new ticket says.
pub(crate) struct NewTicket<'a> {
    /// Whose directory vouches.
    pub(crate) tenant: &'a str,
    /// Whose service it authenticates.
    pub(crate) client_id: &'a ClientId,
    /// Whose service takes it, as its claim `aud` says.
    pub(crate) resource: &'a str,
    /// How the caller authenticated: "1" a secret, "2" a certificate or an assertion.
    pub(crate) appidacr: &'static str,
    /// The claim `iat`, in seconds; `nbf` lies 300 s before (store.md 2.2).
    pub(crate) iat: i64,
    /// `exp` - `iat`, in seconds.
    pub(crate) lifetime_seconds: i64,
}

/// How far `nbf` lies before the issue of a ticket (derived in store.md 2.2).
pub(crate) const TICKET_BACKDATED_SECONDS: i64 = 300;

impl NewTicket<'_> {
    /// The claims of a v1.0 token, which Store tickets are from both endpoints (store.md 2.8).
    pub(crate) fn claims(&self, entropy: &Entropy, draw: &mut Draw) -> Map<String, Value> {
        let Self { tenant, client_id, resource, appidacr, iat, lifetime_seconds } = self;
        let issuer = format!("https://sts.windows.net/{tenant}/");
        // The caller's object in its directory is the same in every token.
        let object = entropy.named(&format!("service principal {tenant} {client_id}")).guid();
        let claims = json!({
            "aud": resource,
            "iss": issuer,
            "iat": iat,
            "nbf": iat - TICKET_BACKDATED_SECONDS,
            "exp": iat + lifetime_seconds,
            "aio": URL_SAFE_NO_PAD.encode(draw.bytes::<48>()),
            "appid": client_id.to_string(),
            "appidacr": appidacr,
            "idp": issuer,
            "oid": object,
            "rh": format!("0.{}", URL_SAFE_NO_PAD.encode(draw.bytes::<36>())),
            "sub": object,
            "tid": tenant,
            "uti": URL_SAFE_NO_PAD.encode(draw.bytes::<16>()),
            "ver": "1.0",
        });
        match claims {
            Value::Object(claims) => claims,
            _ => unreachable!("the literal above is an object"),
        }
    }
}

/// Signs claims as Entra does, with `kid` and `x5t` alike (store.md 2.8).
pub(crate) fn sign_ticket(claims: &Map<String, Value>, entra: &SigningCertificate, draw: &mut Draw) -> String {
    let x5t = entra.x5t();
    let mut jwt = String::with_capacity(1600);
    URL_SAFE_NO_PAD.encode_string(format!(r#"{{"typ":"JWT","alg":"RS256","x5t":"{x5t}","kid":"{x5t}"}}"#), &mut jwt);
    jwt.push('.');
    let claims = serde_json::to_vec(claims).expect("JSON values always serialise into memory");
    URL_SAFE_NO_PAD.encode_string(claims, &mut jwt);
    entra.sign(&mut jwt, 0, draw);
    jwt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signatures;

    #[test]
    fn issuers_of_both_versions_name_their_tenant() {
        let check = |issuer, expected| assert_eq!(tenant_of(issuer), expected, "{issuer}");
        check("https://sts.windows.net/t/", Some("t"));
        check("https://sts.windows.net/t", None);
        check("https://login.microsoftonline.com/t/v2.0", Some("t"));
        check("https://login.microsoftonline.com/t", None);
        check("https://evil.example/t/", None);
    }

    #[test]
    fn a_verdict_is_remembered_but_not_a_fault() {
        let cache = TicketCache::default();
        assert!(cache.facts("t", || Err(TicketFault::Signature)).is_err());
        let entropy = Entropy::new(1, 1);
        let entra = SigningCertificate::generate("entra", Signatures::Skipped, &mut entropy.draw());
        let client_id = ClientId::new("c");
        let ticket = NewTicket {
            tenant: "t",
            client_id: &client_id,
            resource: Audience::Purchase.resource(),
            appidacr: "2",
            iat: 1000,
            lifetime_seconds: 60,
        };
        let text = sign_ticket(&ticket.claims(&entropy, &mut entropy.draw()), &entra, &mut entropy.draw());
        let read = || read_ticket(&text, &entra, FormatV2Tickets::Refused, |tenant| tenant == "t");
        let facts = cache.facts(&text, read).unwrap();
        assert_eq!(facts.not_before, Some(Timestamp::from_seconds(700)));
        assert_eq!(facts.expires_at, Some(Timestamp::from_seconds(1060)));
        assert_eq!((facts.audience, facts.obtained_by_certificate), (Some(Audience::Purchase), true));
        assert!(cache.facts(&text, || panic!("it is remembered")).is_ok());
        cache.clear();
        assert!(cache.facts(&text, || Err(TicketFault::Malformed)).is_err());
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = TicketCache::default();
        let facts = TicketFacts {
            issuer_known: true,
            not_before: None,
            expires_at: None,
            audience: None,
            client_id: None,
            obtained_by_certificate: false,
        };
        for number in 0..20_000 {
            cache.facts(&number.to_string(), || Ok(facts.clone())).unwrap();
        }
        let kept: usize = cache.shards.iter().map(|shard| lock(shard).len()).sum();
        assert!(kept <= REMEMBERED_MAX, "{kept}");
    }
}
