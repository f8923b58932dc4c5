//! The keeper's invariants (ARCHITECTURE.md), each held to tests named after it: a whole keeper on a clock that is moved,
//! towards a Store that does as it is told.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod any_order;
mod clocks;
mod condemnation;
mod cost;
mod destination;
mod durable;
mod fleet;
mod fleet_trouble;
mod guard;
mod handing_over;
mod lifetime;
mod newcomer;
mod once;
mod one_clock;
mod outage;
mod rescue;
mod sealed;
mod served;
mod support;
mod told;
mod transfer;
