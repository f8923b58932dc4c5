//! An emulator and the configuration of a keeper that works against it, and HTTP with nothing in between: a connection per
//! exchange, so that what was heard before a connection broke is known to the byte.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use storekeeper_emulator::{DEV_CLIENT_ID, DEV_CLIENT_SECRET, DEV_TENANT_ID};
use storekeeper_model::Timestamp;

use crate::support::{FREE, Place, Server};

/// What `serve` is started with, in the place of a scene.
pub(crate) const SERVE: [&str; 5] = ["serve", "--config", "storekeeper.toml", "--ready-file", "keeper.json"];

/// An emulator that runs, and a keeper's files.
pub(crate) struct Scene {
    /// Where the files are.
    pub(crate) place: Place,
    /// The keeper's bearer token.
    pub(crate) token: String,
    control: String,
    _emulator: Server,
}

/// What was heard of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The body as far as it arrived, put together again where it was cut into chunks.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON, of an answer with this status.
    pub(crate) fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Each line that arrived whole.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let whole = self.body.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = self.body[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}

impl Scene {
    /// Starts the emulator and writes the keeper's files.
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// The same with more options for the emulator.
    pub(crate) fn with(options: &[&str]) -> Self {
        let place = Place::new();
        let free = ["--http", FREE, "--https", FREE, "--control", FREE];
        let emulator = place.serve(&[&["emulator"][..], &free, &["--ready-file", "emulator.json"], options].concat());
        let ready = ready(&place, "emulator.json");
        configure(&place, ready["http"].as_str().unwrap());
        let token = fs::read_to_string(place.path().join("backend.token")).unwrap().trim().to_owned();
        let control = ready["control"].as_str().unwrap().to_owned();
        Self { place, token, control, _emulator: emulator }
    }

    /// Starts `serve`: the process, and where it listens.
    pub(crate) fn serve(&self) -> (Server, String) {
        // The one that was killed has left its own behind.
        drop(fs::remove_file(self.place.path().join("keeper.json")));
        let keeper = self.place.serve(&SERVE);
        (keeper, self.listen())
    }

    /// Where the keeper that is ready listens.
    pub(crate) fn listen(&self) -> String {
        ready(&self.place, "keeper.json")["listen"].as_str().unwrap().to_owned()
    }

    /// One exchange with the keeper that listens there. An error is that it broke before a status was heard.
    pub(crate) fn ask(&self, listen: &str, request: &str, body: &str) -> io::Result<Answer> {
        exchange(listen, request, &self.token, body)
    }

    /// The emulator's time.
    pub(crate) fn now(&self) -> Timestamp {
        self.control("GET /control/v1/clock", "")["now"].as_str().unwrap().parse().unwrap()
    }

    /// A key that the emulator minted, as if that had been then.
    pub(crate) fn mint(&self, kind: &str, user: &str, issued_at: Timestamp) -> String {
        let wish = json!({ "kind": kind, "user_id": user, "issued_at": issued_at });
        self.control("POST /control/v1/keys", &wish.to_string())["key"].as_str().unwrap().to_owned()
    }

    /// The exchanges that the emulator had after this one.
    pub(crate) fn ledger(&self, after: u64) -> Vec<Value> {
        let (mut exchanges, mut next) = (Vec::new(), Some(after));
        while let Some(after) = next {
            let mut page = self.control(&format!("GET /control/v1/ledger?limit=10000&after={after}"), "");
            exchanges.append(page["exchanges"].as_array_mut().unwrap());
            next = page["next"].as_u64();
        }
        exchanges
    }

    /// Lets an endpoint answer with this status, until [`Scene::heal`].
    pub(crate) fn fault(&self, endpoint: &str, status: u16) {
        self.order(&json!({ "endpoint": endpoint, "status": status }));
    }

    /// Orders a fault.
    pub(crate) fn order(&self, fault: &Value) {
        let answer = exchange(&self.control, "POST /control/v1/faults", "", &fault.to_string()).unwrap();
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        exchange(&self.control, "DELETE /control/v1/faults", "", "").unwrap();
    }

    fn control(&self, request: &str, body: &str) -> Value {
        exchange(&self.control, request, "", body).unwrap().json(200)
    }
}

fn ready(place: &Place, name: &str) -> Value {
    serde_json::from_slice(&fs::read(place.path().join(name)).unwrap()).unwrap()
}

fn configure(place: &Place, http: &str) {
    place.run(&["init"]).ok();
    let file = place.path().join("storekeeper.toml");
    let mut text = fs::read_to_string(&file).unwrap();
    for (from, to) in [
        ("tenant_id = \"\"", format!("tenant_id = \"{DEV_TENANT_ID}\"")),
        ("client_id = \"\"", format!("client_id = \"{DEV_CLIENT_ID}\"")),
        ("# collections = \"https://", format!("collections = \"http://{http}/")),
        ("# purchase = \"https://", format!("purchase = \"http://{http}/")),
        ("# entra = \"https://", format!("entra = \"http://{http}/")),
        ("# listen = \"127.0.0.1:8433\"", format!("listen = \"{FREE}\"")),
        ("# admin_listen = \"127.0.0.1:8434\"", format!("admin_listen = \"{FREE}\"")),
        ("# pace_start = \"20/s\"", String::from("pace_start = \"500/s\"")),
    ] {
        assert!(text.contains(from), "{from}\n{text}");
        text = text.replace(from, &to);
    }
    fs::write(&file, text).unwrap();
    fs::write(place.path().join("mygame.secret"), DEV_CLIENT_SECRET).unwrap();
}

/// How long a socket may stay silent before the test gives up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// One exchange with whoever listens there.
pub(crate) fn exchange(address: &str, request: &str, token: &str, body: &str) -> io::Result<Answer> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(SILENCE_MAX))?;
    let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let length = body.len();
    let head = format!("{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{authorization}");
    socket.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes())?;
    let mut heard = Vec::new();
    // Where it breaks off, what was heard before counts all the same.
    let end = socket.read_to_end(&mut heard);
    read(&heard).ok_or_else(|| end.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()))
}

/// What these bytes say; `None` when they do not even tell the whole status.
fn read(heard: &[u8]) -> Option<Answer> {
    let line = heard.strip_prefix(b"HTTP/1.1 ")?;
    let status = std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()?;
    let Some(end) = heard.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Some(Answer { status, body: Vec::new() });
    };
    let head = String::from_utf8_lossy(&heard[..end]).to_ascii_lowercase();
    let body = &heard[end + 4..];
    let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_vec() };
    Some(Answer { status, body })
}

/// What the chunks hold that arrived, the last perhaps in part.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        let chunk = &rest[end + 2..];
        body.extend_from_slice(&chunk[..size.min(chunk.len())]);
        rest = chunk.get(size + 2..).unwrap_or_default();
    }
    body
}
