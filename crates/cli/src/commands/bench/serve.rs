//! `storekeeper bench serve`: how many renewals the emulator answers, beside how often RSA can sign at all.

use clap::Args;
use serde::Serialize;

use super::against::Comparison;
use super::emulate::{Emulate, Minted, Order, Signed};
use super::load::{Connected, Fire, Fired, Load, Shots};
use super::machine::{Cores, Usage};
use super::part::Role;
use super::process::Process;
use super::{Common, each, per_second, ratio};
use crate::exit::CommandError;

/// What `bench serve` is told.
#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    common: Common,
}

const KEYS: u64 = 2000;
const SECONDS: u64 = 10;
const CONNECTIONS: usize = 32;
/// How long each side has its turn.
const TURN_MILLIS: u64 = 500;

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    bench: &'static str,
    renewals_per_second: f64,
    rsa_signs_per_second: f64,
    ratio: f64,
    cpu_us_per_renewal: f64,
    peak_rss_bytes: u64,
    keys: u64,
    renewed: u64,
    cores: usize,
    shared_cores: bool,
}

/// Both sides' sums.
#[derive(Default)]
struct Sums {
    renewed: u64,
    renewing_micros: u64,
    cpu_micros: u64,
    signs: u64,
    signing_micros: u64,
    peak_rss_bytes: u64,
}

impl Serve {
    /// What another build is compared in.
    pub(super) fn comparison(&self) -> Comparison<'_> {
        Comparison {
            verb: "serve",
            cpu_member: "cpu_us_per_renewal",
            common: &self.common,
            keys: KEYS,
            seconds: SECONDS,
            flags: &[],
        }
    }

    /// Lets both sides take turns until the time is up.
    pub(super) fn run(self) -> Result<Found, CommandError> {
        let cores = Cores::split(self.common.cores)?;
        let keys = self.common.keys.unwrap_or(KEYS);
        let emulate = Role::Emulate(Emulate { keys, cores: cores.measured.len() });
        let mut store = Process::start(&emulate, &cores.measured)?;
        let Minted { address, ticket, keys: minted } = store.hear()?;
        let shots = Shots::Renew { ticket, keys: minted };
        let load = Role::Load(Load { address, connections: CONNECTIONS, shots, awake: !cores.are_shared() });
        let mut load = Process::start(&load, &cores.others)?;
        let Connected = load.hear()?;
        // The first turn warms up: it is not counted.
        take_turns(&mut store, &mut load, &mut Sums::default())?;
        let mut sums = Sums::default();
        let turns = (self.common.seconds.unwrap_or(SECONDS) * 1000).div_ceil(2 * TURN_MILLIS);
        for _ in 0..turns {
            take_turns(&mut store, &mut load, &mut sums)?;
        }
        load.end()?;
        store.end()?;
        Ok(Found::new(&sums, keys, &cores))
    }
}

fn take_turns(store: &mut Process, load: &mut Process, sums: &mut Sums) -> Result<(), CommandError> {
    let before: Usage = store.ask(&Order::Usage)?;
    let fired: Fired = load.ask(&Fire { millis: TURN_MILLIS, items_max: u64::MAX })?;
    let after: Usage = store.ask(&Order::Usage)?;
    let signed: Signed = store.ask(&Order::Sign(TURN_MILLIS))?;
    sums.renewed += fired.items;
    sums.renewing_micros += fired.micros;
    sums.cpu_micros += after.cpu_micros - before.cpu_micros;
    sums.signs += signed.signs;
    sums.signing_micros += signed.micros;
    sums.peak_rss_bytes = after.peak_rss_bytes;
    Ok(())
}

impl Found {
    fn new(sums: &Sums, keys: u64, cores: &Cores) -> Self {
        let renewals = per_second(sums.renewed, sums.renewing_micros);
        let signs = per_second(sums.signs, sums.signing_micros);
        Self {
            bench: "serve",
            renewals_per_second: renewals,
            rsa_signs_per_second: signs,
            ratio: ratio(renewals, signs),
            cpu_us_per_renewal: each(sums.cpu_micros, sums.renewed),
            peak_rss_bytes: sums.peak_rss_bytes,
            keys,
            renewed: sums.renewed,
            cores: cores.measured.len(),
            shared_cores: cores.are_shared(),
        }
    }
}
