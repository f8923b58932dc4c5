//! The claim `payload`: opaque to everybody but the emulator, which keeps the hidden Store account and the key's serial
//! number in it, so that no table of keys is needed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::RngCore;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::management::ControlError;

/// Characters of a payload by default: 256 bytes of content, in the manner of the 684 characters of the documentation's
/// example, which are 512 (store.md 3.2).
pub const LENGTH_DEFAULT: usize = 344;
/// The fewest characters that hold every account.
pub const LENGTH_MIN: usize = 116;
/// The most characters.
pub const LENGTH_MAX: usize = 8192;
/// The longest account in bytes.
pub const ACCOUNT_BYTES_MAX: usize = 64;

const NONCE_BYTES: usize = 8;
const FIXED_BYTES: usize = 9;
const MASKED_BYTES: usize = FIXED_BYTES + ACCOUNT_BYTES_MAX;

/// What a payload hides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Payload {
    /// The minting order: revocations mean the keys minted before them.
    pub serial: u64,
    /// The Store account behind the key; never in clear on the wire.
    pub account: String,
}

/// Hides and finds payloads. What is hidden is scrambled with the emulator's seed, which is obfuscation, not secrecy.
#[derive(Clone)]
pub struct PayloadMask {
    seed: [u8; 32],
}

impl PayloadMask {
    /// From the emulator's seed.
    pub fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        ChaCha8Rng::seed_from_u64(seed ^ 0x7061_796c_6f61_6421).fill_bytes(&mut bytes);
        Self { seed: bytes }
    }

    /// Appends `length` characters of standard base64 to `out`.
    ///
    /// # Errors
    /// [`ControlError::PayloadLength`] or [`ControlError::AccountTooLong`].
    pub fn hide(
        &self,
        payload: &Payload,
        length: usize,
        random: &mut impl RngCore,
        out: &mut String,
    ) -> Result<(), ControlError> {
        if !(LENGTH_MIN..=LENGTH_MAX).contains(&length) || !length.is_multiple_of(4) {
            return Err(ControlError::PayloadLength);
        }
        if payload.account.len() > ACCOUNT_BYTES_MAX {
            return Err(ControlError::AccountTooLong);
        }
        let mut bytes = vec![0; content_bytes(length)];
        random.fill_bytes(&mut bytes);
        let (nonce, content) = bytes.split_at_mut(NONCE_BYTES);
        content[..8].copy_from_slice(&payload.serial.to_be_bytes());
        content[8] = u8::try_from(payload.account.len()).expect("at most 64, checked above");
        content[FIXED_BYTES..FIXED_BYTES + payload.account.len()].copy_from_slice(payload.account.as_bytes());
        self.scramble(nonce, &mut content[..MASKED_BYTES]);
        STANDARD.encode_string(&bytes, out);
        Ok(())
    }

    /// What a payload made by [`PayloadMask::hide`] says; `None` for anything else.
    pub fn find(&self, text: &str) -> Option<Payload> {
        let mut bytes = STANDARD.decode(text).ok()?;
        if bytes.len() < NONCE_BYTES + MASKED_BYTES {
            return None;
        }
        let (nonce, content) = bytes.split_at_mut(NONCE_BYTES);
        self.scramble(nonce, &mut content[..MASKED_BYTES]);
        let serial = u64::from_be_bytes(content[..8].try_into().ok()?);
        let account = content.get(FIXED_BYTES..FIXED_BYTES + usize::from(content[8]))?;
        Some(Payload { serial, account: std::str::from_utf8(account).ok()?.to_owned() })
    }

    fn scramble(&self, nonce: &[u8], content: &mut [u8]) {
        let mut stream = ChaCha8Rng::from_seed(self.seed);
        stream.set_stream(u64::from_be_bytes(nonce.try_into().expect("a nonce has 8 bytes")));
        let mut mask = [0; MASKED_BYTES];
        stream.fill_bytes(&mut mask);
        content.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// As many bytes as `length` characters hold, one or two fewer where that makes whole blocks of 16.
fn content_bytes(length: usize) -> usize {
    let most = length / 4 * 3;
    match most % 16 {
        over @ 1..=2 => most - over,
        _ => most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_found_at_every_length() {
        let mask = PayloadMask::new(7);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for length in [LENGTH_MIN, 264, LENGTH_DEFAULT, 684, 800, LENGTH_MAX] {
            for account in ["", "a", &"x".repeat(ACCOUNT_BYTES_MAX)] {
                let payload = Payload { serial: 42, account: account.to_owned() };
                let mut text = String::new();
                mask.hide(&payload, length, &mut random, &mut text).unwrap();
                assert_eq!(text.len(), length);
                assert_eq!(mask.find(&text), Some(payload));
            }
        }
    }

    #[test]
    fn the_default_is_256_bytes_and_the_documentations_684_are_512() {
        assert_eq!((content_bytes(LENGTH_DEFAULT), content_bytes(684)), (256, 512));
    }

    #[test]
    fn lengths_and_accounts_have_limits() {
        let check = |length, account: &str, expected| {
            let payload = Payload { serial: 0, account: account.to_owned() };
            let mut random = ChaCha8Rng::seed_from_u64(1);
            let hidden = PayloadMask::new(7).hide(&payload, length, &mut random, &mut String::new());
            assert_eq!(hidden, Err(expected));
        };
        check(LENGTH_MIN - 4, "", ControlError::PayloadLength);
        check(LENGTH_DEFAULT + 1, "", ControlError::PayloadLength);
        check(LENGTH_MAX + 4, "", ControlError::PayloadLength);
        check(LENGTH_DEFAULT, &"x".repeat(65), ControlError::AccountTooLong);
    }

    #[test]
    fn foreign_text_hides_nothing() {
        let mask = PayloadMask::new(7);
        for text in ["", "AAAA", "no base64 at all!"] {
            assert_eq!(mask.find(text), None, "{text}");
        }
    }
}
