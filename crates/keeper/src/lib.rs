//! The engine that keeps every Store ID key renewed, and the shell that executes what it decides.
//!
//! [`Keeper`] is the handle; [`engine::Engine`] the state machine behind it, which also runs alone in a plain loop.

pub mod attempt;
mod cache;
mod commits;
pub mod config;
mod elsewhere;
pub mod engine;
pub mod error;
mod events;
mod exposition;
mod fleet;
pub mod health;
mod holding;
mod import;
pub mod intake;
pub mod keeper;
mod keyring_state;
mod metrics;
mod nodes;
mod population;
mod rescue;
mod rescuer;
mod rows;
mod saver;
mod search;
mod shell;
mod shutdown;
mod start;
mod store_time;
mod survey;
mod timed;
mod transfer;
pub mod view;

pub use config::{AppConfig, CredentialSource, FixedSecret, KeeperConfig, Limits, NodeConfig, SecretError, UserClaim};
pub use error::{Code, EnrollError, HandOverError, NodeError, OrderError, ReadError, RenewError, TicketError};
pub use fleet::{LeaseTimes, Share};
pub use health::{Condition, ConditionCode, Health, Surroundings};
pub use import::{ImportFacts, ImportRequest};
pub use keeper::Keeper;
pub use nodes::{LeaseView, NodeView};
pub use rescue::{Drained, RescueFacts};
pub use search::probes;
pub use start::StartError;
pub use storekeeper_policy::Standing;
pub use transfer::{ExportCursor, ExportPage, ExportQuery, ExportedKey, HandOver, UnknownCursor};
pub use view::{
    AppStats, EnrollOutcome, EnrollRequest, Enrolled, KeyPage, KeyView, KindStats, ListQuery, LiveKey, SignedSpan,
    Stats, TicketView, Visibility,
};
