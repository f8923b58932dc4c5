//! `Whereabouts`: where in the table rows stand, so that most are found without the index of ids.
//!
//! A row keeps its place while it lives, so what is remembered is right or, after the row was forgotten, leads to no row or
//! to another one, which its id shows. Whoever asks looks at the id, so nothing here has to be exact: places are kept
//! without a lock, and the last one wins.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use storekeeper_model::KeyId;

/// A table of fixed size.
#[derive(Debug)]
pub(crate) struct Whereabouts(Box<[Slot]>);

#[derive(Debug, Default)]
struct Slot {
    /// Half of the id.
    tag: AtomicU64,
    /// 0: nothing is known. Places begin at 1.
    place: AtomicI64,
}

impl Whereabouts {
    /// Remembers at most this many places.
    pub(crate) fn new(places_max: usize) -> Self {
        Self((0..places_max.max(1)).map(|_| Slot::default()).collect())
    }

    /// Where the row stood when it was last seen.
    pub(crate) fn place(&self, id: KeyId) -> Option<i64> {
        let (slot, tag) = self.slot(id);
        let is_known = slot.tag.load(Ordering::Relaxed) == tag;
        Some(slot.place.load(Ordering::Relaxed)).filter(|place| is_known && *place != 0)
    }

    /// The row was seen at this place.
    pub(crate) fn note(&self, id: KeyId, place: i64) {
        let (slot, tag) = self.slot(id);
        slot.place.store(place, Ordering::Relaxed);
        slot.tag.store(tag, Ordering::Relaxed);
    }

    fn slot(&self, id: KeyId) -> (&Slot, u64) {
        let ([tag, number], _) = id.as_bytes().as_chunks::<8>() else { unreachable!("an id has sixteen bytes") };
        let number = u64::from_le_bytes(*number) % self.0.len() as u64;
        (&self.0[number as usize], u64::from_le_bytes(*tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_noted_is_remembered_and_no_other_row_is_taken_for_it() {
        let id = |number: u8| KeyId::from_bytes([number; 16]);
        let whereabouts = Whereabouts::new(1);
        assert_eq!(whereabouts.place(id(0)), None);
        whereabouts.note(id(1), 7);
        assert_eq!((whereabouts.place(id(1)), whereabouts.place(id(2))), (Some(7), None));
        whereabouts.note(id(2), 8);
        assert_eq!((whereabouts.place(id(1)), whereabouts.place(id(2))), (None, Some(8)));
    }
}
