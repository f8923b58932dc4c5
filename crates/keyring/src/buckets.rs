//! `Buckets`: a set of buckets, one bit each.

use storekeeper_model::{Bucket, KeyId};

const WORDS: usize = Bucket::COUNT as usize / 64;

/// A set of buckets: 512 bytes, whatever is in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Buckets([u64; WORDS]);

impl Buckets {
    /// None.
    pub const fn none() -> Self {
        Self([0; WORDS])
    }

    /// All of them.
    pub const fn all() -> Self {
        Self([u64::MAX; WORDS])
    }

    /// Puts one in; `false` if it was there.
    pub fn insert(&mut self, bucket: Bucket) -> bool {
        let (word, bit) = place(bucket);
        let was_there = self.0[word] & bit != 0;
        self.0[word] |= bit;
        !was_there
    }

    /// Takes one out; `false` if it was not there.
    pub fn remove(&mut self, bucket: Bucket) -> bool {
        let (word, bit) = place(bucket);
        let was_there = self.0[word] & bit != 0;
        self.0[word] &= !bit;
        was_there
    }

    /// Whether one is in it.
    pub const fn contains(&self, bucket: Bucket) -> bool {
        let (word, bit) = place(bucket);
        self.0[word] & bit != 0
    }

    /// Whether the row's bucket is in it.
    pub const fn contains_row(&self, id: KeyId) -> bool {
        self.contains(id.bucket())
    }

    /// How many are in it.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether none is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Those in it, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        (0..Bucket::COUNT).filter_map(Bucket::new).filter(|bucket| self.contains(*bucket))
    }

    /// Those of it that are not in `other`.
    pub fn without(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    /// Bit `n` of byte `n / 8`, the lowest first, stands for bucket `n`.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

const fn place(bucket: Bucket) -> (usize, u64) {
    ((bucket.number() / 64) as usize, 1 << (bucket.number() % 64))
}

impl Extend<Bucket> for Buckets {
    fn extend<I: IntoIterator<Item = Bucket>>(&mut self, buckets: I) {
        for bucket in buckets {
            self.insert(bucket);
        }
    }
}

impl FromIterator<Bucket> for Buckets {
    fn from_iter<I: IntoIterator<Item = Bucket>>(buckets: I) -> Self {
        let mut set = Self::none();
        set.extend(buckets);
        set
    }
}

impl std::fmt::Debug for Buckets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buckets({} of {})", self.len(), Bucket::COUNT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(number: u16) -> Bucket {
        Bucket::new(number).unwrap()
    }

    #[test]
    fn what_is_put_in_is_in_it_and_nothing_else() {
        let mut set = Buckets::none();
        let some = [0, 1, 63, 64, 4095].map(bucket);
        assert!(some.iter().all(|one| set.insert(*one)) && !set.insert(bucket(63)));
        assert_eq!((set.iter().collect::<Vec<_>>(), set.len()), (some.to_vec(), 5));
        assert!(set.remove(bucket(1)) && !set.remove(bucket(1)) && !set.contains(bucket(1)));
        assert_eq!(Buckets::all().without(&set).len(), 4092);
        assert!(Buckets::all().len() == 4096 && Buckets::none().is_empty());
    }

    #[test]
    fn the_lowest_bit_of_the_first_byte_is_the_first_bucket() {
        let bytes = [0, 9, 4095].map(bucket).into_iter().collect::<Buckets>().to_bytes();
        assert_eq!((bytes.len(), bytes[0], bytes[1], bytes[511]), (512, 1, 2, 128));
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 3);
    }
}
