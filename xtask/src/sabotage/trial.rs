//! One trial: the tests pass, the patch applies and compiles, the tests fail. Anything else is not a proof.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::copy::mirror;
use super::table::Sabotage;

/// What became of a sabotage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// So many of the tests failed, as they should.
    Caught(usize),
    /// The tests passed all the same.
    Survived,
    /// The patch does not fit the code any more.
    DoesNotApply(String),
    /// The patched code does not compile, which proves nothing about the tests.
    DoesNotCompile,
    /// The tests fail without the patch, too.
    RedBefore,
    /// The filter selects no test.
    NoTests,
    /// The tests did not end in time. Whoever reads the suite's output would not learn what is broken.
    Hung,
}

impl Verdict {
    /// Whether the tests proved themselves.
    pub(crate) fn is_caught(&self) -> bool {
        matches!(self, Self::Caught(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caught(1) => f.write_str("1 test failed"),
            Self::Caught(count) => write!(f, "{count} tests failed"),
            Self::Survived => f.write_str("every test passed"),
            Self::DoesNotApply(why) => write!(f, "the patch does not apply: {why}"),
            Self::DoesNotCompile => f.write_str("the patched code does not compile"),
            Self::RedBefore => f.write_str("the tests fail without the patch, too"),
            Self::NoTests => f.write_str("no test has such a name"),
            Self::Hung => f.write_str("the tests did not end in time"),
        }
    }
}

/// Where sabotages are tried.
pub(crate) struct Bench {
    checkout: PathBuf,
    patches: PathBuf,
    work: PathBuf,
}

/// What `cargo test` said.
enum Outcome {
    Passed { tests: usize },
    Failed { tests: usize },
    Hung,
}

impl Bench {
    /// Copies of `checkout` and everything built from them go below `work`.
    pub(crate) fn new(checkout: &Path, patches: &Path, work: &Path) -> Self {
        Self { checkout: checkout.to_owned(), patches: patches.to_owned(), work: work.to_owned() }
    }

    /// Where the tests' output goes: one file per patch.
    pub(crate) fn logs(&self) -> PathBuf {
        self.work.join("logs")
    }

    /// Tries one after the other; the verdicts are in the order of the entries.
    pub(crate) fn try_all(&self, entries: &[Sabotage]) -> Result<Vec<Verdict>> {
        fs::create_dir_all(self.logs())?;
        let verdicts = entries.iter().map(|entry| {
            println!("{}: {} …", entry.patch, entry.breaks);
            let verdict = self.attempt(entry)?;
            println!("{}: {verdict}", entry.patch);
            Ok(verdict)
        });
        let verdicts = verdicts.collect();
        mirror(&self.checkout, &self.tree())?;
        verdicts
    }

    fn attempt(&self, entry: &Sabotage) -> Result<Verdict> {
        mirror(&self.checkout, &self.tree())?;
        if !self.compiles(entry, "before")? {
            return Ok(Verdict::RedBefore);
        }
        match self.test(entry, "before")? {
            Outcome::Passed { tests: 0 } => return Ok(Verdict::NoTests),
            Outcome::Passed { .. } => {}
            Outcome::Failed { .. } | Outcome::Hung => return Ok(Verdict::RedBefore),
        }
        if let Some(why) = self.apply(entry)? {
            return Ok(Verdict::DoesNotApply(why));
        }
        if !self.compiles(entry, "after")? {
            return Ok(Verdict::DoesNotCompile);
        }
        Ok(match self.test(entry, "after")? {
            Outcome::Passed { .. } => Verdict::Survived,
            Outcome::Failed { tests } => Verdict::Caught(tests),
            Outcome::Hung => Verdict::Hung,
        })
    }

    /// Applies the patch; why it could not be, otherwise.
    fn apply(&self, entry: &Sabotage) -> Result<Option<String>> {
        let output = Command::new("git")
            .args(["apply", "--verbose"])
            .arg(self.patches.join(&entry.patch).canonicalize()?)
            .current_dir(self.tree())
            // Or git finds the repository around the copy, and takes the patch to be about other files.
            .env("GIT_CEILING_DIRECTORIES", self.work.canonicalize()?)
            .output()
            .context("cannot run git")?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() && said.contains("Applied patch") {
            return Ok(None);
        }
        Ok(Some(said.lines().find(|line| line.starts_with("error")).unwrap_or("it changes nothing").to_owned()))
    }

    fn compiles(&self, entry: &Sabotage, when: &str) -> Result<bool> {
        let mut cargo = self.cargo(entry);
        cargo.arg("--no-run");
        let log = self.log(entry, &format!("compile-{when}"));
        Ok(finish(cargo, &log, COMPILE_SECONDS_MAX)?.is_some_and(|success| success))
    }

    fn test(&self, entry: &Sabotage, when: &str) -> Result<Outcome> {
        let mut cargo = self.cargo(entry);
        cargo.args(["--no-fail-fast", "--", &entry.filter]);
        let log = self.log(entry, when);
        let success = finish(cargo, &log, TEST_SECONDS_MAX)?;
        let (passed, failed) = counts(&fs::read_to_string(&log)?);
        Ok(match success {
            None => Outcome::Hung,
            Some(true) => Outcome::Passed { tests: passed },
            // A test that takes its process down is not counted by anybody, and has failed.
            Some(false) => Outcome::Failed { tests: failed.max(1) },
        })
    }

    fn cargo(&self, entry: &Sabotage) -> Command {
        let mut cargo = Command::new("cargo");
        cargo
            .args(["test", "--package", &entry.package])
            .args(&entry.target)
            .current_dir(self.tree())
            .env("CARGO_TARGET_DIR", self.work.join("target"));
        cargo
    }

    fn tree(&self) -> PathBuf {
        self.work.join("tree")
    }

    fn log(&self, entry: &Sabotage, when: &str) -> PathBuf {
        self.logs().join(format!("{}.{when}.log", entry.patch.trim_end_matches(".patch")))
    }
}

/// Runs a command with its output in `log`. `None` when it had to be stopped.
fn finish(mut command: Command, log: &Path, seconds_max: u64) -> Result<Option<bool>> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
    let mut child = command.spawn().context("cannot run cargo")?;
    let group = child.id();
    let (done, outcome) = mpsc::channel();
    let waiter = std::thread::spawn(move || done.send(child.wait()));
    let status = outcome.recv_timeout(Duration::from_secs(seconds_max));
    if status.is_err() {
        // The group holds cargo and the tests it started, and nobody else.
        Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).status().context("cannot run kill")?;
    }
    let _ = waiter.join();
    match status {
        Ok(status) => Ok(Some(status?.success())),
        Err(_) => Ok(None),
    }
}

/// How many tests passed and failed, by the lines that every test program ends with.
fn counts(output: &str) -> (usize, usize) {
    let number = |line: &str, word: &str| -> usize {
        let before = line.split(word).next().unwrap_or_default();
        before.trim().rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    let results = output.lines().filter(|line| line.starts_with("test result:"));
    results.fold((0, 0), |(passed, failed), line| (passed + number(line, " passed"), failed + number(line, " failed")))
}

/// The first build of the copy compiles every dependency.
const COMPILE_SECONDS_MAX: u64 = 1800;
const TEST_SECONDS_MAX: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "pub fn double(n: i32) -> i32 {\n    n * 2\n}\n";
    const TEST: &str = "#[test]\nfn doubles() {\n    assert_eq!(tiny::double(3), 6);\n}\n";

    /// A checkout with one function and one test, and a patch that changes the line `from` of `patched` into `to`.
    fn verdict(source: &str, filter: &str, patched: &str, to: &str) -> Verdict {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        };
        write("checkout/Cargo.toml", "[workspace]\n[package]\nname = \"tiny\"\nedition = \"2024\"\n");
        write("checkout/src/lib.rs", source);
        write("checkout/tests/tiny.rs", TEST);
        write(
            "patches/01-tiny.patch",
            &format!(
                "--- a/src/lib.rs\n+++ b/src/lib.rs\n@@ -1,3 +1,3 @@\n pub fn double(n: i32) -> i32 {{\n-{patched}\n+{to}\n }}\n"
            ),
        );
        let bench =
            Bench::new(&folder.path().join("checkout"), &folder.path().join("patches"), &folder.path().join("work"));
        let entry = Sabotage {
            invariant: 1,
            patch: String::from("01-tiny.patch"),
            breaks: String::from("doubling"),
            package: String::from("tiny"),
            target: vec![String::from("--test"), String::from("tiny")],
            filter: filter.to_owned(),
        };
        let verdicts = bench.try_all(std::slice::from_ref(&entry)).unwrap();
        assert_eq!(fs::read_to_string(bench.tree().join("src/lib.rs")).unwrap(), source, "the copy is put right again");
        verdicts.into_iter().next().unwrap()
    }

    #[test]
    fn a_broken_function_is_caught() {
        assert_eq!(verdict(SOURCE, "doubles", "    n * 2", "    n * 3"), Verdict::Caught(1));
    }

    #[test]
    fn a_change_that_no_test_sees_survives() {
        assert_eq!(verdict(SOURCE, "doubles", "    n * 2", "    n + n"), Verdict::Survived);
    }

    #[test]
    fn a_crash_counts_as_a_failure() {
        assert_eq!(verdict(SOURCE, "doubles", "    n * 2", "    std::process::abort()"), Verdict::Caught(1));
    }

    #[test]
    fn code_that_does_not_compile_proves_nothing() {
        assert_eq!(verdict(SOURCE, "doubles", "    n * 2", "    \"six\""), Verdict::DoesNotCompile);
    }

    #[test]
    fn a_patch_that_does_not_fit_proves_nothing() {
        assert!(matches!(verdict(SOURCE, "doubles", "    n * 4", "    n * 3"), Verdict::DoesNotApply(_)));
    }

    #[test]
    fn a_filter_that_selects_nothing_proves_nothing() {
        assert_eq!(verdict(SOURCE, "halves", "    n * 2", "    n * 3"), Verdict::NoTests);
    }

    #[test]
    fn tests_that_fail_anyway_prove_nothing() {
        let broken = SOURCE.replace("n * 2", "n * 5");
        assert_eq!(verdict(&broken, "doubles", "    n * 5", "    n * 3"), Verdict::RedBefore);
    }

    #[test]
    fn what_does_not_end_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        assert_eq!(finish(command, &folder.path().join("log"), 1).unwrap(), None);
    }

    #[test]
    fn results_are_added_up() {
        let output = "test result: ok. 3 passed; 0 failed; 0 ignored\nnoise 9 failed\ntest result: FAILED. 2 passed; 1 failed; x";
        assert_eq!(counts(output), (5, 1));
    }
}
