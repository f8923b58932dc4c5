//! The renewal conversation: `POST /v6.0/b2b/keys/renew` on both hosts, checked in the order of store.md 4.5.

use std::sync::Arc;

use storekeeper_model::{Audience, CertificateId, ClientId, Fingerprint, KeyKind, Timestamp};

use crate::authority::{CertificateList, StoreCertificate};
use crate::fault_text::{Scene, refusal_error};
use crate::judgement::{KeyFacts, KeyFault, Refusal, TicketFault, judge_key, judge_ticket};
use crate::key_text::{JwtHeader, JwtText, KeyClaims, split_key};
use crate::members::{BodyFault, read_members};
use crate::minting::{Minting, payload_length_like};
use crate::request::StoreAnswer;
use crate::revocation::RevocationSubject;
use crate::service_error::ServiceError;
use crate::state::{Exchange, State};
use crate::sync::read;
use crate::{RateLimit, Superseded};

/// Why there is no new key.
pub(crate) enum RenewalFault {
    /// The body cannot be read, or a member is bad.
    Body(ServiceError),
    /// The verdict.
    Refused(Refusal, CertificateId),
    /// Too many calls of this user.
    Throttled(RateLimit, u64),
}

impl From<TicketFault> for RenewalFault {
    fn from(fault: TicketFault) -> Self {
        Self::Refused(fault.into(), CertificateId::default())
    }
}

/// The 400 for a body that cannot be read.
pub(crate) fn body_error(fault: BodyFault) -> ServiceError {
    match fault {
        BodyFault::NotAnObject => ServiceError::invalid_parameter("body", "one JSON object is needed"),
        BodyFault::Twice(name) => ServiceError::invalid_parameter(&name, "given twice"),
    }
}

impl State {
    /// Answers a renewal.
    pub(crate) fn renew(&self, mut exchange: Exchange<'_>, host: KeyKind) -> StoreAnswer {
        if let Some(status) = exchange.method_fault("POST").or_else(|| exchange.body_fault()) {
            return self.close(exchange, status, Vec::new());
        }
        let error = match self.successor(&mut exchange, host) {
            Ok(body) => return self.close(exchange, 200, body),
            Err(RenewalFault::Body(error)) => error,
            Err(RenewalFault::Refused(refusal, certificate)) => {
                let certificates = self.authority.list().accepted(exchange.now);
                refusal_error(refusal, &Scene { now: exchange.now, certificate: &certificate, certificates })
            }
            Err(RenewalFault::Throttled(limit, seconds)) => {
                exchange.extra.push(("Retry-After", seconds.to_string()));
                ServiceError::Throttled(limit)
            }
        };
        self.close_with_error(exchange, host, error)
    }

    /// Steps 5 to 20: the body of a 200.
    fn successor(&self, exchange: &mut Exchange<'_>, host: KeyKind) -> Result<String, RenewalFault> {
        let members = read_members(exchange.request.body, ["serviceticket", "key"]);
        let [ticket, key] = members.map_err(|fault| RenewalFault::Body(body_error(fault)))?;
        exchange.note.fingerprint = key.text().map(Fingerprint::of);
        let ticket = ticket.text().ok_or(TicketFault::Missing)?;
        let (Some(key), Some(fingerprint)) = (key.text(), exchange.note.fingerprint) else {
            let error = ServiceError::invalid_parameter("key", "a non-empty string is needed");
            return Err(RenewalFault::Body(error));
        };
        let at = exchange.circumstances(host);
        let ticket = self.read_ticket(ticket, &exchange.switches)?;
        let client_id = judge_ticket(&ticket, Audience::Service, &at)?;

        let unnamed = |fault: KeyFault| RenewalFault::Refused(fault.into(), CertificateId::default());
        let jwt = split_key(key).map_err(unnamed)?;
        let claims = jwt.decode_claims().ok_or(KeyFault::Malformed).map_err(unnamed)?;
        let claims = KeyClaims::parse(&claims).map_err(unnamed)?;
        let certificates = self.authority.list_for(exchange.now, exchange.now, &self.entropy);
        let signer = self.verified_signer(&jwt, fingerprint, &certificates, exchange.now)?;
        let hidden = self.mask.find(&claims.payload).unwrap_or_default();
        let facts = self.key_facts(&claims, fingerprint, hidden.serial, signer, exchange);
        let refused = |refusal| RenewalFault::Refused(refusal, signer.certificate.id().clone());
        judge_key(&facts, client_id, &at).map_err(refused)?;
        self.take_call(&claims, client_id, exchange)?;
        if !self.supersede(fingerprint, facts.expires_at, exchange) {
            return Err(refused(KeyFault::Superseded.into()));
        }
        let wish = Minting {
            kind: host,
            client_id,
            user_id: &claims.user_id,
            account: hidden.account,
            payload_length: payload_length_like(&claims.payload),
            refresh_uri: Some(&claims.refresh_uri),
            issued_at: exchange.now,
            profile: exchange.switches.profile,
        };
        self.write_answer(wish, &certificates, exchange)
    }

    fn key_facts(
        &self,
        claims: &KeyClaims<'_>,
        fingerprint: Fingerprint,
        serial: u64,
        signer: &StoreCertificate,
        exchange: &Exchange<'_>,
    ) -> KeyFacts {
        let client_id = ClientId::new(&claims.client_id);
        let subject = RevocationSubject {
            fingerprint,
            user_id: &claims.user_id,
            client_id: &client_id,
            certificate: signer.certificate.id(),
            serial,
        };
        let revoked = read(&self.revocations).cover(&subject);
        let ends = exchange.switches.superseded == Superseded::Refused;
        KeyFacts {
            kind: claims.kind(),
            not_before: claims.not_before(),
            expires_at: claims.expires_at(),
            revoked,
            superseded: ends && self.superseded.contains(fingerprint),
            client_id,
        }
    }

    /// Step 19.
    fn take_call(
        &self,
        claims: &KeyClaims<'_>,
        client_id: &ClientId,
        exchange: &Exchange<'_>,
    ) -> Result<(), RenewalFault> {
        let Some(limit) = exchange.switches.rate_limit else { return Ok(()) };
        let taken = self.rate.take(&claims.user_id, client_id, limit, exchange.now);
        taken.map_err(|seconds| RenewalFault::Throttled(limit, seconds))
    }

    /// Marks a key as renewed where that ends its life; false when somebody else was faster.
    fn supersede(&self, fingerprint: Fingerprint, expires_at: Timestamp, exchange: &Exchange<'_>) -> bool {
        let forget_before = if exchange.switches.profile.renews_expired() { Timestamp::MIN } else { exchange.now };
        exchange.switches.superseded == Superseded::Usable
            || self.superseded.insert(fingerprint, expires_at, forget_before)
    }

    /// Step 20: `{"key":"…"}` with a key signed by whoever signs now. Minted text needs no escaping.
    fn write_answer(
        &self,
        wish: Minting<'_>,
        certificates: &Arc<CertificateList>,
        exchange: &mut Exchange<'_>,
    ) -> Result<String, RenewalFault> {
        const OPEN: &str = r#"{"key":""#;
        let mut body = String::with_capacity(3072);
        body.push_str(OPEN);
        let signer = certificates.signing_at(exchange.now);
        let minted = self.mint(wish, signer, &mut exchange.draw, &mut body);
        minted.map_err(|_| RenewalFault::Refused(KeyFault::TooLarge.into(), CertificateId::default()))?;
        exchange.note_successor(&body[OPEN.len()..]);
        exchange.note.successor.iter().for_each(|fingerprint| self.known.insert(*fingerprint));
        body.push_str("\"}");
        Ok(body)
    }

    /// Steps 12 and 13 but for the claims: the accepted certificate that did sign this key.
    fn verified_signer<'a>(
        &self,
        jwt: &JwtText<'_>,
        fingerprint: Fingerprint,
        certificates: &'a CertificateList,
        now: Timestamp,
    ) -> Result<&'a StoreCertificate, RenewalFault> {
        let refused = |fault: KeyFault, id: CertificateId| RenewalFault::Refused(fault.into(), id);
        let signer = match certificates.by_header(jwt.header) {
            Some(signer) => signer,
            None => {
                let header = jwt.decode_header();
                let header = header.as_deref().and_then(JwtHeader::parse).filter(|header| header.alg == "RS256");
                let header = header.ok_or_else(|| refused(KeyFault::Malformed, CertificateId::default()))?;
                let (kid, x5t) = (header.kid.as_deref(), header.x5t.as_deref());
                let unknown = || refused(KeyFault::Certificate, CertificateId::new(kid.or(x5t).unwrap_or_default()));
                certificates.by_name(kid, x5t).ok_or_else(unknown)?
            }
        };
        let fault = if !signer.is_accepted(now) {
            KeyFault::Certificate
        } else if self.known.contains(fingerprint) {
            return Ok(signer);
        } else if signer.certificate.verifies(jwt.signed, jwt.signature) {
            self.known.insert(fingerprint);
            return Ok(signer);
        } else {
            KeyFault::Signature
        };
        Err(refused(fault, signer.certificate.id().clone()))
    }
}
