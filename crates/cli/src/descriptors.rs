//! How many files and sockets this process may have open, and how many it has.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use storekeeper_keeper::{Condition, ConditionCode};

/// Raises the soft limit to the hard one: the usual soft limit of 1,024 is for programs that use `select`. A process that
/// may not do that goes on with what it has.
pub fn raise() {
    let limits = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, maximum: limits.maximum });
}

/// How many descriptors the process may have open.
pub fn limit() -> usize {
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(current).unwrap_or(usize::MAX)
}

/// How many are open; an error where not even that can be found out.
fn open() -> io::Result<usize> {
    // One is for the folder itself.
    Ok(std::fs::read_dir("/proc/self/fd")?.count().saturating_sub(1))
}

/// What an operator has to know when nearly all descriptors are in use.
pub fn condition() -> Option<Condition> {
    short(open(), limit())
}

fn short(open: io::Result<usize>, limit: usize) -> Option<Condition> {
    let used = match open {
        Ok(open) if open < limit - limit / 10 => return None,
        Ok(open) => format!("{open} of {limit} file descriptors are open"),
        Err(error) if is_exhaustion(&error) => format!("all {limit} file descriptors are open"),
        // A system that does not say.
        Err(_) => return None,
    };
    let detail = format!("{used}: raise the limit of the process (LimitNOFILE=, ulimit -n)");
    Some(Condition::of_keeper(ConditionCode::DescriptorsShort, detail))
}

/// Whether the process, or the system, has no descriptor left.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_in_ten_are_too_many() {
        let is_short = |open, limit| short(open, limit).is_some();
        assert!(!is_short(Ok(921), 1024) && is_short(Ok(922), 1024));
        assert!(is_short(Err(io::Error::from_raw_os_error(24)), 1024));
        assert!(!is_short(Err(io::ErrorKind::NotFound.into()), 1024), "where nothing is known nothing is reported");
        assert!(open().unwrap() > 2 && open().unwrap() < limit());
    }
}
