//! `RowCache`: rows read lately, so that they need not be looked up again, and live keys are served while the keyring is
//! down. Bounded by a number of rows.

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
    /// How often a row that belongs here was written.
    changes: u64,
}

#[derive(Debug)]
struct Place {
    id: KeyId,
    /// `None` where the row is known to have changed, and not to what.
    row: Option<Arc<Record>>,
    /// Whether nothing is known that could have changed the row since.
    stands: bool,
    /// Asked for since it was last spared.
    is_wanted: bool,
}

/// What is remembered of a row.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// As last seen.
    pub(crate) row: Option<Arc<Record>>,
    /// Whether no write of ours has changed it since, as far as is known.
    pub(crate) stands: bool,
    /// To be shown when the row is put here after it was looked up.
    pub(crate) seen: Seen,
}

/// How often rows near the one asked for had been written when a reader went to look it up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen(u64);

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

    /// Whether no row is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.shelves.iter().all(|shelf| shelf.lock().expect("no holder of this lock panics").places.is_empty())
    }

    /// Where a row would stand; `None` in a cache that holds none.
    fn shelf(&self, id: KeyId) -> Option<MutexGuard<'_, Shelf>> {
        let number = u64::from_le_bytes(*id.as_bytes().first_chunk().expect("an id has sixteen bytes"));
        let shelf = number.checked_rem(self.shelves.len() as u64)?;
        Some(self.shelves[shelf as usize].lock().expect("no holder of this lock panics"))
    }

    /// What is remembered of a row.
    pub(crate) fn get(&self, id: KeyId) -> Remembered {
        let nothing = |seen| Remembered { row: None, stands: false, seen: Seen(seen) };
        let Some(mut shelf) = self.shelf(id) else { return nothing(0) };
        let seen = Seen(shelf.changes);
        let Some(place) = shelf.places.iter_mut().find(|place| place.id == id) else { return nothing(seen.0) };
        place.is_wanted = true;
        Remembered { row: place.row.clone(), stands: place.stands, seen }
    }

    /// Remembers a row that was looked up after `seen`, if there is room or it is its turn: then one that nobody asked for
    /// falls out. What was written meanwhile is newer, so that nothing old is ever put down.
    pub(crate) fn put(&self, record: &Arc<Record>, seen: Seen) {
        let Some(mut shelf) = self.shelf(record.id) else { return };
        if shelf.changes != seen.0 {
            return;
        }
        if let Some(place) = shelf.places.iter_mut().find(|place| place.id == record.id) {
            (place.row, place.stands) = (Some(Arc::clone(record)), true);
            return;
        }
        if shelf.places.len() == self.shelf_max {
            shelf.passed_over += 1;
            if shelf.passed_over < TAKES_ONE_OF {
                return;
            }
            shelf.passed_over = 0;
            shelf.drop_one();
        }
        shelf.places.push(Place { id: record.id, row: Some(Arc::clone(record)), stands: true, is_wanted: false });
    }

    /// The row has changed in the keyring: what is remembered gives way.
    pub(crate) fn replace(&self, record: &Record) {
        self.change(record.id, |place| {
            // Two who wrote one after the other may come here in another order.
            if place.row.as_ref().is_some_and(|known| known.revision < record.revision) {
                (place.row, place.stands) = (Some(Arc::new(record.clone())), true);
            }
        });
    }

    /// The row was used on this day, which changes no revision.
    pub(crate) fn used(&self, id: KeyId, day: i64) {
        self.change(id, |place| {
            if let Some(known) = place.row.as_ref().filter(|known| known.last_used_day < Some(day)) {
                place.row = Some(Arc::new(Record { last_used_day: Some(day), ..Record::clone(known) }));
            }
        });
    }

    /// The row may have been written, or not: what is remembered is served only while nobody can say.
    pub(crate) fn doubt(&self, id: KeyId) {
        self.change(id, |place| place.stands = false);
    }

    /// The row was written by somebody who does not show it: what is remembered must not be served any more.
    pub(crate) fn discard(&self, id: KeyId) {
        self.change(id, |place| place.row = None);
    }

    /// The row is gone.
    pub(crate) fn remove(&self, id: KeyId) {
        if let Some(mut shelf) = self.shelf(id) {
            shelf.changes += 1;
            shelf.places.retain(|place| place.id != id);
        }
    }

    fn change(&self, id: KeyId, change: impl FnOnce(&mut Place)) {
        let Some(mut shelf) = self.shelf(id) else { return };
        shelf.changes += 1;
        if let Some(place) = shelf.places.iter_mut().find(|place| place.id == id) {
            change(place);
        }
    }
}

impl Shelf {
    /// Drops the oldest row that nobody has asked for since it was last spared.
    fn drop_one(&mut self) {
        for _ in 0..self.places.len() {
            let mut place = self.places.remove(0);
            if !std::mem::take(&mut place.is_wanted) {
                return;
            }
            self.places.push(place);
        }
        self.places.remove(0);
    }
}
