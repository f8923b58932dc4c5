//! `RowCache`: the rows read last, so that live keys are served while the keyring is down. Bounded by a number of rows.

use std::sync::{Arc, Mutex, MutexGuard};

use storekeeper_keyring::Record;
use storekeeper_model::KeyId;

/// Rows as they were last read or written. They are sealed like those in the keyring.
///
/// Every read passes here, so readers must not wait for each other: rows are spread over many small shelves by their ids,
/// which are evenly distributed.
#[derive(Debug)]
pub(crate) struct RowCache {
    shelves: Box<[Mutex<Shelf>]>,
    rows_max: usize,
}

/// The oldest first.
type Shelf = Vec<Place>;

#[derive(Debug)]
struct Place {
    id: KeyId,
    /// `None` where the row is known to have changed, and not to what.
    row: Option<Arc<Record>>,
}

/// How many rows a shelf holds, unless the cache holds fewer. With a shelf half full on average hardly any is too small.
const SHELF: usize = 16;

impl RowCache {
    pub(crate) fn new(rows_max: usize) -> Self {
        let shelves = rows_max.div_ceil(SHELF);
        Self { shelves: (0..shelves).map(|_| Mutex::default()).collect(), rows_max: rows_max.min(SHELF) }
    }

    /// Where a row would stand; `None` in a cache that holds none.
    fn shelf(&self, id: KeyId) -> Option<MutexGuard<'_, Shelf>> {
        let number = u64::from_le_bytes(*id.as_bytes().first_chunk().expect("an id has sixteen bytes"));
        let shelf = number.checked_rem(self.shelves.len() as u64)?;
        Some(self.shelves[shelf as usize].lock().expect("no holder of this lock panics"))
    }

    /// The row as last seen.
    pub(crate) fn get(&self, id: KeyId) -> Option<Arc<Record>> {
        self.shelf(id)?.iter().find(|place| place.id == id)?.row.clone()
    }

    /// Remembers a row; the oldest on its shelf falls out.
    pub(crate) fn put(&self, record: Arc<Record>) {
        let Some(mut shelf) = self.shelf(record.id) else { return };
        match shelf.iter_mut().find(|place| place.id == record.id) {
            Some(Place { row: Some(known), .. }) if known.revision > record.revision => {}
            Some(place) => place.row = Some(record),
            None => {
                if shelf.len() == self.rows_max {
                    shelf.remove(0);
                }
                shelf.push(Place { id: record.id, row: Some(record) });
            }
        }
    }

    /// The row has changed in the keyring: what is remembered gives way, unless it is newer.
    pub(crate) fn replace(&self, record: &Record) {
        self.change(record.id, |row| {
            if row.as_ref().is_none_or(|known| known.revision < record.revision) {
                *row = Some(Arc::new(record.clone()));
            }
        });
    }

    /// The row was written by somebody who does not show it: what is remembered must not be served any more.
    pub(crate) fn doubt(&self, id: KeyId) {
        self.change(id, |row| *row = None);
    }

    /// The row is gone.
    pub(crate) fn remove(&self, id: KeyId) {
        if let Some(mut shelf) = self.shelf(id) {
            shelf.retain(|place| place.id != id);
        }
    }

    fn change(&self, id: KeyId, change: impl FnOnce(&mut Option<Arc<Record>>)) {
        if let Some(mut shelf) = self.shelf(id)
            && let Some(place) = shelf.iter_mut().find(|place| place.id == id)
        {
            change(&mut place.row);
        }
    }
}
