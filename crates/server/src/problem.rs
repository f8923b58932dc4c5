//! `Problem`: an answer that says no, as an RFC 9457 document or as a line of a batch. It never holds a secret.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use storekeeper_keeper::{EnrollError, HandOverError, NodeError, OrderError, ReadError, RenewError, TicketError};
use storekeeper_keyring::KeyringError;
use storekeeper_model::IdentityError;
use utoipa::ToSchema;

use crate::caller::Scope;
use crate::code::{self, ProblemCode};

/// Why a request, or a line of a batch, was not carried out.
#[derive(Debug, Clone)]
pub struct Problem {
    code: &'static ProblemCode,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
    reason: Option<Cow<'static, str>>,
    cause: Option<Box<str>>,
    challenge: Option<Challenge>,
}

/// What `WWW-Authenticate` says.
#[derive(Debug, Clone, Copy)]
enum Challenge {
    Token,
    UnknownToken,
    Scope(Scope),
}

/// What the log wants to know of an answer that said no.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) code: &'static ProblemCode,
    pub(crate) cause: Option<Box<str>>,
}

/// The document, in the order of its members.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    act: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// What a batch says to a line that was not carried out.
#[derive(Serialize, ToSchema)]
#[schema(as = LineProblem)]
pub(crate) struct Line<'a> {
    /// The number of the line, from 1; blank lines count.
    line: u64,
    /// The HTTP status that a single request would have been answered with.
    status: u16,
    /// The stable word.
    code: &'a str,
    /// Who must act.
    act: &'a str,
    /// One sentence for a person.
    detail: &'a str,
}

impl Problem {
    /// A row of the table, explained by one sentence that holds nothing of the request's own text.
    pub fn new(code: &'static ProblemCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), retry_after: None, reason: None, cause: None, challenge: None }
    }

    /// No token, or none that can be one.
    pub(crate) fn no_token() -> Self {
        let mut problem = Self::new(
            &code::UNAUTHORIZED,
            "send `Authorization: Bearer` and a token of 16 to 512 visible ASCII characters",
        );
        problem.challenge = Some(Challenge::Token);
        problem
    }

    /// A token nobody has.
    pub(crate) fn unknown_token() -> Self {
        let mut problem = Self::new(&code::UNAUTHORIZED, "no caller with this token is configured");
        problem.challenge = Some(Challenge::UnknownToken);
        problem
    }

    /// The token lacks a scope.
    pub(crate) fn scope_missing(scope: Scope) -> Self {
        let mut problem = Self::new(&code::FORBIDDEN, format!("the token lacks the scope `{scope}`"));
        problem.challenge = Some(Challenge::Scope(scope));
        problem
    }

    /// The token is limited to other apps.
    pub(crate) fn app_not_allowed() -> Self {
        Self::new(&code::FORBIDDEN, "the token is limited to other apps than this one")
    }

    /// The token is limited to some apps, and the route concerns every app.
    pub(crate) fn every_app_concerned() -> Self {
        Self::new(&code::FORBIDDEN, "this concerns every app, and the token is limited to some")
    }

    /// Adds what only the log may know.
    pub(crate) fn because(mut self, cause: String) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The row of the table.
    pub fn code(&self) -> &'static ProblemCode {
        self.code
    }

    /// The sentence that explains it.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    fn retry_after_seconds(&self) -> Option<u64> {
        let told = self.retry_after.map(|span| span.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1));
        told.or(self.code.retry_after.map(u64::from))
    }

    /// Appends the line of a batch that says no.
    pub(crate) fn write_line(&self, line: u64, out: &mut Vec<u8>) {
        let ProblemCode { code, status, act, .. } = *self.code;
        let line = Line { line, status, code, act: act.as_str(), detail: &self.detail };
        serde_json::to_writer(&mut *out, &line).expect("a line of numbers and text can always be written to memory");
        out.push(b'\n');
    }

    fn body(&self) -> Vec<u8> {
        let ProblemCode { code, status, act, title, .. } = *self.code;
        let document = Document {
            r#type: format!("urn:storekeeper:problem:{code}"),
            title,
            status,
            detail: &self.detail,
            code,
            act: act.as_str(),
            retry_after: self.retry_after_seconds(),
            reason: self.reason.as_deref(),
        };
        serde_json::to_vec(&document).expect("a document of numbers and text can always be written to memory")
    }

    fn challenge_header(&self) -> Option<HeaderValue> {
        let value = match self.challenge? {
            Challenge::Token => HeaderValue::from_static("Bearer realm=\"storekeeper\""),
            Challenge::UnknownToken => {
                HeaderValue::from_static("Bearer realm=\"storekeeper\", error=\"invalid_token\"")
            }
            Challenge::Scope(scope) => {
                let text = format!("Bearer realm=\"storekeeper\", error=\"insufficient_scope\", scope=\"{scope}\"");
                HeaderValue::from_str(&text).expect("a scope is visible ASCII")
            }
        };
        Some(value)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body().into());
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = self.challenge_header() {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if self.code.status() == StatusCode::REQUEST_TIMEOUT {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.extensions_mut().insert(Told { code: self.code, cause: self.cause });
        response
    }
}

/// What the keyring says of itself may name files and hosts: it goes to the log, not to callers.
fn keyring_problem(error: &KeyringError) -> Problem {
    Problem::new(&code::KEYRING_UNAVAILABLE, "the keyring is not available; nothing was changed, try again")
        .because(error.to_string())
}

impl From<IdentityError> for Problem {
    fn from(error: IdentityError) -> Self {
        let code = match error {
            IdentityError::AppName => &code::APP_UNKNOWN,
            IdentityError::UserNotUtf8 => &code::USER_NOT_UTF8,
            IdentityError::UserTooLong => &code::USER_TOO_LONG,
            IdentityError::UserEmpty => &code::USER_EMPTY,
            IdentityError::SlotTooLong => &code::SLOT_TOO_LONG,
        };
        Self::new(code, error.to_string())
    }
}

impl From<EnrollError> for Problem {
    fn from(error: EnrollError) -> Self {
        match &error {
            EnrollError::Keyring(error) => keyring_problem(error),
            _ => Self::new(ProblemCode::of(error.code()), error.to_string()),
        }
    }
}

impl From<HandOverError> for Problem {
    fn from(error: HandOverError) -> Self {
        match &error {
            HandOverError::Keyring(error) => keyring_problem(error),
            _ => Self::new(ProblemCode::of(error.code()), error.to_string()),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::Keyring(error) => keyring_problem(error),
            _ => Self::new(ProblemCode::of(error.code()), error.to_string()),
        }
    }
}

impl From<RenewError> for Problem {
    fn from(error: RenewError) -> Self {
        let mut problem = Self::new(ProblemCode::of(error.code()), error.to_string());
        match error {
            RenewError::Read(error) => return error.into(),
            RenewError::Paused { reason } => problem.reason = Some(reason.into()),
            RenewError::Failed { code, retry_after } => {
                problem.reason = Some(code.into());
                problem.retry_after = retry_after;
            }
            RenewError::Refused | RenewError::ShuttingDown => {}
        }
        problem
    }
}

impl From<TicketError> for Problem {
    fn from(error: TicketError) -> Self {
        let mut problem = Self::new(ProblemCode::of(error.code()), error.to_string());
        match error {
            TicketError::Refused { code } => problem.reason = Some(code.into()),
            TicketError::Unavailable { code, retry_after } => {
                problem.reason = Some(code.into());
                problem.retry_after = retry_after;
            }
            TicketError::AppUnknown | TicketError::ShuttingDown => {}
        }
        problem
    }
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        match &error {
            OrderError::Keyring(error) => keyring_problem(error),
            _ => Self::new(ProblemCode::of(error.code()), error.to_string()),
        }
    }
}

impl From<NodeError> for Problem {
    fn from(error: NodeError) -> Self {
        match &error {
            NodeError::Keyring(error) => keyring_problem(error),
            _ => Self::new(ProblemCode::of(error.code()), error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(problem: &Problem) -> serde_json::Value {
        serde_json::from_slice(&problem.body()).unwrap()
    }

    #[test]
    fn a_document_has_the_members_of_the_contract() {
        let problem = Problem::from(ReadError::Revoked);
        assert_eq!(
            json(&problem),
            serde_json::json!({
                "type": "urn:storekeeper:problem:key_revoked",
                "title": "the Store refuses this key for good",
                "status": 410,
                "detail": "the Store refuses this key for good: the player has to mint a new one",
                "code": "key_revoked",
                "act": "user",
            })
        );
    }

    #[test]
    fn how_long_to_wait_stands_in_the_document_and_in_the_header() {
        let problem =
            Problem::from(RenewError::Failed { code: "http_503", retry_after: Some(Duration::from_millis(1500)) });
        assert_eq!(
            (json(&problem)["retry_after"].as_u64(), json(&problem)["reason"].as_str()),
            (Some(2), Some("http_503"))
        );
        assert_eq!(problem.into_response().headers()[header::RETRY_AFTER], "2");
    }

    #[test]
    fn what_the_keyring_says_stays_with_us() {
        let error = || KeyringError::Unavailable("cannot open /var/lib/somewhere".into());
        for problem in [
            Problem::from(EnrollError::Keyring(error())),
            ReadError::Keyring(error()).into(),
            OrderError::Keyring(error()).into(),
        ] {
            assert!(!json(&problem).to_string().contains("somewhere"));
            let told = problem.into_response().extensions_mut().remove::<Told>().unwrap();
            assert!(told.cause.unwrap().contains("somewhere"));
            assert_eq!(told.code.code, "keyring_unavailable");
        }
    }

    #[test]
    fn a_missing_scope_is_named_as_the_standard_says() {
        let response = Problem::scope_missing(Scope::KeyRead).into_response();
        assert_eq!(
            response.headers()[header::WWW_AUTHENTICATE],
            "Bearer realm=\"storekeeper\", error=\"insufficient_scope\", scope=\"key:read\""
        );
    }

    #[test]
    fn a_line_names_its_number_and_who_must_act() {
        let mut out = Vec::new();
        Problem::from(ReadError::Lapsed).write_line(7, &mut out);
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((line["line"].as_u64(), line["status"].as_u64()), (Some(7), Some(410)));
        assert_eq!((line["code"].as_str(), line["act"].as_str()), (Some("key_lapsed"), Some("user")));
        assert!(out.ends_with(b"}\n"));
    }
}
