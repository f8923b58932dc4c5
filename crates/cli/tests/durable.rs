//! No 2xx leaves before its `fdatasync`: seen from outside, in the system calls of a real `serve`.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

#[path = "support/scene.rs"]
mod scene;
mod support;
#[path = "support/trace.rs"]
mod trace;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use scene::{SERVE, Scene};
use serde_json::json;
use trace::{STRACE, acknowledgements};

/// How many keys come one by one, and how many more in a batch.
const KEYS: usize = 20;

#[test]
fn invariant_1_no_2xx_leaves_before_its_fdatasync() {
    let scene = Scene::new();
    let keeper = Traced::start(&scene);
    let listen = scene.listen();
    let now = scene.now();
    let keys: Vec<(String, String)> = (0..2 * KEYS)
        .map(|number| format!("player-{number:02}"))
        .map(|user| (scene.mint("purchase", &user, now), user))
        .collect();
    for (key, user) in &keys[..KEYS] {
        let request = format!("PUT /v1/apps/mygame/users/{user}/keys/purchase");
        assert_eq!(scene.ask(&listen, &request, &json!({ "key": key }).to_string()).unwrap().status, 201);
    }
    let line = |(key, user): &(String, String)| json!({ "app": "mygame", "user": user, "key": key }).to_string() + "\n";
    let batch: String = keys[KEYS..].iter().map(line).collect();
    assert_eq!(scene.ask(&listen, "POST /v1/keys:enroll", &batch).unwrap().lines().len(), KEYS);
    let trace = keeper.stop();

    let database = fs::canonicalize(scene.place.path()).unwrap().join("storekeeper.db");
    let seen = acknowledgements(&trace, &listen, &database);
    assert_eq!(seen.len(), 2 * KEYS, "{seen:?}");
    let early: Vec<_> = seen.iter().filter(|acknowledgement| !acknowledgement.is_durable).collect();
    assert!(early.is_empty(), "answered before they were on disk: {early:#?}");

    // The same calls without the flushes prove nothing, and are seen to prove nothing.
    let flushes = |line: &&str| line.contains("fsync") || line.contains("fdatasync");
    let without: Vec<&str> = trace.lines().filter(|line| !flushes(line)).collect();
    let seen = acknowledgements(&without.join("\n"), &listen, &database);
    assert_eq!(seen.iter().filter(|acknowledgement| !acknowledgement.is_durable).count(), 2 * KEYS);
}

/// A `serve` whose system calls are written down.
struct Traced {
    /// `serve` itself: strace stands beside it, not above it.
    keeper: Child,
    trace: std::path::PathBuf,
}

const MISSING: &str = "strace is missing or may not trace: run `cargo xtask test`, which sees to what the tests need";

impl Traced {
    fn start(scene: &Scene) -> Self {
        let trace = scene.place.path().join("trace");
        let mut command = Command::new("strace");
        command.args(STRACE).arg("-D").arg("-o").arg(&trace).arg(env!("CARGO_BIN_EXE_storekeeper")).args(SERVE);
        command.current_dir(scene.place.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut keeper = command.spawn().unwrap_or_else(|error| panic!("{MISSING} ({error})"));
        let mut lines = BufReader::new(keeper.stderr.take().unwrap()).lines().map_while(Result::ok);
        let keeper = Self { keeper, trace };
        let mut said = Vec::new();
        while !said.last().is_some_and(|line: &String| line.contains("ready")) {
            said.push(lines.next().unwrap_or_else(|| panic!("{MISSING}, or `serve` did not start: {said:?}")));
        }
        std::thread::spawn(move || lines.for_each(drop));
        keeper
    }

    /// Ends it in good order and gives out what was written down.
    fn stop(mut self) -> String {
        let pid = self.keeper.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert_eq!(self.keeper.wait().unwrap().code(), Some(0));
        fs::read_to_string(&self.trace).unwrap()
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.keeper.kill());
        drop(self.keeper.wait());
    }
}

const LISTEN: &str = "127.0.0.1:80";

/// An enrollment as strace shows it: two threads, of which one is interrupted by the other.
const GOOD: &str = r#"11 recvfrom(9<TCP:[127.0.0.1:80->127.0.0.1:7]>, "PUT /v1/apps/mygame/users/me/keys/purchase HTTP/1.1\r\n\r\n{}", 99, 0, NULL, NULL) = 57
12 pwrite64(5</k/db-wal>, "\1\0001\"\377me\7", 8, 32) = 8
12 fdatasync(5</k/db-wal> <unfinished ...>
11 write(4<anon_inode:[eventfd]>, "\1\0\0\0\0\0\0\0", 8) = 8
12 <... fdatasync resumed>)              = 0
11 writev(9<TCP:[127.0.0.1:80->127.0.0.1:7]>, [{iov_base="HTTP/1.1 201 Created\r\n\r\n", iov_len=24}, {iov_base="{}", iov_len=2}], 2) = 26"#;

/// What the parser makes of [`GOOD`] with its lines in this order, and a text in it exchanged.
fn judge(order: [usize; 6], from: &str, to: &str) -> bool {
    let lines: Vec<&str> = GOOD.lines().collect();
    let trace = order.map(|line| lines[line]).join("\n");
    assert!(trace.contains(from));
    let seen = acknowledgements(&trace.replace(from, to), LISTEN, Path::new("/k/db"));
    assert_eq!(seen.len(), 1);
    seen[0].is_durable
}

#[test]
fn an_answer_before_its_flush_is_noticed() {
    let in_order = [0, 1, 2, 3, 4, 5];
    assert!(judge(in_order, "", ""));
    assert!(judge(in_order, "db-wal", "db"), "the database itself will do");
    assert!(judge(in_order, "fdatasync", "fsync"));
    assert!(!judge([0, 1, 2, 3, 5, 4], "", ""), "the flush has not ended yet");
    assert!(!judge([0, 5, 1, 2, 3, 4], "", ""), "nothing is written yet");
    assert!(!judge([1, 2, 3, 4, 0, 5], "", ""), "the flush was for somebody else's row");
    assert!(!judge([0, 2, 3, 4, 1, 5], "", ""), "the row is written after the flush");
    assert!(!judge([1, 0, 2, 3, 4, 5], "", ""), "what is flushed was written before it was asked for");
    assert!(!judge(in_order, "377me", "377you"), "the row that is flushed is another");
    assert!(!judge(in_order, ")              = 0", ") = -1 EIO (Input/output error)"), "the flush failed");
    assert!(!judge(in_order, "fdatasync(5</k/db-wal>", "fdatasync(5</k/db-shm>"), "another file is flushed");
}

#[test]
fn each_line_of_a_batch_counts_by_itself() {
    let trace = r#"11 recvfrom(9<TCP:[127.0.0.1:80->127.0.0.1:7]>, "POST /v1/keys:enroll HTTP/1.1\r\n\r\n{\"user\":\"a\"}\n{\"user\"", 99, 0, NULL, NULL) = 53
12 pwrite64(5</k/db-wal>, "a", 1, 32) = 1
12 fdatasync(5</k/db-wal>) = 0
11 recvfrom(9<TCP:[127.0.0.1:80->127.0.0.1:7]>, ":\"b\"}\n", 99, 0, NULL, NULL) = 6
11 recvfrom(9<TCP:[127.0.0.1:80->127.0.0.1:7]>, 0x7f16a680c3e0, 99, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)
11 write(9<TCP:[127.0.0.1:80->127.0.0.1:7]>, "HTTP/1.1 200 OK\r\n\r\n{\"line\":1,\"status\":201,}\n", 44) = 44
11 write(9<TCP:[127.0.0.1:80->127.0.0.1:7]>, "{\"line\":2,\"status\":201,}\n", 25) = 25"#;
    let seen = acknowledgements(trace, LISTEN, Path::new("/k/db"));
    assert_eq!(seen.iter().map(|seen| seen.is_durable).collect::<Vec<_>>(), [true, false], "{seen:?}");
}

#[test]
#[should_panic(expected = "cut short")]
fn bytes_that_are_not_shown_are_not_guessed() {
    let trace = r#"11 read(9<TCP:[127.0.0.1:80->127.0.0.1:7]>, "PUT "..., 99) = 40"#;
    drop(acknowledgements(trace, LISTEN, Path::new("/k/db")));
}
