//! `storekeeper bench read`: how many live keys a keeper hands out, beside what a bare server answers.

use clap::Args;
use serde::Serialize;

use super::against::Comparison;
use super::bare::Bare;
use super::fill::{Fill, Filled};
use super::keep::{Keep, TellUsage};
use super::load::{Connected, Fire, Fired, Load, Shots};
use super::machine::{Cores, Usage};
use super::part::{Listening, Role};
use super::place::Place;
use super::process::Process;
use super::{Common, each, failure, per_second, ratio};
use crate::exit::CommandError;

/// What `bench read` is told.
#[derive(Debug, Args)]
pub struct Read {
    #[command(flatten)]
    common: Common,
}

const KEYS: u64 = 100_000;
const SECONDS: u64 = 10;
const CONNECTIONS: usize = 32;
/// How long each side has its turn.
const TURN_MILLIS: u64 = 500;
/// Before anything is counted every key is read once, as in any hour of a real keeper; at most so many are.
const WARM_UP_MAX: u64 = 200_000;
const WARM_UP_MILLIS: u64 = 30_000;

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    bench: &'static str,
    reads_per_second: f64,
    bare_per_second: f64,
    ratio: f64,
    cpu_us_per_read: f64,
    bare_cpu_us: f64,
    peak_rss_bytes: u64,
    body_bytes: usize,
    keys: u64,
    read: u64,
    cores: usize,
    shared_cores: bool,
}

/// A server and those who ask it.
struct Side {
    server: Process,
    load: Process,
    answered: u64,
    micros: u64,
    cpu_micros: u64,
    last: Option<(Fired, Usage)>,
}

impl Read {
    /// What another build is compared in.
    pub(super) fn comparison(&self) -> Comparison<'_> {
        Comparison {
            verb: "read",
            cpu_member: "cpu_us_per_read",
            common: &self.common,
            keys: KEYS,
            seconds: SECONDS,
            flags: &[],
        }
    }

    /// Lets both servers take turns until the time is up.
    pub(super) async fn run(self) -> Result<Found, CommandError> {
        let cores = Cores::split(self.common.cores)?;
        let place = Place::prepare(self.common.keyring.as_deref()).await?;
        let keys = self.common.keys.unwrap_or(KEYS);
        let fill = Role::Fill(Fill { files: place.files.clone(), keys, due: 0 });
        let mut fill = Process::start(&fill, &cores.others)?;
        let Filled { .. } = fill.hear()?;
        fill.end()?;
        let token = super::token();
        let keep = Role::Keep(Keep { files: place.files.clone(), token: token.clone() });
        let shots = || Shots::Read { token: token.clone(), keys };
        let mut keeper = Side::start(&keep, shots(), &cores)?;
        let (first, _) = keeper.warm_up(keys)?;
        let bare = Role::Bare(Bare { bytes: first.body_bytes });
        let mut bare = Side::start(&bare, shots(), &cores)?;
        bare.warm_up(keys)?;
        let turn = Fire { millis: TURN_MILLIS, items_max: u64::MAX };
        let turns = (self.common.seconds.unwrap_or(SECONDS) * 1000).div_ceil(2 * TURN_MILLIS);
        for _ in 0..turns {
            keeper.take_turn(&turn)?;
            bare.take_turn(&turn)?;
        }
        let found = Found::new(&keeper, &bare, keys, &cores)?;
        keeper.end()?;
        bare.end()?;
        Ok(found)
    }
}

impl Side {
    fn start(role: &Role, shots: Shots, cores: &Cores) -> Result<Self, CommandError> {
        let mut server = Process::start(role, &cores.measured)?;
        let Listening { address } = server.hear()?;
        let load = Role::Load(Load { address, connections: CONNECTIONS, shots, awake: !cores.are_shared() });
        let mut load = Process::start(&load, &cores.others)?;
        let Connected = load.hear()?;
        Ok(Self { server, load, answered: 0, micros: 0, cpu_micros: 0, last: None })
    }

    /// A turn that is not counted.
    fn warm_up(&mut self, keys: u64) -> Result<(Fired, Usage), CommandError> {
        self.take_turn(&Fire { millis: WARM_UP_MILLIS, items_max: keys.min(WARM_UP_MAX) })?;
        (self.answered, self.micros, self.cpu_micros) = (0, 0, 0);
        self.last.ok_or_else(|| failure("the first turn left nothing"))
    }

    fn take_turn(&mut self, turn: &Fire) -> Result<(), CommandError> {
        let before: Usage = self.server.ask(&TellUsage)?;
        let fired: Fired = self.load.ask(turn)?;
        let after: Usage = self.server.ask(&TellUsage)?;
        self.answered += fired.items;
        self.micros += fired.micros;
        self.cpu_micros += after.cpu_micros - before.cpu_micros;
        self.last = Some((fired, after));
        Ok(())
    }

    fn per_second(&self) -> f64 {
        per_second(self.answered, self.micros)
    }

    fn end(self) -> Result<(), CommandError> {
        self.load.end()?;
        self.server.end()
    }
}

impl Found {
    fn new(keeper: &Side, bare: &Side, keys: u64, cores: &Cores) -> Result<Self, CommandError> {
        let (fired, usage) = keeper.last.ok_or_else(|| failure("nothing was read"))?;
        Ok(Self {
            bench: "read",
            reads_per_second: keeper.per_second(),
            bare_per_second: bare.per_second(),
            ratio: ratio(keeper.per_second(), bare.per_second()),
            cpu_us_per_read: each(keeper.cpu_micros, keeper.answered),
            bare_cpu_us: each(bare.cpu_micros, bare.answered),
            peak_rss_bytes: usage.peak_rss_bytes,
            body_bytes: fired.body_bytes,
            keys,
            read: keeper.answered,
            cores: cores.measured.len(),
            shared_cores: cores.are_shared(),
        })
    }
}
