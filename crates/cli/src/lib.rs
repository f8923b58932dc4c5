//! storekeeper keeps Microsoft Store ID keys renewed, and emulates the Store for tests: everything behind the command.
//!
//! The only crate that reads files, the environment and the command line, and that prints.

pub mod config;
