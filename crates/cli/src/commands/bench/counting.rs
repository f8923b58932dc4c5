//! `Counting`: a keyring that counts the renewals it has made durable, and is otherwise the one beneath it.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use storekeeper_keyring::{Expected, Keyring, KeyringError, Settled, Write, delegate};
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
    delegate!(inner: leases, find, of_user, due, witnesses, page, count, note_used, apps, save_app, roots, add_root, close);

    fn settle(&self, writes: Arc<Vec<Write>>) -> BoxFuture<'_, Result<Vec<Settled>, KeyringError>> {
        async move {
            let settled = self.inner.settle(Arc::clone(&writes)).await?;
            self.count(&writes, &settled);
            Ok(settled)
        }
        .boxed()
    }
}
