//! Where ids and payloads come from: one seed and one counter, so that the same requests in the same order draw the same.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The seed, and how often it has been drawn from. Drawing takes no lock.
pub(crate) struct Entropy {
    seed: u64,
    bytes: [u8; 32],
    next: AtomicU64,
}

impl Entropy {
    /// Draws start at `next`, which is 1 for a fresh seed.
    pub(crate) fn new(seed: u64, next: u64) -> Self {
        let mut bytes = [0; 32];
        ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
        Self { seed, bytes, next: AtomicU64::new(next) }
    }

    /// The seed.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// The serial of the next draw.
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// A generator of its own for one exchange.
    pub(crate) fn draw(&self) -> Draw {
        let serial = self.next.fetch_add(1, Ordering::Relaxed);
        let mut random = ChaCha8Rng::from_seed(self.bytes);
        random.set_stream(serial);
        Draw { serial, random }
    }

    /// A generator that depends on the seed and a name alone.
    pub(crate) fn named(&self, name: &str) -> Draw {
        use sha2::{Digest, Sha256};
        let digest = Sha256::new().chain_update(self.bytes).chain_update(name).finalize();
        Draw { serial: 0, random: ChaCha8Rng::from_seed(digest.into()) }
    }
}

/// Random material for one exchange.
pub(crate) struct Draw {
    serial: u64,
    random: ChaCha8Rng,
}

impl Draw {
    /// The order of this draw among all: later ones are higher.
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// The generator itself.
    pub(crate) fn random(&mut self) -> &mut ChaCha8Rng {
        &mut self.random
    }

    /// A random GUID, version 4.
    pub(crate) fn guid(&mut self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut bytes = [0; 16];
        self.random.fill_bytes(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let mut text = String::with_capacity(36);
        for (index, byte) in bytes.into_iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }

    /// `N` random bytes.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    /// The base of a version 1 correlation vector: 16 base64 characters (store.md 8).
    pub(crate) fn vector_base(&mut self) -> String {
        STANDARD_NO_PAD.encode(self.bytes::<12>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same() {
        let draws = |seed| {
            let entropy = Entropy::new(seed, 1);
            (0..3).map(|_| entropy.draw().guid()).collect::<Vec<_>>()
        };
        assert_eq!(draws(5), draws(5));
        assert_ne!(draws(5), draws(6));
        let guids = draws(5);
        assert!(guids[0] != guids[1] && guids[1] != guids[2]);
    }

    #[test]
    fn ids_have_their_published_form() {
        let mut draw = Entropy::new(1, 1).draw();
        let guid = draw.guid();
        assert_eq!((guid.len(), guid.as_bytes()[14]), (36, b'4'));
        assert_eq!(guid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!(draw.vector_base().len(), 16);
    }
}
