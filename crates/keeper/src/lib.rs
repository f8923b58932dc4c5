//! The engine that keeps every Store ID key renewed, and the shell that executes what it decides.

pub mod config;
pub mod error;
pub mod keeper;
pub mod view;

pub use config::{AppConfig, CredentialSource, FixedSecret, KeeperConfig, Limits, UserClaim};
pub use error::{Code, EnrollError, OrderError, ReadError, RenewError, TicketError};
pub use keeper::Keeper;
pub use view::*;
