//! What the tests need besides the Rust toolchain: one table, looked at before anything runs. A need is installed where
//! that is allowed; where it is not, the run stops and says what to install. No test is skipped for want of one.

use anyhow::{Result, bail};

use crate::command;

/// A program that a test runs.
struct Need {
    /// What to call it.
    name: &'static str,
    /// What it is needed for.
    purpose: &'static str,
    /// Succeeds where it is there *and works*.
    probe: &'static [&'static str],
    /// The Debian package that brings it.
    package: &'static str,
    /// What to do where that package cannot be installed, or does not help.
    advice: &'static str,
}

const NEEDS: &[Need] = &[
    Need {
        name: "a C compiler",
        purpose: "builds SQLite, zstd and the cryptography",
        probe: &["cc", "--version"],
        package: "gcc libc6-dev make",
        advice: "install a C compiler that answers to `cc`",
    },
    Need {
        name: "git",
        purpose: "applies the patches that prove the tests",
        probe: &["git", "--version"],
        package: "git",
        advice: "install git",
    },
    Need {
        name: "curl",
        purpose: "executes the commands of README.md",
        probe: &["curl", "--version"],
        package: "curl",
        advice: "install curl",
    },
    Need {
        name: "kill",
        purpose: "ends and halts the processes that are tested",
        probe: &["kill", "-L"],
        package: "procps",
        advice: "install a program of that name: a shell's own is not enough",
    },
    Need {
        name: "strace",
        purpose: "shows that no answer leaves before its row is on disk",
        probe: &["strace", "-f", "-o", "/dev/null", "true"],
        package: "strace",
        advice: "install strace, and allow tracing: in a container, `--cap-add=SYS_PTRACE`",
    },
    Need {
        name: "PostgreSQL",
        purpose: "is started by the tests of the shared keyring",
        probe: &["sh", "-c", "ls /usr/lib/postgresql/*/bin/initdb || pg_config --bindir"],
        package: "postgresql",
        advice: "install a PostgreSQL server, 15 or newer",
    },
];

/// Sees to it that everything in the table is there.
///
/// # Errors
/// Names each need that is missing and what to do about it.
pub(crate) fn meet() -> Result<()> {
    let mut unmet = Vec::new();
    for need in NEEDS {
        if !is_met(need) {
            println!("{} is missing ({})", need.name, need.purpose);
            install(need);
        }
        if !is_met(need) {
            unmet.push(format!("  {}: {} (Debian: apt-get install {})", need.name, need.advice, need.package));
        }
    }
    if !unmet.is_empty() {
        bail!("the tests need more than this machine has:\n{}", unmet.join("\n"));
    }
    Ok(())
}

fn is_met(need: &Need) -> bool {
    command::succeeds(command::program(need.probe[0], &need.probe[1..]))
}

/// Installs a need's package where this user may. Whether it helped is for the probe to say.
fn install(need: &Need) {
    let apt = |arguments: &[&str]| {
        let mut command = command::program("apt-get", arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command::run(command)
    };
    if !is_root() || !command::succeeds(command::program("apt-get", &["--version"])) {
        return;
    }
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(need.package.split(' '));
    // A fresh machine has no list of packages yet; one that has is spared the wait.
    let outcome = apt(&arguments).or_else(|_| apt(&["update"]).and_then(|()| apt(&arguments)));
    if let Err(error) = outcome {
        println!("{error:#}");
    }
}

fn is_root() -> bool {
    let id = command::program("id", &["-u"]).output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABSENT: Need = Need {
        name: "a program that nobody has",
        purpose: "shows that its absence is noticed",
        probe: &["a-program-that-nobody-has"],
        package: "none",
        advice: "nothing",
    };

    #[test]
    fn absence_and_failure_are_noticed() {
        assert!(!is_met(&ABSENT));
        assert!(!is_met(&Need { probe: &["false"], ..ABSENT }));
        assert!(is_met(&Need { probe: &["true"], ..ABSENT }));
    }
}
