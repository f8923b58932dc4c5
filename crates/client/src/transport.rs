//! The one-method trait that sends, and how sending fails; the HTTP implementation stands behind the feature `transport`.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::{Advice, PreparedRequest, RawAnswer, StopReason};

#[cfg(feature = "transport")]
mod connections;
#[cfg(feature = "transport")]
mod connector;
#[cfg(feature = "transport")]
pub mod http;

/// Sends a prepared request and brings back the answer, whatever its status.
///
/// An implementation never follows a redirect, never sends to plain http except on the loopback interface, reads at most
/// [`RawAnswer::BYTES_MAX`] bytes, and gives up after `limit` of the operating system's time.
pub trait Transport: Send + Sync {
    /// Sends; `limit` bounds the whole exchange, from connecting to the last byte.
    fn send(&self, request: PreparedRequest, limit: Duration) -> BoxFuture<'_, Result<RawAnswer, TransportError>>;
}

impl<T: Transport + ?Sized> Transport for std::sync::Arc<T> {
    fn send(&self, request: PreparedRequest, limit: Duration) -> BoxFuture<'_, Result<RawAnswer, TransportError>> {
        (**self).send(request, limit)
    }
}

/// Why no whole answer arrived. The reasons are bounded and scrubbed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The URL is neither https nor on the loopback interface. Nothing was sent.
    #[error("a ticket goes over https, or over http to a loopback address; nothing was sent")]
    Insecure,
    /// The host's name has no address. Nothing was sent.
    #[error("the host's name could not be resolved: {reason}")]
    Dns {
        /// What the resolver said.
        reason: String,
    },
    /// No connection. Nothing was sent.
    #[error("no connection: {reason}")]
    Connect {
        /// What the operating system said.
        reason: String,
    },
    /// The other side did not prove who it is, or speaks no TLS we do. Nothing was sent.
    #[error("no trusted connection: {reason}")]
    Tls {
        /// What the verifier said.
        reason: String,
    },
    /// The time was up. The request may have been processed.
    #[error("no answer within the time-out")]
    TimedOut,
    /// The connection broke. The request may have been processed.
    #[error("the connection broke: {reason}")]
    Reset {
        /// What the operating system said.
        reason: String,
    },
    /// The answer is longer than [`RawAnswer::BYTES_MAX`].
    #[error("the answer is longer than 64 KiB")]
    TooLarge,
    /// The answer is not HTTP.
    #[error("the answer is not HTTP: {reason}")]
    Malformed {
        /// What the parser said.
        reason: String,
    },
}

impl TransportError {
    /// Everything but a URL that should never have been configured may pass by itself. That includes certificates: a
    /// wrong clock of ours makes good ones look bad.
    pub const fn advice(&self) -> Advice {
        match self {
            Self::Insecure => Advice::Stop(StopReason::Endpoint),
            _ => Advice::Retry { not_before: None },
        }
    }

    /// A name from a small closed set, for metrics and histories.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Insecure => "insecure",
            Self::Dns { .. } => "dns_failed",
            Self::Connect { .. } => "connect_failed",
            Self::Tls { .. } => "tls_failed",
            Self::TimedOut => "timed_out",
            Self::Reset { .. } => "reset",
            Self::TooLarge => "answer_too_large",
            Self::Malformed { .. } => "answer_malformed",
        }
    }
}
