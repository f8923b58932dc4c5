//! `storekeeper bench renew`: how fast a keeper renews a population that is due, durably, and what it takes for that.

use clap::Args;
use serde::Serialize;

use super::against::Comparison;
use super::drain::{Drain, Drained};
use super::fill::{Fill, Filled};
use super::machine::Cores;
use super::part::{Listening, Role};
use super::place::Place;
use super::process::Process;
use super::stub::Stub;
use super::{Common, each, failure, per_second, ratio};
use crate::exit::CommandError;

/// What `bench renew` is told.
#[derive(Debug, Args)]
pub struct Renew {
    #[command(flatten)]
    common: Common,
}

const KEYS: u64 = 100_000;
const SECONDS: u64 = 600;

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    bench: &'static str,
    renewals_per_second: f64,
    cpu_us_per_renewal: f64,
    peak_rss_bytes: u64,
    keys: u64,
    renewed: u64,
    failed: u64,
    renewals_per_commit: f64,
    seconds: f64,
    cores: usize,
    shared_cores: bool,
}

impl Renew {
    /// What another build is compared in.
    pub(super) fn comparison(&self) -> Comparison<'_> {
        Comparison {
            verb: "renew",
            cpu_member: "cpu_us_per_renewal",
            common: &self.common,
            keys: KEYS,
            seconds: SECONDS,
            flags: &[],
        }
    }

    /// Fills, drains, tells.
    pub(super) async fn run(self) -> Result<Found, CommandError> {
        let cores = Cores::split(self.common.cores)?;
        let place = Place::prepare(self.common.keyring.as_deref()).await?;
        let keys = self.common.keys.unwrap_or(KEYS);
        let fill = Role::Fill(Fill { files: place.files.clone(), keys, due: keys });
        let mut fill = Process::start(&fill, &cores.others)?;
        let Filled { due, .. } = fill.hear()?;
        fill.end()?;
        let mut stub = Process::start(&Role::Stub(Stub { awake: !cores.are_shared() }), &cores.others)?;
        let Listening { address: upstream } = stub.hear()?;
        let seconds = self.common.seconds.unwrap_or(SECONDS);
        let drain = Role::Drain(Drain { files: place.files.clone(), upstream, due, seconds });
        let mut drain = Process::start(&drain, &cores.measured)?;
        let drained: Drained = drain.hear()?;
        drain.end()?;
        if drained.renewed == 0 {
            return Err(failure("nothing was renewed within the time"));
        }
        Ok(Found::new(&drained, keys, &cores))
    }
}

impl Found {
    fn new(drained: &Drained, keys: u64, cores: &Cores) -> Self {
        Self {
            bench: "renew",
            renewals_per_second: per_second(drained.renewed, drained.micros),
            cpu_us_per_renewal: each(drained.cpu_micros, drained.renewed),
            peak_rss_bytes: drained.peak_rss_bytes,
            keys,
            renewed: drained.renewed,
            failed: drained.failed,
            renewals_per_commit: ratio(drained.renewed as f64, drained.commits as f64),
            seconds: drained.micros as f64 / 1e6,
            cores: cores.measured.len(),
            shared_cores: cores.are_shared(),
        }
    }
}
