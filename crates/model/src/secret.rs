//! `Secret<T>`: a value that cannot be printed by accident and is zeroed when dropped.

use std::fmt;

/// Memory that may hold a secret and can be overwritten, whatever its capacity.
pub trait Wipe {
    /// Overwrites all of it with zeros.
    fn wipe(&mut self);
}

impl Wipe for [u8] {
    /// A key is wiped several times for each renewal, so it is done in one sweep and not byte by byte; whoever is shown
    /// the memory afterwards could read it, so the sweep cannot be left out.
    fn wipe(&mut self) {
        self.fill(0);
        std::hint::black_box(self);
    }
}

impl<const N: usize> Wipe for [u8; N] {
    fn wipe(&mut self) {
        self.as_mut_slice().wipe();
    }
}

impl Wipe for Vec<u8> {
    /// Also what lies beyond its length; it is empty afterwards.
    fn wipe(&mut self) {
        self.resize(self.capacity(), 0);
        self.as_mut_slice().wipe();
        self.clear();
    }
}

impl Wipe for String {
    /// As that of its bytes.
    fn wipe(&mut self) {
        let mut bytes = std::mem::take(self).into_bytes();
        bytes.wipe();
        // The memory is kept: who wipes scratch goes on using it.
        *self = Self::from_utf8(bytes).unwrap_or_default();
    }
}

/// Wraps a value that must not reach a log line, a metric, an error or a page.
///
/// There is no `Display` and no `Serialize`; `Debug` prints `[redacted]`. Reading the value is an explicit act,
/// [`Secret::expose`], that a reviewer can search for. The memory is zeroed on drop.
///
/// ```
/// use storekeeper_model::Secret;
/// let secret = Secret::new(String::from("eyJhbGciOi…"));
/// assert_eq!(format!("{secret:?}"), "[redacted]");
/// assert_eq!(secret.expose(), "eyJhbGciOi…");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Wipe>(T);

impl<T: Wipe> Secret<T> {
    /// Takes the value into custody.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// Reads the value. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Wipe> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.wipe();
    }
}

impl<T: Wipe> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Wipe> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_memory_is_overwritten() {
        let mut array = [7; 4];
        array.wipe();
        assert_eq!(array, [0; 4]);

        let mut bytes = Vec::with_capacity(64);
        bytes.extend([7; 48]);
        bytes.truncate(16);
        let capacity = bytes.capacity();
        bytes.wipe();
        assert_eq!((bytes.len(), bytes.capacity()), (0, capacity));
        let mut text = String::from("secret");
        text.wipe();
        assert_eq!(text, "");
        assert!(text.capacity() >= 6);
    }
}
