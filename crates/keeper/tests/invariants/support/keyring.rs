//! The memory keyring, whose writes can be held back, or made without anybody being told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use storekeeper_keyring::{
    AppRow, Count, Due, DueQuery, Keyring, KeyringError, MemoryKeyring, Page, PageQuery, Record, Settled, WrappedRoot,
    Write,
};
use storekeeper_model::{AppName, KeyId, Timestamp, UserName};
use tokio::sync::Semaphore;

#[derive(Default)]
pub(crate) struct HeldKeyring {
    pub(crate) memory: MemoryKeyring,
    gate: Mutex<Option<Arc<Semaphore>>>,
    waiting: AtomicUsize,
    /// So many groups are written, and their writers told that they were not.
    denied: AtomicUsize,
    scans: AtomicUsize,
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

    /// How many groups of writes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The next group is written, and its writer told that it was not.
    pub(crate) fn deny_next(&self) {
        self.denied.fetch_add(1, Ordering::Relaxed);
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
        let settled = self.memory.settle(writes).await?;
        let denied = self.denied.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if denied.is_ok() {
            return Err(KeyringError::Unavailable(String::from("the connection broke after the commit")));
        }
        Ok(settled)
    }
}

impl Keyring for HeldKeyring {
    fn find<'a>(&'a self, ids: &'a [KeyId]) -> BoxFuture<'a, Result<Vec<Option<Record>>, KeyringError>> {
        self.memory.find(ids)
    }

    fn of_user<'a>(&'a self, app: &'a AppName, user: &'a UserName) -> BoxFuture<'a, Result<Vec<Record>, KeyringError>> {
        self.memory.of_user(app, user)
    }

    fn due(&self, query: DueQuery) -> BoxFuture<'_, Result<Due, KeyringError>> {
        self.scans.fetch_add(1, Ordering::Relaxed);
        self.memory.due(query)
    }

    fn settle(&self, writes: Arc<Vec<Write>>) -> BoxFuture<'_, Result<Vec<Settled>, KeyringError>> {
        self.settle_in_turn(writes).boxed()
    }

    fn witnesses<'a>(
        &'a self,
        app: &'a AppName,
        except: KeyId,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Record>, KeyringError>> {
        self.memory.witnesses(app, except, now, limit)
    }

    fn page(&self, query: PageQuery) -> BoxFuture<'_, Result<Page, KeyringError>> {
        self.memory.page(query)
    }

    fn count<'a>(
        &'a self,
        now: Timestamp,
        overdue_before: &'a [(AppName, Timestamp)],
    ) -> BoxFuture<'a, Result<Vec<Count>, KeyringError>> {
        self.memory.count(now, overdue_before)
    }

    fn note_used<'a>(&'a self, used: &'a [(KeyId, i64)]) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.memory.note_used(used)
    }

    fn apps(&self) -> BoxFuture<'_, Result<Vec<AppRow>, KeyringError>> {
        self.memory.apps()
    }

    fn save_app<'a>(&'a self, app: &'a AppRow) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.memory.save_app(app)
    }

    fn roots(&self) -> BoxFuture<'_, Result<Vec<WrappedRoot>, KeyringError>> {
        self.memory.roots()
    }

    fn add_root<'a>(&'a self, root: &'a WrappedRoot) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.memory.add_root(root)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.memory.close()
    }
}
