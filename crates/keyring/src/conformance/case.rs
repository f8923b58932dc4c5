//! The promises, by noun; each is a function that panics where a keyring breaks it.

pub mod count;
pub mod due;
pub mod find;
pub mod lease;
pub mod other;
pub mod page;
pub mod row;
pub mod settle;
