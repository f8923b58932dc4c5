//! What `export` makes of what a keeper tells it, where a real one would have to be caught at the right moment.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};
use support::Place;

/// A keeper that says what the test wants: to a request line and the lines of its body.
fn keeper(answer: impl Fn(&str, Vec<Value>) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind(support::FREE).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let (request, body) = request(&socket);
            let body = answer(&request, body.lines().map(|line| serde_json::from_str(line).unwrap()).collect());
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            socket.write_all((head + &body).as_bytes()).unwrap();
        }
    });
    address
}

fn request(socket: &TcpStream) -> (String, String) {
    let mut reader = BufReader::new(socket);
    let (mut request, mut length) = (String::new(), 0);
    reader.read_line(&mut request).unwrap();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        match header.to_ascii_lowercase().strip_prefix("content-length:") {
            Some(value) => length = value.trim().parse().unwrap(),
            None if header.trim().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (request, String::from_utf8(body).unwrap())
}

/// A page that is the last one.
fn page(users: &[&str], counted: u64) -> String {
    let key = |user: &&str| json!({"app": "mygame", "user": user, "slot": "", "kind": "purchase", "state": "active", "revision": 1});
    let keys: Vec<Value> = users.iter().map(key).collect();
    json!({"cursor": "c1790000000000", "keys": keys, "damaged": [], "next": null, "counted": counted}).to_string()
}

fn marked(lines: &[Value], is_set: impl Fn(&str) -> bool) -> String {
    let answer = |line: &Value| match is_set(line["user"].as_str().unwrap()) {
        true => json!({"status": 200, "handed_over": true}),
        false => json!({"status": 409, "code": "key_changed", "detail": "it has changed"}),
    };
    lines.iter().map(|line| answer(line).to_string() + "\n").collect()
}

fn hand_over(keeper: &str, code: i32, words: &str) -> Value {
    let place = Place::new();
    let arguments = ["export", "--handover", "--out", "all.ndjson", "-o", "json", "--admin-server", keeper];
    let done = place.run(&arguments).fails(code, words);
    serde_json::from_str(done.err.lines().next().unwrap()).unwrap()
}

#[test]
fn a_key_that_changes_in_every_pass_is_told() {
    let address = keeper(|request, lines| match request {
        _ if request.starts_with("POST") => marked(&lines, |user| user != "restless"),
        _ if request.contains("only=to_hand_over") => page(&["restless"], 2),
        _ => page(&["quiet", "restless"], 2),
    });
    let told = hand_over(&address, 6, "1 key changed again and again and are still this keeper's");
    assert_eq!((&told["keys"], &told["handed_over"], &told["left"]), (&json!(2), &json!(1), &json!(1)), "{told}");
}

#[test]
fn a_key_that_was_taken_back_is_counted_once_and_hides_none_that_is_missing() {
    let passes = std::sync::atomic::AtomicU32::new(0);
    let address = keeper(move |request, lines| match request {
        _ if request.starts_with("POST") => marked(&lines, |_| true),
        _ if request.contains("only=to_hand_over") => {
            // Its successor took the mark away behind the first pass.
            let is_first = passes.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            page(if is_first { &["taken-back"] } else { &[] }, 3)
        }
        _ => page(&["quiet", "taken-back"], 3),
    });
    let told = hand_over(&address, 6, "1 key came while the export went by and are not in it");
    assert_eq!((&told["lines"], &told["keys"], &told["handed_over"]), (&json!(3), &json!(2), &json!(2)), "{told}");
}

#[test]
fn two_exports_do_not_write_one_file() {
    let address = keeper(|_, _| page(&["one"], 1));
    let place = Place::new();
    let other = fs::File::create(place.path().join("all.ndjson.partial")).unwrap();
    other.lock().unwrap();
    let export = ["export", "--out", "all.ndjson", "--admin-server", &address];
    place.run(&export).fails(2, "another export is writing it");
    drop(other);
    place.run(&export).ok();
    place.run(&export).fails(2, "is there already");
    assert_eq!(fs::read_to_string(place.path().join("all.ndjson")).unwrap().lines().count(), 1);
}

#[test]
fn a_closed_stdout_takes_no_keys() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(|request, lines| match request {
        _ if request.starts_with("POST") => marked(&lines, |_| panic!("a key without a line is marked")),
        _ => page(&["a"], 1),
    });
    let mut command = std::process::Command::new("sh");
    command.args(["-c", r#"exec "$0" export --handover --admin-server "$1" >&-"#, env!("CARGO_BIN_EXE_storekeeper")]);
    let done = command.arg(keeper).current_dir(dir.path()).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("stdout is closed"), "{said}");
}
