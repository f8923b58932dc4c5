//! `key renew` as a process that is ended in the middle, or whose output cannot be written: every successor that the Store
//! has made stands in the output or in a rescue file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use storekeeper::remote::{Peer, Remote};
use storekeeper::target::endpoint;
use storekeeper_model::Fingerprint;

use super::{DAY, Store, parsed};

impl Store {
    /// Starts `key renew` on these lines, in a folder of its own.
    fn spawn(&self, dir: &Path, options: &[&str], stdin: Stdio, stdout: Stdio) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_storekeeper"));
        command.args(["key", "renew", "--emulator"]).arg(self.0.http().unwrap().to_string()).args(options);
        command.current_dir(dir).stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// How often the faults have struck.
    async fn fired(&self) -> u64 {
        let base = endpoint(&self.0.control().unwrap().to_string()).unwrap();
        let control = Remote::new(Peer::Emulator, base, None).unwrap();
        let faults: Value = control.get("/control/v1/faults").await.unwrap();
        faults["faults"].as_array().unwrap().iter().map(|fault| fault["fired"].as_u64().unwrap()).sum()
    }

    /// The successors that the Store has made.
    fn made(&self) -> BTreeSet<String> {
        let exchanges = self.0.ledger(0, 100_000).exchanges;
        exchanges.iter().filter_map(|exchange| Some(exchange.successor?.to_string())).collect()
    }
}

fn successors(lines: &[Value]) -> BTreeSet<String> {
    let renewed = lines.iter().filter(|line| line["result"] == "renewed");
    renewed.map(|line| line["fingerprint"].as_str().unwrap().to_owned()).collect()
}

/// Lines in a file, as stdin.
fn stdin_of(dir: &Path, lines: &[String]) -> Stdio {
    let path = dir.join("in");
    fs::write(&path, format!("{}\n", lines.join("\n"))).unwrap();
    Stdio::from(File::open(path).unwrap())
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Its exit code and stderr, once it has ended.
#[expect(clippy::disallowed_methods, reason = "another process does its work in its own time")]
async fn ended(mut child: Child) -> (i32, String) {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code().unwrap(), said)
}

/// Waits until this holds.
#[expect(clippy::disallowed_methods, reason = "another process does its work in its own time")]
async fn until(holds: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not come true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The rescue file that an error names.
fn rescued(said: &str) -> Vec<Value> {
    let path =
        said.split_whitespace().find(|word| word.contains("storekeeper-rescue-")).unwrap_or_else(|| panic!("{said}"));
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    parsed(&fs::read_to_string(path).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_in_the_middle_loses_no_successor() {
    for (sent, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let store = Store::at_rate(1.0).await;
        store.fault(json!({ "endpoint": "renew", "when": "before", "delay": "1h", "count": 1 })).await;
        let (dir, mut lines) = (tempfile::tempdir().unwrap(), store.lines(61));
        lines.push(String::from("no JSON"));
        let out = File::create(dir.path().join("out")).unwrap();
        let child = store.spawn(dir.path(), &[], stdin_of(dir.path(), &lines), out.into());
        until(async || store.made().len() == 60).await;
        signal(&child, sent);
        let (ended, said) = ended(child).await;
        assert_eq!(ended, code, "{said}");
        let out = parsed(&fs::read_to_string(dir.path().join("out")).unwrap());
        assert_eq!(out.len(), 62, "every line comes out");
        assert_eq!(successors(&out), store.made());
        let held: Vec<_> = out.iter().filter(|line| line["code"] == "interrupted").collect();
        assert_eq!(held.len(), 1, "{held:?}");
        assert_eq!(held[0]["result"], "failed");
        assert!(lines.iter().any(|line| line.contains(held[0]["key"].as_str().unwrap())), "its key comes back");
        assert_eq!(out[61]["line"], "no JSON");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing had to be rescued: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_in_flight_at_a_signal_are_awaited_and_nothing_new_is_sent() {
    let store = Store::at_rate(1.0).await;
    store.fault(json!({ "endpoint": "renew", "when": "after", "delay": "700ms" })).await;
    let (dir, lines) = (tempfile::tempdir().unwrap(), store.lines(200));
    let out = File::create(dir.path().join("out")).unwrap();
    let child = store.spawn(dir.path(), &[], stdin_of(dir.path(), &lines), out.into());
    until(async || store.fired().await >= 10).await;
    signal(&child, Signal::TERM);
    let (ended, said) = ended(child).await;
    assert_eq!(ended, 143, "{said}");
    let out = parsed(&fs::read_to_string(dir.path().join("out")).unwrap());
    assert_eq!(out.len(), 200);
    assert_eq!(successors(&out), store.made());
    assert!((10..200).contains(&store.made().len()), "{}", store.made().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_waits_for_nothing_and_writes_what_is_known() {
    let store = Store::at_rate(1.0).await;
    // Exchanges of two seconds: after one signal such a Store is waited for.
    store.fault(json!({ "endpoint": "renew", "delay": "2s", "count": 1 })).await;
    let (dir, lines) = (tempfile::tempdir().unwrap(), store.lines(30));
    let out = File::create(dir.path().join("out")).unwrap();
    let child = store.spawn(dir.path(), &[], Stdio::piped(), out.into());
    let mut stdin = child.stdin.as_ref().unwrap();
    writeln!(stdin, "{}", lines[..20].join("\n")).unwrap();
    until(async || store.made().len() == 20).await;
    store.fault(json!({ "endpoint": "renew", "when": "before", "delay": "1h" })).await;
    writeln!(stdin, "{}", lines[20..].join("\n")).unwrap();
    until(async || store.fired().await == 11).await;
    signal(&child, Signal::TERM);
    signal(&child, Signal::INT);
    let (ended, said) = ended(child).await;
    assert!([130, 143].contains(&ended), "either may be seen first: {ended} {said}");
    let out = parsed(&fs::read_to_string(dir.path().join("out")).unwrap());
    assert_eq!(out.len(), 30);
    assert_eq!(successors(&out), store.made());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_before_the_first_line_ends_a_stream() {
    let (store, dir) = (Store::at_rate(1.0).await, tempfile::tempdir().unwrap());
    let child = store.spawn(dir.path(), &[], Stdio::piped(), Stdio::piped());
    // The signals are caught once standard input is being read.
    let caught = |child: &Child| {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        u64::from_str_radix(mask, 16).unwrap() >> (15 - 1) & 1 == 1
    };
    until(async || caught(&child)).await;
    signal(&child, Signal::TERM);
    let (ended, said) = ended(child).await;
    assert_eq!(ended, 143, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_disk_does_not_take_stands_in_a_rescue_file() {
    let store = Store::at_rate(1.0).await;
    store.fault(json!({ "endpoint": "renew", "when": "after", "delay": "300ms" })).await;
    let (dir, lines) = (tempfile::tempdir().unwrap(), store.lines(300));
    let full = File::options().write(true).open("/dev/full").unwrap();
    let child = store.spawn(dir.path(), &[], stdin_of(dir.path(), &lines), full.into());
    let (ended, said) = ended(child).await;
    assert_eq!(ended, 1, "{said}");
    assert_eq!(successors(&rescued(&said)), store.made());
    assert!((1..300).contains(&store.made().len()), "nothing new is sent: {}", store.made().len());
    assert!(said.contains("plain text"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn successors_of_a_reader_that_goes_away_stand_in_a_rescue_file() {
    let (store, dir) = (Store::at_rate(1.0).await, tempfile::tempdir().unwrap());
    let (folder, lines) = (dir.path().join("rescue"), store.lines(61));
    fs::create_dir(&folder).unwrap();
    let options = ["--rescue-folder", folder.to_str().unwrap()];
    let mut child = store.spawn(dir.path(), &options, Stdio::piped(), Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", lines[0]).unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    drop(reader);
    feed(stdin, &lines[1..]);
    let (ended, said) = ended(child).await;
    assert_eq!(ended, 1, "{said}");
    let written = [parsed(&first), rescued(&said)].concat();
    assert_eq!(successors(&written), store.made());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}

/// Writes lines, whether or not they are read.
fn feed(mut stdin: ChildStdin, lines: &[String]) {
    let text = format!("{}\n", lines.join("\n"));
    std::thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
}

#[tokio::test(flavor = "multi_thread")]
async fn successors_that_can_be_written_nowhere_are_counted() {
    let (store, dir) = (Store::at_rate(1.0).await, tempfile::tempdir().unwrap());
    let full = File::options().write(true).open("/dev/full").unwrap();
    let stdin = stdin_of(dir.path(), &store.lines(1));
    let child = store.spawn(dir.path(), &["--rescue-folder", "missing"], stdin, full.into());
    let (ended, said) = ended(child).await;
    assert_eq!(ended, 1, "{said}");
    assert!(said.contains("1 line not written, of which 1 renewed"), "{said}");
    assert!(said.contains("lost") && said.contains("missing"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stands_still_does_not_hold_up_a_signal() {
    let (store, dir) = (Store::at_rate(1.0).await, tempfile::tempdir().unwrap());
    // More than a pipe holds.
    let stdin = stdin_of(dir.path(), &store.lines(100));
    let mut child = store.spawn(dir.path(), &[], stdin, Stdio::piped());
    let mut stdout = child.stdout.take().unwrap();
    until(async || store.made().len() == 100).await;
    signal(&child, Signal::TERM);
    let (ended, said) = ended(child).await;
    assert_eq!(ended, 143, "{said}");
    let mut written = String::new();
    stdout.read_to_string(&mut written).unwrap();
    // The last line may have been written in part.
    let whole = written.rfind('\n').map_or("", |end| &written[..end]);
    let written = [parsed(whole), rescued(&said)].concat();
    assert_eq!(successors(&written), store.made());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_stdout_is_an_error_before_anything_is_sent() {
    let (store, dir) = (Store::at_rate(1.0).await, tempfile::tempdir().unwrap());
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$0" key renew --emulator "$1" >&-"#, env!("CARGO_BIN_EXE_storekeeper")]);
    command.arg(store.0.http().unwrap().to_string()).stdin(stdin_of(dir.path(), &store.lines(3)));
    let child = command.current_dir(dir.path()).stderr(Stdio::piped()).spawn().unwrap();
    let (ended, said) = ended(child).await;
    assert_eq!(ended, 1, "{said}");
    assert!(said.contains("stdout is closed"), "{said}");
    assert_eq!(store.asked("renew"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_successor_of_one_key_is_not_lost_either() {
    let store = Store::at_rate(1.0).await;
    store.fault(json!({ "endpoint": "renew", "when": "after", "delay": "500ms" })).await;
    let dir = tempfile::tempdir().unwrap();
    let options = ["--key-file", "key", "--out", "key"];
    fs::write(dir.path().join("key"), store.mint("one", DAY)).unwrap();
    let child = store.spawn(dir.path(), &options, Stdio::null(), Stdio::piped());
    until(async || store.fired().await == 1).await;
    signal(&child, Signal::TERM);
    let (code, said) = ended(child).await;
    assert_eq!(code, 143, "{said}");
    let key = fs::read_to_string(dir.path().join("key")).unwrap();
    assert_eq!(BTreeSet::from([Fingerprint::of(key.trim()).to_string()]), store.made());

    let full = File::options().write(true).open("/dev/full").unwrap();
    let child = store.spawn(dir.path(), &options[..2], Stdio::null(), full.into());
    let (code, said) = ended(child).await;
    assert_eq!(code, 1, "{said}");
    let made = store.made();
    assert!(successors(&rescued(&said)).is_subset(&made));
    assert_eq!(made.len(), 2);
}
