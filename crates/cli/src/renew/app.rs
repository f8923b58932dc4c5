//! `App`: what is shared by all keys of one client ID: its ticket, its gates, and what was learned about all of them.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use storekeeper_client::Transport;
use storekeeper_clock::Clock;
use storekeeper_keeper::AppConfig;
use storekeeper_model::{ClientId, KeyId, KeyKind, StoreIdKey, Timestamp};
use storekeeper_policy::{Guard, RenewalPolicy};
use tokio::sync::Semaphore;

use super::gate::Gate;
use super::tickets::{Authority, Tickets};

/// At most this many refused keys wait for a fresh ticket; past that nothing new is tried with the old one.
const FRESH_WAITING_MAX: usize = 64;

/// Everything that keys of one client ID share.
pub(super) struct App {
    pub(super) client_id: ClientId,
    pub(super) policy: RenewalPolicy,
    pub(super) tickets: Tickets,
    /// A place for each refused key that waits for a fresh ticket.
    pub(super) fresh: Semaphore,
    collections: Gate,
    purchase: Gate,
    guard: Mutex<GuardState>,
    keeps_going: bool,
}

#[derive(Default)]
struct GuardState {
    guard: Guard,
    halted: Option<Halt>,
}

/// Why no further key of the app is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    /// So many keys are refused that the fault cannot be theirs.
    Guard {
        /// How many of the last ones.
        refused: usize,
        /// How many last ones.
        tried: usize,
    },
    /// The Store says that the client ID is not the keys'.
    InconsistentClientId,
}

impl Halt {
    pub(super) fn told(self) -> String {
        match self {
            Self::Guard { refused, tried } => format!(
                "not tried: {refused} of the last {tried} keys were refused, so the fault is probably not theirs; look at the configuration, or try every key with --keep-going"
            ),
            Self::InconsistentClientId => {
                String::from("not tried: the Store says that the client ID is not the keys'; correct the configuration")
            }
        }
    }
}

impl App {
    pub(super) fn new(
        config: AppConfig,
        authority: Authority,
        transport: Arc<dyn Transport>,
        clock: &Arc<dyn Clock>,
        patience: Duration,
        seed: u64,
    ) -> Self {
        let gate = |seed| Gate::new(Arc::clone(clock), &config.policy, patience, seed);
        Self {
            client_id: config.client_id.clone(),
            policy: config.policy,
            collections: gate(seed),
            purchase: gate(seed ^ 1),
            tickets: Tickets::new(config, authority, transport, Arc::clone(clock), patience),
            fresh: Semaphore::new(FRESH_WAITING_MAX),
            guard: Mutex::default(),
            keeps_going: false,
        }
    }

    /// Goes on however many keys are refused.
    pub(super) fn keep_going(self) -> Self {
        Self { keeps_going: true, ..self }
    }

    pub(super) fn gate(&self, kind: KeyKind) -> &Gate {
        match kind {
            KeyKind::Collections => &self.collections,
            KeyKind::Purchase => &self.purchase,
        }
    }

    /// Why no further key is tried, if none is.
    pub(super) fn halted(&self) -> Option<Halt> {
        self.lock().halted
    }

    /// The Store says that the client ID is not the keys'.
    pub(super) fn wrong_client(&self) {
        self.lock().halted.get_or_insert(Halt::InconsistentClientId);
    }

    /// Remembers what became of a key. One that has expired was refused for that, so it says nothing about the others.
    pub(super) fn record(&self, key: &StoreIdKey, is_refused: bool, now: Timestamp) {
        if is_refused && key.lifetime().expires_at().is_some_and(|expires_at| expires_at <= now) {
            return;
        }
        let mut state = self.lock();
        state.guard.record(KeyId::from_bytes(*key.fingerprint().as_bytes()), is_refused);
        if state.guard.trips() && !self.keeps_going && state.halted.is_none() {
            let counts = state.guard.counts();
            state.halted = Some(Halt::Guard { refused: counts.refused, tried: counts.tried });
        }
    }

    fn lock(&self) -> MutexGuard<'_, GuardState> {
        self.guard.lock().expect("no holder of this lock panics")
    }
}
