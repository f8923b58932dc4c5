//! The shared keyring: one PostgreSQL, written by several keepers in groups, each row compare-and-set.

mod address;
mod apps;
mod backlog;
mod broken;
pub mod catalogue;
mod commit;
mod connector;
mod count;
mod database;
mod distribution;
mod due;
mod error;
mod find;
mod finder;
mod hosts;
mod keyring;
mod lease;
mod names;
mod options;
mod page;
mod password;
mod row;
mod schema;
mod scratch;
mod settle;
mod target;
mod witness;
mod writer;

pub use address::Address;
pub use connector::connect;
pub use distribution::{distributable, distribute, distribution};
pub use keyring::PostgresKeyring;
pub use options::{LEASE_CONNECTIONS, Options};
pub use password::{NoPassword, Passwords};
pub use schema::{Migrated, grant, migrate};
pub use scratch::{scratch, scratch_bytes, scratch_read};
