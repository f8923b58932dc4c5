//! The clock, shown and moved by the control port.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use storekeeper_clock::{Clock, VirtualClock};
use storekeeper_model::Timestamp;

use super::action::{json, parse, save};
use super::problem::{Code, Problem};
use crate::exchange::Hosts;
use crate::saver::Saver;
use crate::span::Span;

/// The fastest a clock runs, in virtual seconds per real second: about three years.
const RATE_MAX: f64 = 1e8;
/// Where time ends: beyond it dates need more than four digits.
const END_OF_TIME: Timestamp = Timestamp::from_seconds(253_370_764_800);

/// What the clock shows.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClockDocument {
    pub(super) now: Timestamp,
    pub(super) rate: f64,
}

impl ClockDocument {
    pub(super) fn of(clock: &VirtualClock) -> Self {
        let state = clock.state();
        Self { now: state.now, rate: state.rate }
    }

    /// What a clock can be set to.
    pub(super) fn check(self) -> Result<Self, Problem> {
        check_instant(self.now)?;
        check_rate(self.rate)?;
        Ok(self)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ClockMove {
    Advance(Span),
    Set(Timestamp),
    Rate(f64),
    Freeze(bool),
}

/// Moves the clock, and answers when everything that fell due on the way is done. The move goes on when the caller
/// hangs up.
pub(super) async fn move_clock(hosts: &Arc<Hosts>, saver: &Arc<Saver>, body: &[u8]) -> Result<Vec<u8>, Problem> {
    let clock = &hosts.clock;
    let stuck = match parse::<ClockMove>(body)? {
        ClockMove::Advance(span) => advance(clock, span.get()).await.err(),
        ClockMove::Set(at) => {
            clock.set(check_instant(at)?);
            None
        }
        ClockMove::Rate(0.0) => {
            return Err(Problem::invalid("a rate is above 0; freeze stops the clock"));
        }
        ClockMove::Rate(rate) => {
            clock.set_rate(check_rate(rate)?);
            None
        }
        ClockMove::Freeze(true) => {
            clock.freeze();
            None
        }
        ClockMove::Freeze(false) => return Err(Problem::invalid("a rate ends a freeze")),
    };
    let saver = Arc::clone(saver);
    let saved = tokio::task::spawn_blocking(move || save(&saver)).await;
    saved.unwrap_or_else(|_| Err(Problem::new(Code::Internal, "the emulator failed")))?;
    stuck.map_or_else(|| json(&ClockDocument::of(clock)), Err)
}

async fn advance(clock: &VirtualClock, span: Duration) -> Result<(), Problem> {
    check_instant(clock.now() + span)?;
    let clock = clock.clone();
    let advanced = tokio::spawn(async move { clock.advance(span).await }).await;
    match advanced {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(stuck)) => Err(Problem::new(Code::ClockStuck, stuck.to_string())),
        Err(_) => Err(Problem::new(Code::Internal, "the advance failed")),
    }
}

fn check_instant(at: Timestamp) -> Result<Timestamp, Problem> {
    if (Timestamp::EPOCH..END_OF_TIME).contains(&at) {
        return Ok(at);
    }
    Err(Problem::invalid(format!("the clock shows instants from {} to {END_OF_TIME}", Timestamp::EPOCH)))
}

fn check_rate(rate: f64) -> Result<f64, Problem> {
    if (0.0..=RATE_MAX).contains(&rate) {
        return Ok(rate);
    }
    Err(Problem::invalid(format!("a rate is above 0 and at most {RATE_MAX}")))
}
