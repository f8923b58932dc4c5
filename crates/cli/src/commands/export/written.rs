//! `Written`: which keys stand in an export, each counted once, and what became of each.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};

use storekeeper_model::KeyId;

use super::page::Members;

/// What is known of a key whose line was written. Of several lines the last one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It lives, and the keeper that is asked renews it.
    Active,
    /// It lives, and its renewals are another keeper's.
    HandedOver,
    Revoked,
    Lapsed,
}

/// The keys of an export; 17 bytes each.
#[derive(Debug, Default)]
pub(super) struct Written {
    lines: u64,
    /// Ascending: the first pass comes in the order of the ids.
    in_order: Vec<(KeyId, Fate)>,
    /// What came out of that order.
    others: HashMap<KeyId, Fate>,
}

impl Written {
    /// What stands in the lines that an interrupted export has left; `None` if they are not what an export leaves. Of a
    /// hand-over the living are taken for handed over: which are not, the passes to come tell.
    pub(super) fn read(lines: impl Read, hands_over: bool) -> io::Result<Option<Self>> {
        let mut written = Self::default();
        let mut reader = BufReader::with_capacity(256 * 1024, lines);
        let mut text = Vec::new();
        while reader.read_until(b'\n', &mut text)? > 0 {
            let line = text.strip_suffix(b"\n").and_then(|text| serde_json::from_slice::<Members>(text).ok());
            let Some((id, fate)) = line.and_then(|line| Some((line.id()?, line.fate()))) else { return Ok(None) };
            written.add(id, if hands_over && fate == Fate::Active { Fate::HandedOver } else { fate });
            text.clear();
        }
        Ok(Some(written))
    }

    /// A line was written.
    pub(super) fn add(&mut self, id: KeyId, fate: Fate) {
        self.lines += 1;
        if self.in_order.last().is_none_or(|(last, _)| *last < id) && !self.others.contains_key(&id) {
            self.in_order.push((id, fate));
        } else {
            self.turn(id, fate);
        }
    }

    /// A key whose line was written has become this.
    pub(super) fn turn(&mut self, id: KeyId, fate: Fate) {
        match self.in_order.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(place) => self.in_order[place].1 = fate,
            Err(_) => drop(self.others.insert(id, fate)),
        }
    }

    /// How many lines there are.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// How many keys there are.
    pub(super) fn keys(&self) -> u64 {
        (self.in_order.len() + self.others.len()) as u64
    }

    /// How many keys have become this.
    pub(super) fn count(&self, fate: Fate) -> u64 {
        let all = self.in_order.iter().map(|(_, fate)| fate).chain(self.others.values());
        all.filter(|one| **one == fate).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> KeyId {
        KeyId::from_bytes([number; 16])
    }

    fn counts(written: &Written) -> [u64; 6] {
        let fates = [Fate::Active, Fate::HandedOver, Fate::Revoked, Fate::Lapsed].map(|fate| written.count(fate));
        [written.lines(), written.keys(), fates[0], fates[1], fates[2], fates[3]]
    }

    #[test]
    fn a_key_that_is_written_again_is_counted_once_and_as_what_it_is_now() {
        let mut written = Written::default();
        for number in [2, 4, 6] {
            written.add(id(number), Fate::Active);
            written.turn(id(number), Fate::HandedOver);
        }
        written.add(id(8), Fate::Lapsed);
        assert_eq!(counts(&written), [4, 4, 0, 3, 0, 1]);
        // The mark of one was taken away by its successor; another one came behind the first pass, and once more.
        for number in [4, 3, 3, 9, 9] {
            written.add(id(number), Fate::Active);
        }
        assert_eq!(counts(&written), [9, 6, 3, 2, 0, 1]);
        written.turn(id(3), Fate::HandedOver);
        assert_eq!(counts(&written), [9, 6, 2, 3, 0, 1]);
    }

    #[test]
    fn what_an_interrupted_export_left_is_counted_again() {
        let line = |user: &str, state: &str| {
            format!(
                "{{\"app\":\"mygame\",\"user\":\"{user}\",\"slot\":\"\",\"kind\":\"purchase\",\"state\":\"{state}\",\"revision\":1}}\n"
            )
        };
        let text = [line("a", "active"), line("b", "active"), line("a", "active"), line("c", "revoked")].concat();
        let read = |text: &str, hands_over| Written::read(text.as_bytes(), hands_over).unwrap();
        assert_eq!(counts(&read(&text, false).unwrap()), [4, 3, 2, 0, 1, 0]);
        assert_eq!(counts(&read(&text, true).unwrap()), [4, 3, 0, 2, 1, 0]);
        assert!(read(&text[..text.len() - 1], false).is_none(), "the last line is cut off");
        assert!(read("no export\n", false).is_none());
    }
}
