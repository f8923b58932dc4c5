//! Key creation as the client APIs do it: the v7.0 routes with an X-token in the header (store.md 3.6).

use storekeeper_model::{Audience, KeyKind};

use crate::CertificateTickets;
use crate::fault_text::ticket_text;
use crate::judgement::{TicketFault, judge_ticket};
use crate::members::{Member, read_members};
use crate::minting::Minting;
use crate::payload;
use crate::renewal::body_error;
use crate::request::StoreAnswer;
use crate::service_error::ServiceError;
use crate::state::{Exchange, State};

impl State {
    /// Answers a key creation. The header is judged before the body is read (observed).
    pub(crate) fn create_key(&self, mut exchange: Exchange<'_>, host: KeyKind) -> StoreAnswer {
        if let Some(status) = exchange.method_fault("POST") {
            return self.close(exchange, status, Vec::new());
        }
        let account = match user_hash(exchange.request.authorization) {
            Ok(account) => account.to_owned(),
            Err(error) => return self.close_with_error(exchange, host, error),
        };
        if let Some(status) = exchange.body_fault() {
            return self.close(exchange, status, Vec::new());
        }
        match self.created_key(&mut exchange, host, account) {
            Ok(body) => self.close(exchange, 200, body),
            Err(error) => self.close_with_error(exchange, host, error),
        }
    }

    fn created_key(&self, exchange: &mut Exchange<'_>, host: KeyKind, account: String) -> Result<String, ServiceError> {
        let members = read_members(exchange.request.body, ["serviceticket", "publisheruserid"]);
        let [ticket, user_id] = members.map_err(body_error)?;
        let user_id = match &user_id {
            Member::Absent => "",
            Member::Text(user_id) => user_id,
            // Any string, the empty one included, but not null (store.md 3.6).
            Member::Null | Member::Other => {
                return Err(ServiceError::invalid_parameter("publisherUserId", "a string is needed"));
            }
        };
        let at = exchange.circumstances(host);
        let refused = |fault| ticket_error(ticket_text(fault, at.now));
        let ticket = ticket.text().ok_or(TicketFault::Missing).map_err(refused)?;
        let ticket = self.read_ticket(ticket, &exchange.switches).map_err(refused)?;
        let client_id = judge_ticket(&ticket, creation_audience(host), &at).map_err(refused)?;
        if ticket.obtained_by_certificate && exchange.switches.certificate_tickets == CertificateTickets::Refused {
            return Err(refused(TicketFault::ObtainedByCertificate));
        }
        let certificates = self.authority.list_for(exchange.now, exchange.now, &self.entropy);
        let wish = Minting {
            kind: host,
            client_id,
            user_id,
            account,
            payload_length: payload::LENGTH_DEFAULT,
            refresh_uri: None,
            issued_at: exchange.now,
            profile: exchange.switches.profile,
        };
        let mut key = String::with_capacity(3072);
        let minted = self.mint(wish, certificates.signing_at(exchange.now), &mut exchange.draw, &mut key);
        minted.map_err(|_| ServiceError::invalid_parameter("publisherUserId", "too long"))?;
        exchange.note_successor(&key);
        Ok(format!(r#"{{"key":"{key}"}}"#))
    }
}

/// Which ticket a host trades for a key.
fn creation_audience(host: KeyKind) -> Audience {
    match host {
        KeyKind::Collections => Audience::Collections,
        KeyKind::Purchase => Audience::Purchase,
    }
}

/// A complaint that names `serviceTicket` in the first line of its data, as observed (store.md 3.6).
fn ticket_error(text: String) -> ServiceError {
    let message = "Authentication token supplied is invalid";
    ServiceError::CreationRefused {
        inner_code: "AuthenticationTokenInvalid",
        message,
        data: Some(format!("serviceTicket : {text}")),
    }
}

/// The user hash of `XBL3.0 x=<user hash>;<token>`, which stands for the Store account; the token is not looked at.
///
/// The codes are observed; which input earns which, beyond the unusable scheme, is our choice.
fn user_hash(authorization: Option<&str>) -> Result<&str, ServiceError> {
    let (scheme, credentials) = authorization.and_then(|value| value.trim().split_once(' ')).unwrap_or_default();
    match scheme {
        "XBL3.0" => {
            let parts = credentials.trim().strip_prefix("x=").and_then(|rest| rest.split_once(';'));
            let usable = |(hash, token): &(&str, &str)| {
                !hash.is_empty() && hash.len() <= payload::ACCOUNT_BYTES_MAX && !token.is_empty()
            };
            let refused = || header_error("InvalidXToken", "The X-token is not valid");
            parts.filter(usable).map(|(hash, _)| hash).ok_or_else(refused)
        }
        "WLID1.0" => Err(delegation_error(credentials)),
        _ => Err(header_error("NoAuthorizationHeaders", "No authorization header provided")),
    }
}

fn header_error(inner_code: &'static str, message: &'static str) -> ServiceError {
    ServiceError::CreationRefused { inner_code, message, data: None }
}

/// What tickets of the older scheme earn: none of them is of the kind that is wanted.
fn delegation_error(credentials: &str) -> ServiceError {
    use base64::Engine;
    let ticket = credentials.trim().trim_start_matches("t=").trim_matches('"');
    let (code, message) = match base64::engine::general_purpose::STANDARD.decode(ticket) {
        Ok(bytes) if !bytes.is_empty() => (
            "RpsExceptionCode: UnexpectedTicketType",
            "The ticket that was provided is not a Compact_Delegation ticket",
        ),
        _ => ("InvalidBase64Ticket", "The ticket is not valid base64"),
    };
    header_error(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorShape;

    #[test]
    fn headers_and_what_they_earn() {
        let check = |header: Option<&str>, expected: Result<&str, &str>| {
            let code = |error: ServiceError| error.shape(ErrorShape::Plain, KeyKind::Purchase).inner_code;
            assert_eq!(user_hash(header).map_err(code), expected, "{header:?}");
        };
        check(Some("XBL3.0 x=123;eyJ"), Ok("123"));
        check(Some("XBL3.0 x=*;t;u"), Ok("*"));
        check(None, Err("NoAuthorizationHeaders"));
        check(Some(""), Err("NoAuthorizationHeaders"));
        check(Some("XBL3.0"), Err("NoAuthorizationHeaders"));
        check(Some("Bearer eyJ"), Err("NoAuthorizationHeaders"));
        check(Some("XBL3.0 x=123"), Err("InvalidXToken"));
        check(Some("XBL3.0 x=;t"), Err("InvalidXToken"));
        check(Some("XBL3.0 x=123;"), Err("InvalidXToken"));
        check(Some("XBL3.0 123;t"), Err("InvalidXToken"));
        check(Some("WLID1.0 t=%%%"), Err("InvalidBase64Ticket"));
        check(Some("WLID1.0 t=AAAA"), Err("RpsExceptionCode: UnexpectedTicketType"));
    }
}
