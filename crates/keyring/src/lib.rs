//! What keeping Store ID keys durably promises: the [`Keyring`] trait, the row it keeps, how keys are sealed in it, a
//! reference backend in memory and the suite that every backend passes.

pub mod body;
pub mod buckets;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod delegate;
pub mod error;
pub mod fold;
pub mod history;
pub mod keyring;
pub mod lease;
pub mod memory;
pub mod newcomer;
pub mod pack;
pub mod page;
pub mod record;
pub mod rescue_file;
pub mod risk;
pub mod seal;
pub mod successor;

pub use buckets::Buckets;
pub use error::KeyringError;
pub use history::{History, Outcome, OutcomeResult};
pub use keyring::{AppRow, Due, DueQuery, Keyring, Paused, Settled, WrappedRoot, Write};
pub use lease::{ClockReport, Lease, LeaseChange, Leases, Node, NodeId, Presence};
pub use memory::MemoryKeyring;
pub use page::{Count, Page, PageQuery};
pub use record::{Expected, Facets, Newcomer, Record, Refused, Revision, Sealed, SealedKey, State};
pub use rescue_file::KeyringId;
pub use risk::Risk;
pub use seal::{LoadRootsError, MasterKey, MasterKeyError, Role, Sealer, UnsealError};
pub use successor::Successor;
