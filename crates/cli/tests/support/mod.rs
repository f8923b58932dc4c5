//! A `storekeeper dev` of its own in a temporary directory, and the binary to talk to it with.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A place to run commands in.
pub(crate) struct Place {
    dir: TempDir,
}

/// A server that runs until it is dropped.
pub(crate) struct Server {
    child: Child,
    /// What it said until it was ready.
    pub(crate) said: String,
    said_since: Arc<Mutex<String>>,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    /// Its exit code.
    pub(crate) code: Option<i32>,
    /// Its stdout.
    pub(crate) out: String,
    /// Its stderr.
    pub(crate) err: String,
}

impl Done {
    /// Its stdout as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Demands success.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Demands this exit code, and one line that holds these words.
    pub(crate) fn fails(self, code: i32, words: &str) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(words), "`{words}` is missing: {self:?}");
        self
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, "")
    }

    /// Runs a command to its end, with this on its stdin.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Done {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
        // A command that does not read to its end closes the pipe, which is its right.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Done { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    /// Starts `dev` on free ports with the state of this place.
    pub(crate) fn dev(&self, players: &str) -> Server {
        let free = ["--listen", "--admin-listen", "--http", "--https", "--control"].map(|option| [option, FREE]);
        self.serve(&[&["dev", "--log-level", "error", "--players", players][..], free.as_flattened()].concat())
    }

    /// Starts a server; it is ready when this returns.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        Self::start(self.command(arguments), arguments[0] == "dev")
    }

    /// Starts a server that may have this many file descriptors; it is ready when this returns.
    pub(crate) fn serve_within(&self, descriptors: u32, arguments: &[&str]) -> Server {
        let mut command = Command::new("sh");
        let limited = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_storekeeper")]).args(arguments).current_dir(self.path());
        Self::start(command, false)
    }

    fn start(mut command: Command, is_dev: bool) -> Server {
        let (stdout, stderr) =
            if is_dev { (Stdio::piped(), Stdio::inherit()) } else { (Stdio::null(), Stdio::piped()) };
        let mut child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap();
        let (said, said_since) = match (child.stdout.take(), child.stderr.take()) {
            (Some(stdout), _) => said_until(stdout, "clock advance"),
            (_, Some(stderr)) => said_until(stderr, "ready"),
            _ => unreachable!("one of them is piped"),
        };
        Server { child, said, said_since }
    }

    /// A command of this place, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_storekeeper"));
        command.args(arguments).current_dir(self.path());
        command
    }
}

/// How often to do something: as often as usual, or `STOREKEEPER_TEST_TIMES` times that, for who has an hour.
#[expect(clippy::disallowed_methods, reason = "a test has nothing but its environment to be told by")]
pub(crate) fn times(usual: usize) -> usize {
    let times = std::env::var("STOREKEEPER_TEST_TIMES").map(|times| times.parse::<usize>().expect("it is a number"));
    usual * times.unwrap_or(1)
}

/// How many keys to do it with: as many as usual, or `STOREKEEPER_TEST_KEYS`.
#[expect(clippy::disallowed_methods, reason = "a test has nothing but its environment to be told by")]
pub(crate) fn keys(usual: usize) -> usize {
    std::env::var("STOREKEEPER_TEST_KEYS").map_or(usual, |keys| keys.parse().expect("it is a number"))
}

/// Waits until this holds, and says how long that took; `None` if it does not come true in time.
#[expect(clippy::disallowed_methods, reason = "other processes do their work in their own time")]
pub(crate) fn until(within: Duration, mut holds: impl FnMut() -> bool) -> Option<Duration> {
    let began = Instant::now();
    loop {
        if holds() {
            return Some(began.elapsed());
        }
        if began.elapsed() > within {
            return None;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Any free port.
pub(crate) const FREE: &str = "127.0.0.1:0";

/// Reads until a line says that the server is ready, and goes on reading so that the server is never held up.
fn said_until(pipe: impl std::io::Read + Send + 'static, words: &str) -> (String, Arc<Mutex<String>>) {
    let mut lines = BufReader::new(pipe).lines();
    let mut said = String::new();
    loop {
        let line = lines.next().unwrap_or_else(|| panic!("it ended before it was ready: {said}")).unwrap();
        said.push_str(&line);
        said.push('\n');
        if line.contains(words) {
            break;
        }
    }
    let since = Arc::new(Mutex::new(String::new()));
    let rest = Arc::clone(&since);
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let mut said = rest.lock().unwrap();
            said.push_str(&line);
            said.push('\n');
        }
    });
    (said, since)
}

impl Server {
    /// What it said after it was ready.
    pub(crate) fn said_since(&self) -> String {
        self.said_since.lock().unwrap().clone()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Sends it a signal and waits for its end: its exit code, and what it reported since it was ready.
    pub(crate) fn ends(mut self, signal: &str) -> (Option<i32>, String) {
        self.signal(signal);
        let status = self.child.wait().unwrap();
        // The last line comes through the pipe a little later.
        let _ = until(Duration::from_secs(1), || self.said_since().contains("error:"));
        (status.code(), self.said_since())
    }

    /// Asks it to end, and demands that it does so in good order.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
