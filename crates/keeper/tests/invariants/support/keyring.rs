//! The memory keyring, whose writes can be held back, or made without anybody being told.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use storekeeper_keyring::keyring::Closed;
use storekeeper_keyring::{Due, DueQuery, Keyring, KeyringError, MemoryKeyring, Record, Settled, Write, delegate};
use storekeeper_model::KeyId;
use tokio::sync::Semaphore;

struct HeldFinder(Semaphore);

impl Default for HeldFinder {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

#[derive(Default)]
pub(crate) struct HeldKeyring {
    pub(crate) memory: MemoryKeyring,
    gate: Mutex<Option<Arc<Semaphore>>>,
    waiting: AtomicUsize,
    /// So many groups are written, and their writers told that they were not.
    denied: AtomicUsize,
    /// Groups with one of these rows are refused.
    refused: Mutex<HashSet<KeyId>>,
    scans: AtomicUsize,
    finds: AtomicUsize,
    /// Whoever looks for a row next is held up with what he found.
    holds_finder: AtomicBool,
    held_finder: HeldFinder,
}

impl HeldKeyring {
    /// Lets no write through until [`HeldKeyring::open`].
    pub(crate) fn shut(&self) {
        *self.gate.lock().unwrap() = Some(Arc::new(Semaphore::new(0)));
    }

    pub(crate) fn open(&self) {
        if let Some(gate) = self.gate.lock().unwrap().take() {
            gate.add_permits(Semaphore::MAX_PERMITS);
        }
    }

    /// Whoever looks for a row next is held up with what he found, until [`HeldKeyring::open_finds`].
    pub(crate) fn shut_finds(&self) {
        self.holds_finder.store(true, Ordering::Relaxed);
    }

    pub(crate) fn open_finds(&self) {
        self.held_finder.0.add_permits(1);
    }

    /// How often rows were looked for, since this was last asked.
    pub(crate) fn take_finds(&self) -> usize {
        self.finds.swap(0, Ordering::Relaxed)
    }

    async fn find_in_turn(&self, ids: &[KeyId]) -> Result<Vec<Option<Record>>, KeyringError> {
        self.finds.fetch_add(1, Ordering::Relaxed);
        let found = self.memory.find(ids).await;
        if self.holds_finder.swap(false, Ordering::Relaxed) {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            self.held_finder.0.acquire().await.unwrap().forget();
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        found
    }

    /// How many groups of writes, or readers, wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The next group is written, and its writer told that it was not.
    pub(crate) fn deny_next(&self) {
        self.denied.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on a group with this row is refused for its sake.
    pub(crate) fn refuse(&self, id: KeyId) {
        self.refused.lock().unwrap().insert(id);
    }

    /// From now on no row is refused.
    pub(crate) fn accept_all(&self) {
        self.refused.lock().unwrap().clear();
    }

    /// How often somebody looked for what is due, since this was last asked.
    pub(crate) fn take_scans(&self) -> usize {
        self.scans.swap(0, Ordering::Relaxed)
    }

    async fn settle_in_turn(&self, writes: Arc<Vec<Write>>) -> Result<Vec<Settled>, KeyringError> {
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            drop(gate.acquire().await.unwrap());
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        if writes.iter().any(|write| self.refused.lock().unwrap().contains(&write.id())) {
            return Err(KeyringError::Refused(String::from("a constraint")));
        }
        let settled = self.memory.settle(writes).await?;
        let denied = self.denied.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if denied.is_ok() {
            return Err(KeyringError::Unavailable(String::from("the connection broke after the commit")));
        }
        Ok(settled)
    }
}

impl Keyring for HeldKeyring {
    delegate!(memory: leases, of_user, witnesses, page, count, note_used, apps, save_app, roots, add_root);

    /// What it holds outlives a keeper, as a file does.
    fn close(&self) -> Closed<'_> {
        std::future::ready(()).boxed()
    }

    fn due(&self, query: DueQuery) -> BoxFuture<'_, Result<Due, KeyringError>> {
        self.scans.fetch_add(1, Ordering::Relaxed);
        self.memory.due(query)
    }

    fn find<'a>(&'a self, ids: &'a [KeyId]) -> BoxFuture<'a, Result<Vec<Option<Record>>, KeyringError>> {
        self.find_in_turn(ids).boxed()
    }

    fn settle(&self, writes: Arc<Vec<Write>>) -> BoxFuture<'_, Result<Vec<Settled>, KeyringError>> {
        self.settle_in_turn(writes).boxed()
    }
}
