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
    by_id: HashMap<KeyId, Arc<Record>>,
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
        self.lock().by_id.get(&id).map(Arc::clone)
    }

    /// Remembers a row; the oldest falls out.
    pub(crate) fn put(&self, record: Arc<Record>) {
        if self.rows_max == 0 {
            return;
        }
        let mut rows = self.lock();
        let id = record.id;
        if rows.by_id.insert(id, record).is_none() {
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
        if let Some(known) = rows.by_id.get_mut(&record.id).filter(|known| known.revision < record.revision) {
            *known = Arc::new(record.clone());
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
