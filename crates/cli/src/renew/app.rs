//! `App`: what is shared by all keys of one client ID: its ticket, its gates, and what was learned about all of them.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use storekeeper_client::Transport;
use storekeeper_clock::Clock;
use storekeeper_keeper::AppConfig;
use storekeeper_model::{ClientId, KeyId, KeyKind, StoreIdKey, Timestamp};
use storekeeper_policy::{Guard, RenewalPolicy};
use tokio::sync::watch;

use super::gate::Gate;
use super::tickets::{Authority, Tickets};
use super::verdict::{Verdict, Word};

/// Once this many refused keys wait for their retry, nothing new is tried with the ticket that was refused.
const REFUSED_MAX: usize = 64;

/// Everything that keys of one client ID share.
pub(super) struct App {
    pub(super) client_id: ClientId,
    pub(super) policy: RenewalPolicy,
    pub(super) tickets: Tickets,
    pub(super) refused: Refused,
    collections: Gate,
    purchase: Gate,
    guard: Mutex<GuardState>,
    keeps_going: bool,
}

/// How many refused keys have not had their retry yet.
///
/// A number that is looked at, not places that are taken: whoever only wants to know whether there is a place would
/// hold it for a moment, and a crowd of those would hand the last ones round for ever.
#[derive(Default)]
pub(super) struct Refused(watch::Sender<usize>);

/// One refused key, until it has had its retry.
pub(super) struct Retry<'a>(&'a Refused);

impl Refused {
    /// Counts a key until the answer is dropped.
    pub(super) fn one_more(&self) -> Retry<'_> {
        self.0.send_modify(|count| *count += 1);
        Retry(self)
    }

    /// Whether so many wait that nothing new should be tried.
    pub(super) fn are_many(&self) -> bool {
        *self.0.borrow() >= REFUSED_MAX
    }

    /// Waits until they are not many.
    pub(super) async fn are_few(&self) {
        let mut count = self.0.subscribe();
        count.wait_for(|count| *count < REFUSED_MAX).await.expect("its sender is borrowed here");
    }
}

impl Drop for Retry<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

#[derive(Default)]
struct GuardState {
    guard: Guard,
    halted: Option<Halt>,
}

/// Why no further key of the app is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Halt {
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
    fn told(self) -> String {
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
            refused: Refused::default(),
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

    /// An error when no further key is tried.
    pub(super) fn goes_on(&self) -> Result<(), Verdict> {
        let halted = self.lock().halted;
        halted.map_or(Ok(()), |halt| Err(Verdict::other(Word::Failed, "app_paused", halt.told())))
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
