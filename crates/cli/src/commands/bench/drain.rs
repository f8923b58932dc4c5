//! The measured half of `bench renew`: a keeper that renews everything that is due, and what that cost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use storekeeper_clock::{Clock, SystemClock};
use tokio::sync::watch;

use super::counting::{Counting, Tally};
use super::machine::{Usage, usage};
use super::part::Orders;
use super::place::Files;
use super::{failure, keep, report};
use crate::exit::{CommandError, CommandResult};

/// What to drain.
#[derive(Serialize, Deserialize)]
pub(super) struct Drain {
    /// The keyring.
    pub(super) files: Files,
    /// Who renews.
    pub(super) upstream: SocketAddr,
    /// How many keys are due.
    pub(super) due: u64,
    /// How long it may take.
    pub(super) seconds: u64,
}

/// What was drained.
#[derive(Serialize, Deserialize)]
pub(super) struct Drained {
    /// Renewals that became durable.
    pub(super) renewed: u64,
    /// Outcomes without a successor.
    pub(super) failed: u64,
    /// Commits in which they became durable.
    pub(super) commits: u64,
    /// From the start of the keeper to the last of them.
    pub(super) micros: u64,
    /// CPU time in that span.
    pub(super) cpu_micros: u64,
    /// Of the whole process.
    pub(super) peak_rss_bytes: u64,
}

impl Drain {
    /// Drains and tells.
    pub(super) async fn run(self, mut orders: Orders) -> CommandResult {
        tokio::select! {
            drained = self.drain() => report(&drained?),
            () = orders.end() => Err(failure("nobody waits for the answer any more")),
        }
    }

    async fn drain(&self) -> Result<Drained, CommandError> {
        let keyring = self.files.open().await?;
        let (keyring, mut tally) = Counting::new(keyring);
        let clock = Arc::new(SystemClock::new());
        let Usage { cpu_micros: cpu_before, .. } = usage()?;
        let began = clock.elapsed();
        let keeper = keep::start(Arc::new(keyring), &self.files, self.upstream, Arc::clone(&clock) as _).await?;
        let end = clock.sleep_until(clock.now() + Duration::from_secs(self.seconds));
        let Tally { renewed, failed, commits } = tokio::select! {
            tally = until_done(&mut tally, self.due) => tally?,
            _ = end => *tally.borrow(),
        };
        let micros = (clock.elapsed() - began).as_micros() as u64;
        let Usage { cpu_micros, peak_rss_bytes } = usage()?;
        keeper.shutdown().await;
        Ok(Drained { renewed, failed, commits, micros, cpu_micros: cpu_micros - cpu_before, peak_rss_bytes })
    }
}

async fn until_done(tally: &mut watch::Receiver<Tally>, due: u64) -> Result<Tally, CommandError> {
    tally.wait_for(|tally| tally.renewed >= due).await.map(|tally| *tally).map_err(failure)
}
