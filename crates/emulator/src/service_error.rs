//! The Store's error document, byte for byte, in both shapes (protocol.md 5).

use serde::Serialize;
use storekeeper_model::KeyKind;

use crate::ErrorShape;

/// What a 401 says in its outer message (observed, protocol.md 5.6).
const NOT_AUTHORIZED: &str = "The client is not authorized to perform the requested operation.";
const INTERNAL_ERROR: &str = "An internal server error occurred while processing the operation.";

/// An error before it takes its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceError {
    /// The HTTP status of the plain shape.
    pub(crate) status: u16,
    code: &'static str,
    message: String,
    inner_code: &'static str,
    inner_message: String,
    details: Vec<String>,
    data: Vec<String>,
    cause: Option<Cause>,
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

impl ServiceError {
    fn unauthorized(inner_code: &'static str, inner_message: impl Into<String>) -> Self {
        Self {
            status: 401,
            code: "Unauthorized",
            message: NOT_AUTHORIZED.to_owned(),
            inner_code,
            inner_message: inner_message.into(),
            details: Vec::new(),
            data: Vec::new(),
            cause: None,
        }
    }

    /// 401 `AuthenticationTokenInvalid`: the ticket or the key (observed). The cause shows in the wrapped shape only.
    pub(crate) fn token_invalid(cause: Option<Cause>) -> Self {
        let message = "Authentication token supplied is invalid";
        Self { cause, ..Self::unauthorized("AuthenticationTokenInvalid", message) }
    }

    /// 401 `InconsistentClientId`: key and ticket belong to different clients.
    pub(crate) fn client_id_differs() -> Self {
        Self::unauthorized("InconsistentClientId", "Client ID of the key and of the token differ")
    }

    /// One of the 401s seen at key creation, with its inner code and first diagnostic line (protocol.md 3.6).
    pub(crate) fn creation_refused(inner_code: &'static str, message: &str, data: Option<String>) -> Self {
        Self { data: data.into_iter().collect(), ..Self::unauthorized(inner_code, message) }
    }

    /// 400 `InvalidParameter`, naming one bad field (texts are our choice).
    pub(crate) fn invalid_parameter(field: &str, what: &str) -> Self {
        Self {
            status: 400,
            code: "BadRequest",
            message: String::from("The request is not valid."),
            inner_code: "InvalidParameter",
            inner_message: String::from("A parameter of the request is not valid."),
            details: vec![format!("{field}: {what}")],
            data: Vec::new(),
            cause: None,
        }
    }

    /// 429 `Throttled` with the documented text (protocol.md 5.5).
    pub(crate) fn throttled(operations: u32, seconds: u32) -> Self {
        let aspect = "userId; publisherId";
        let message = format!(
            "The rate limit of {operations} operations in {seconds} seconds has been exceeded for aspect {aspect}."
        );
        Self {
            status: 429,
            code: "Throttled",
            message: message.clone(),
            inner_code: "Throttled",
            inner_message: message,
            details: Vec::new(),
            data: Vec::new(),
            cause: None,
        }
    }

    /// The server fault of protocol.md 5.6; its inner message was cut off in the report and ends in our words.
    pub(crate) fn internal() -> Self {
        Self {
            status: 500,
            code: "InternalServerError",
            message: String::from(INTERNAL_ERROR),
            inner_code: "InternalAadAuthenticationError",
            inner_message: String::from("Internal error during AAD authentication"),
            details: Vec::new(),
            data: Vec::new(),
            cause: None,
        }
    }

    /// Gives the error its shape. Wrapping changes 401s only, and sends the server fault as one (design.md 4.4).
    pub(crate) fn shape(self, shape: ErrorShape, host: KeyKind) -> ShapedError {
        let source = match host {
            KeyKind::Collections => "CollectionsFD",
            KeyKind::Purchase => "PurchaseFD",
        };
        let is_wrapped = shape == ErrorShape::Wrapped && (self.status == 401 || self.inner_code == INTERNAL_CODE);
        let error = if is_wrapped { self.wrapped(source) } else { self };
        let document = Document {
            code: error.code,
            data: &[],
            details: &error.details,
            innererror: Inner {
                code: error.inner_code,
                data: &error.data,
                details: &error.details,
                message: &error.inner_message,
            },
            message: &error.message,
            source,
        };
        let body = serde_json::to_vec(&document).expect("text always serialises into memory");
        ShapedError { status: error.status, body, inner_code: error.inner_code }
    }

    /// The error flattened to text inside another one (protocol.md 5.3).
    fn wrapped(self, source: &str) -> Self {
        let Self { code, message, inner_code, inner_message, data, cause, .. } = self;
        let mut text = format!(
            "Processing of the HTTP request resulted in an error. StatusCode: {code}, {source} : {code} : {message} : \
             {{ : {inner_code} : {inner_message}"
        );
        if let Some(Cause { subject, text: cause }) = cause {
            text.push_str(&format!(" : {{ : {subject} : {cause}"));
        }
        let data = std::iter::once(text).chain(data).collect();
        Self { data, ..Self::unauthorized("AuthenticationFailure", "Authentication failed.") }
    }
}

const INTERNAL_CODE: &str = "InternalAadAuthenticationError";

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
        // protocol.md 4.3, a real failure of January 2019.
        check(
            ServiceError::token_invalid(Some(Cause { subject: "B2B key", text: String::from("hidden") })),
            ErrorShape::Plain,
            401,
            r#"{"code":"Unauthorized","data":[],"details":[],"innererror":{"code":"AuthenticationTokenInvalid","data":[],"details":[],"message":"Authentication token supplied is invalid"},"message":"The client is not authorized to perform the requested operation.","source":"PurchaseFD"}"#,
        );
        check(
            ServiceError::internal(),
            ErrorShape::Plain,
            500,
            r#"{"code":"InternalServerError","data":[],"details":[],"innererror":{"code":"InternalAadAuthenticationError","data":[],"details":[],"message":"Internal error during AAD authentication"},"message":"An internal server error occurred while processing the operation.","source":"PurchaseFD"}"#,
        );
    }

    #[test]
    fn a_wrapped_key_fault_begins_as_observed() {
        let cause = Cause { subject: "B2B key", text: String::from("IDX10511: Signature validation failed.") };
        check(
            ServiceError::token_invalid(Some(cause)),
            ErrorShape::Wrapped,
            401,
            r#"{"code":"Unauthorized","data":[],"details":[],"innererror":{"code":"AuthenticationFailure","data":["Processing of the HTTP request resulted in an error. StatusCode: Unauthorized, PurchaseFD : Unauthorized : The client is not authorized to perform the requested operation. : { : AuthenticationTokenInvalid : Authentication token supplied is invalid : { : B2B key : IDX10511: Signature validation failed."],"details":[],"message":"Authentication failed."},"message":"The client is not authorized to perform the requested operation.","source":"PurchaseFD"}"#,
        );
    }

    #[test]
    fn a_wrapped_server_fault_is_delivered_as_unauthorized() {
        let shaped = ServiceError::internal().shape(ErrorShape::Wrapped, KeyKind::Purchase);
        let body = String::from_utf8(shaped.body).unwrap();
        assert_eq!((shaped.status, shaped.inner_code), (401, "AuthenticationFailure"));
        assert!(body.contains("StatusCode: InternalServerError, PurchaseFD : InternalServerError : An internal server error occurred while processing the operation. : { : InternalAadAuthenticationError : Internal error during AAD a"));
    }

    #[test]
    fn other_statuses_are_the_same_in_both_shapes() {
        for error in [ServiceError::invalid_parameter("key", "missing"), ServiceError::throttled(200, 300)] {
            let plain = error.clone().shape(ErrorShape::Plain, KeyKind::Collections);
            let wrapped = error.shape(ErrorShape::Wrapped, KeyKind::Collections);
            assert_eq!((plain.status, plain.body), (wrapped.status, wrapped.body));
        }
    }
}
