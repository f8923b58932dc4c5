//! The memory keyring, which can be told to lose every race or to panic.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use storekeeper_keyring::{
    AppRow, Count, Due, DueQuery, Keyring, KeyringError, MemoryKeyring, Page, PageQuery, Record, Settled, WrappedRoot,
    Write,
};
use storekeeper_model::{AppName, KeyId, Timestamp, UserName};

/// How it behaves.
#[derive(Clone, Copy, PartialEq, Default)]
pub(crate) enum Mood {
    #[default]
    Calm,
    /// Somebody else has always just written the row.
    Contended,
    /// Reading a row panics.
    Buggy,
}

#[derive(Default)]
pub(crate) struct TestKeyring {
    pub(crate) memory: MemoryKeyring,
    mood: Mutex<Mood>,
}

impl TestKeyring {
    pub(crate) fn set_mood(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn is(&self, mood: Mood) -> bool {
        *self.mood.lock().unwrap() == mood
    }
}

impl Keyring for TestKeyring {
    fn find<'a>(&'a self, ids: &'a [KeyId]) -> BoxFuture<'a, Result<Vec<Option<Record>>, KeyringError>> {
        assert!(!self.is(Mood::Buggy), "a bug that mentions a secret");
        self.memory.find(ids)
    }

    fn of_user<'a>(&'a self, app: &'a AppName, user: &'a UserName) -> BoxFuture<'a, Result<Vec<Record>, KeyringError>> {
        self.memory.of_user(app, user)
    }

    fn due(&self, query: DueQuery) -> BoxFuture<'_, Result<Due, KeyringError>> {
        self.memory.due(query)
    }

    fn settle(&self, writes: Arc<Vec<Write>>) -> BoxFuture<'_, Result<Vec<Settled>, KeyringError>> {
        if self.is(Mood::Contended) {
            return std::future::ready(Ok(vec![Settled::Conflict; writes.len()])).boxed();
        }
        self.memory.settle(writes)
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
