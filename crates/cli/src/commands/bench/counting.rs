//! `Counting`: a keyring that counts the renewals it has made durable, and is otherwise the one beneath it.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use storekeeper_keyring::{
    AppRow, Count, Due, DueQuery, Expected, Keyring, KeyringError, Page, PageQuery, Record, Settled, WrappedRoot, Write,
};
use storekeeper_model::{AppName, KeyId, Timestamp, UserName};
use tokio::sync::watch;

/// What has become durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Rows in which a successor took its predecessor's place.
    pub(super) renewed: u64,
    /// Rows that were written without one.
    pub(super) failed: u64,
    /// Groups in which they were written.
    pub(super) commits: u64,
}

/// Counts what `inner` settles.
pub(super) struct Counting {
    inner: Arc<dyn Keyring>,
    tally: watch::Sender<Tally>,
}

impl Counting {
    /// Counts from zero.
    pub(super) fn new(inner: Arc<dyn Keyring>) -> (Self, watch::Receiver<Tally>) {
        let (tally, seen) = watch::channel(Tally::default());
        (Self { inner, tally }, seen)
    }

    fn count(&self, writes: &[Write], settled: &[Settled]) {
        self.tally.send_modify(|tally| {
            tally.commits += 1;
            for (write, settled) in writes.iter().zip(settled) {
                match (write, settled) {
                    (Write::Put { expected: Expected::Row { fingerprint, .. }, record }, Settled::Done(_))
                        if record.key.fingerprint != *fingerprint =>
                    {
                        tally.renewed += 1;
                    }
                    _ => tally.failed += 1,
                }
            }
        });
    }
}

impl Keyring for Counting {
    fn settle(&self, writes: Arc<Vec<Write>>) -> BoxFuture<'_, Result<Vec<Settled>, KeyringError>> {
        async move {
            let settled = self.inner.settle(Arc::clone(&writes)).await?;
            self.count(&writes, &settled);
            Ok(settled)
        }
        .boxed()
    }

    fn find<'a>(&'a self, ids: &'a [KeyId]) -> BoxFuture<'a, Result<Vec<Option<Record>>, KeyringError>> {
        self.inner.find(ids)
    }

    fn of_user<'a>(&'a self, app: &'a AppName, user: &'a UserName) -> BoxFuture<'a, Result<Vec<Record>, KeyringError>> {
        self.inner.of_user(app, user)
    }

    fn due(&self, query: DueQuery) -> BoxFuture<'_, Result<Due, KeyringError>> {
        self.inner.due(query)
    }

    fn witnesses<'a>(
        &'a self,
        app: &'a AppName,
        except: KeyId,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Record>, KeyringError>> {
        self.inner.witnesses(app, except, now, limit)
    }

    fn page(&self, query: PageQuery) -> BoxFuture<'_, Result<Page, KeyringError>> {
        self.inner.page(query)
    }

    fn count<'a>(
        &'a self,
        now: Timestamp,
        overdue_before: &'a [(AppName, Timestamp)],
    ) -> BoxFuture<'a, Result<Vec<Count>, KeyringError>> {
        self.inner.count(now, overdue_before)
    }

    fn note_used<'a>(&'a self, used: &'a [(KeyId, i64)]) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.inner.note_used(used)
    }

    fn apps(&self) -> BoxFuture<'_, Result<Vec<AppRow>, KeyringError>> {
        self.inner.apps()
    }

    fn save_app<'a>(&'a self, app: &'a AppRow) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.inner.save_app(app)
    }

    fn roots(&self) -> BoxFuture<'_, Result<Vec<WrappedRoot>, KeyringError>> {
        self.inner.roots()
    }

    fn add_root<'a>(&'a self, root: &'a WrappedRoot) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.inner.add_root(root)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}
