//! The emulator as everybody meets it: a listening server, arranged through its control port.

use std::net::SocketAddr;

use serde_json::{Value, json};
use storekeeper_clock::VirtualClock;
use storekeeper_emulator::{EmulatorOptions, Running, Server, ServerOptions};
use storekeeper_model::Timestamp;
use tokio::runtime::Runtime;

use crate::direct::host;
use crate::fixture::{Fixture, START, Shape};
use crate::http;
use crate::judge::{Answer, Sent, World};

/// How a request says which host it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Addressing {
    /// By the header `Host`.
    Host,
    /// By the path's first segment.
    Prefix,
}

/// A server for all fixtures, put back to its beginning before each.
pub(crate) struct Served {
    addressing: Addressing,
    store: SocketAddr,
    control: SocketAddr,
    beginning: String,
    running: Option<Running>,
    runtime: Runtime,
}

impl Served {
    pub(crate) fn new(public_url: Option<&str>, addressing: Addressing) -> Self {
        let runtime = Runtime::new().expect("threads");
        let clock = VirtualClock::frozen_at(START.parse().expect("an instant"));
        let options = EmulatorOptions { public_url: public_url.map(str::to_owned), ..EmulatorOptions::default() };
        let listen = ServerOptions { https: None, ..ServerOptions::ephemeral() };
        let running = runtime.block_on(Server::start(options, clock, listen)).expect("free ports");
        let (store, control) = (running.http().expect("listens"), running.control().expect("listens"));
        let mut served = Self { addressing, store, control, beginning: String::new(), running: Some(running), runtime };
        served.beginning = served.order("snapshot", &Value::Null).to_string();
        served
    }

    /// Sets the scene for a fixture.
    pub(crate) fn begin(&mut self, fixture: &Fixture, shape: Shape) {
        let beginning: Value = serde_json::from_str(&self.beginning).expect("its own snapshot");
        self.order("restore", &beginning);
        self.order("profile", &crate::switches(fixture, shape));
        assert_eq!(self.now(), START.parse().expect("an instant"), "a snapshot keeps the clock");
    }

    /// `POST /control/v1/{route}`.
    fn order(&self, route: &str, order: &Value) -> Value {
        let body = if order.is_null() { String::new() } else { order.to_string() };
        self.control("POST", route, &body)
    }

    fn control(&self, method: &str, route: &str, body: &str) -> Value {
        let path = format!("/control/v1/{route}");
        let at = self.control.to_string();
        let headers = [("Host", at.as_str()), ("Content-Type", "application/json")];
        let answer = http::send(self.control, method, &path, &headers, body.as_bytes()).expect("an answer");
        let shown = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 200, "{method} {path} {body}: {shown}");
        serde_json::from_str(&shown).expect("JSON")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let ended = self.runtime.block_on(running.shutdown());
            assert!(ended.is_ok() || std::thread::panicking(), "the server ends in order");
        }
    }
}

impl World for Served {
    fn now(&self) -> Timestamp {
        let clock = self.control("GET", "clock", "");
        assert_eq!(clock["rate"], json!(0.0), "the clock moves only when told");
        clock["now"].as_str().expect("an instant").parse().expect("an instant")
    }

    fn advance(&mut self, span: &str) {
        self.order("clock", &json!({"advance": span}));
    }

    fn mint_key(&mut self, order: Value) -> String {
        self.order("keys", &order)["key"].as_str().expect("a key").to_owned()
    }

    fn mint_ticket(&mut self, order: Value) -> String {
        self.order("tickets", &order)["access_token"].as_str().expect("a ticket").to_owned()
    }

    fn add_client(&mut self, order: Value) {
        self.order("clients", &order);
    }

    fn revoke(&mut self, order: Value) {
        self.order("revocations", &order);
    }

    fn rotate(&mut self, order: Value) {
        self.order("certificates/rotate", &order);
    }

    fn fault(&mut self, order: Value) {
        self.order("faults", &order);
    }

    fn send(&mut self, request: &Sent<'_>) -> Option<Answer> {
        let (name, at) = (host(request.host).name(), self.store.to_string());
        let (path, host) = match self.addressing {
            Addressing::Host => (request.path.to_owned(), name),
            Addressing::Prefix => (format!("/{name}{}", request.path), at.as_str()),
        };
        let mut headers = request.headers.clone();
        headers.push(("Host", host));
        http::send(self.store, request.method, &path, &headers, request.body)
    }
}
