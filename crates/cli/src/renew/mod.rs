//! Renewal without a keeper: keys in, renewed keys out; the keeper's policy, pace and verdicts, and no state.
//!
//! A key is renewed once. A refusal earns one retry with a ticket fetched after it; what says nothing about the key is
//! tried again while there is patience. Nothing is ever called dead here: that takes refusals over a day, which only a
//! keeper sees.

mod app;
mod gate;
mod line;
mod renewer;
mod stream;
mod tickets;
mod verdict;

pub use renewer::{RenewSettings, Renewer, Which};
pub use stream::{Tally, run};
pub use verdict::{Verdict, Word};
