//! `storekeeper bench scale`: what a larger population changes, told as one line of JSON, a table and a plot.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use storekeeper_clock::{Clock as _, SystemClock};

use super::drain::{Drain, Drained};
use super::fill::{FIRST_DUE, Fill, Filled};
use super::keep::{Keep, TellUsage};
use super::load::{Connected, Fire, Fired, Load, Shots};
use super::machine::{Cores, Usage, named};
use super::part::{Listening, Role};
use super::place::{Files, Place};
use super::plot::{Panel, plot};
use super::process::Process;
use super::scan::{Scan, Scanned};
use super::stub::Stub;
use super::{each, failure, per_second, rounded};
use crate::exit::{CommandError, Exit};
use crate::output::remark;

/// What `bench scale` is told.
#[derive(Debug, Args)]
pub struct Scale {
    /// The largest population; the first has 10,000 keys, each further one ten times as many as the one before
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(KEYS_MIN..))]
    keys_max: u64,
    /// Where keys are kept, as for the other benches
    #[arg(long, value_name = "URL")]
    keyring: Option<String>,
    /// Where the table and the plot are written
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// How many cores the measured process is pinned to; load and stub run on the others
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    cores: u16,
}

const KEYS_MIN: u64 = 10_000;
/// So many of the keys are due, at most.
const DUE_MAX: u64 = 50_000;
const DRAIN_SECONDS: u64 = 600;
const READ_MILLIS: u64 = 3000;

/// What was found at all sizes.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    bench: &'static str,
    keyring: &'static str,
    sizes: Vec<Size>,
    cores: usize,
    shared_cores: bool,
}

/// What was found at one.
#[derive(Debug, Clone, Serialize)]
struct Size {
    keys: u64,
    due_scan_ms: f64,
    first_due_scan_ms: f64,
    backlog_scan_ms: f64,
    renewals_per_second: f64,
    cpu_us_per_renewal: f64,
    read_us: f64,
    read_p99_us: f64,
    peak_rss_bytes: u64,
    disk_bytes_per_key: f64,
    start_ms: f64,
    filled_per_second: f64,
}

impl Scale {
    /// Measures size after size, each in a keyring of its own.
    pub(super) async fn run(self) -> Result<Found, CommandError> {
        let cores = Cores::split(self.cores)?;
        let tell = |error| CommandError::new(Exit::Usage, format!("{}: {error}", self.out.display()));
        std::fs::create_dir_all(&self.out).map_err(tell)?;
        let mut sizes = Vec::new();
        let mut backend = "";
        let mut keys = KEYS_MIN;
        while keys <= self.keys_max {
            remark(&format!("{keys} keys: filling"));
            let place = Place::prepare(self.keyring.as_deref()).await?;
            backend = place.files.backend();
            let size = measure(&place.files, keys, &cores).await?;
            remark(&serde_json::to_string(&size).map_err(failure)?);
            sizes.push(size);
            // What is known by now is worth having, whatever becomes of the rest.
            write(&self.out, backend, &sizes, self.keys_max).map_err(tell)?;
            keys = keys.saturating_mul(10);
        }
        let (cores, shared_cores) = (cores.measured.len(), cores.are_shared());
        Ok(Found { bench: "scale", keyring: backend, sizes, cores, shared_cores })
    }
}

async fn measure(files: &Files, keys: u64, cores: &Cores) -> Result<Size, CommandError> {
    let clock = SystemClock::new();
    let fill = Role::Fill(Fill { files: files.clone(), keys, due: keys.min(DUE_MAX) });
    let mut fill = Process::start(&fill, &cores.others)?;
    let Filled { due, first_due_by } = fill.hear()?;
    fill.end()?;
    let filled = clock.elapsed().as_micros() as u64;
    let disk = files.disk_bytes().await?;

    let scan = Role::Scan(Scan { files: files.clone(), until: first_due_by });
    let mut scan = Process::start(&scan, &cores.measured)?;
    let scanned: Scanned = scan.hear()?;
    scan.end()?;
    if scanned.found < FIRST_DUE.min(usize::try_from(due).unwrap_or(usize::MAX)) {
        return Err(failure("not everything that is due was found"));
    }
    files.bring_into_memory().await?;
    let drained = drain(files, due, cores)?;
    let (start_micros, read, usage) = read(files, keys, cores, &clock)?;
    Ok(Size {
        keys,
        due_scan_ms: millis(scanned.median_micros),
        first_due_scan_ms: millis(scanned.first_micros),
        backlog_scan_ms: millis(scanned.backlog_median_micros),
        renewals_per_second: per_second(drained.renewed, drained.micros),
        cpu_us_per_renewal: each(drained.cpu_micros, drained.renewed),
        read_us: rounded(read.answered_within.0, 1),
        read_p99_us: rounded(read.answered_within.1, 1),
        peak_rss_bytes: usage.peak_rss_bytes.max(drained.peak_rss_bytes),
        disk_bytes_per_key: rounded(disk as f64 / keys as f64, 1),
        start_ms: millis(start_micros),
        filled_per_second: per_second(keys, filled),
    })
}

/// How long a keeper takes from its first instruction to its first answer, and how long each of its answers to one caller
/// takes. Nothing is due any more: a keeper whose upstream is away would note failures.
fn read(files: &Files, keys: u64, cores: &Cores, clock: &SystemClock) -> Result<(u64, Fired, Usage), CommandError> {
    let token = super::token();
    let began = clock.elapsed();
    let keep = Role::Keep(Keep { files: files.clone(), token: token.clone() });
    let mut keeper = Process::start(&keep, &cores.measured)?;
    let Listening { address } = keeper.hear()?;
    let start_micros = (clock.elapsed() - began).as_micros() as u64;
    let (shots, awake) = (Shots::Read { token, keys }, !cores.are_shared());
    let mut load = Process::start(&Role::Load(Load { address, connections: 1, shots, awake }), &cores.others)?;
    let Connected = load.hear()?;
    let fire = Fire { millis: READ_MILLIS, items_max: u64::MAX };
    let _warm_up: Fired = load.ask(&fire)?;
    let fired: Fired = load.ask(&fire)?;
    let usage: Usage = keeper.ask(&TellUsage)?;
    load.end()?;
    keeper.end()?;
    Ok((start_micros, fired, usage))
}

fn drain(files: &Files, due: u64, cores: &Cores) -> Result<Drained, CommandError> {
    let mut stub = Process::start(&Role::Stub(Stub { awake: !cores.are_shared() }), &cores.others)?;
    let Listening { address: upstream } = stub.hear()?;
    let drain = Role::Drain(Drain { files: files.clone(), upstream, due, seconds: DRAIN_SECONDS });
    let mut drain = Process::start(&drain, &cores.measured)?;
    let drained: Drained = drain.hear()?;
    drain.end()?;
    if drained.renewed < due { Err(failure("not everything was renewed within the time")) } else { Ok(drained) }
}

fn millis(micros: u64) -> f64 {
    rounded(micros as f64 / 1000.0, 2)
}

fn write(out: &Path, backend: &str, sizes: &[Size], keys_max: u64) -> std::io::Result<()> {
    std::fs::write(out.join("scale.md"), table(backend, sizes, keys_max))?;
    let panel = |title, value: fn(&Size) -> f64| Panel { title, values: sizes.iter().map(value).collect() };
    let panels = [
        panel("1,024 due keys found, ms", |size| size.due_scan_ms),
        panel("renewals per second", |size| size.renewals_per_second),
        panel("a read, us (half of them)", |size| size.read_us),
        panel("resident memory at its peak, MiB", |size| size.peak_rss_bytes as f64 / 1_048_576.0),
        panel("disk for each key, bytes", |size| size.disk_bytes_per_key),
        panel("start, ms", |size| size.start_ms),
    ];
    let keys: Vec<u64> = sizes.iter().map(|size| size.keys).collect();
    std::fs::write(out.join("scale.svg"), plot(&keys, &panels))
}

fn table(backend: &str, sizes: &[Size], keys_max: u64) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(
        "storekeeper {version} on {backend}, `storekeeper bench scale --keys-max {keys_max}`; {}.\n\n\
         | keys | 1,024 due found, ms (first time) | 1,024 of all due, ms | renewals/s | CPU us each | read, us (p99) | memory, MiB | disk, bytes/key | start, ms | filled/s |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
        named()
    );
    for size in sizes {
        let memory = size.peak_rss_bytes >> 20;
        let Size { keys, due_scan_ms, first_due_scan_ms, backlog_scan_ms, renewals_per_second, .. } = size;
        let Size { cpu_us_per_renewal, read_us, read_p99_us, disk_bytes_per_key, start_ms, filled_per_second, .. } =
            size;
        // Writing to text cannot fail.
        let _ = writeln!(
            text,
            "| {keys} | {due_scan_ms} ({first_due_scan_ms}) | {backlog_scan_ms} | {renewals_per_second:.0} | {cpu_us_per_renewal} | {read_us} ({read_p99_us}) | {memory} | {disk_bytes_per_key:.0} | {start_ms} | {filled_per_second:.0} |"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_is_a_row_and_a_point() {
        let size = |keys| Size {
            keys,
            due_scan_ms: 1.5,
            first_due_scan_ms: 4.0,
            backlog_scan_ms: 2.5,
            renewals_per_second: 12_345.6,
            cpu_us_per_renewal: 60.1,
            read_us: 45.0,
            read_p99_us: 90.0,
            peak_rss_bytes: 100 << 20,
            disk_bytes_per_key: 899.6,
            start_ms: 12.0,
            filled_per_second: 20_000.0,
        };
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "SQLite", &[size(10_000), size(100_000)], 100_000).unwrap();
        let table = std::fs::read_to_string(dir.path().join("scale.md")).unwrap();
        assert!(
            table.contains("| 100000 | 1.5 (4) | 2.5 | 12346 | 60.1 | 45 (90) | 100 | 900 | 12 | 20000 |"),
            "{table}"
        );
        let svg = std::fs::read_to_string(dir.path().join("scale.svg")).unwrap();
        assert_eq!((svg.matches("<circle").count(), svg.matches("<polyline").count()), (12, 6), "{svg}");
    }
}
