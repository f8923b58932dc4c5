//! The machine: which cores parts are pinned to, and what a process has cost.

use serde::{Deserialize, Serialize};

use super::failure;
use crate::exit::CommandError;

/// The cores this process may use, in two halves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cores {
    /// For what is measured.
    pub(super) measured: Vec<usize>,
    /// For load and stub; the same as `measured` where no other is left.
    pub(super) others: Vec<usize>,
}

impl Cores {
    /// Gives the first `wanted` cores to what is measured.
    ///
    /// # Errors
    /// When the system does not say which cores there are.
    pub(super) fn split(wanted: u16) -> Result<Self, CommandError> {
        Ok(Self::of(&allowed()?, wanted.into()))
    }

    fn of(allowed: &[usize], wanted: usize) -> Self {
        let (measured, others) = allowed.split_at(wanted.clamp(1, allowed.len()));
        let others = if others.is_empty() { measured } else { others };
        Self { measured: measured.to_vec(), others: others.to_vec() }
    }

    /// Whether load and stub take time from what is measured.
    pub(super) fn are_shared(&self) -> bool {
        self.measured == self.others
    }
}

/// What a process has cost so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Usage {
    /// CPU time of all its threads, user and system.
    pub(super) cpu_micros: u64,
    /// The most memory it was resident in at any time.
    pub(super) peak_rss_bytes: u64,
}

/// The machine in one line: its processor, how many of its cores this process may use, memory and kernel.
pub(super) fn named() -> String {
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_else(|| String::from("unknown"))
    };
    let cores = allowed().map_or(0, |cores| cores.len());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (processor, memory) = (field("/proc/cpuinfo", "model name"), field("/proc/meminfo", "MemTotal"));
    format!("{processor}, {cores} cores, {memory} of memory, Linux {}", kernel.trim())
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::process::Pid;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    use rustix::time::{ClockId, clock_gettime};

    use super::{CommandError, Usage, failure};

    pub(in super::super) fn allowed() -> Result<Vec<usize>, CommandError> {
        cores_of(None).map_err(failure)
    }

    fn cores_of(process: Option<Pid>) -> rustix::io::Result<Vec<usize>> {
        let set = sched_getaffinity(process)?;
        Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
    }

    /// Whether some process of this group is pinned to exactly these cores.
    pub(in super::super) fn is_pinned(group: Pid, cores: &[usize]) -> Result<bool, CommandError> {
        let entries = std::fs::read_dir("/proc").map_err(failure)?;
        let mut processes = entries.filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?));
        // A process that has ended since is in no group. Nor is one of another namespace, whose group reads as 0.
        let group = group.as_raw_nonzero().to_string();
        let is_in_group = |process: Pid| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
            // The name in parentheses may hold anything; behind it stand state, parent and group.
            stat.rsplit_once(')').is_some_and(|(_, fields)| fields.split_whitespace().nth(2) == Some(&group))
        };
        Ok(processes.any(|process| is_in_group(process) && cores_of(Some(process)).is_ok_and(|those| those == cores)))
    }

    /// Pins the calling thread, and with it whatever it starts from here on.
    pub(in super::super) fn pin(cores: &[usize]) -> Result<(), CommandError> {
        let mut set = CpuSet::new();
        cores.iter().for_each(|core| set.set(*core));
        sched_setaffinity(None, &set).map_err(failure)
    }

    pub(in super::super) fn usage() -> Result<Usage, CommandError> {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu_micros = u64::try_from(cpu.tv_sec * 1_000_000 + cpu.tv_nsec / 1000).map_err(failure)?;
        let status = std::fs::read_to_string("/proc/self/status").map_err(failure)?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: Option<u64> = peak.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
        let kib = kib.ok_or_else(|| failure("the system does not say how much memory was used"))?;
        Ok(Usage { cpu_micros, peak_rss_bytes: kib * 1024 })
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{CommandError, Usage, failure};

    pub(in super::super) fn allowed() -> Result<Vec<usize>, CommandError> {
        Err(unsupported())
    }

    pub(in super::super) fn pin(_: &[usize]) -> Result<(), CommandError> {
        Err(unsupported())
    }

    pub(in super::super) fn usage() -> Result<Usage, CommandError> {
        Err(unsupported())
    }

    pub(in super::super) fn is_pinned(_: rustix::process::Pid, _: &[usize]) -> Result<bool, CommandError> {
        Err(unsupported())
    }

    fn unsupported() -> CommandError {
        failure("benches pin processes to cores and read /proc, so they need Linux")
    }
}

use system::allowed;
pub(super) use system::{is_pinned, pin, usage};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_gets_its_cores_and_the_load_the_others() {
        let check = |allowed: &[usize], wanted, measured: &[usize], others: &[usize]| {
            let cores = Cores { measured: measured.to_vec(), others: others.to_vec() };
            assert_eq!(Cores::of(allowed, wanted), cores);
        };
        check(&[0, 1], 1, &[0], &[1]);
        check(&[2, 5, 7], 2, &[2, 5], &[7]);
        check(&[3], 1, &[3], &[3]);
        check(&[0, 1], 8, &[0, 1], &[0, 1]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn work_costs_time_and_memory() {
        let before = usage().unwrap();
        let work = vec![7u8; 4 << 20];
        assert!(std::hint::black_box(work).iter().map(|byte| u64::from(*byte)).sum::<u64>() > 0);
        let after = usage().unwrap();
        assert!(after.cpu_micros > before.cpu_micros);
        assert!(after.peak_rss_bytes >= 4 << 20);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_stays_where_it_is_pinned() {
        let first = allowed().unwrap()[0];
        let seen = std::thread::spawn(move || {
            pin(&[first]).unwrap();
            allowed().unwrap()
        });
        assert_eq!(seen.join().unwrap(), [first]);
    }
}
