//! Typed conversations with Entra ID and the Microsoft Store: service tickets and the renewal of Store ID keys.
//!
//! Each conversation is two plain functions, one that *prepares* a request and one that *interprets* the answer, and
//! neither sends anything: [`renewal::prepare`] and [`renewal::interpret`], [`entra::prepare_ticket`] and
//! [`entra::interpret_ticket`]. What sends is a [`Transport`]; the HTTP one, `HttpTransport`, stands behind the feature
//! `transport`. [`StoreClient`] ties them together for programs that just want to renew a key.
//!
//! An answer is checked before it is believed, and a conversation that failed says what to do next
//! ([`RenewError::advice`], [`TicketError::advice`]): nobody downstream looks at a status code. Text that came from
//! outside is bounded and scrubbed of anything shaped like a JWT before it is kept.

pub mod correlation;
pub mod date;
pub mod endpoint;
pub mod entra;
pub mod error;
pub mod exchange;
pub mod renewal;
pub mod retry_after;
mod scrub;
pub mod service_error;
pub mod store_client;
pub mod transport;

pub use correlation::{Correlation, CorrelationVector};
pub use date::ClockSkew;
pub use endpoint::{Endpoint, EndpointError, Endpoints};
pub use entra::{AccessToken, Credential, EntraVersion};
pub use error::{Advice, RenewError, StopReason, TicketError, TicketFlaw, UnreadableKind};
pub use exchange::{PreparedRequest, RawAnswer, RequestBody};
pub use renewal::{RenewalAnswer, RenewalCall};
pub use retry_after::RetryAfter;
pub use service_error::Cause;
pub use store_client::StoreClient;
#[cfg(feature = "transport")]
pub use transport::http::{HttpOptions, HttpTransport, SetupError};
pub use transport::{Transport, TransportError};
