//! `storekeeper bench`: what this machine does, told beside the machine's own limit in the same run.
//!
//! Every bench runs its parts as processes of their own: what is measured is pinned to its cores, load and stub to the
//! others. All of them speak over loopback. One line of JSON is printed last.

mod against;
mod bare;
mod counting;
mod drain;
mod emulate;
mod enroll;
mod fill;
mod http;
mod keep;
mod load;
mod machine;
mod made_up;
mod part;
mod place;
mod plot;
mod process;
mod read;
mod renew;
mod scale;
mod scan;
mod serve;
mod stub;

use std::path::Path;

use clap::{Args, Subcommand};
use serde::Serialize;

use self::against::Comparison;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output;
use crate::signals::Signals;

/// Measure renewing, serving, reading or enrolling on this machine; nothing but loopback is touched.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Renew keys that are all due, against a stub of the Store; each renewal is on disk when it counts
    Renew(renew::Renew),
    /// Renew keys at the emulator, and sign with RSA on the same cores in turn
    Serve(serve::Serve),
    /// Read live keys from a keeper, and as many bytes from a bare server on the same cores in turn
    Read(read::Read),
    /// Enroll new keys in batches, or with --single one by one
    Enroll(enroll::Enroll),
    /// Grow a population tenfold time and again, and write what that changes as a table and a plot
    Scale(scale::Scale),
    /// Be one process of a bench; what it is to do is read from stdin
    #[command(hide = true)]
    Part,
}

/// What every bench can be told.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// How many keys
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keys: Option<u64>,
    /// Where keys are kept: `sqlite:PATH`, a new file, or `postgres://…`, an empty database on this machine
    /// [default: a file in a temporary directory]
    #[arg(long, value_name = "URL")]
    keyring: Option<String>,
    /// How long is measured at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// How many cores the measured process is pinned to; load and stub run on the others
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    cores: u16,
    #[command(flatten)]
    against: against::Against,
}

impl Bench {
    /// Runs the bench and prints what it found.
    pub async fn run(self) -> CommandResult {
        if let Some((comparison, binary)) = self.comparison() {
            return report(&Signals::listen()?.interrupt(comparison.run(binary)).await?);
        }
        match self {
            Self::Renew(renew) => report(&renew.run().await?),
            Self::Serve(serve) => report(&serve.run()?),
            Self::Read(read) => report(&read.run().await?),
            Self::Enroll(enroll) => report(&enroll.run().await?),
            Self::Scale(scale) => report(&scale.run().await?),
            Self::Part => part::run().await,
        }
    }

    /// Whether another build runs, which has to be ended with this one.
    pub(super) fn compares(&self) -> bool {
        self.comparison().is_some()
    }

    /// The comparison with another build, when that is asked for.
    fn comparison(&self) -> Option<(Comparison<'_>, &Path)> {
        let comparison = match self {
            Self::Renew(renew) => renew.comparison(),
            Self::Serve(serve) => serve.comparison(),
            Self::Read(read) => read.comparison(),
            Self::Enroll(enroll) => enroll.comparison(),
            Self::Scale(_) | Self::Part => return None,
        };
        let binary = comparison.common.against.binary()?;
        Some((comparison, binary))
    }
}

/// One line, also on a terminal: programs read it.
fn report(found: &impl Serialize) -> CommandResult {
    output::print(&serde_json::to_string(found).map_err(failure)?)
}

/// Something that should not happen on a machine that is well.
fn failure(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(Exit::Failure, error)
}

/// A bearer token for this run.
fn token() -> String {
    // The master key's generator: 32 random bytes as text.
    storekeeper_keyring::seal::MasterKey::generate().to_text().expose().clone()
}

/// `count` per second, over `micros`.
fn per_second(count: u64, micros: u64) -> f64 {
    rounded(count as f64 * 1e6 / micros.max(1) as f64, 1)
}

/// CPU time of each of `count`, in microseconds.
fn each(cpu_micros: u64, count: u64) -> f64 {
    rounded(cpu_micros as f64 / count.max(1) as f64, 2)
}

/// `part` as a share of `whole`.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { rounded(part / whole, 4) } else { 0.0 }
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}
