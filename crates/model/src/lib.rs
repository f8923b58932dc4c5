//! The vocabulary of storekeeper: Store ID keys, identities, tickets, secrets and instants.
//!
//! Nothing here performs I/O or waits. A value that exists is valid: parsing happens once, at the edge, and never again.

pub mod id;
pub mod key;
pub mod secret;
pub mod ticket;
pub mod time;

pub use id::{
    AppName, Bucket, CertificateId, ClientId, Fingerprint, Identity, IdentityError, KeyId, PublisherUserId, Slot,
    UserName,
};
pub use key::{KeyKind, ParseKeyError, StoreIdKey, UnknownKind};
pub use secret::{Secret, Wipe};
pub use ticket::{Audience, ParseTicketError, ServiceTicket};
pub use time::{Lifetime, ParseSpanError, ParseTimestampError, Timestamp, format_span, parse_span};
