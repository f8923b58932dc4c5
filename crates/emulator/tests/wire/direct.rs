//! The emulator as a plain function: no socket, no faults.

use serde_json::Value;
use storekeeper_emulator::{Emulator, EmulatorOptions, Snapshot, StoreRequest, VirtualHost};
use storekeeper_model::{Timestamp, parse_span};

use crate::fixture::{Fixture, START, Shape};
use crate::judge::{Answer, Sent, World};

/// One emulator for all fixtures, put back to its beginning before each: RSA keys are slow to make.
pub(crate) struct Direct {
    emulator: Emulator,
    beginning: Snapshot,
    now: Timestamp,
}

impl Direct {
    pub(crate) fn new(public_url: Option<&str>) -> Self {
        let now = START.parse().expect("an instant");
        let public_url = public_url.map(str::to_owned);
        let emulator = Emulator::new(EmulatorOptions { public_url, ..EmulatorOptions::default() }, now);
        Self { beginning: emulator.snapshot(), emulator, now }
    }

    /// Sets the scene for a fixture.
    pub(crate) fn begin(&mut self, fixture: &Fixture, shape: Shape) {
        self.now = START.parse().expect("an instant");
        self.emulator.restore(&self.beginning).expect("its own snapshot");
        self.emulator.set_profile(order(crate::switches(fixture, shape)), self.now);
    }
}

fn order<T: serde::de::DeserializeOwned>(order: Value) -> T {
    serde_json::from_value(order).expect("an order of the control port")
}

impl World for Direct {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn advance(&mut self, span: &str) {
        self.now = self.now + parse_span(span).expect("a span");
    }

    fn mint_key(&mut self, wanted: Value) -> String {
        self.emulator.mint_key(order(wanted), self.now).expect("a key").expose().clone()
    }

    fn mint_ticket(&mut self, wanted: Value) -> String {
        self.emulator.mint_ticket(order(wanted), self.now).expose().clone()
    }

    fn add_client(&mut self, wanted: Value) {
        self.emulator.add_client(order(wanted)).expect("a client");
    }

    fn revoke(&mut self, wanted: Value) {
        self.emulator.revoke(order(wanted)).expect("a key to revoke");
    }

    fn rotate(&mut self, wanted: Value) {
        let span = wanted["accept_previous_for"].as_str().map(|span| parse_span(span).expect("a span"));
        self.emulator.rotate(span, self.now);
    }

    fn fault(&mut self, _: Value) {
        unreachable!("faults strike what listens");
    }

    fn send(&mut self, request: &Sent<'_>) -> Option<Answer> {
        let header = |wanted: &str| {
            let found = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| *value)
        };
        let (path, query) =
            request.path.split_once('?').map_or((request.path, None), |(path, query)| (path, Some(query)));
        let answer = self.emulator.answer(
            &StoreRequest {
                host: host(request.host),
                method: request.method,
                path,
                query,
                content_type: header("content-type"),
                authorization: header("authorization"),
                ms_cv: header("ms-cv"),
                body: request.body,
            },
            self.now,
        );
        let headers = answer.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Some(Answer { status: answer.status, headers, body: answer.body.to_vec() })
    }
}

/// The emulated host by the name that fixtures use.
pub(crate) fn host(name: &str) -> VirtualHost {
    match name {
        "collections" => VirtualHost::Collections,
        "purchase" => VirtualHost::Purchase,
        "login" => VirtualHost::Login,
        other => panic!("`{other}` is no host"),
    }
}
