//! The renewal conversation (store.md 4): a key and a ticket go out, a successor comes back and is checked before it
//! is believed.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use storekeeper_model::{Secret, ServiceTicket, StoreIdKey, Timestamp};

use crate::correlation::MS_CV;
use crate::exchange::NoObject;
use crate::service_error::{Nature, ServiceError};
use crate::{
    Cause, ClockSkew, Correlation, CorrelationVector, Endpoint, PreparedRequest, RawAnswer, RenewError, RequestBody,
    TransportError, UnreadableKind,
};

/// The same path on both hosts, in every edition since 2016.
const PATH: &str = "/v6.0/b2b/keys/renew";

/// One attempt at renewing a key.
#[derive(Debug, Clone, Copy)]
pub struct RenewalCall<'a> {
    /// Where keys of this kind are renewed: [`Endpoints::for_kind`](crate::Endpoints::for_kind). The key's own
    /// `refreshUri` is never asked.
    pub endpoint: &'a Endpoint,
    /// The key to renew.
    pub key: &'a StoreIdKey,
    /// A ticket of the audience [`Service`](storekeeper_model::Audience::Service) and of the key's client ID. Any other
    /// is refused by the Store.
    pub ticket: &'a ServiceTicket,
    /// Incremented for this attempt.
    pub correlation: &'a CorrelationVector,
}

impl<'a> RenewalCall<'a> {
    /// Names the four things a renewal needs.
    pub const fn new(
        endpoint: &'a Endpoint,
        key: &'a StoreIdKey,
        ticket: &'a ServiceTicket,
        correlation: &'a CorrelationVector,
    ) -> Self {
        Self { endpoint, key, ticket, correlation }
    }
}

/// Builds the request. There is no `Authorization` header: the ticket travels in the body (store.md 4.1).
pub fn prepare(call: &RenewalCall<'_>) -> PreparedRequest {
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(MS_CV, call.correlation.header());
    PreparedRequest {
        method: Method::POST,
        url: call.endpoint.url(PATH),
        headers,
        body: body(call.ticket.token().expose(), call.key.jwt().expose()),
    }
}

/// Written in one go into memory of the right size, so that no copy of a secret is left behind by growing.
fn body(ticket: &str, key: &str) -> RequestBody {
    let mut body = Vec::with_capacity(ticket.len() + key.len() + 32);
    body.extend_from_slice(br#"{"serviceTicket":"#);
    push_json_text(&mut body, ticket);
    body.extend_from_slice(br#","key":"#);
    push_json_text(&mut body, key);
    body.push(b'}');
    RequestBody::new(Secret::new(body))
}

fn push_json_text(body: &mut Vec<u8>, text: &str) {
    // Without an early exit the compiler looks at many bytes at once: a key has a thousand and none is strange.
    let is_strange = text.bytes().fold(false, |found, b| found | (b < b' ') | (b == b'"') | (b == b'\\'));
    if !is_strange {
        body.push(b'"');
        body.extend_from_slice(text.as_bytes());
        body.push(b'"');
    } else {
        // No token of Entra's needs this; one from elsewhere must still not break out of its text.
        serde_json::to_writer(body, text).expect("text is JSON and memory takes it");
    }
}

/// What an attempt brought.
#[derive(Debug, Clone)]
pub struct RenewalAnswer {
    /// The successor, checked; or why there is none.
    pub result: Result<StoreIdKey, RenewError>,
    /// The response's `Date`, if the Store itself wrote the response: it holds a key or the Store's error document. A
    /// page without either may be a gateway's or a proxy's, whose clock proves nothing.
    pub store_date: Option<Timestamp>,
    /// How far that is from our clock.
    pub clock_skew: Option<ClockSkew>,
    /// The names the Store gave to the answer.
    pub correlation: Correlation,
}

impl RenewalAnswer {
    /// An attempt that got no answer.
    pub fn unanswered(error: TransportError) -> Self {
        Self {
            result: Err(RenewError::Transport(error)),
            store_date: None,
            clock_skew: None,
            correlation: Correlation::default(),
        }
    }
}

/// Judges an answer to the renewal of `predecessor`, with our clock at `now`.
///
/// A 200 counts only if it holds a Store ID key of the same kind, client ID and publisher user ID that expires after
/// now and not before `predecessor` (whose times do not count where they are unusable). When the answer's `Date` and
/// `now` differ by more than five minutes, the earlier of both is taken as now: a clock that is wrong must not discard
/// a good successor. Everything else leaves the old key as it is.
///
/// The very key that was sent is accepted where it satisfies those rules: the Store has accepted it, which is proof of
/// life, though nothing was gained. Whoever schedules by age sees from the fingerprint that it has to wait.
pub fn interpret(predecessor: &StoreIdKey, answer: &RawAnswer, now: Timestamp) -> RenewalAnswer {
    let date = answer.store_date();
    let skew = |date: Option<Timestamp>| date.map(|date| ClockSkew::between(date, now));
    let result = if answer.status == StatusCode::OK {
        let judged_at = match date {
            Some(date) if skew(Some(date)).is_some_and(ClockSkew::is_large) => date.min(now),
            _ => now,
        };
        successor(predecessor, answer, judged_at).map_err(|kind| RenewError::Unreadable { kind })
    } else {
        Err(failure(answer, now))
    };
    let store_date = date.filter(|_| is_the_stores_own(answer, &result));
    let clock_skew = skew(store_date);
    RenewalAnswer { result, store_date, clock_skew, correlation: Correlation::read(&answer.headers) }
}

/// Whether the Store wrote this response, and not a gateway or a proxy in between.
fn is_the_stores_own(answer: &RawAnswer, result: &Result<StoreIdKey, RenewError>) -> bool {
    match result {
        Ok(_) => true,
        Err(RenewError::Unreadable { kind }) => !matches!(kind, UnreadableKind::NotJson | UnreadableKind::NoKey),
        Err(_) => ServiceError::read(answer.json()).is_some(),
    }
}

#[derive(Deserialize)]
struct Renewed<'a> {
    #[serde(borrow, default, alias = "Key")]
    key: Option<Text<'a>>,
}

/// Text that is copied only where it has escapes; an `Option` of a `Cow` alone would always be.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The key in the answer, if it is a successor.
fn successor(old: &StoreIdKey, answer: &RawAnswer, now: Timestamp) -> Result<StoreIdKey, UnreadableKind> {
    let jwt = match answer.object() {
        Ok(Renewed { key: Some(Text(jwt)) }) if !jwt.is_empty() => jwt.into_owned(),
        Ok(_) | Err(NoObject::OtherJson) => return Err(UnreadableKind::NoKey),
        Err(NoObject::NotJson) => return Err(UnreadableKind::NotJson),
    };
    let new = StoreIdKey::parse(Secret::new(jwt)).map_err(UnreadableKind::NotAKey)?;
    check_successor(old, &new, now)?;
    Ok(new)
}

fn check_successor(old: &StoreIdKey, new: &StoreIdKey, now: Timestamp) -> Result<(), UnreadableKind> {
    if new.kind() != old.kind() {
        return Err(UnreadableKind::WrongKind);
    }
    if new.client_id() != old.client_id() {
        return Err(UnreadableKind::WrongClient);
    }
    if new.user_id() != old.user_id() {
        return Err(UnreadableKind::WrongUser);
    }
    let expires_at = new.lifetime().expires_at().ok_or(UnreadableKind::NoTimes)?;
    if expires_at <= now {
        return Err(UnreadableKind::Expired);
    }
    if old.lifetime().expires_at().is_some_and(|old| expires_at < old) {
        return Err(UnreadableKind::ExpiresEarlier);
    }
    Ok(())
}

/// What an answer other than 200 says (store.md 4.7).
fn failure(answer: &RawAnswer, now: Timestamp) -> RenewError {
    let status = answer.status.as_u16();
    let retry_after = answer.retry_after(now);
    if answer.status.is_redirection() {
        return RenewError::Redirected { status, host: answer.redirect_host() };
    }
    if status == 429 {
        return RenewError::Throttled { retry_after };
    }
    let (nature, cause) = match ServiceError::read(answer.json()) {
        Some(error) => (Some(error.nature), error.cause),
        None => (None, Cause::default()),
    };
    if status == 408 || answer.status.is_server_error() || nature == Some(Nature::ServerFault) {
        return RenewError::Unavailable { status, retry_after, cause };
    }
    match (status, nature) {
        (400 | 401 | 403, Some(Nature::Throttled)) => RenewError::Throttled { retry_after },
        (400, _) | (401, Some(Nature::BadRequest)) => RenewError::BadRequest { cause },
        (401, Some(Nature::Refusal)) => RenewError::Refused { cause },
        (401, Some(Nature::InconsistentClientId)) => RenewError::InconsistentClientId { cause },
        // What came wrapped beyond recognition may be the Store's own fault, which it has called Unauthorized before.
        (401, Some(Nature::Undecided)) => RenewError::Unavailable { status, retry_after, cause },
        // A 401 without the Store's document is a gateway's: it says nothing about ticket or key.
        _ => RenewError::UnexpectedStatus { status, retry_after, cause },
    }
}
