//! The Store's error document, byte for byte, in both shapes (store.md 5).

use std::borrow::Cow;

use serde::Serialize;
use storekeeper_model::KeyKind;

use crate::{ErrorShape, RateLimit};

/// What a 401 says in its outer message (observed, store.md 5.6).
const NOT_AUTHORIZED: &str = "The client is not authorized to perform the requested operation.";

/// An error before it takes its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServiceError {
    /// 401 `AuthenticationTokenInvalid`: the ticket or the key (observed). The cause shows in the wrapped shape only.
    TokenInvalid(Option<Cause>),
    /// 401 `InconsistentClientId`: key and ticket belong to different clients.
    ClientIdDiffers,
    /// One of the 401s seen at key creation (store.md 3.6).
    CreationRefused {
        /// The inner code.
        inner_code: &'static str,
        /// The inner message.
        message: &'static str,
        /// The first diagnostic line.
        data: Option<String>,
    },
    /// 400 `InvalidParameter` with what is said about one bad field.
    InvalidParameter(String),
    /// 429 `Throttled` with the documented text (store.md 5.5).
    Throttled(RateLimit),
    /// The server fault of store.md 5.6; its inner message was cut off in the report and ends in our words.
    Internal,
}

/// What a wrapped error adds: the credential at fault and a library's words about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    /// `B2B key` marks the Store ID key (observed); the ticket's mark is our choice.
    pub(crate) subject: &'static str,
    /// Mostly a text of Microsoft.IdentityModel.
    pub(crate) text: String,
}

/// An error in its shape, ready to be sent.
pub(crate) struct ShapedError {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The document.
    pub(crate) body: Vec<u8>,
    /// `innererror.code` as sent.
    pub(crate) inner_code: &'static str,
}

/// Status, code and message on the outside, and code and message within.
struct Words {
    status: u16,
    code: &'static str,
    message: Cow<'static, str>,
    inner_code: &'static str,
    inner_message: Cow<'static, str>,
}

impl Words {
    fn unauthorized(inner_code: &'static str, inner_message: &'static str) -> Self {
        let message = NOT_AUTHORIZED.into();
        Self { status: 401, code: "Unauthorized", message, inner_code, inner_message: inner_message.into() }
    }
}

impl ServiceError {
    /// A 400 that names one bad field (texts are our choice).
    pub(crate) fn invalid_parameter(field: &str, what: &str) -> Self {
        Self::InvalidParameter(format!("{field}: {what}"))
    }

    /// Gives the error its shape. Wrapping changes 401s only, and sends the server fault as one (store.md 5.6).
    pub(crate) fn shape(self, shape: ErrorShape, host: KeyKind) -> ShapedError {
        let source = match host {
            KeyKind::Collections => "CollectionsFD",
            KeyKind::Purchase => "PurchaseFD",
        };
        let words = self.words();
        let (details, data, cause) = match self {
            Self::InvalidParameter(detail) => (Some(detail), None, None),
            Self::CreationRefused { data, .. } => (None, data, None),
            Self::TokenInvalid(cause) => (None, None, cause),
            Self::ClientIdDiffers | Self::Throttled(_) | Self::Internal => (None, None, None),
        };
        if shape == ErrorShape::Wrapped && matches!(words.status, 401 | 500) {
            let flat = flatten(&words, source, cause.as_ref());
            let words = Words::unauthorized("AuthenticationFailure", "Authentication failed.");
            return write(&words, source, &[], &Vec::from_iter([Some(flat), data].into_iter().flatten()));
        }
        write(&words, source, &Vec::from_iter(details), &Vec::from_iter(data))
    }

    fn words(&self) -> Words {
        match self {
            Self::TokenInvalid(_) => {
                Words::unauthorized("AuthenticationTokenInvalid", "Authentication token supplied is invalid")
            }
            Self::ClientIdDiffers => {
                Words::unauthorized("InconsistentClientId", "Client ID of the key and of the token differ")
            }
            Self::CreationRefused { inner_code, message, .. } => Words::unauthorized(inner_code, message),
            Self::InvalidParameter(_) => Words {
                status: 400,
                code: "BadRequest",
                message: "The request is not valid.".into(),
                inner_code: "InvalidParameter",
                inner_message: "A parameter of the request is not valid.".into(),
            },
            Self::Throttled(RateLimit { operations, seconds }) => {
                let message = format!(
                    "The rate limit of {operations} operations in {seconds} seconds has been exceeded for aspect \
                     userId; publisherId."
                );
                let (code, message) = ("Throttled", Cow::from(message));
                Words { status: 429, code, message: message.clone(), inner_code: code, inner_message: message }
            }
            Self::Internal => Words {
                status: 500,
                code: "InternalServerError",
                message: "An internal server error occurred while processing the operation.".into(),
                inner_code: "InternalAadAuthenticationError",
                inner_message: "Internal error during AAD authentication".into(),
            },
        }
    }
}

/// The error flattened to text, as the newer gateway puts it inside another one (store.md 5.3).
fn flatten(words: &Words, source: &str, cause: Option<&Cause>) -> String {
    let Words { code, message, inner_code, inner_message, .. } = words;
    let mut text = format!(
        "Processing of the HTTP request resulted in an error. StatusCode: {code}, {source} : {code} : {message} : {{ : \
         {inner_code} : {inner_message}"
    );
    if let Some(Cause { subject, text: cause }) = cause {
        text.push_str(&format!(" : {{ : {subject} : {cause}"));
    }
    text
}

fn write(words: &Words, source: &str, details: &[String], data: &[String]) -> ShapedError {
    let inner = Inner { code: words.inner_code, data, details, message: &words.inner_message };
    let document =
        Document { code: words.code, data: &[], details, innererror: inner, message: &words.message, source };
    let body = serde_json::to_vec(&document).expect("text always serialises into memory");
    ShapedError { status: words.status, body, inner_code: words.inner_code }
}

#[derive(Serialize)]
struct Document<'a> {
    code: &'a str,
    data: &'a [String],
    details: &'a [String],
    innererror: Inner<'a>,
    message: &'a str,
    source: &'a str,
}

#[derive(Serialize)]
struct Inner<'a> {
    code: &'a str,
    data: &'a [String],
    details: &'a [String],
    message: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: ServiceError, shape: ErrorShape, status: u16, body: &str) {
        let shaped = error.shape(shape, KeyKind::Purchase);
        assert_eq!((shaped.status, std::str::from_utf8(&shaped.body).unwrap()), (status, body));
    }

    #[test]
    fn plain_bodies_are_the_observed_bytes() {
        // store.md 4.3, a real failure of January 2019.
        check(
            ServiceError::TokenInvalid(Some(Cause { subject: "B2B key", text: String::from("hidden") })),
            ErrorShape::Plain,
            401,
            r#"{"code":"Unauthorized","data":[],"details":[],"innererror":{"code":"AuthenticationTokenInvalid","data":[],"details":[],"message":"Authentication token supplied is invalid"},"message":"The client is not authorized to perform the requested operation.","source":"PurchaseFD"}"#,
        );
        check(
            ServiceError::Internal,
            ErrorShape::Plain,
            500,
            r#"{"code":"InternalServerError","data":[],"details":[],"innererror":{"code":"InternalAadAuthenticationError","data":[],"details":[],"message":"Internal error during AAD authentication"},"message":"An internal server error occurred while processing the operation.","source":"PurchaseFD"}"#,
        );
    }

    #[test]
    fn a_wrapped_key_fault_begins_as_observed() {
        let cause = Cause { subject: "B2B key", text: String::from("IDX10511: Signature validation failed.") };
        check(
            ServiceError::TokenInvalid(Some(cause)),
            ErrorShape::Wrapped,
            401,
            r#"{"code":"Unauthorized","data":[],"details":[],"innererror":{"code":"AuthenticationFailure","data":["Processing of the HTTP request resulted in an error. StatusCode: Unauthorized, PurchaseFD : Unauthorized : The client is not authorized to perform the requested operation. : { : AuthenticationTokenInvalid : Authentication token supplied is invalid : { : B2B key : IDX10511: Signature validation failed."],"details":[],"message":"Authentication failed."},"message":"The client is not authorized to perform the requested operation.","source":"PurchaseFD"}"#,
        );
    }

    #[test]
    fn a_wrapped_server_fault_is_delivered_as_unauthorized() {
        let shaped = ServiceError::Internal.shape(ErrorShape::Wrapped, KeyKind::Purchase);
        let body = String::from_utf8(shaped.body).unwrap();
        assert_eq!((shaped.status, shaped.inner_code), (401, "AuthenticationFailure"));
        assert!(body.contains("StatusCode: InternalServerError, PurchaseFD : InternalServerError : An internal server error occurred while processing the operation. : { : InternalAadAuthenticationError : Internal error during AAD a"));
    }

    #[test]
    fn other_statuses_are_the_same_in_both_shapes() {
        for error in [ServiceError::invalid_parameter("key", "missing"), ServiceError::Throttled(RateLimit::default())]
        {
            let plain = error.clone().shape(ErrorShape::Plain, KeyKind::Collections);
            let wrapped = error.shape(ErrorShape::Wrapped, KeyKind::Collections);
            assert_eq!((plain.status, plain.body), (wrapped.status, wrapped.body));
        }
    }
}
