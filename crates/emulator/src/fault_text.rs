//! The words in which a wrapped 401 tells what was wrong: Microsoft.IdentityModel's, as far as they are public
//! (store.md 5.3).

use storekeeper_model::{CertificateId, Timestamp};

use crate::calendar::dotnet_timestamp;
use crate::judgement::{KeyFault, Refusal, TicketFault};
use crate::service_error::{Cause, ServiceError};

/// What a text needs to know besides the fault.
pub(crate) struct Scene<'a> {
    /// The emulator's time.
    pub(crate) now: Timestamp,
    /// The certificate the key names.
    pub(crate) certificate: &'a CertificateId,
    /// How many certificates are accepted.
    pub(crate) certificates: usize,
}

/// The error document of a refusal.
pub(crate) fn refusal_error(refusal: Refusal, scene: &Scene<'_>) -> ServiceError {
    match refusal {
        Refusal::Ticket(fault) => {
            ServiceError::TokenInvalid(Some(Cause { subject: "AAD token", text: ticket_text(fault, scene.now) }))
        }
        Refusal::Key(fault) => {
            ServiceError::TokenInvalid(Some(Cause { subject: "B2B key", text: key_text(fault, scene) }))
        }
        Refusal::ClientIdDiffers => ServiceError::ClientIdDiffers,
    }
}

/// What a ticket's fault is called.
pub(crate) fn ticket_text(fault: TicketFault, now: Timestamp) -> String {
    match fault {
        TicketFault::Missing => String::from("serviceTicket is missing or empty."),
        TicketFault::Malformed => malformed(),
        TicketFault::KeyUnknown => String::from("IDX10501: Signature validation failed. Unable to match key."),
        TicketFault::Signature => {
            String::from("IDX10511: Signature validation failed. Matched key was in 'Configuration'.")
        }
        TicketFault::Issuer => String::from("IDX10205: Issuer validation failed."),
        TicketFault::NotYetValid { not_before } => not_yet_valid(not_before, now),
        TicketFault::Expired { expires_at: Some(expires_at) } => expired(expires_at, now),
        TicketFault::Expired { expires_at: None } => {
            String::from("IDX10225: Lifetime validation failed. The token is missing an Expiration Time.")
        }
        TicketFault::Audience => String::from("IDX10214: Audience validation failed."),
        TicketFault::NoAppId => String::from("The claim 'appid' is missing."),
        TicketFault::ObtainedByCertificate => String::from("The claim 'appidacr' is not accepted."),
    }
}

fn key_text(fault: KeyFault, scene: &Scene<'_>) -> String {
    let (kid, keys) = (scene.certificate.as_str(), scene.certificates);
    match fault {
        KeyFault::TooLarge => String::from("IDX10209: Token is larger than the MaximumTokenLengthInBytes: '16384'."),
        KeyFault::Malformed => malformed(),
        KeyFault::Certificate => format!(
            "IDX10501: Signature validation failed. Unable to match key: kid: '{kid}'. Number of keys in \
             TokenValidationParameters: '{keys}'."
        ),
        KeyFault::Signature => format!(
            "IDX10511: Signature validation failed. Keys tried: 'KeyId: '{kid}''. Number of keys in \
             TokenValidationParameters: '{keys}'. Matched key was in 'TokenValidationParameters'. kid: '{kid}'. See \
             https://aka.ms/IDX10511 for details."
        ),
        KeyFault::Audience => String::from("IDX10214: Audience validation failed."),
        KeyFault::NotYetValid { not_before } => not_yet_valid(not_before, scene.now),
        KeyFault::Expired { expires_at } => expired(expires_at, scene.now),
        KeyFault::Revoked | KeyFault::Superseded => String::from("The key is no longer valid."),
    }
}

fn malformed() -> String {
    String::from("IDX12741: JWT must have three segments (JWS) or five segments (JWE).")
}

fn not_yet_valid(not_before: Timestamp, now: Timestamp) -> String {
    let (from, now) = (dotnet_timestamp(not_before), dotnet_timestamp(now));
    format!(
        "IDX10222: Lifetime validation failed. The token is not yet valid. ValidFrom: '{from}', Current time: '{now}'."
    )
}

fn expired(expires_at: Timestamp, now: Timestamp) -> String {
    let (to, now) = (dotnet_timestamp(expires_at), dotnet_timestamp(now));
    format!("IDX10223: Lifetime validation failed. The token is expired. ValidTo: '{to}', Current time: '{now}'.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorShape;
    use storekeeper_model::KeyKind;

    fn check(refusal: impl Into<Refusal>, expected: &str) {
        let scene = Scene { now: Timestamp::EPOCH, certificate: &CertificateId::new("AB"), certificates: 4 };
        let shaped = refusal_error(refusal.into(), &scene).shape(ErrorShape::Wrapped, KeyKind::Collections);
        let body = String::from_utf8(shaped.body).unwrap();
        assert!(body.contains(expected), "{body}");
        assert_eq!(shaped.inner_code, "AuthenticationFailure");
    }

    #[test]
    fn key_faults_name_the_key() {
        check(KeyFault::Signature, " : { : B2B key : IDX10511: Signature validation failed. Keys tried: 'KeyId: 'AB''");
        check(KeyFault::Certificate, "B2B key : IDX10501:");
        check(
            KeyFault::Expired { expires_at: Timestamp::EPOCH },
            "B2B key : IDX10223: Lifetime validation failed. The token is expired. ValidTo: '01/01/1970 00:00:00'",
        );
        check(KeyFault::NotYetValid { not_before: Timestamp::EPOCH }, "B2B key : IDX10222:");
        check(KeyFault::Revoked, "B2B key : The key is no longer valid.");
    }

    #[test]
    fn ticket_faults_do_not() {
        check(TicketFault::Audience, " : { : AAD token : IDX10214:");
        check(TicketFault::NoAppId, "AAD token : The claim 'appid' is missing.");
        check(Refusal::ClientIdDiffers, " : { : InconsistentClientId : Client ID of the key and of the token differ\"");
    }
}
