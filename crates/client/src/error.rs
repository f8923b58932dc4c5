//! One error per conversation, and `Advice`: what to do next, so that nobody downstream looks at a status code.

use std::fmt;

use storekeeper_model::{ParseKeyError, ParseTicketError};

use crate::{Cause, RetryAfter, TransportError};

/// What a failed conversation asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Nothing was learned about key, ticket or configuration: try the same again, with back-off, and not before what
    /// the other side asked for.
    Retry {
        /// The wait it asked for.
        not_before: Option<RetryAfter>,
    },
    /// A refusal. It could be the ticket or the key: try once more with a fresh ticket, then judge (life.md 2).
    ReplaceTicket,
    /// Our configuration or our fault: repeating it soon is of no use, somebody has to be told.
    Stop(StopReason),
}

impl Advice {
    const RETRY: Self = Self::Retry { not_before: None };
}

/// What has to change before a conversation can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StopReason {
    /// The application's client ID is not the one the key was made for.
    ClientId,
    /// The request as we built it.
    Request,
    /// The endpoint: what answers there is not the Store, or not Entra.
    Endpoint,
    /// The application's credential.
    Credential,
    /// The tenant, the application or what it may ask for.
    Application,
}

impl StopReason {
    /// The name used in logs, metrics and histories.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientId => "client_id",
            Self::Request => "request",
            Self::Endpoint => "endpoint",
            Self::Credential => "credential",
            Self::Application => "application",
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a renewal brought no successor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenewError {
    /// 401: ticket or key was refused, the answer cannot tell which (store.md 4.3). Nothing is proven yet.
    #[error("the Store refused the ticket or the key: {cause}")]
    Refused {
        /// What the Store said.
        cause: Cause,
    },
    /// 401: the key's client ID is not the ticket's `appid`.
    #[error("the key belongs to another client ID than the ticket: {cause}")]
    InconsistentClientId {
        /// What the Store said.
        cause: Cause,
    },
    /// 400: the request was malformed, so the fault is ours.
    #[error("the Store called the request malformed: {cause}")]
    BadRequest {
        /// What the Store said.
        cause: Cause,
    },
    /// 200, but what came is not a successor of the key. The old key is kept.
    #[error("the answer is not a successor of the key: {kind}")]
    Unreadable {
        /// What is wrong with it.
        kind: UnreadableKind,
    },
    /// 429, or a document that says the same.
    #[error("the Store is asked too often")]
    Throttled {
        /// The wait it asked for.
        retry_after: Option<RetryAfter>,
    },
    /// 408, 5xx, or the Store's own fault under another status (store.md 5.3).
    #[error("the Store failed with status {status}: {cause}")]
    Unavailable {
        /// The HTTP status; below 500 when the fault came wrapped.
        status: u16,
        /// The wait it asked for.
        retry_after: Option<RetryAfter>,
        /// What the Store said.
        cause: Cause,
    },
    /// 3xx, which is never followed: the body carries the ticket.
    #[error("the Store redirected with status {status} to {}", .host.as_deref().unwrap_or("an unnamed host"))]
    Redirected {
        /// The HTTP status.
        status: u16,
        /// The host that `Location` names.
        host: Option<String>,
    },
    /// No answer arrived, or not a whole one.
    #[error("the renewal got no answer")]
    Transport(#[source] TransportError),
    /// A status that nobody has documented for this conversation, or a 401 that is not the Store's.
    #[error("the Store answered with the unexpected status {status}: {cause}")]
    UnexpectedStatus {
        /// The HTTP status.
        status: u16,
        /// The wait it asked for.
        retry_after: Option<RetryAfter>,
        /// What the answer said, if it was an error document.
        cause: Cause,
    },
}

impl RenewError {
    /// What to do next.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Refused { .. } => Advice::ReplaceTicket,
            Self::InconsistentClientId { .. } => Advice::Stop(StopReason::ClientId),
            Self::BadRequest { .. } => Advice::Stop(StopReason::Request),
            Self::Redirected { .. } => Advice::Stop(StopReason::Endpoint),
            Self::Unreadable { .. } => Advice::RETRY,
            Self::Throttled { retry_after } | Self::Unavailable { retry_after, .. } => {
                Advice::Retry { not_before: *retry_after }
            }
            Self::Transport(error) => error.advice(),
            // A gateway in between may say these for a while; the others come from what is no renewal endpoint.
            Self::UnexpectedStatus { status: 200..=299 | 401 | 403 | 421 | 425, retry_after, .. } => {
                Advice::Retry { not_before: *retry_after }
            }
            Self::UnexpectedStatus { .. } => Advice::Stop(StopReason::Endpoint),
        }
    }

    /// A name from a small closed set, for metrics and histories: [`RenewError::CODES`].
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::InconsistentClientId { .. } => "inconsistent_client_id",
            Self::BadRequest { .. } => "bad_request",
            Self::Unreadable { .. } => "unreadable",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable { .. } => "unavailable",
            Self::Redirected { .. } => "redirected",
            Self::Transport(error) => error.code(),
            Self::UnexpectedStatus { .. } => "unexpected_status",
        }
    }

    /// Every value of [`RenewError::code`].
    pub const CODES: [&'static str; 16] = [
        "refused",
        "inconsistent_client_id",
        "bad_request",
        "unreadable",
        "throttled",
        "unavailable",
        "redirected",
        "unexpected_status",
        "insecure",
        "dns_failed",
        "connect_failed",
        "tls_failed",
        "timed_out",
        "reset",
        "answer_too_large",
        "answer_malformed",
    ];

    /// The HTTP status, when there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { .. } | Self::InconsistentClientId { .. } => Some(401),
            Self::BadRequest { .. } => Some(400),
            Self::Unreadable { .. } => Some(200),
            Self::Throttled { .. } => Some(429),
            Self::Unavailable { status, .. } | Self::Redirected { status, .. } => Some(*status),
            Self::UnexpectedStatus { status, .. } => Some(*status),
            Self::Transport(_) => None,
        }
    }

    /// What the Store said, when it said something.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Refused { cause } | Self::InconsistentClientId { cause } | Self::BadRequest { cause } => Some(cause),
            Self::Unavailable { cause, .. } | Self::UnexpectedStatus { cause, .. } => Some(cause),
            Self::Unreadable { .. } | Self::Throttled { .. } | Self::Redirected { .. } | Self::Transport(_) => None,
        }
    }

    /// The Store's inner code, unwrapped: the same under both error shapes.
    pub fn inner_code(&self) -> Option<&str> {
        self.cause()?.inner_code.as_deref()
    }
}

/// What is wrong with an answer of 200 (store.md 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableKind {
    /// The body is not JSON.
    #[error("it is not JSON")]
    NotJson,
    /// No member `key`, or one that is not a text with something in it.
    #[error("it holds no key")]
    NoKey,
    /// The member `key` is not a Store ID key.
    #[error("what it holds is not a Store ID key")]
    NotAKey(#[source] ParseKeyError),
    /// The new key is for the other service.
    #[error("the new key is of the other kind")]
    WrongKind,
    /// The new key is for another client ID.
    #[error("the new key is for another client ID")]
    WrongClient,
    /// The new key is for another publisher user ID.
    #[error("the new key is for another user")]
    WrongUser,
    /// The new key's `exp` does not lie after its `nbf` and `iat`.
    #[error("the new key has no usable times")]
    NoTimes,
    /// The new key has expired already.
    #[error("the new key has expired already")]
    Expired,
    /// The new key expires before the old one.
    #[error("the new key expires before the old one")]
    ExpiresEarlier,
}

/// Why Entra gave no service ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// `invalid_client`: the secret or the assertion is wrong or has expired.
    #[error("Entra refused the credential: {error}{}", Said(*.aadsts, .description))]
    CredentialRefused {
        /// The HTTP status.
        status: u16,
        /// Entra's `error`.
        error: String,
        /// The number of Entra's own code, for people: programs decide by status and `error` (store.md 2.7).
        aadsts: Option<u32>,
        /// The first line of Entra's description.
        description: String,
        /// What Entra's support asks for.
        trace_id: Option<String>,
    },
    /// Unknown tenant or application, or an audience that it may not ask for.
    #[error("Entra does not know the tenant, the application or the audience: {error}{}", Said(*.aadsts, .description))]
    Misconfigured {
        /// The HTTP status.
        status: u16,
        /// Entra's `error`.
        error: String,
        /// The number of Entra's own code, for people.
        aadsts: Option<u32>,
        /// The first line of Entra's description.
        description: String,
        /// What Entra's support asks for.
        trace_id: Option<String>,
    },
    /// 429, or Entra's complaint about the same request too often.
    #[error("Entra is asked too often")]
    Throttled {
        /// The HTTP status.
        status: u16,
        /// The wait it asked for.
        retry_after: Option<RetryAfter>,
    },
    /// 408, 5xx or `temporarily_unavailable`.
    #[error("Entra failed with status {status}")]
    Unavailable {
        /// The HTTP status.
        status: u16,
        /// The wait it asked for.
        retry_after: Option<RetryAfter>,
    },
    /// Neither a ticket as asked for nor an error of Entra's.
    #[error("the answer with status {status} is no service ticket: {flaw}")]
    Unreadable {
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        flaw: TicketFlaw,
    },
    /// 3xx, which is never followed: the body carries the credential.
    #[error("Entra redirected with status {status} to {}", .host.as_deref().unwrap_or("an unnamed host"))]
    Redirected {
        /// The HTTP status.
        status: u16,
        /// The host that `Location` names.
        host: Option<String>,
    },
    /// No answer arrived, or not a whole one.
    #[error("the request for a ticket got no answer")]
    Transport(#[source] TransportError),
}

impl TicketError {
    /// What to do next. Never [`Advice::ReplaceTicket`]: there is none.
    pub fn advice(&self) -> Advice {
        match self {
            Self::CredentialRefused { .. } => Advice::Stop(StopReason::Credential),
            Self::Misconfigured { .. } => Advice::Stop(StopReason::Application),
            Self::Throttled { retry_after, .. } | Self::Unavailable { retry_after, .. } => {
                Advice::Retry { not_before: *retry_after }
            }
            // Nothing of Entra's lives at that path.
            Self::Unreadable { status: 404 | 405 | 410 | 415, .. } | Self::Redirected { .. } => {
                Advice::Stop(StopReason::Endpoint)
            }
            Self::Unreadable { .. } => Advice::RETRY,
            Self::Transport(error) => error.advice(),
        }
    }

    /// A name from a small closed set, for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::CredentialRefused { .. } => "credential_refused",
            Self::Misconfigured { .. } => "misconfigured",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable { .. } => "unavailable",
            Self::Unreadable { .. } => "unreadable",
            Self::Redirected { .. } => "redirected",
            Self::Transport(error) => error.code(),
        }
    }

    /// The HTTP status, when there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::CredentialRefused { status, .. } | Self::Misconfigured { status, .. } => Some(*status),
            Self::Throttled { status, .. } | Self::Unavailable { status, .. } => Some(*status),
            Self::Unreadable { status, .. } | Self::Redirected { status, .. } => Some(*status),
            Self::Transport(_) => None,
        }
    }

    /// Whether the credential was an assertion outside its time range: a new one, made now, earns one more try.
    pub fn is_stale_assertion(&self) -> bool {
        matches!(self, Self::CredentialRefused { aadsts: Some(700_024 | 50_012), .. })
    }
}

/// What is wrong with an answer that should hold a ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketFlaw {
    /// The body is not JSON.
    #[error("it is not JSON")]
    NotJson,
    /// No member `access_token` that is a text, or a time that is neither number nor decimal text.
    #[error("it holds no access token")]
    NoToken,
    /// `token_type` is not `Bearer`.
    #[error("the token is not a bearer token")]
    NotBearer,
    /// The access token cannot serve as a ticket.
    #[error("the access token is not one that the Store takes")]
    NotATicket(#[source] ParseTicketError),
    /// The access token's `aud` is not what was asked for.
    #[error("the access token is for another audience")]
    WrongAudience,
    /// The access token's `appid` is not the client ID that asked.
    #[error("the access token is for another client ID")]
    WrongClient,
    /// Nothing says how long the token lives.
    #[error("it does not say how long the token lives")]
    NoLifetime,
    /// An error status without an error of Entra's in the body.
    #[error("it is no error of Entra's")]
    NotEntra,
}

/// Entra's description, and its own code number where the description does not begin with that.
struct Said<'a>(Option<u32>, &'a str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, description) = *self;
        if let Some(number) = number.filter(|_| !description.starts_with("AADSTS")) {
            write!(f, " (AADSTS{number})")?;
        }
        if description.is_empty() { Ok(()) } else { write!(f, ": {description}") }
    }
}
