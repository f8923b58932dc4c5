//! `Rows`: the keyring as the keeper uses it. Every write passes here, so that what is remembered of a row never lags
//! behind what its writer was told.

use std::sync::Arc;

use futures_util::FutureExt as _;
use storekeeper_keyring::keyring::Answer;
use storekeeper_keyring::{Keyring, KeyringError, Record, Settled, Write, delegate};
use storekeeper_model::KeyId;
use storekeeper_supervisor::Supervisor;

use crate::cache::{Remembered, RowCache, Seen};

/// A keyring and the rows last read from it. Clones share it.
#[derive(Clone)]
pub(crate) struct Rows {
    keyring: Arc<dyn Keyring>,
    cache: Arc<RowCache>,
    supervisor: Supervisor,
}

impl Rows {
    /// Remembers up to so many rows.
    pub(crate) fn new(keyring: Arc<dyn Keyring>, rows_max: usize, supervisor: Supervisor) -> Self {
        Self { keyring, cache: Arc::new(RowCache::new(rows_max)), supervisor }
    }

    /// The row as it stands; while the keyring is down, as it was last seen.
    ///
    /// Of a keyring that nobody else writes, what is remembered stands: it is not asked again.
    pub(crate) async fn read(&self, id: KeyId) -> Result<Option<Arc<Record>>, KeyringError> {
        let remembered = self.cache.get(id);
        if self.is_known(&remembered) {
            return Ok(remembered.row);
        }
        match self.keyring.find(&[id]).await {
            Ok(mut rows) => Ok(self.remember(id, rows.pop().flatten(), remembered.seen)),
            Err(error) => remembered.row.map(Some).ok_or(error),
        }
    }

    /// The same for many, in order; the keyring is asked once.
    pub(crate) async fn read_many(&self, ids: &[KeyId]) -> Vec<Result<Option<Arc<Record>>, KeyringError>> {
        let remembered: Vec<_> = ids.iter().map(|id| self.cache.get(*id)).collect();
        let unknown = ids.iter().zip(&remembered).filter(|(_, remembered)| !self.is_known(remembered));
        let unknown: Vec<KeyId> = unknown.map(|(id, _)| *id).collect();
        let found = if unknown.is_empty() { Ok(Vec::new()) } else { self.keyring.find(&unknown).await };
        let mut found = found.map(Vec::into_iter);
        let answer = |(id, remembered): (&KeyId, Remembered)| match &mut found {
            _ if self.is_known(&remembered) => Ok(remembered.row),
            Ok(found) => Ok(self.remember(*id, found.next().flatten(), remembered.seen)),
            Err(error) => remembered.row.map(Some).ok_or_else(|| KeyringError::Unavailable(error.to_string())),
        };
        ids.iter().zip(remembered).map(answer).collect()
    }

    /// Whether the keyring need not be asked.
    fn is_known(&self, remembered: &Remembered) -> bool {
        remembered.row.is_some() && remembered.stands && !self.is_shared()
    }

    fn remember(&self, id: KeyId, row: Option<Record>, seen: Seen) -> Option<Arc<Record>> {
        let Some(row) = row else {
            self.cache.remove(id);
            return None;
        };
        let row = Arc::new(row);
        self.cache.put(&row, seen);
        Some(row)
    }

    /// Whether no row could be served if the keyring were away.
    pub(crate) fn remembers_nothing(&self) -> bool {
        self.cache.is_empty()
    }

    async fn settle_and_tell(self, writes: Arc<Vec<Write>>) -> Result<Vec<Settled>, KeyringError> {
        let _guard = self.supervisor.guard("a write");
        let settled = self.keyring.settle(Arc::clone(&writes)).await;
        for (place, write) in writes.iter().enumerate() {
            match settled.as_ref().map(|settled| settled[place]) {
                Ok(Settled::Done(_)) => match write {
                    Write::Put { record, .. } => self.cache.replace(record),
                    Write::Forget { id, .. } => self.cache.remove(*id),
                },
                Ok(Settled::Conflict) => self.cache.discard(write.id()),
                Err(_) => self.cache.doubt(write.id()),
            }
        }
        settled
    }
}

impl Keyring for Rows {
    delegate!(keyring: leases, find, of_user, due, witnesses, page, count, apps, save_app, roots, add_root, close);

    /// In a task of its own: a write whose caller has gone away is made all the same, and what is remembered follows it.
    fn settle(&self, writes: Arc<Vec<Write>>) -> Answer<'_, Vec<Settled>> {
        let settling = tokio::spawn(self.clone().settle_and_tell(writes));
        async move { settling.await.unwrap_or_else(|_| Err(stopped())) }.boxed()
    }

    fn note_used<'a>(&'a self, used: &'a [(KeyId, i64)]) -> Answer<'a, ()> {
        async move {
            self.keyring.note_used(used).await?;
            for (id, day) in used {
                self.cache.used(*id, *day);
            }
            Ok(())
        }
        .boxed()
    }
}

fn stopped() -> KeyringError {
    KeyringError::Unavailable(String::from("this process is ending"))
}
