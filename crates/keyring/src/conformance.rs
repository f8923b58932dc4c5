//! The suite every backend passes, and made-up keys to run it with.

mod made_up;

pub use made_up::Shape;
