//! A year in seconds: the keeper's engine, the emulator's verdicts and the memory keyring in one plain loop under one seed.
//!
//! A [`Scenario`] is a list of operations (outages, false refusals, revocations, clock jumps, restarts …) generated from
//! a seed. [`run`] plays it and checks after every step that no avoidable lapse, no wrong condemnation and no lost key
//! occurred; a failing scenario is made smaller by [`shrink`] and printed with its seed.

mod arrival;
pub mod check;
mod clock;
pub mod generate;
pub mod op;
pub mod store;
pub mod world;

pub use check::{Failure, Report};
pub use generate::{Plan, generate};
pub use op::{Op, Scenario, Step};
pub use world::run;

/// Leaves out operations that a failure does not need, and returns the smallest scenario found that still fails.
pub fn shrink(scenario: &Scenario) -> Option<(Scenario, Failure)> {
    let mut smallest = scenario.clone();
    let mut failure = run(&smallest).err()?;
    let mut chunk = smallest.steps.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < smallest.steps.len() {
            let mut candidate = smallest.clone();
            candidate.steps.drain(at..(at + chunk).min(candidate.steps.len()));
            match run(&candidate) {
                Err(same) if same.kind == failure.kind => (smallest, failure) = (candidate, same),
                _ => at += chunk,
            }
        }
        chunk /= 2;
    }
    Some((smallest, failure))
}
