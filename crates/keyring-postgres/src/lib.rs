//! The shared keyring: one PostgreSQL, written by several keepers in groups, each row compare-and-set.

mod apps;
pub mod catalogue;
mod commit;
mod count;
mod database;
mod due;
mod error;
mod find;
mod keyring;
mod names;
mod options;
mod page;
mod row;
mod schema;
mod settle;
mod target;
mod witness;
mod writer;

pub use keyring::PostgresKeyring;
pub use options::Options;
pub use schema::migrate;
