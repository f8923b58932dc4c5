//! `RowCache`: the rows read last, so that live keys are served while the keyring is down. Bounded by a number of rows.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use storekeeper_keyring::Record;
use storekeeper_model::KeyId;

/// Rows as they were last read or written. They are sealed like those in the keyring.
#[derive(Debug)]
pub(crate) struct RowCache {
    rows_max: usize,
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    /// `None` where the row is known to have changed, and not to what.
    by_id: HashMap<KeyId, Option<Arc<Record>>>,
    /// In the order in which they came in; ids that are gone are skipped.
    order: VecDeque<KeyId>,
}

impl RowCache {
    pub(crate) fn new(rows_max: usize) -> Self {
        Self { rows_max, rows: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().expect("no holder of this lock panics")
    }

    /// The row as last seen.
    pub(crate) fn get(&self, id: KeyId) -> Option<Arc<Record>> {
        self.lock().by_id.get(&id)?.clone()
    }

    /// Remembers a row; the oldest falls out.
    pub(crate) fn put(&self, record: Arc<Record>) {
        if self.rows_max == 0 {
            return;
        }
        let mut rows = self.lock();
        let id = record.id;
        let known = rows.by_id.get(&id);
        if known.is_some_and(|known| known.as_ref().is_some_and(|known| known.revision > record.revision)) {
            return;
        }
        if rows.by_id.insert(id, Some(record)).is_none() {
            rows.order.push_back(id);
        }
        while rows.by_id.len() > self.rows_max {
            let Some(oldest) = rows.order.pop_front() else { break };
            rows.by_id.remove(&oldest);
        }
    }

    /// The row has changed in the keyring: what is remembered gives way, unless it is newer.
    pub(crate) fn replace(&self, record: &Record) {
        let mut rows = self.lock();
        let Some(known) = rows.by_id.get_mut(&record.id) else { return };
        if known.as_ref().is_none_or(|known| known.revision < record.revision) {
            *known = Some(Arc::new(record.clone()));
        }
    }

    /// The row was written by somebody who does not show it: what is remembered must not be served any more.
    pub(crate) fn doubt(&self, id: KeyId) {
        if let Some(known) = self.lock().by_id.get_mut(&id) {
            *known = None;
        }
    }

    /// The row is gone.
    pub(crate) fn remove(&self, id: KeyId) {
        let mut rows = self.lock();
        if rows.by_id.remove(&id).is_some() {
            rows.order.retain(|known| *known != id);
        }
    }
}
