//! The Store's error document (store.md 5): read leniently, unwrapped, and judged for what it says about whose fault it is.

use std::fmt;

use serde_json::{Map, Value};

use crate::scrub::{scrubbed, scrubbed_line};

/// What an error document says, unwrapped: the same whether the Store sent the plain or the wrapped form. Each part is
/// bounded and scrubbed of anything that could be a key or a ticket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cause {
    /// The outer code, such as `Unauthorized`; of the wrapped error where there is one.
    pub code: Option<String>,
    /// The inner code, such as `AuthenticationTokenInvalid`; of the wrapped error where there is one.
    pub inner_code: Option<String>,
    /// What else the document says, in the Store's words.
    pub detail: Option<String>,
}

impl Cause {
    /// The longest detail, in characters.
    pub const DETAIL_CHARS_MAX: usize = 256;
    /// The longest code, in characters.
    pub const CODE_CHARS_MAX: usize = 64;
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.code, &self.inner_code) {
            (Some(code), Some(inner)) => write!(f, "{code}/{inner}")?,
            (Some(code), None) | (None, Some(code)) => f.write_str(code)?,
            (None, None) => f.write_str("no code")?,
        }
        self.detail.as_ref().map_or(Ok(()), |detail| write!(f, " ({detail})"))
    }
}

/// Whose fault a document speaks of. The HTTP status has the first word; this is asked only where it leaves a doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// The ticket or the key was refused.
    Refusal,
    /// The key's client ID is not the ticket's.
    InconsistentClientId,
    /// The Store's own fault, whatever the status says.
    ServerFault,
    /// Too many calls.
    Throttled,
    /// The request was malformed.
    BadRequest,
    /// Wrapped beyond recognition: it could be anything, so it proves nothing.
    Undecided,
    /// A code that nobody has documented for this conversation.
    Unknown,
}

/// A document and what it amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceError {
    pub(crate) cause: Cause,
    pub(crate) nature: Nature,
}

impl ServiceError {
    /// Reads a body. `None` when it is no error document: not a JSON object, or one without any code.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let Value::Object(outer) = serde_json::from_slice(body).ok()? else { return None };
        let empty = Map::new();
        let inner = member(&outer, "innererror").and_then(Value::as_object).unwrap_or(&empty);
        let (code, inner_code) = (text(&outer, "code"), text(inner, "code"));
        if code.is_none() && inner_code.is_none() {
            return None;
        }
        let is_wrapped = inner_code.is_some_and(|code| code.eq_ignore_ascii_case("AuthenticationFailure"));
        if is_wrapped
            && let Some(unwrapped) = texts(inner, "data").iter().chain(&texts(&outer, "data")).find_map(unwrap)
        {
            return Some(unwrapped);
        }
        let cause = Cause {
            code: code.and_then(code_text),
            inner_code: inner_code.and_then(code_text),
            detail: detail(&outer, inner),
        };
        let names_key = is_wrapped && texts(inner, "data").iter().any(|data| data.contains("B2B key"));
        let nature = if names_key { Nature::Refusal } else { nature_of(code, inner_code) };
        Some(Self { cause, nature })
    }
}

/// What plain codes say. Codes compare without regard to case.
fn nature_of(code: Option<&str>, inner_code: Option<&str>) -> Nature {
    let says = |names: &[&str]| {
        let is_named = |code: &str| names.iter().any(|name| name.eq_ignore_ascii_case(code));
        code.is_some_and(is_named) || inner_code.is_some_and(is_named)
    };
    if says(&["InconsistentClientId"]) {
        Nature::InconsistentClientId
    } else if says(&SERVER_FAULTS) {
        Nature::ServerFault
    } else if says(&["Throttled", "TooManyRequests"]) {
        Nature::Throttled
    } else if says(&["AuthenticationTokenInvalid"]) {
        Nature::Refusal
    } else if says(&["AuthenticationFailure"]) {
        Nature::Undecided
    } else if says(&["BadRequest"]) {
        Nature::BadRequest
    } else if says(&["Unauthorized"]) && inner_code.is_none_or(|inner| inner.eq_ignore_ascii_case("Unauthorized")) {
        Nature::Refusal
    } else {
        // An inner code that nobody has documented could mean anything, and what could mean anything condemns no key.
        Nature::Unknown
    }
}

/// Codes by which the Store names its own faults (store.md 5.3), and the names of HTTP's other server statuses.
const SERVER_FAULTS: [&str; 7] = [
    "InternalServerError",
    "InternalAadAuthenticationError",
    "BadGateway",
    "ServiceUnavailable",
    "GatewayTimeout",
    "RequestTimeout",
    "InternalError",
];

/// Takes apart what a newer gateway flattens into `data[0]` (store.md 5.3):
/// `… StatusCode: <status>, <source> : <code> : <message> : { : <inner code> : <inner message> : { : <subject> : <text>`.
fn unwrap(data: impl AsRef<str>) -> Option<ServiceError> {
    let (_, rest) = data.as_ref().split_once("StatusCode:")?;
    let (status, rest) = rest.split_once(',').unwrap_or((rest, ""));
    let levels: Vec<Vec<&str>> = rest
        .split(" : {")
        .map(|level| level.split(" : ").map(str::trim).filter(|part| !part.is_empty()).collect())
        .collect();
    let part = |level: usize, part: usize| levels.get(level).and_then(|level| level.get(part).copied());
    let status = status.trim();
    let (code, inner_code) = (part(0, 1).unwrap_or(status), part(1, 0));
    let said = match (levels.get(2), levels.get(1), levels.first()) {
        (Some(subject), ..) if !subject.is_empty() => subject.join(": "),
        (_, Some(inner), _) if inner.len() > 1 => inner[1..].join(": "),
        (_, _, Some(outer)) if outer.len() > 2 => outer[2..].join(": "),
        _ => String::new(),
    };
    let cause = Cause { code: code_text(code), inner_code: inner_code.and_then(code_text), detail: detail_text(&said) };
    let names_key = levels.iter().flatten().any(|part| part.contains("B2B key"));
    Some(ServiceError { cause, nature: nature_of_wrapped(status, code, inner_code, names_key) })
}

/// The nested status decides first; only `Unauthorized` leaves a question to the codes.
fn nature_of_wrapped(status: &str, code: &str, inner_code: Option<&str>, names_key: bool) -> Nature {
    let by_codes = nature_of(Some(code), inner_code);
    let status = status.split_whitespace().next().unwrap_or_default();
    match nature_of_status(status) {
        Nature::Refusal if by_codes == Nature::Unknown && names_key => Nature::Refusal,
        Nature::Refusal => by_codes,
        Nature::Unknown if by_codes == Nature::ServerFault => Nature::ServerFault,
        by_status => by_status,
    }
}

/// A nested status, by name or by number.
fn nature_of_status(status: &str) -> Nature {
    match status.parse::<u16>() {
        Ok(401) => Nature::Refusal,
        Ok(400) => Nature::BadRequest,
        Ok(429) => Nature::Throttled,
        Ok(408 | 500..=599) => Nature::ServerFault,
        Ok(_) => Nature::Unknown,
        Err(_) if status.is_empty() => Nature::Undecided,
        Err(_) => nature_of(Some(status), None),
    }
}

/// What the document says besides its codes: the diagnostics if there are any, else the bad fields, else the message.
fn detail(outer: &Map<String, Value>, inner: &Map<String, Value>) -> Option<String> {
    let message = text(inner, "message").or_else(|| text(outer, "message"));
    let more = ["data", "details"].iter().find_map(|name| {
        let found = [texts(inner, name), texts(outer, name)].concat();
        (!found.is_empty()).then(|| found.join("; "))
    });
    match (message, more) {
        (Some(message), Some(more)) => detail_text(&format!("{message}: {}", more.trim_start())),
        (Some(only), None) => detail_text(only),
        (None, more) => detail_text(&more?),
    }
}

fn detail_text(text: &str) -> Option<String> {
    let text = scrubbed_line(text, Cause::DETAIL_CHARS_MAX);
    (!text.is_empty()).then_some(text)
}

fn code_text(text: &str) -> Option<String> {
    let text = scrubbed(text.trim(), Cause::CODE_CHARS_MAX);
    (!text.is_empty()).then_some(text)
}

/// A member by its name, in any case: the Store's own pages do not agree on cases.
fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

/// A member that is a text with something in it.
fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    member(object, name)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// A member that should be an array of texts, whatever it is. What is no text keeps its JSON.
fn texts(object: &Map<String, Value>, name: &str) -> Vec<String> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
        Value::Object(_) => Some(value.to_string()),
        _ => None,
    };
    match member(object, name) {
        Some(Value::Array(values)) => values.iter().filter_map(one).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expectation: code, inner code, a part of the detail, nature.
    fn check(body: &str, expected: (&str, &str, &str, Nature)) {
        let error = ServiceError::read(body.as_bytes()).unwrap_or_else(|| panic!("no document: {body}"));
        let detail = error.cause.detail.clone().unwrap_or_default();
        assert_eq!(error.cause.code.as_deref().unwrap_or_default(), expected.0, "{body}");
        assert_eq!(error.cause.inner_code.as_deref().unwrap_or_default(), expected.1, "{body}");
        assert!(detail.contains(expected.2) && (!expected.2.is_empty() || detail.is_empty()), "{detail}");
        assert_eq!(error.nature, expected.3, "{body}");
    }

    fn wrapped(data: &str) -> String {
        serde_json::json!({
            "code": "Unauthorized", "data": [], "details": [],
            "innererror": {"code": "AuthenticationFailure", "data": [data], "details": [], "message": "m"},
            "message": "The client is not authorized to perform the requested operation.", "source": "PurchaseFD"
        })
        .to_string()
    }

    #[test]
    fn plain_bodies() {
        // store.md 4.3, observed January 2019.
        check(
            r#"{"code":"Unauthorized","data":[],"details":[],"innererror":{"code":"AuthenticationTokenInvalid","data":[],"details":[],"message":"Authentication token supplied is invalid"},"message":"The client is not authorized to perform the requested operation.","source":"PurchaseFD"}"#,
            ("Unauthorized", "AuthenticationTokenInvalid", "Authentication token supplied is invalid", Nature::Refusal),
        );
        // store.md 5.2, a sibling service.
        check(
            r#"{"code":"DataNotFound","data":[],"details":[],"innererror":{"code":"DataNotFound","data":[],"details":[],"message":"Product is not present","source":"StoreEdgeFD"},"message":"Product is not present","source":"StoreEdgeFD"}"#,
            ("DataNotFound", "DataNotFound", "Product is not present", Nature::Unknown),
        );
        check(
            r#"{"code":"BadRequest","innererror":{"code":"InvalidParameter","details":["key is missing"],"message":"The request is not valid."}}"#,
            ("BadRequest", "InvalidParameter", "not valid.: key is missing", Nature::BadRequest),
        );
        check(
            r#"{"code":"Unauthorized","innererror":{"code":"InconsistentClientId","message":"Client ID of the key and of the token differ"}}"#,
            ("Unauthorized", "InconsistentClientId", "differ", Nature::InconsistentClientId),
        );
        check(
            r#"{"code":"Throttled","innererror":{"code":"Throttled"}}"#,
            ("Throttled", "Throttled", "", Nature::Throttled),
        );
        check(
            r#"{"code":"InternalServerError","innererror":{"code":"InternalAadAuthenticationError"}}"#,
            ("InternalServerError", "InternalAadAuthenticationError", "", Nature::ServerFault),
        );
    }

    #[test]
    fn wrapped_bodies() {
        // store.md 5.3, observed March 2024: dotnet/runtime#99821 and windows-dev-docs#4891.
        check(
            &wrapped(
                "Processing of the HTTP request resulted in an error. StatusCode: Unauthorized, PurchaseFD : Unauthorized : The client is not authorized to perform the requested operation. : { : AuthenticationTokenInvalid : Authentication token supplied is invalid : { : B2B key : IDX10511: Signature validation failed. Keys tried: ...",
            ),
            (
                "Unauthorized",
                "AuthenticationTokenInvalid",
                "B2B key: IDX10511: Signature validation failed.",
                Nature::Refusal,
            ),
        );
        check(
            &wrapped(
                "Processing of the HTTP request resulted in an error. StatusCode: InternalServerError, PurchaseFD : InternalServerError : An internal server error occurred while processing the operation. : { : InternalAadAuthenticationError : Internal error during AAD a...",
            ),
            (
                "InternalServerError",
                "InternalAadAuthenticationError",
                "Internal error during AAD a",
                Nature::ServerFault,
            ),
        );
        check(
            &wrapped(
                "StatusCode: Unauthorized, CollectionsFD : Unauthorized : No. : { : InconsistentClientId : Differ",
            ),
            ("Unauthorized", "InconsistentClientId", "Differ", Nature::InconsistentClientId),
        );
        check(
            &wrapped("StatusCode: 503, CollectionsFD : Unauthorized : No. : { : AuthenticationTokenInvalid : No"),
            ("Unauthorized", "AuthenticationTokenInvalid", "No", Nature::ServerFault),
        );
        check(
            &wrapped("StatusCode: TooManyRequests, FD : Throttled : The rate limit"),
            ("Throttled", "", "rate limit", Nature::Throttled),
        );
        check(&wrapped("StatusCode: BadRequest, FD : BadRequest : No"), ("BadRequest", "", "No", Nature::BadRequest));
        check(&wrapped("StatusCode: InternalServerError"), ("InternalServerError", "", "", Nature::ServerFault));
        check(&wrapped("StatusCode: Unauthorized"), ("Unauthorized", "", "", Nature::Refusal));
        check(&wrapped("StatusCode: Teapot, FD : Unauthorized : No"), ("Unauthorized", "", "No", Nature::Unknown));
        check(
            &wrapped("StatusCode: Unauthorized, FD : Unauthorized : No : { : Novel : x : { : B2B key : IDX10501"),
            ("Unauthorized", "Novel", "B2B key: IDX10501", Nature::Refusal),
        );
    }

    #[test]
    fn wrapped_beyond_recognition_proves_nothing() {
        let failure = ("Unauthorized", "AuthenticationFailure");
        check(&wrapped("an unknown text"), (failure.0, failure.1, "m: an unknown text", Nature::Undecided));
        check(&wrapped(""), (failure.0, failure.1, "m", Nature::Undecided));
        check(&wrapped("StatusCode: "), ("", "", "", Nature::Undecided));
        check(
            r#"{"code":"Unauthorized","innererror":{"code":"AuthenticationFailure"}}"#,
            (failure.0, failure.1, "", Nature::Undecided),
        );
        // The key is named even though the rest was cut off.
        check(&wrapped("B2B key : IDX10511: Signature"), (failure.0, failure.1, "IDX10511", Nature::Refusal));
    }

    #[test]
    fn leniency() {
        check(r#"{"code":"Unauthorized"}"#, ("Unauthorized", "", "", Nature::Refusal));
        check(r#"{"Code":"Unauthorized","InnerError":null}"#, ("Unauthorized", "", "", Nature::Refusal));
        check(
            r#"{"code":"Unauthorized","innererror":{"code":"PartnerAadTicketRequired"},"extra":[1]}"#,
            ("Unauthorized", "PartnerAadTicketRequired", "", Nature::Unknown),
        );
        check(
            r#"{"code":7,"data":{"a":1},"details":"text","innererror":{"code":"AuthenticationTokenInvalid","data":[1,null,["x"]],"message":5},"message":[]}"#,
            ("", "AuthenticationTokenInvalid", "{\"a\":1}", Nature::Refusal),
        );
        for none in ["", "null", "[]", "{}", "<html>", "\"Unauthorized\"", r#"{"code":null}"#, r#"{"code":" "}"#, "{"] {
            assert_eq!(ServiceError::read(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn everything_is_bounded_and_scrubbed() {
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJpYXQiOjF9.c2lnbmF0dXJl";
        let body = serde_json::json!({
            "code": jwt,
            "innererror": {"code": "x y ".repeat(100), "data": [format!("token: '{jwt}'. See {}", "more ".repeat(200))]}
        });
        let error = ServiceError::read(body.to_string().as_bytes()).unwrap();
        assert_eq!(error.cause.code.as_deref(), Some("[scrubbed]"));
        assert_eq!(error.cause.inner_code.unwrap().chars().count(), Cause::CODE_CHARS_MAX);
        let detail = error.cause.detail.unwrap();
        assert_eq!(detail.chars().count(), Cause::DETAIL_CHARS_MAX);
        assert!(detail.starts_with("token: '[scrubbed]'. See more"), "{detail}");
    }
}
