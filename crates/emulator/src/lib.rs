//! A faithful, deliberately awkward stand-in for Entra ID and the Microsoft Store's key services.
//!
//! [`Emulator::answer`] is the whole service as one plain function of a request and an instant: no socket, no clock, no
//! waiting. Listeners, the virtual clock, faults and the ledger are built around it. Where the real services are
//! undocumented, what is done instead is our choice and listed in `docs/reference/store.md`, with a switch
//! ([`Switches`]) for each question that protocol research left open.
//!
//! Not emulated: queries, fulfilment, grants, subscriptions and clawback. Those paths, like every unknown one, answer
//! 404 with an empty body.

pub mod faults;
pub mod judgement;
pub mod ledger;
pub mod management;
pub mod payload;
pub mod profile;
pub mod request;
pub mod server;
pub mod span;

mod assertion;
mod authority;
mod body;
mod calendar;
mod certificate;
mod client_registry;
mod connection;
mod control;
mod correlation;
mod creation;
mod data_dir;
mod der;
mod discovery;
mod emulator;
mod entra;
mod entra_error;
mod entropy;
mod exchange;
mod fault_text;
mod form;
mod http;
mod key_text;
mod known;
mod members;
mod minting;
mod rate;
mod renewal;
mod revocation;
mod saver;
mod service_error;
mod snapshot;
mod state;
mod sync;
mod ticket;
mod tls;
mod turn;

pub use client_registry::{DEV_CLIENT_ID, DEV_CLIENT_SECRET, DEV_TENANT_ID};
pub use connection::Limits;
pub use data_dir::DataDirError;
pub use emulator::Emulator;
pub use management::{AddClient, CertificateView, ControlError, FederatedCredential, MintKey, MintTicket, Revocation};
pub use profile::{
    CertificateTickets, Correlation, EmulatorOptions, ErrorShape, FormatV2Tickets, Profile, ProfileChange, RateLimit,
    Signatures, Superseded, Switches,
};
pub use request::{BODY_BYTES_MAX, Endpoint, ExchangeNote, StoreAnswer, StoreRequest, VirtualHost};
pub use server::{Running, Server, ServerOptions, StartError};
pub use snapshot::Snapshot;
pub use tls::TlsError;
