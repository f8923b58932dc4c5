//! `bench VERB --against BINARY`: this build and another one, interleaved on the same core, and the ratio of their CPU time.
//!
//! A round runs the bench of both builds as processes. Only one of them runs at any time: the process group of the other
//! is stopped, and the two change places every few milliseconds. Whatever the machine does meanwhile (frequency, noisy
//! neighbours, cache pressure) concerns both alike, and each still runs as it does alone. The other build is a black box:
//! it prints what its measured process has cost, as every version of the bench does.

use std::ffi::OsString;
use std::io::{ErrorKind, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use serde_json::{Map, Value};
use storekeeper_clock::{Clock as _, SystemClock};
use tempfile::TempDir;

use super::machine::{Cores, is_pinned};
use super::{Common, failure, rounded};
use crate::exit::{CommandError, Exit};
use crate::output::remark;

/// How long one build runs before the other has its turn.
const SLICE: Duration = Duration::from_millis(25);
const ROUNDS: u32 = 7;

/// Compare this build with another one.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Another build")]
pub(super) struct Against {
    /// Run this build and BINARY, which may be of any earlier version, interleaved on the same core, and print the ratio
    /// of their CPU time: below 1 this build takes less
    #[arg(long, value_name = "BINARY")]
    against: Option<PathBuf>,
    /// Where BINARY keeps its keys, when --keyring is given [default for SQLite: the file of --keyring, with `.against`
    /// appended]
    #[arg(long, value_name = "URL", requires_all = ["against", "keyring"])]
    against_keyring: Option<String>,
    /// How many times both are run; the median of the ratios is printed
    #[arg(long, value_name = "N", default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..=99))]
    #[arg(requires = "against")]
    rounds: u32,
}

/// The bench that both builds run.
pub(super) struct Comparison<'a> {
    /// Its name.
    pub(super) verb: &'static str,
    /// The member of its JSON line that holds the CPU time of one unit of work.
    pub(super) cpu_member: &'static str,
    /// What every bench can be given.
    pub(super) common: &'a Common,
    /// How many keys where none are named. Passed on, since the default of another version may differ.
    pub(super) keys: u64,
    /// How many seconds where none are named.
    pub(super) seconds: u64,
    /// Options of this bench alone.
    pub(super) flags: &'a [&'static str],
}

/// What both benches found in the round with the median ratio.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    cpu_ratio: f64,
    cpu_ratio_min: f64,
    cpu_ratio_max: f64,
    rounds: u32,
    against: PathBuf,
    other: Map<String, Value>,
    #[serde(flatten)]
    this: Map<String, Value>,
}

/// One round.
struct Round {
    ratio: f64,
    this: Map<String, Value>,
    other: Map<String, Value>,
}

impl Against {
    /// The other build, when there is one.
    pub(super) fn binary(&self) -> Option<&Path> {
        self.against.as_deref()
    }
}

impl Comparison<'_> {
    /// Runs the rounds.
    ///
    /// # Errors
    /// A usage error when `binary` cannot be run, a failure when one of the benches fails.
    pub(super) async fn run(&self, binary: &Path) -> Result<Found, CommandError> {
        let cores = Cores::split(self.common.cores)?;
        let this = std::env::current_exe().map_err(failure)?;
        let (options, other_options) = (self.options(self.common.keyring.clone()), self.options(self.other_keyring()?));
        let rounds = self.common.against.rounds;
        let mut found = Vec::with_capacity(rounds as usize);
        for number in 1..=rounds {
            // What a build that is ended early leaves behind goes with this directory.
            let scratch = tempfile::tempdir().map_err(failure)?;
            let mut sides = [Side::prepare(&this, &options, &scratch), Side::prepare(binary, &other_options, &scratch)];
            interleave(&mut sides, number % 2 == 0, &cores).await?;
            let [(this_cpu, this), (other_cpu, other)] =
                [sides[0].found(self.cpu_member)?, sides[1].found(self.cpu_member)?];
            let ratio = this_cpu / other_cpu;
            remark(&format!("round {number} of {rounds}: {this_cpu} us of CPU against {other_cpu}, ratio {ratio:.4}"));
            found.push(Round { ratio, this, other });
        }
        Ok(Found::new(binary, found))
    }

    fn options(&self, keyring: Option<String>) -> Vec<OsString> {
        let Common { keys, seconds, cores, .. } = self.common;
        let mut options = vec![String::from("bench"), self.verb.to_owned()];
        options.extend(["--keys".to_owned(), keys.unwrap_or(self.keys).to_string()]);
        options.extend(["--seconds".to_owned(), seconds.unwrap_or(self.seconds).to_string()]);
        options.extend(["--cores".to_owned(), cores.to_string()]);
        options.extend(self.flags.iter().map(|flag| (*flag).to_owned()));
        options.extend(keyring.into_iter().flat_map(|url| ["--keyring".to_owned(), url]));
        options.into_iter().map(OsString::from).collect()
    }

    /// Both builds run at once, so they cannot share one keyring.
    fn other_keyring(&self) -> Result<Option<String>, CommandError> {
        match (&self.common.keyring, &self.common.against.against_keyring) {
            (None, _) => Ok(None),
            (_, Some(url)) => Ok(Some(url.clone())),
            (Some(url), None) if url.starts_with("sqlite:") => Ok(Some(format!("{url}.against"))),
            _ => Err(CommandError::new(
                Exit::Usage,
                "two builds need two databases: name an empty one for the other build with --against-keyring URL",
            )),
        }
    }
}

impl Found {
    fn new(binary: &Path, mut rounds: Vec<Round>) -> Self {
        rounds.sort_by(|one, other| one.ratio.total_cmp(&other.ratio));
        let count = rounds.len();
        let (upper, lower) = (count / 2, (count - 1) / 2);
        let cpu_ratio = rounded(f64::midpoint(rounds[lower].ratio, rounds[upper].ratio), 4);
        let (min, max) = (rounded(rounds[0].ratio, 4), rounded(rounds[count - 1].ratio, 4));
        let Round { this, other, .. } = rounds.swap_remove(lower);
        let against = binary.to_owned();
        Self { cpu_ratio, cpu_ratio_min: min, cpu_ratio_max: max, rounds: count as u32, against, other, this }
    }
}

/// Lets the two run in turn until both have ended.
async fn interleave(sides: &mut [Side; 2], is_swapped: bool, cores: &Cores) -> Result<(), CommandError> {
    let clock = SystemClock::new();
    let order = if is_swapped { [1, 0] } else { [0, 1] };
    while sides.iter().any(Side::is_open) {
        for at in order {
            // Preparations may take one build longer than the other. What is measured begins in both together.
            let waits = sides[at].is_measured && !sides[1 - at].is_measured && sides[1 - at].is_open();
            if waits || !sides[at].is_open() {
                continue;
            }
            sides[at].resume()?;
            drop(clock.sleep_until(clock.now() + SLICE).await);
            sides[at].pause(cores)?;
        }
    }
    Ok(())
}

/// One build in one round. It ends when this is dropped.
struct Side {
    command: Command,
    name: String,
    child: Option<Child>,
    is_measured: bool,
    printed: Option<String>,
}

impl Side {
    fn prepare(program: &Path, options: &[OsString], scratch: &TempDir) -> Self {
        let mut command = Command::new(program);
        command.args(options).env("TMPDIR", scratch.path()).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let name = program.display().to_string();
        Self { command, name, child: None, is_measured: false, printed: None }
    }

    fn is_open(&self) -> bool {
        self.printed.is_none()
    }

    /// Starts it, or lets it run on.
    fn resume(&mut self) -> Result<(), CommandError> {
        if let Some(child) = &self.child {
            return signal(child, Signal::CONT);
        }
        let child = self.command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::PermissionDenied => {
                CommandError::new(Exit::Usage, format!("--against {}: {error}", self.name))
            }
            _ => failure(format!("{}: {error}", self.name)),
        })?;
        self.child = Some(child);
        Ok(())
    }

    /// Stops it, unless it has ended.
    fn pause(&mut self, cores: &Cores) -> Result<(), CommandError> {
        let Some(child) = &mut self.child else { return Ok(()) };
        match child.try_wait().map_err(failure)? {
            None => {
                signal(child, Signal::STOP)?;
                self.is_measured = self.is_measured || is_pinned(group(child), &cores.measured)?;
            }
            Some(status) => {
                let mut printed = String::new();
                let read = child.stdout.take().map(|mut stdout| stdout.read_to_string(&mut printed));
                read.transpose().map_err(failure)?;
                if !status.success() {
                    let message = format!("the bench of {} ended with {status}; its error stands above", self.name);
                    return Err(failure(message));
                }
                self.printed = Some(printed);
            }
        }
        Ok(())
    }

    /// The JSON line, and from it what one unit of work has cost.
    fn found(&self, cpu_member: &str) -> Result<(f64, Map<String, Value>), CommandError> {
        let printed = self.printed.as_deref().unwrap_or_default();
        let line = printed.lines().last().unwrap_or_default();
        let found: Map<String, Value> = serde_json::from_str(line)
            .map_err(|error| failure(format!("{}: the last line is no JSON object: {error}", self.name)))?;
        match found.get(cpu_member).and_then(Value::as_f64).filter(|cpu| *cpu > 0.0) {
            Some(cpu) => Ok((cpu, found)),
            None => Err(failure(format!("{}: its JSON line has no `{cpu_member}`", self.name))),
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let Some(child) = self.child.as_mut().filter(|_| self.printed.is_none()) else { return };
        // Its parts are in its group and may be stopped, which no other signal would end.
        drop(signal(child, Signal::KILL));
        drop(child.wait());
    }
}

fn group(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn signal(child: &Child, signal: Signal) -> Result<(), CommandError> {
    kill_process_group(group(child), signal).map_err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(ratios: &[f64]) -> (f64, f64, f64) {
        let round = |ratio: &f64| Round { ratio: *ratio, this: Map::new(), other: Map::new() };
        let found = Found::new(Path::new("b"), ratios.iter().map(round).collect());
        (found.cpu_ratio_min, found.cpu_ratio, found.cpu_ratio_max)
    }

    #[test]
    fn the_median_of_the_rounds_is_printed() {
        assert_eq!(ratio(&[1.5]), (1.5, 1.5, 1.5));
        assert_eq!(ratio(&[1.0, 3.0]), (1.0, 2.0, 3.0));
        assert_eq!(ratio(&[1.01, 9.0, 0.5, 1.0, 1.02]), (0.5, 1.01, 9.0));
    }
}
