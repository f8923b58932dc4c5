//! The decisions of storekeeper as plain functions of (record, now): when a key is renewed, tried again or condemned,
//! and how hard the Store is asked.
//!
//! Nothing here waits, performs I/O, holds a clock or draws a random number: `now` and `jitter` are arguments. The crate
//! compiles alone and without the standard library, which is the proof. Every decision survives a clock that is set in
//! either direction: an instant that cannot be true leads to the harmless side, never to a condemned key.

#![no_std]

extern crate alloc;

pub mod backoff;
pub mod breaker;
pub mod condemnation_cap;
pub mod guard;
pub mod lifecycle;
pub mod pace;
pub mod renewal_policy;
pub mod skew;
mod span;
pub mod spread;
pub mod ticket;
pub mod verdict;
pub mod window;

pub use backoff::{BACKOFF_MAX, after_bad_request, after_failure, after_refusal, is_believable};
pub use breaker::Breaker;
pub use condemnation_cap::CondemnationCap;
pub use guard::{Guard, GuardCounts};
pub use lifecycle::{Enrollment, HeldKey, NewKey, Newcomer, Standing, enroll, standing};
pub use pace::Pace;
pub use renewal_policy::{PolicyError, RenewalPolicy};
pub use skew::{SKEW_MAX, is_skewed};
pub use spread::offset_share;
pub use ticket::TicketTimes;
pub use verdict::{Evidence, Reason, Refusals, Verdict, count_refusal, judge};
pub use window::{deadline_at, is_retained, renew_at};
