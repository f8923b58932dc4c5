//! The embedded keyring: one SQLite file, written by one thread in groups, read by many.

mod apps;
mod backlog;
pub mod backup;
mod count;
mod due;
mod error;
mod find;
mod keyring;
mod lock;
mod names;
mod options;
mod page;
mod reader;
mod row;
mod schema;
mod settle;
mod shared;
mod watch;
mod whereabouts;
mod witness;
mod writer;

pub use keyring::SqliteKeyring;
pub use options::Options;
