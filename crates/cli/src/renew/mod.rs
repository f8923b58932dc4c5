//! Renewal without a keeper: keys in, renewed keys out; the keeper's policy, pace and verdicts, and no state.
//!
//! A key is renewed once. A refusal earns one retry with a ticket fetched after it; what says nothing about the key is
//! tried again while there is patience. Nothing is ever called dead here: that takes refusals over a day, which only a
//! keeper sees.

mod app;
mod gate;
mod input;
mod line;
mod pipe;
mod renewer;
mod rescue;
mod single;
mod stop;
mod stream;
mod tally;
mod tickets;
mod verdict;
mod writer;

pub use renewer::{RenewSettings, Renewer, Which};
pub use rescue::Rescue;
pub use single::{rescue_line, run_one};
pub use stream::{Outcome, Unwritten, run};
pub use tally::Tally;
pub use verdict::{Verdict, Word};
