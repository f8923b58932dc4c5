//! Problem documents (RFC 9457): how the control port says no.

use http::StatusCode;
use serde::Serialize;

/// Why a request to the control port was not granted. Nothing was changed unless the code says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) detail: String,
}

/// The stable name of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    /// The body or the query cannot be read, names something unknown, or asks for the impossible.
    RequestInvalid,
    /// The request came from a web page.
    OriginRefused,
    /// The header `Host` names another machine.
    HostRefused,
    /// There is no such route.
    RouteUnknown,
    /// There is no fault with that number.
    FaultUnknown,
    /// The route takes another method.
    MethodNotAllowed,
    /// The body is longer than the route reads.
    BodyTooLarge,
    /// Time met work that does not end; the clock stands there.
    ClockStuck,
    /// The change was made, but it is not durable.
    NotSaved,
    /// The emulator failed.
    Internal,
}

impl Code {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::RequestInvalid => StatusCode::BAD_REQUEST,
            Self::OriginRefused | Self::HostRefused => StatusCode::FORBIDDEN,
            Self::RouteUnknown | Self::FaultUnknown => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ClockStuck => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotSaved | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// Something about the request itself.
    pub(crate) fn invalid(detail: impl ToString) -> Self {
        Self::new(Code::RequestInvalid, detail.to_string())
    }

    /// The document.
    pub(crate) fn document(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Document<'a> {
            r#type: &'static str,
            title: &'a str,
            status: u16,
            code: Code,
            detail: &'a str,
        }
        let status = self.code.status();
        let document = Document {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            code: self.code,
            detail: &self.detail,
        };
        serde_json::to_vec(&document).expect("text and numbers serialise")
    }
}
