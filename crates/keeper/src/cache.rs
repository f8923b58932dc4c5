//! `RowCache`: rows read lately, so that live keys are served while the keyring is down. Bounded by a number of rows.

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
    /// How many rows a shelf holds.
    shelf_max: usize,
}

#[derive(Debug, Default)]
struct Shelf {
    /// The oldest first.
    places: Vec<Place>,
    /// How many rows were not taken since the last one that was.
    passed_over: usize,
}

#[derive(Debug)]
struct Place {
    id: KeyId,
    /// `None` where the row is known to have changed, and not to what.
    row: Option<Arc<Record>>,
}

/// How many rows a shelf holds, unless the cache holds fewer. With a shelf half full on average hardly any is too small.
const SHELF: usize = 16;
/// A full shelf takes one of this many rows. To put one down and to throw away another that nobody has touched for long
/// costs as much as a quarter of a read; and a row that is read often gets its place all the same.
const TAKES_ONE_OF: usize = 8;

impl RowCache {
    pub(crate) fn new(rows_max: usize) -> Self {
        let shelves = rows_max.div_ceil(SHELF);
        Self { shelves: (0..shelves).map(|_| Mutex::default()).collect(), shelf_max: rows_max.min(SHELF) }
    }

    /// Where a row would stand; `None` in a cache that holds none.
    fn shelf(&self, id: KeyId) -> Option<MutexGuard<'_, Shelf>> {
        let number = u64::from_le_bytes(*id.as_bytes().first_chunk().expect("an id has sixteen bytes"));
        let shelf = number.checked_rem(self.shelves.len() as u64)?;
        Some(self.shelves[shelf as usize].lock().expect("no holder of this lock panics"))
    }

    /// The row as last seen.
    pub(crate) fn get(&self, id: KeyId) -> Option<Arc<Record>> {
        self.shelf(id)?.places.iter().find(|place| place.id == id)?.row.clone()
    }

    /// Remembers a row, if there is room or it is its turn: then the oldest on its shelf falls out.
    pub(crate) fn put(&self, record: Arc<Record>) {
        let Some(mut shelf) = self.shelf(record.id) else { return };
        if let Some(place) = shelf.places.iter_mut().find(|place| place.id == record.id) {
            if place.row.as_ref().is_none_or(|known| known.revision <= record.revision) {
                place.row = Some(record);
            }
            return;
        }
        if shelf.places.len() == self.shelf_max {
            shelf.passed_over += 1;
            if shelf.passed_over < TAKES_ONE_OF {
                return;
            }
            shelf.passed_over = 0;
            shelf.places.remove(0);
        }
        shelf.places.push(Place { id: record.id, row: Some(record) });
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
            shelf.places.retain(|place| place.id != id);
        }
    }

    fn change(&self, id: KeyId, change: impl FnOnce(&mut Option<Arc<Record>>)) {
        if let Some(mut shelf) = self.shelf(id)
            && let Some(place) = shelf.places.iter_mut().find(|place| place.id == id)
        {
            change(&mut place.row);
        }
    }
}
