//! A running emulator and a client that knows nothing but bytes.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};
use storekeeper_clock::VirtualClock;
use storekeeper_emulator::server::{Running, Server, ServerOptions};
use storekeeper_emulator::{EmulatorOptions, VirtualHost};
use storekeeper_model::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where every test's clock starts, frozen.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_800_000_000);
pub(crate) const RENEW: &str = "/v6.0/b2b/keys/renew";

/// An emulator on free ports.
pub(crate) struct Rig {
    pub(crate) running: Running,
    pub(crate) clock: VirtualClock,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_with(ServerOptions::ephemeral()).await
    }

    pub(crate) async fn start_with(options: ServerOptions) -> Self {
        let clock = VirtualClock::frozen_at(START);
        let running = Server::start(EmulatorOptions::default(), clock.clone(), options).await.unwrap();
        Self { running, clock }
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.running.http().unwrap()
    }

    pub(crate) fn control(&self) -> SocketAddr {
        self.running.control().unwrap()
    }

    /// A request to the control port; the answer's status and document.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let reply = exchange(self.control(), &request(method, path, "localhost", "", body)).await.unwrap();
        (reply.status, reply.json())
    }

    /// A request to the control port that has to be granted.
    pub(crate) async fn grant(&self, method: &str, path: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, document) = self.ask(method, path, &body).await;
        assert_eq!(status, 200, "{method} {path}: {document}");
        document
    }

    /// A request to the control port that has to be refused, with a part of the reason.
    pub(crate) async fn refuse(&self, method: &str, path: &str, body: &str, expected: (u16, &str), reason: &str) {
        let (status, document) = self.ask(method, path, body).await;
        assert_eq!((status, document["code"].as_str().unwrap()), expected, "{method} {path} {body}: {document}");
        let detail = document["detail"].as_str().unwrap();
        assert!(detail.contains(reason), "{detail}");
    }

    pub(crate) async fn mint_key(&self, kind: &str, user_id: &str) -> String {
        let minted = self.grant("POST", "/control/v1/keys", json!({"kind": kind, "user_id": user_id})).await;
        minted["key"].as_str().unwrap().to_owned()
    }

    /// The body of a renewal with a fresh ticket.
    pub(crate) async fn renewal(&self, key: &str) -> String {
        let ticket = self.grant("POST", "/control/v1/tickets", json!({"audience": "service"})).await;
        json!({"serviceTicket": ticket["access_token"], "key": key}).to_string()
    }

    /// Renews a key at the host of a kind.
    pub(crate) async fn renew(&self, host: VirtualHost, body: &str) -> io::Result<Reply> {
        exchange(self.http(), &request("POST", RENEW, host.name(), JSON, body)).await
    }

    pub(crate) async fn ledger(&self) -> Vec<Value> {
        let page = self.grant("GET", "/control/v1/ledger", Value::Null).await;
        page["exchanges"].as_array().unwrap().clone()
    }
}

pub(crate) const JSON: &str = "Content-Type: application/json\r\n";

/// A whole request; the connection ends with its answer.
pub(crate) fn request(method: &str, path: &str, host: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Whether as many bytes came as were promised.
    pub(crate) fn is_whole(&self) -> bool {
        self.header("content-length").is_none_or(|length| length.parse() == Ok(self.body.len()))
    }
}

/// Sends a request on a connection of its own and reads until the connection ends.
pub(crate) async fn exchange(address: SocketAddr, request: &[u8]) -> io::Result<Reply> {
    converse(TcpStream::connect(address).await?, request).await
}

pub(crate) async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> io::Result<Reply> {
    stream.write_all(request).await?;
    read_reply(&mut stream).await
}

/// Reads one answer: all that was promised, or less if the connection ends before.
pub(crate) async fn read_reply(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Reply> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let body = bytes.split_off(head);
    let head = String::from_utf8(bytes).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut reply = Reply { status, head, body };
    while !reply.is_whole() && stream.read_buf(&mut reply.body).await.unwrap_or(0) > 0 {}
    Ok(reply)
}

/// Resolves when the peer has ended the connection, in whatever way.
pub(crate) async fn ended(stream: &mut (impl AsyncRead + Unpin)) {
    let mut bytes = [0; 1024];
    while stream.read(&mut bytes).await.unwrap_or(0) > 0 {}
}
