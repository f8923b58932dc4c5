//! storekeeper keeps Microsoft Store ID keys renewed, and emulates the Store for tests: everything behind the command.
//!
//! The only crate that reads files, the environment and the command line, and that prints.

pub mod answer;
pub mod commands;
pub mod compose;
pub mod config;
pub mod descriptors;
mod entra_password;
pub mod envelope;
pub mod exit;
pub mod first_keys;
pub mod key_file;
pub mod log_writer;
pub mod logging;
pub mod output;
pub mod private;
pub mod ready;
pub mod reload;
pub mod remote;
pub mod renew;
pub mod signals;
pub mod target;
mod watch;
