//! Bodies of single requests: bounded in size and time, JSON, and told apart without repeating what they hold.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::code;
use crate::problem::Problem;

/// The longest body of a single request, and the longest line of a batch, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Reads a body that must be JSON.
pub(crate) async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    patience: Duration,
) -> Result<T, Problem> {
    demand_media_type(headers, &["application/json"])?;
    object(&collect(headers, body, patience).await?)
}

/// Reads a body that may be absent, else must be JSON.
pub(crate) async fn json_or_default<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: Body,
    patience: Duration,
) -> Result<T, Problem> {
    let text = collect(headers, body, patience).await?;
    if text.is_empty() {
        return Ok(T::default());
    }
    demand_media_type(headers, &["application/json"])?;
    object(&text)
}

/// Refuses a body that is declared to be something else. One that is declared to be nothing is taken for what it should be.
pub(crate) fn demand_media_type(headers: &HeaderMap, accepted: &[&str]) -> Result<(), Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let declared = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if accepted.iter().any(|accepted| accepted.eq_ignore_ascii_case(declared)) {
        return Ok(());
    }
    Err(Problem::new(&code::MEDIA_TYPE_UNSUPPORTED, format!("send the body as `{}`", accepted[0])))
}

/// Reads a JSON object. (What is derived with serde would take an array for one, in order.)
pub(crate) fn object<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Problem> {
    let parsed = serde_json::from_slice(text).map_err(|error| not_the_json(&error))?;
    if text.trim_ascii_start().first() == Some(&b'{') {
        return Ok(parsed);
    }
    Err(Problem::new(&code::BODY_INVALID, "the text is JSON, but no object"))
}

/// What is wrong with a text, without any of it: serde's own message quotes what it met.
fn not_the_json(error: &serde_json::Error) -> Problem {
    let what = match error.classify() {
        serde_json::error::Category::Data => "JSON, but a member is unknown, missing, repeated or of another type",
        _ => "not JSON",
    };
    Problem::new(&code::BODY_INVALID, format!("the text is {what} (line {}, column {})", error.line(), error.column()))
}

#[expect(clippy::disallowed_methods, reason = "guards against slow sockets")]
async fn collect(headers: &HeaderMap, body: Body, patience: Duration) -> Result<Bytes, Problem> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    tokio::time::timeout(patience, collect_bounded(body)).await.unwrap_or_else(|_| {
        Err(Problem::new(&code::REQUEST_TIMEOUT, "the body did not arrive in time; nothing was changed"))
    })
}

async fn collect_bounded(mut body: Body) -> Result<Bytes, Problem> {
    let mut whole = Bytes::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(&code::BODY_INVALID, "the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > BODY_BYTES_MAX {
            return Err(too_large());
        }
        // Most bodies arrive in one piece, which needs no copy.
        whole = if whole.is_empty() { data } else { joined(whole, &data) };
    }
    Ok(whole)
}

fn joined(whole: Bytes, data: &[u8]) -> Bytes {
    let mut buffer = BytesMut::from(whole);
    buffer.extend_from_slice(data);
    buffer.freeze()
}

fn too_large() -> Problem {
    Problem::new(&code::BODY_TOO_LARGE, "the body is longer than 64 KiB; nothing was changed")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq, Default)]
    #[serde(deny_unknown_fields)]
    struct Order {
        condemn: bool,
    }

    fn headers(kind: Option<&'static str>) -> HeaderMap {
        kind.map(|kind| (header::CONTENT_TYPE, HeaderValue::from_static(kind))).into_iter().collect()
    }

    async fn check(kind: Option<&'static str>, body: &'static str, expected: Result<bool, (&str, &str)>) {
        let found: Result<Order, Problem> = json(&headers(kind), Body::from(body), Duration::from_secs(5)).await;
        let found =
            found.as_ref().map(|order| order.condemn).map_err(|problem| (problem.code().code, problem.detail()));
        assert_eq!(found, expected, "{kind:?} {body}");
    }

    #[tokio::test]
    async fn a_body_is_judged_without_being_quoted() {
        const DATA: &str = "the text is JSON, but a member is unknown, missing, repeated or of another type";
        let json = Some("application/json");
        check(json, "{\"condemn\":true}", Ok(true)).await;
        check(Some("Application/JSON; charset=utf-8"), "{\"condemn\":true}", Ok(true)).await;
        check(None, "{\"condemn\":true}", Ok(true)).await;
        check(Some("text/plain"), "{}", Err(("media_type_unsupported", "send the body as `application/json`"))).await;
        check(json, "", Err(("body_invalid", "the text is not JSON (line 1, column 0)"))).await;
        check(json, "{\"condemn\":", Err(("body_invalid", "the text is not JSON (line 1, column 11)"))).await;
        let data = |place| format!("{DATA} ({place})");
        check(json, "{\"eyJsecret\":1}", Err(("body_invalid", &data("line 1, column 12")))).await;
        check(json, "{\"condemn\":\"eyJsecret\"}", Err(("body_invalid", &data("line 1, column 22")))).await;
        check(json, "{}", Err(("body_invalid", &data("line 1, column 2")))).await;
    }

    #[tokio::test]
    async fn the_limit_holds_with_and_without_a_declared_length() {
        for length in [BODY_BYTES_MAX, BODY_BYTES_MAX + 1] {
            let text = Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(vec![b' '; length])]));
            let told = collect(&HeaderMap::new(), text, Duration::from_secs(5)).await;
            assert_eq!(told.map_err(|problem| problem.code().code).is_ok(), length == BODY_BYTES_MAX);
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("65537"));
        let told = collect(&headers, Body::empty(), Duration::from_secs(5)).await;
        assert_eq!(told.unwrap_err().code().code, "body_too_large");
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_cut_off() {
        let never = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let told = collect(&HeaderMap::new(), never, Duration::from_millis(10)).await;
        assert_eq!(told.unwrap_err().code().code, "request_timeout");
    }
}
