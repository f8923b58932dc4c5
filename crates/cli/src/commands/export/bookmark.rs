//! `Bookmark`: how far an export to a file has come, on disk beside it, so that one that was killed is gone on with.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use storekeeper_clock::{Clock as _, SystemClock};
use storekeeper_model::Timestamp;

use crate::private;

use super::page::{Asked, Page};

/// What was interrupted longer ago is begun anew: most of what it wrote may have changed since.
const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What is exported, and by whom. One order is gone on with, another one begins anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    /// The keeper's address.
    pub(super) keeper: String,
    pub(super) app: Option<String>,
    pub(super) since: Option<String>,
    pub(super) handover: bool,
}

/// How far an export has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Bookmark {
    pub(super) order: Order,
    pub(super) began_at: Timestamp,
    /// What a later export gives as `--since`: made before the first row was read.
    pub(super) cursor: String,
    /// How many bytes there are, all of them on disk.
    pub(super) length: u64,
    /// Where the first pass goes on; `None` once it is over.
    pub(super) next: Option<String>,
    /// Rows of the first pass that could not be read.
    pub(super) damaged: u64,
    /// How many keys there are, as last counted.
    pub(super) counted: Option<u64>,
}

impl Order {
    /// What is asked of the keeper, from here on.
    pub(super) fn asked(&self, cursor: Option<String>) -> Asked {
        Asked { app: self.app.clone(), since: self.since.clone(), is_to_hand_over: false, cursor }
    }
}

impl Bookmark {
    /// Of an export that begins with this page.
    pub(super) fn begin(order: Order, first: &Page) -> Self {
        let (began_at, cursor) = (SystemClock::new().now(), first.cursor.clone());
        Self { order, began_at, cursor, length: 0, next: None, damaged: 0, counted: first.counted }
    }

    /// Where the bookmark of an export to this file is.
    pub(super) fn place(path: &Path) -> PathBuf {
        private::beside(path, ".bookmark")
    }

    /// The bookmark that an interrupted export of the same order has left, if it is not old.
    pub(super) fn find(path: &Path, order: &Order, now: Timestamp) -> Option<Self> {
        let text = std::fs::read(Self::place(path)).ok()?;
        let found: Self = serde_json::from_slice(&text).ok()?;
        let is_recent = found.began_at <= now && now.since(found.began_at) <= AGE_MAX;
        (found.order == *order && is_recent).then_some(found)
    }

    /// Puts it in the place of the former one, durably.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let place = Self::place(path);
        let new = private::beside(&place, ".new");
        let mut file = private::create_anew(&new)?;
        serde_json::to_writer(&mut file, self)?;
        file.flush()?;
        file.sync_all()?;
        private::put_in_place(&new, &place)
    }

    /// Removes it, if it is there.
    pub(super) fn remove(path: &Path) -> io::Result<()> {
        match std::fs::remove_file(Self::place(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_is_for_the_same_order_on_the_same_day() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("all.ndjson");
        let order = Order { keeper: String::from("127.0.0.1:1"), app: None, since: None, handover: false };
        let began_at = Timestamp::from_seconds(1_790_000_000);
        assert!(Bookmark::find(&path, &order, began_at).is_none());
        let (cursor, next) = (String::from("c1"), Some(String::from("00")));
        let bookmark = Bookmark { order, began_at, cursor, length: 7, next, damaged: 1, counted: Some(9) };
        bookmark.save(&path).unwrap();
        let order = &bookmark.order;
        let found = |order: &Order, now| Bookmark::find(&path, order, now).map(|found| found.length);
        assert_eq!(found(order, began_at + AGE_MAX), Some(7));
        assert_eq!(found(order, began_at + AGE_MAX * 2), None);
        assert_eq!(found(order, began_at - AGE_MAX), None, "it is of a day to come");
        assert_eq!(found(&Order { handover: true, ..order.clone() }, began_at), None);
        assert_eq!(found(&Order { keeper: String::from("127.0.0.1:2"), ..order.clone() }, began_at), None);
        Bookmark::remove(&path).unwrap();
        Bookmark::remove(&path).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
