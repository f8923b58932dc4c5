//! A fault as it is ordered, and what it does to the exchange it strikes.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::FAULTS_MAX;
use crate::request::Endpoint;
use crate::span::Span;

/// A fault as it is ordered: which exchanges it meets, what it does to them, and how often.
///
/// Without `status` and `body` the exchange is processed as usual and only delayed, cut short or given other headers.
/// With one of them the answer is made up: instead of processing (`before`, where a body alone is sent with status 200)
/// or in place of what processing answered (`after`, where a body alone keeps the status). A status without a body gets
/// the body that the service would send with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultOrder {
    /// What has to be called.
    pub endpoint: Endpoint,
    /// Whether the fault meets the request or the answer.
    #[serde(default)]
    pub when: When,
    /// The status to answer with, 200 to 599.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Headers to put on the answer; they replace those of the same name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body to answer with: a string is sent as it is, anything else as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Box<RawValue>>,
    /// How long to wait, on the emulator's clock: before processing, or with the answer in hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    /// Break the connection off without an answer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reset: bool,
    /// Promise the whole body and send a part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncate: Option<Truncate>,
    /// Strike so many times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Strike each exchange with this probability, above 0 and at most 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Strike for so long, on the emulator's clock.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Span>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Whether a fault meets the request or the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Before processing: nothing is minted, counted or changed by a made-up answer or a reset.
    #[default]
    Before,
    /// After processing: what was done stays done, whatever the caller gets to hear.
    After,
}

/// How much of a body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Truncate {
    /// `true`: half of it.
    Half(bool),
    /// So many bytes of it.
    Bytes(usize),
}

/// Why a fault cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// Nothing would happen.
    #[error("a fault needs at least one of status, headers, body, delay, reset and truncate")]
    Harmless,
    /// `unknown` is what the ledger calls a path that is none.
    #[error("a fault's endpoint is one of the Store's or Entra's routes")]
    Endpoint,
    /// Not a final status.
    #[error("status is {0}, but an answer has 200 to 599")]
    Status(u16),
    /// Not a header, or one that frames the answer.
    #[error("header `{0}` is not allowed: {1}")]
    Header(String, &'static str),
    /// A reset has no answer.
    #[error("reset leaves no answer for status, headers, body or truncate")]
    ResetWithAnswer,
    /// `"truncate": false`.
    #[error("truncate is true or a number of bytes")]
    Truncate,
    /// Zero times.
    #[error("count is at least 1")]
    Count,
    /// Not a probability, or never.
    #[error("probability is above 0 and at most 1")]
    Probability,
    /// A span of nothing.
    #[error("`{0}` is longer than nothing")]
    Span(&'static str),
    /// See [`FAULTS_MAX`].
    #[error("the plan holds {FAULTS_MAX} faults; clear some")]
    TooMany,
}

/// What a fault does to the exchange it strikes.
#[derive(Debug)]
pub(crate) struct Strike {
    pub(crate) when: When,
    pub(crate) status: Option<StatusCode>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    pub(crate) delay: Option<Duration>,
    pub(crate) reset: bool,
    pub(crate) truncate: Option<Truncate>,
    /// The inner code of the made-up error document, for the ledger.
    pub(crate) inner_code: Option<String>,
}

impl Strike {
    /// Checks an order and prepares what it does.
    ///
    /// # Errors
    /// See [`FaultError`].
    pub(crate) fn prepare(order: &FaultOrder) -> Result<Self, FaultError> {
        check_frequency(order)?;
        check_effect(order)?;
        let mut headers = headers(&order.headers)?;
        let body = order.body.as_deref().map(body_bytes);
        if let Some((_, media_type)) = &body
            && !headers.contains_key(header::CONTENT_TYPE)
        {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        let body = body.map(|(bytes, _)| bytes);
        Ok(Self {
            when: order.when,
            status: order.status.map(status).transpose()?,
            headers,
            inner_code: body.as_deref().and_then(inner_code),
            body,
            delay: order.delay.map(Span::get),
            reset: order.reset,
            truncate: order.truncate,
        })
    }

    /// Whether the request is not processed at all.
    pub(crate) fn spares_the_request(&self) -> bool {
        self.when == When::Before && (self.reset || self.status.is_some() || self.body.is_some())
    }

    /// What to wait before processing.
    pub(crate) fn delay_before(&self) -> Option<Duration> {
        self.delay.filter(|_| self.when == When::Before)
    }

    /// What to wait with the answer in hand.
    pub(crate) fn delay_after(&self) -> Option<Duration> {
        self.delay.filter(|_| self.when == When::After)
    }
}

fn check_effect(order: &FaultOrder) -> Result<(), FaultError> {
    if matches!(order.truncate, Some(Truncate::Half(false))) {
        return Err(FaultError::Truncate);
    }
    if order.delay.is_some_and(|delay| delay.get().is_zero()) {
        return Err(FaultError::Span("delay"));
    }
    let made_up = order.status.is_some() || order.body.is_some();
    let answers = made_up || !order.headers.is_empty() || order.truncate.is_some();
    match order.reset {
        true if answers => Err(FaultError::ResetWithAnswer),
        false if !answers && order.delay.is_none() => Err(FaultError::Harmless),
        _ => Ok(()),
    }
}

fn check_frequency(order: &FaultOrder) -> Result<(), FaultError> {
    if order.endpoint == Endpoint::Unknown {
        return Err(FaultError::Endpoint);
    }
    if order.count == Some(0) {
        return Err(FaultError::Count);
    }
    if order.probability.is_some_and(|probability| !(probability > 0.0 && probability <= 1.0)) {
        return Err(FaultError::Probability);
    }
    if order.lasts.is_some_and(|lasts| lasts.get().is_zero()) {
        return Err(FaultError::Span("for"));
    }
    Ok(())
}

fn status(number: u16) -> Result<StatusCode, FaultError> {
    let status = StatusCode::from_u16(number).ok().filter(|_| (200..600).contains(&number));
    status.ok_or(FaultError::Status(number))
}

fn headers(ordered: &BTreeMap<String, String>) -> Result<HeaderMap, FaultError> {
    let mut headers = HeaderMap::with_capacity(ordered.len());
    for (name, value) in ordered {
        let fail = |why| FaultError::Header(name.chars().take(64).collect(), why);
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fail("it is not a header's name"))?;
        if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION].contains(&parsed) {
            return Err(fail("it frames the answer; see truncate and reset"));
        }
        let value = HeaderValue::from_str(value).map_err(|_| fail("its value has a control character"))?;
        headers.insert(parsed, value);
    }
    Ok(headers)
}

/// The bytes to send and the media type they most likely are.
fn body_bytes(body: &RawValue) -> (Bytes, &'static str) {
    let Ok(text) = serde_json::from_str::<String>(body.get()) else {
        return (Bytes::copy_from_slice(body.get().as_bytes()), "application/json");
    };
    let media_type = match text.trim_start().as_bytes().first() {
        Some(b'{' | b'[') => "application/json",
        Some(b'<') => "text/html",
        _ => "text/plain",
    };
    (text.into(), media_type)
}

#[derive(Deserialize)]
struct ErrorDocument {
    innererror: InnerError,
}

#[derive(Deserialize)]
struct InnerError {
    code: String,
}

fn inner_code(body: &[u8]) -> Option<String> {
    let document: ErrorDocument = serde_json::from_slice(body).ok()?;
    Some(document.innererror.code.chars().take(64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(json: &str) -> FaultOrder {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_cannot_happen_is_refused() {
        let check = |json, expected| {
            assert_eq!(Strike::prepare(&order(json)).unwrap_err(), expected, "{json}");
        };
        check(r#"{"endpoint":"renew"}"#, FaultError::Harmless);
        check(r#"{"endpoint":"renew","status":101}"#, FaultError::Status(101));
        check(r#"{"endpoint":"renew","status":1000}"#, FaultError::Status(1000));
        check(r#"{"endpoint":"renew","reset":true,"status":500}"#, FaultError::ResetWithAnswer);
        check(r#"{"endpoint":"renew","truncate":false}"#, FaultError::Truncate);
        check(r#"{"endpoint":"renew","status":500,"count":0}"#, FaultError::Count);
        check(r#"{"endpoint":"renew","status":500,"probability":0}"#, FaultError::Probability);
        check(r#"{"endpoint":"renew","status":500,"probability":1.5}"#, FaultError::Probability);
        check(r#"{"endpoint":"renew","status":500,"for":"0s"}"#, FaultError::Span("for"));
        check(r#"{"endpoint":"renew","delay":"0s"}"#, FaultError::Span("delay"));
        for name in ["content-length", "a b"] {
            let json = format!(r#"{{"endpoint":"renew","headers":{{"{name}":"1"}}}}"#);
            assert!(matches!(Strike::prepare(&order(&json)), Err(FaultError::Header(..))), "{name}");
        }
    }

    #[test]
    fn bodies_keep_their_bytes_and_get_a_media_type() {
        let check = |body: &str, bytes: &str, media_type: &str| {
            let order = order(&format!(r#"{{"endpoint":"renew","body":{body}}}"#));
            let strike = Strike::prepare(&order).unwrap();
            assert_eq!(strike.body.unwrap(), bytes);
            assert_eq!(strike.headers[header::CONTENT_TYPE], media_type);
        };
        check(r#"{"z":1, "a":2}"#, r#"{"z":1, "a":2}"#, "application/json");
        check(r#""{\"key\":\"\"}""#, r#"{"key":""}"#, "application/json");
        check(r#""<html>""#, "<html>", "text/html");
        check(r#""gone""#, "gone", "text/plain");
        check(r#""""#, "", "text/plain");
    }
}
