//! `Tally`: how many lines came to what.

use super::verdict::Word;

/// How many lines came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally([u64; Word::ALL.len()]);

impl Tally {
    /// One more.
    pub(super) fn count(&mut self, word: Word) {
        self.0[word as usize] += 1;
    }

    /// How many lines came to this.
    pub fn of(&self, word: Word) -> u64 {
        self.0[word as usize]
    }

    /// How many lines there were.
    pub fn lines(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Whether every key is renewed or need not be.
    pub fn is_clean(&self) -> bool {
        self.of(Word::Renewed) + self.of(Word::Kept) == self.lines()
    }
}
