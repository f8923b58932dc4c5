//! The token conversation with Entra ID (store.md 2): a credential goes out, a service ticket comes back, or an access token
//! for somebody else.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use storekeeper_model::{Audience, ClientId, Secret, ServiceTicket, Timestamp};
use zeroize::Zeroizing;

use crate::exchange::NoObject;
use crate::scrub::{scrubbed, scrubbed_line};
use crate::{Endpoint, PreparedRequest, RawAnswer, RequestBody, TicketError, TicketFlaw};

/// How an application proves to Entra who it is.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A client secret.
    ClientSecret(Secret<String>),
    /// A signed JWT: of the application's own certificate, or a foreign provider's (store.md 2.4, 2.5).
    ClientAssertion(Secret<String>),
}

/// Which of Entra's two token endpoints is asked. Both give tickets that the Store takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EntraVersion {
    /// `/oauth2/token` with `resource`.
    V1,
    /// `/oauth2/v2.0/token` with `scope`.
    #[default]
    V2,
}

impl EntraVersion {
    const fn path(self) -> &'static str {
        match self {
            Self::V1 => "/oauth2/token",
            Self::V2 => "/oauth2/v2.0/token",
        }
    }
}

/// An access token that somebody other than the Store judges. What it says is between Entra and them.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// The token.
    pub token: Secret<String>,
    /// How long it lives, as Entra promised when it answered.
    pub lifetime: Duration,
}

/// Builds the request for a ticket. Every value is URL-encoded, the tenant in the path included.
pub fn prepare_ticket(
    authority: &Endpoint,
    tenant: &str,
    client_id: &ClientId,
    audience: Audience,
    credential: &Credential,
    version: EntraVersion,
) -> PreparedRequest {
    let scope = audience.scope();
    let asked = match version {
        EntraVersion::V1 => ("resource", audience.resource()),
        EntraVersion::V2 => ("scope", scope.as_str()),
    };
    prepare(authority, tenant, client_id, asked, credential, version)
}

/// Builds the request for a token of any other resource: `scope` is the resource's identifier and `/.default`.
pub fn prepare_token(
    authority: &Endpoint,
    tenant: &str,
    client_id: &ClientId,
    scope: &str,
    credential: &Credential,
) -> PreparedRequest {
    prepare(authority, tenant, client_id, ("scope", scope), credential, EntraVersion::V2)
}

fn prepare(
    authority: &Endpoint,
    tenant: &str,
    client_id: &ClientId,
    asked: (&str, &str),
    credential: &Credential,
    version: EntraVersion,
) -> PreparedRequest {
    let mut path = String::from("/");
    push_encoded(&mut path, tenant);
    path.push_str(version.path());
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    PreparedRequest {
        method: Method::POST,
        url: authority.url(&path),
        headers,
        body: form(client_id, asked, credential),
    }
}

fn form(client_id: &ClientId, asked: (&str, &str), credential: &Credential) -> RequestBody {
    let client_id = client_id.to_string();
    let mut fields = vec![("grant_type", "client_credentials"), ("client_id", &client_id), asked];
    match credential {
        Credential::ClientSecret(secret) => fields.push(("client_secret", secret.expose())),
        Credential::ClientAssertion(assertion) => {
            fields.push(("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
            fields.push(("client_assertion", assertion.expose()));
        }
    }
    // Room for every byte to be encoded, so that no copy of the credential is left behind by growing.
    let room = fields.iter().map(|(name, value)| name.len() + 2 + value.len() * 3).sum();
    let mut text = Zeroizing::new(String::with_capacity(room));
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        push_encoded(&mut text, value);
    }
    RequestBody::new(Secret::new(std::mem::take(&mut *text).into_bytes()))
}

/// Percent-encodes all but the unreserved characters of RFC 3986, which is right in a path and in a form alike.
fn push_encoded(text: &mut String, value: &str) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.extend(['%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

/// Judges an answer to a request for a ticket, which arrived at `now`.
///
/// A 200 counts only if it holds a bearer token whose `aud` and `appid` are what was asked for. The ticket's lifetime is
/// its `exp - iat`, shortened to `expires_in` where Entra says less (it issues tokens with an `iat` in the past).
///
/// # Errors
/// See [`TicketError`]; what to do next says [`TicketError::advice`].
pub fn interpret_ticket(
    audience: Audience,
    client_id: &ClientId,
    answer: &RawAnswer,
    now: Timestamp,
) -> Result<ServiceTicket, TicketError> {
    let status = answer.status.as_u16();
    if answer.status != StatusCode::OK {
        return Err(failure(answer, now));
    }
    ticket(audience, client_id, answer).map_err(|flaw| TicketError::Unreadable { status, flaw })
}

/// Judges an answer to [`prepare_token`], which arrived at `now`. A 200 counts only if it holds a bearer token and says how
/// long that lives.
///
/// # Errors
/// See [`TicketError`]; what to do next says [`TicketError::advice`].
pub fn interpret_token(answer: &RawAnswer, now: Timestamp) -> Result<AccessToken, TicketError> {
    let status = answer.status.as_u16();
    if answer.status != StatusCode::OK {
        return Err(failure(answer, now));
    }
    let unreadable = |flaw| TicketError::Unreadable { status, flaw };
    let (token, expires_in) = issued(answer).map_err(unreadable)?;
    match expires_in {
        Some(seconds) if seconds > 0 => Ok(AccessToken { token, lifetime: Duration::from_secs(seconds) }),
        _ => Err(unreadable(TicketFlaw::NoLifetime)),
    }
}

/// `Date` of a response to [`prepare_ticket`] or [`prepare_token`], if Entra itself wrote the response: it holds a token or
/// Entra's error document. A page without either may be a proxy's, whose clock proves nothing.
pub fn dated(answer: &RawAnswer) -> Option<Timestamp> {
    let is_entras_own = match answer.status {
        StatusCode::OK => issued(answer).is_ok(),
        _ => Refusal::read(answer.json()).is_some(),
    };
    answer.store_date().filter(|_| is_entras_own)
}

#[derive(Deserialize)]
struct Issued {
    access_token: Option<String>,
    token_type: Option<String>,
    #[serde(default, deserialize_with = "number_or_text")]
    expires_in: Option<u64>,
}

/// The bearer token of an answer, and how many seconds it is said to live.
fn issued(answer: &RawAnswer) -> Result<(Secret<String>, Option<u64>), TicketFlaw> {
    let issued: Issued = answer.object().map_err(|why| match why {
        NoObject::NotJson => TicketFlaw::NotJson,
        NoObject::OtherJson => TicketFlaw::NoToken,
    })?;
    let token = Secret::new(issued.access_token.filter(|token| !token.is_empty()).ok_or(TicketFlaw::NoToken)?);
    if issued.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("Bearer")) {
        return Err(TicketFlaw::NotBearer);
    }
    Ok((token, issued.expires_in))
}

fn ticket(audience: Audience, client_id: &ClientId, answer: &RawAnswer) -> Result<ServiceTicket, TicketFlaw> {
    let (token, expires_in) = issued(answer)?;
    let ticket = ServiceTicket::parse(token).map_err(TicketFlaw::NotATicket)?;
    if ticket.audience() != audience {
        return Err(TicketFlaw::WrongAudience);
    }
    if ticket.client_id() != client_id {
        return Err(TicketFlaw::WrongClient);
    }
    Ok(match expires_in {
        Some(seconds) if seconds > 0 => ticket.limited_to(Duration::from_secs(seconds)),
        _ => ticket,
    })
}

/// v1 writes its numbers as text, v2 as numbers (store.md 2.2, 2.3).
fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = match Value::deserialize(deserializer)? {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.map(Some).ok_or_else(|| serde::de::Error::custom("neither a number nor a decimal text"))
}

/// What an answer other than 200 says. Status and `error` decide; Entra's own code numbers are for people
/// (store.md 2.7), but for the one that asks to be called less often and has no other name.
fn failure(answer: &RawAnswer, now: Timestamp) -> TicketError {
    let status = answer.status.as_u16();
    let retry_after = answer.retry_after(now);
    if answer.status.is_redirection() {
        return TicketError::Redirected { status, host: answer.redirect_host() };
    }
    if status == 429 {
        return TicketError::Throttled { status, retry_after };
    }
    if status == 408 || answer.status.is_server_error() {
        return TicketError::Unavailable { status, retry_after };
    }
    let Some(refusal) = Refusal::read(answer.json()) else {
        return TicketError::Unreadable { status, flaw: TicketFlaw::NotEntra };
    };
    let Refusal { error, aadsts, description, trace_id } = refusal;
    match error.as_str() {
        "temporarily_unavailable" | "server_error" => TicketError::Unavailable { status, retry_after },
        "invalid_client" => TicketError::CredentialRefused { status, error, aadsts, description, trace_id },
        "invalid_grant" if aadsts == Some(SAME_REQUEST_TOO_OFTEN) => TicketError::Throttled { status, retry_after },
        _ => TicketError::Misconfigured { status, error, aadsts, description, trace_id },
    }
}

const SAME_REQUEST_TOO_OFTEN: u32 = 50_196;

/// Entra's error body, bounded and scrubbed.
struct Refusal {
    error: String,
    aadsts: Option<u32>,
    description: String,
    trace_id: Option<String>,
}

impl Refusal {
    fn read(body: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(body).ok()?;
        let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default().trim();
        let error = scrubbed(text("error"), 64);
        let description = text("error_description");
        let trace_id = scrubbed(text("trace_id"), 64);
        (!error.is_empty()).then(|| Self {
            error,
            aadsts: aadsts(&document, description),
            description: scrubbed_line(description, 256),
            trace_id: (!trace_id.is_empty()).then_some(trace_id),
        })
    }
}

/// The first of `error_codes`, else the number that the description starts with.
fn aadsts(document: &Value, description: &str) -> Option<u32> {
    let first = document.get("error_codes").and_then(|codes| codes.get(0)).and_then(|code| match code {
        Value::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    });
    first.or_else(|| {
        let (_, rest) = description.split_once("AADSTS")?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
}
