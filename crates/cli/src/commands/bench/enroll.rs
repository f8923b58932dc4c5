//! `storekeeper bench enroll`: how many new keys a keeper takes in over HTTP, each durable before it is acknowledged.

use clap::Args;
use serde::Serialize;

use super::against::Comparison;
use super::keep::{Keep, TellUsage};
use super::load::{Connected, Fire, Fired, Load, Shots};
use super::machine::{Cores, Usage};
use super::part::{Listening, Role};
use super::place::Place;
use super::process::Process;
use super::{Common, each, per_second};
use crate::exit::CommandError;

/// What `bench enroll` is told.
#[derive(Debug, Args)]
pub struct Enroll {
    /// One `PUT` for each key, from 64 callers at once
    #[arg(long)]
    single: bool,
    #[command(flatten)]
    common: Common,
}

const KEYS: u64 = 100_000;
const KEYS_SINGLE: u64 = 20_000;
const SECONDS: u64 = 60;
const CALLERS_SINGLE: usize = 64;
const CALLERS_BATCH: usize = 8;
const LINES_PER_BATCH: u64 = 1000;

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    bench: &'static str,
    enrolled_per_second: f64,
    single: bool,
    cpu_us_per_key: f64,
    peak_rss_bytes: u64,
    keys: u64,
    seconds: f64,
    cores: usize,
    shared_cores: bool,
}

impl Enroll {
    /// What another build is compared in.
    pub(super) fn comparison(&self) -> Comparison<'_> {
        let keys = if self.single { KEYS_SINGLE } else { KEYS };
        let flags: &[_] = if self.single { &["--single"] } else { &[] };
        Comparison { verb: "enroll", cpu_member: "cpu_us_per_key", common: &self.common, keys, seconds: SECONDS, flags }
    }

    /// Enrolls into an empty keyring.
    pub(super) async fn run(self) -> Result<Found, CommandError> {
        let cores = Cores::split(self.common.cores)?;
        let place = Place::prepare(self.common.keyring.as_deref()).await?;
        let token = super::token();
        let keep = Role::Keep(Keep { files: place.files.clone(), token: token.clone() });
        let mut keeper = Process::start(&keep, &cores.measured)?;
        let Listening { address } = keeper.hear()?;
        let (connections, per_request, keys) =
            if self.single { (CALLERS_SINGLE, 1, KEYS_SINGLE) } else { (CALLERS_BATCH, LINES_PER_BATCH, KEYS) };
        let shots = Shots::Enroll { token, per_request, maker: Default::default() };
        let mut load = Process::start(
            &Role::Load(Load { address, connections, shots, awake: !cores.are_shared() }),
            &cores.others,
        )?;
        let Connected = load.hear()?;
        let before: Usage = keeper.ask(&TellUsage)?;
        let millis = self.common.seconds.unwrap_or(SECONDS) * 1000;
        let fired: Fired = load.ask(&Fire { millis, items_max: self.common.keys.unwrap_or(keys) })?;
        let after: Usage = keeper.ask(&TellUsage)?;
        load.end()?;
        keeper.end()?;
        Ok(Found {
            bench: "enroll",
            enrolled_per_second: per_second(fired.items, fired.micros),
            single: self.single,
            cpu_us_per_key: each(after.cpu_micros - before.cpu_micros, fired.items),
            peak_rss_bytes: after.peak_rss_bytes,
            keys: fired.items,
            seconds: fired.micros as f64 / 1e6,
            cores: cores.measured.len(),
            shared_cores: cores.are_shared(),
        })
    }
}
