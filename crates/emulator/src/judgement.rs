//! The verdict on a ticket, a key and a renewal as plain functions of what they claim: no bytes, no signatures, no state.
//!
//! This is steps 9 to 18 of store.md 4.5 in their order, first failure wins. Serving and simulation judge by the same
//! functions.

use std::time::Duration;

use storekeeper_model::{Audience, ClientId, KeyKind, Timestamp};

/// What a ticket says about itself, its signature being settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketFacts {
    /// `iss` is that of a known tenant.
    pub issuer_known: bool,
    /// The claim `nbf`; absent is no restriction.
    pub not_before: Option<Timestamp>,
    /// The claim `exp`; absent is always expired.
    pub expires_at: Option<Timestamp>,
    /// The claim `aud`, when it is exactly one of the three.
    pub audience: Option<Audience>,
    /// The claim `appid`, or `azp` where that counts.
    pub client_id: Option<ClientId>,
    /// `appidacr` is "2": obtained with a certificate or an assertion.
    pub obtained_by_certificate: bool,
}

/// What a key says about itself and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// The service that both `iss` and `aud` name.
    pub kind: Option<KeyKind>,
    /// The claim `nbf`.
    pub not_before: Timestamp,
    /// The claim `exp`.
    pub expires_at: Timestamp,
    /// Named in a revocation.
    pub revoked: bool,
    /// Renewed before, where that ends a key's life.
    pub superseded: bool,
    /// The claim `clientId`.
    pub client_id: ClientId,
}

/// When and where the judgement takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// The host that was asked.
    pub host: KeyKind,
    /// The emulator's time.
    pub now: Timestamp,
    /// How far `nbf` and `exp` may be missed.
    pub skew: Duration,
    /// The legacy era renews after `exp`.
    pub renews_expired: bool,
}

/// What is wrong with a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketFault {
    /// There is none (step 6).
    Missing,
    /// Not a JWT with RS256 and readable claims (step 8).
    Malformed,
    /// Signed by nobody we know (step 8).
    KeyUnknown,
    /// The signature does not match (step 8).
    Signature,
    /// Of no known tenant (step 9).
    Issuer,
    /// Before its `nbf` (step 9).
    NotYetValid {
        /// The claim `nbf`.
        not_before: Timestamp,
    },
    /// At or after its `exp` (step 9).
    Expired {
        /// The claim `exp`.
        expires_at: Option<Timestamp>,
    },
    /// For another audience (step 10).
    Audience,
    /// No `appid` (step 11).
    NoAppId,
    /// Obtained without a secret where that is refused (store.md 2.4).
    ObtainedByCertificate,
}

/// What is wrong with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFault {
    /// Longer than 16 KiB (step 12).
    TooLarge,
    /// Not a JWT with RS256 and readable claims (step 12).
    Malformed,
    /// Signed by no accepted certificate: unknown, or retired for too long (step 13).
    Certificate,
    /// The signature does not match (step 13).
    Signature,
    /// For another service (step 14).
    Audience,
    /// Before its `nbf` (step 15).
    NotYetValid {
        /// The claim `nbf`.
        not_before: Timestamp,
    },
    /// At or after its `exp` (step 16).
    Expired {
        /// The claim `exp`.
        expires_at: Timestamp,
    },
    /// Revoked (step 17).
    Revoked,
    /// Renewed before (step 17).
    Superseded,
}

/// Why a renewal is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The ticket is at fault.
    Ticket(TicketFault),
    /// The key is at fault.
    Key(KeyFault),
    /// Both are sound but belong to different clients (step 18).
    ClientIdDiffers,
}

impl From<TicketFault> for Refusal {
    fn from(fault: TicketFault) -> Self {
        Self::Ticket(fault)
    }
}

impl From<KeyFault> for Refusal {
    fn from(fault: KeyFault) -> Self {
        Self::Key(fault)
    }
}

/// Judges a renewal whose signatures are settled: steps 9 to 11 and 14 to 18.
///
/// # Errors
/// The first check that fails.
pub fn judge_renewal(ticket: &TicketFacts, key: &KeyFacts, at: &Circumstances) -> Result<(), Refusal> {
    let client_id = judge_ticket(ticket, Audience::Service, at)?;
    judge_key(key, client_id, at)
}

/// Judges a ticket whose signature is settled, and answers whose it is: steps 9 to 11.
///
/// # Errors
/// The first check that fails.
pub fn judge_ticket<'a>(
    ticket: &'a TicketFacts,
    wanted: Audience,
    at: &Circumstances,
) -> Result<&'a ClientId, TicketFault> {
    if !ticket.issuer_known {
        return Err(TicketFault::Issuer);
    }
    if let Some(not_before) = ticket.not_before.filter(|not_before| *not_before > at.now + at.skew) {
        return Err(TicketFault::NotYetValid { not_before });
    }
    if ticket.expires_at.is_none_or(|expires_at| at.now >= expires_at + at.skew) {
        return Err(TicketFault::Expired { expires_at: ticket.expires_at });
    }
    if ticket.audience != Some(wanted) {
        return Err(TicketFault::Audience);
    }
    ticket.client_id.as_ref().ok_or(TicketFault::NoAppId)
}

/// Judges a key whose signature is settled, presented by `client_id`: steps 14 to 18.
///
/// # Errors
/// The first check that fails.
pub fn judge_key(key: &KeyFacts, client_id: &ClientId, at: &Circumstances) -> Result<(), Refusal> {
    if key.kind != Some(at.host) {
        return Err(KeyFault::Audience.into());
    }
    if key.not_before > at.now + at.skew {
        return Err(KeyFault::NotYetValid { not_before: key.not_before }.into());
    }
    if at.now >= key.expires_at + at.skew && !at.renews_expired {
        return Err(KeyFault::Expired { expires_at: key.expires_at }.into());
    }
    if key.revoked {
        return Err(KeyFault::Revoked.into());
    }
    if key.superseded {
        return Err(KeyFault::Superseded.into());
    }
    if key.client_id != *client_id {
        return Err(Refusal::ClientIdDiffers);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn ticket() -> TicketFacts {
        TicketFacts {
            issuer_known: true,
            not_before: Some(NOW),
            expires_at: Some(NOW + SECOND),
            audience: Some(Audience::Service),
            client_id: Some(ClientId::new("c")),
            obtained_by_certificate: false,
        }
    }

    fn key() -> KeyFacts {
        KeyFacts {
            kind: Some(KeyKind::Purchase),
            not_before: NOW,
            expires_at: NOW + SECOND,
            revoked: false,
            superseded: false,
            client_id: ClientId::new("C"),
        }
    }

    fn check(change: impl FnOnce(&mut TicketFacts, &mut KeyFacts, &mut Circumstances), expected: Result<(), Refusal>) {
        let (mut ticket, mut key) = (ticket(), key());
        let mut at = Circumstances { host: KeyKind::Purchase, now: NOW, skew: Duration::ZERO, renews_expired: false };
        change(&mut ticket, &mut key, &mut at);
        assert_eq!(judge_renewal(&ticket, &key, &at), expected);
    }

    #[test]
    fn one_fault_at_a_time() {
        check(|_, _, _| (), Ok(()));
        check(|ticket, _, _| ticket.issuer_known = false, Err(TicketFault::Issuer.into()));
        let later = NOW + Duration::from_millis(1);
        check(
            |ticket, _, _| ticket.not_before = Some(later),
            Err(TicketFault::NotYetValid { not_before: later }.into()),
        );
        check(|ticket, _, _| ticket.not_before = None, Ok(()));
        check(|ticket, _, _| ticket.expires_at = Some(NOW), Err(TicketFault::Expired { expires_at: Some(NOW) }.into()));
        check(|ticket, _, _| ticket.expires_at = None, Err(TicketFault::Expired { expires_at: None }.into()));
        check(|ticket, _, _| ticket.audience = Some(Audience::Purchase), Err(TicketFault::Audience.into()));
        check(|ticket, _, _| ticket.audience = None, Err(TicketFault::Audience.into()));
        check(|ticket, _, _| ticket.client_id = None, Err(TicketFault::NoAppId.into()));
        check(|_, key, _| key.kind = Some(KeyKind::Collections), Err(KeyFault::Audience.into()));
        check(|_, key, _| key.kind = None, Err(KeyFault::Audience.into()));
        check(|_, key, _| key.not_before = later, Err(KeyFault::NotYetValid { not_before: later }.into()));
        check(|_, key, _| key.expires_at = NOW, Err(KeyFault::Expired { expires_at: NOW }.into()));
        check(|_, key, _| key.revoked = true, Err(KeyFault::Revoked.into()));
        check(|_, key, _| key.superseded = true, Err(KeyFault::Superseded.into()));
        check(|_, key, _| key.client_id = ClientId::new("d"), Err(Refusal::ClientIdDiffers));
    }

    #[test]
    fn the_first_of_several_faults_is_told() {
        let all = |ticket: &mut TicketFacts, key: &mut KeyFacts, at: &mut Circumstances| {
            at.now = NOW + 2 * SECOND;
            key.client_id = ClientId::new("d");
            ticket.audience = None;
        };
        check(all, Err(TicketFault::Expired { expires_at: Some(NOW + SECOND) }.into()));
        let key_only = |ticket: &mut TicketFacts, key: &mut KeyFacts, _: &mut Circumstances| {
            ticket.expires_at = Some(NOW + 9 * SECOND);
            (key.expires_at, key.revoked, key.client_id) = (NOW, true, ClientId::new("d"));
        };
        check(key_only, Err(KeyFault::Expired { expires_at: NOW }.into()));
    }

    #[test]
    fn skew_and_the_legacy_era_are_lenient() {
        check(
            |ticket, key, at| {
                (ticket.expires_at, key.expires_at) = (Some(NOW), NOW);
                (ticket.not_before, key.not_before) = (Some(NOW + SECOND), NOW + SECOND);
                at.skew = SECOND;
            },
            Ok(()),
        );
        check(|_, key, at| (key.expires_at, at.renews_expired) = (Timestamp::EPOCH, true), Ok(()));
    }
}
