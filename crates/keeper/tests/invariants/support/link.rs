//! One keeper's way to a keyring that several share, which can be cut, in one direction or both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use storekeeper_keyring::{
    AppRow, Count, Due, DueQuery, Keyring, KeyringError, Lease, LeaseChange, Leases, MemoryKeyring, Node, NodeId, Page,
    PageQuery, Presence, Record, Settled, WrappedRoot, Write,
};
use storekeeper_model::{AppName, KeyId, Timestamp, UserName};

pub(crate) struct Link {
    memory: Arc<MemoryKeyring>,
    is_cut: AtomicBool,
    loses_answers: AtomicBool,
}

impl Link {
    pub(crate) fn to(memory: &Arc<MemoryKeyring>) -> Arc<Self> {
        Arc::new(Self {
            memory: Arc::clone(memory),
            is_cut: AtomicBool::new(false),
            loses_answers: AtomicBool::new(false),
        })
    }

    pub(crate) fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
    }

    /// What is asked for is done, and nobody hears that it was.
    pub(crate) fn lose_answers(&self, loses_answers: bool) {
        self.loses_answers.store(loses_answers, Ordering::Relaxed);
    }

    fn way<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(&'a MemoryKeyring) -> BoxFuture<'a, Result<T, KeyringError>>,
    ) -> BoxFuture<'a, Result<T, KeyringError>> {
        if self.is_cut.load(Ordering::Relaxed) {
            return std::future::ready(Err(KeyringError::Unavailable(String::from("cut off")))).boxed();
        }
        let (answer, is_lost) = (call(&self.memory), self.loses_answers.load(Ordering::Relaxed));
        async move {
            let answer = answer.await;
            if is_lost { Err(KeyringError::Unavailable(String::from("no answer"))) } else { answer }
        }
        .boxed()
    }

    fn shared(&self) -> &dyn Leases {
        self.memory.leases().expect("it is shared")
    }
}

impl Keyring for Link {
    fn find<'a>(&'a self, ids: &'a [KeyId]) -> BoxFuture<'a, Result<Vec<Option<Record>>, KeyringError>> {
        self.way(|memory| memory.find(ids))
    }

    fn of_user<'a>(&'a self, app: &'a AppName, user: &'a UserName) -> BoxFuture<'a, Result<Vec<Record>, KeyringError>> {
        self.way(|memory| memory.of_user(app, user))
    }

    fn due(&self, query: DueQuery) -> BoxFuture<'_, Result<Due, KeyringError>> {
        self.way(|memory| memory.due(query))
    }

    fn settle(&self, writes: Arc<Vec<Write>>) -> BoxFuture<'_, Result<Vec<Settled>, KeyringError>> {
        self.way(|memory| memory.settle(writes))
    }

    fn witnesses<'a>(
        &'a self,
        app: &'a AppName,
        except: KeyId,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Record>, KeyringError>> {
        self.way(|memory| memory.witnesses(app, except, now, limit))
    }

    fn page(&self, query: PageQuery) -> BoxFuture<'_, Result<Page, KeyringError>> {
        self.way(|memory| memory.page(query))
    }

    fn count<'a>(
        &'a self,
        now: Timestamp,
        overdue_before: &'a [(AppName, Timestamp)],
    ) -> BoxFuture<'a, Result<Vec<Count>, KeyringError>> {
        self.way(|memory| memory.count(now, overdue_before))
    }

    fn note_used<'a>(&'a self, used: &'a [(KeyId, i64)]) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.way(|memory| memory.note_used(used))
    }

    fn apps(&self) -> BoxFuture<'_, Result<Vec<AppRow>, KeyringError>> {
        self.way(|memory| memory.apps())
    }

    fn save_app<'a>(&'a self, app: &'a AppRow) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.way(|memory| memory.save_app(app))
    }

    fn roots(&self) -> BoxFuture<'_, Result<Vec<WrappedRoot>, KeyringError>> {
        self.way(|memory| memory.roots())
    }

    fn add_root<'a>(&'a self, root: &'a WrappedRoot) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.way(|memory| memory.add_root(root))
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }

    /// The others go on.
    fn close(&self) -> BoxFuture<'_, ()> {
        self.cut(true);
        std::future::ready(()).boxed()
    }
}

impl Leases for Link {
    fn beat<'a>(&'a self, presence: &'a Presence) -> BoxFuture<'a, Result<Vec<Node>, KeyringError>> {
        self.way(|_| self.shared().beat(presence))
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Node>, KeyringError>> {
        self.way(|_| self.shared().nodes())
    }

    fn all(&self) -> BoxFuture<'_, Result<Vec<Lease>, KeyringError>> {
        self.way(|_| self.shared().all())
    }

    fn change(&self, changes: Vec<LeaseChange>) -> BoxFuture<'_, Result<Vec<bool>, KeyringError>> {
        self.way(|_| self.shared().change(changes))
    }

    fn drain_node(&self, id: NodeId) -> BoxFuture<'_, Result<bool, KeyringError>> {
        self.way(|_| self.shared().drain_node(id))
    }

    fn undrain_node(&self, id: NodeId) -> BoxFuture<'_, Result<bool, KeyringError>> {
        self.way(|_| self.shared().undrain_node(id))
    }

    fn remove_node<'a>(&'a self, seen: &'a Node) -> BoxFuture<'a, Result<bool, KeyringError>> {
        self.way(|_| self.shared().remove_node(seen))
    }

    fn change_app<'a>(&'a self, seen: &'a AppRow, app: &'a AppRow) -> BoxFuture<'a, Result<bool, KeyringError>> {
        self.way(|_| self.shared().change_app(seen, app))
    }
}
