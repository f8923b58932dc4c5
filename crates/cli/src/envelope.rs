//! The envelope: a stream encrypted to a passphrase, so that an export can travel. Whatever is changed, moved or cut off
//! is noticed before it is used.
//!
//! ```text
//! "storekeeper export\n" │ 1 │ iterations (4 bytes) │ salt (32 bytes)          the head
//! length (4 bytes, the top bit says that it is the last) │ that many bytes and a tag of 16 bytes     a chunk, again and again
//! ```
//!
//! Numbers are big-endian. The key is PBKDF2-HMAC-SHA512 of passphrase and salt. Each chunk is sealed with AES-256-GCM
//! under its number and whether it is the last, with the head as associated data.

use std::io::{self, Read, Write};
use std::num::NonZeroU32;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::pbkdf2;
use storekeeper_model::Secret;
use zeroize::Zeroizing;

/// What an envelope begins with.
pub const MAGIC: &[u8] = b"storekeeper export\n";

const VERSION: u8 = 1;
/// About half a second on the machines of 2026, for who knows the passphrase and for each guess of who does not.
const ITERATIONS: u32 = 1_000_000;
/// What is believed of a head: somebody else wrote it.
const ITERATIONS_BELIEVED: std::ops::RangeInclusive<u32> = 100_000..=20_000_000;
const SALT: usize = 32;
const HEAD: usize = MAGIC.len() + 1 + 4 + SALT;
const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;
const LAST: u32 = 1 << 31;
/// A shorter passphrase is guessed by a machine of one's own, whatever is derived from it.
pub const PASSPHRASE_MIN: usize = 12;

struct Sealing {
    key: LessSafeKey,
    head: [u8; HEAD],
    number: u64,
}

impl Sealing {
    fn new(passphrase: &Secret<String>, head: [u8; HEAD]) -> Self {
        let number = &head[MAGIC.len() + 1..][..4];
        let iterations = u32::from_be_bytes(number.try_into().expect("four bytes were taken"));
        let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        let mut key = Zeroizing::new([0; 32]);
        let (salt, text) = (&head[HEAD - SALT..], passphrase.expose().as_bytes());
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, salt, text, key.as_mut_slice());
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).expect("the key has 32 bytes");
        Self { key: LessSafeKey::new(key), head, number: 0 }
    }

    /// Each number is used once under a key that no other envelope has.
    fn nonce(&mut self, is_last: bool) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.number.to_be_bytes());
        nonce[11] = u8::from(is_last);
        self.number += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Writes an envelope. It is whole only after [`EnvelopeWriter::finish`].
pub struct EnvelopeWriter<W: Write> {
    out: W,
    sealing: Sealing,
    chunk: Vec<u8>,
}

impl<W: Write> EnvelopeWriter<W> {
    /// Begins an envelope.
    ///
    /// # Errors
    /// When it cannot be written, or the operating system has no random bytes.
    pub fn new(mut out: W, passphrase: &Secret<String>) -> io::Result<Self> {
        let mut head = [0; HEAD];
        head[..MAGIC.len()].copy_from_slice(MAGIC);
        head[MAGIC.len()] = VERSION;
        head[MAGIC.len() + 1..][..4].copy_from_slice(&ITERATIONS.to_be_bytes());
        aws_lc_rs::rand::fill(&mut head[HEAD - SALT..]).map_err(|_| io::Error::other("no random bytes"))?;
        out.write_all(&head)?;
        Ok(Self { out, sealing: Sealing::new(passphrase, head), chunk: Vec::with_capacity(CHUNK + TAG) })
    }

    /// Ends the envelope and returns what it was written to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// What it is written to.
    pub fn inner(&self) -> &W {
        &self.out
    }

    fn seal(&mut self, is_last: bool) -> io::Result<()> {
        let length = u32::try_from(self.chunk.len()).map_err(io::Error::other)?;
        let nonce = self.sealing.nonce(is_last);
        let sealed = self.sealing.key.seal_in_place_append_tag(nonce, Aad::from(&self.sealing.head), &mut self.chunk);
        sealed.map_err(|_| io::Error::other("the chunk could not be encrypted"))?;
        self.out.write_all(&(length | if is_last { LAST } else { 0 }).to_be_bytes())?;
        self.out.write_all(&self.chunk)?;
        self.chunk.clear();
        Ok(())
    }
}

impl<W: Write> Write for EnvelopeWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK {
            self.seal(false)?;
        }
        Ok(taken)
    }

    /// Seals what there is, so that all of it can be read from what it was written to, were it cut off here.
    fn flush(&mut self) -> io::Result<()> {
        if !self.chunk.is_empty() {
            self.seal(false)?;
        }
        self.out.flush()
    }
}

/// Reads an envelope.
pub struct EnvelopeReader<R: Read> {
    from: R,
    sealing: Sealing,
    chunk: Zeroizing<Vec<u8>>,
    place: usize,
    has_ended: bool,
}

impl<R: Read> EnvelopeReader<R> {
    /// Reads the head, of which [`MAGIC`] has been read.
    ///
    /// # Errors
    /// When it cannot be read, or was written by a newer version.
    pub fn after_magic(mut from: R, passphrase: &Secret<String>) -> io::Result<Self> {
        let mut head = [0; HEAD];
        head[..MAGIC.len()].copy_from_slice(MAGIC);
        from.read_exact(&mut head[MAGIC.len()..]).map_err(|_| cut_off())?;
        if head[MAGIC.len()] != VERSION {
            return Err(io::Error::other("the export was encrypted by a newer version: use that one"));
        }
        let number = &head[MAGIC.len() + 1..][..4];
        let iterations = u32::from_be_bytes(number.try_into().expect("four bytes were taken"));
        if !ITERATIONS_BELIEVED.contains(&iterations) {
            return Err(io::Error::other("the head of the encrypted export is damaged"));
        }
        let sealing = Sealing::new(passphrase, head);
        Ok(Self { from, sealing, chunk: Zeroizing::default(), place: 0, has_ended: false })
    }

    fn open(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.from.read_exact(&mut length).map_err(|_| cut_off())?;
        let length = u32::from_be_bytes(length);
        let (is_last, length) = (length & LAST != 0, (length & !LAST) as usize);
        if length > CHUNK {
            return Err(wrong(self.sealing.number));
        }
        self.chunk.clear();
        self.chunk.resize(length + TAG, 0);
        self.from.read_exact(&mut self.chunk).map_err(|_| cut_off())?;
        let number = self.sealing.number;
        let nonce = self.sealing.nonce(is_last);
        let opened = self.sealing.key.open_in_place(nonce, Aad::from(&self.sealing.head), &mut self.chunk);
        opened.map_err(|_| wrong(number))?;
        self.chunk.truncate(length);
        (self.place, self.has_ended) = (0, is_last);
        Ok(())
    }
}

fn cut_off() -> io::Error {
    io::Error::other("the encrypted export is cut off: its end is missing")
}

fn wrong(number: u64) -> io::Error {
    io::Error::other(match number {
        0 => "the passphrase is not the one, or the encrypted export is damaged",
        _ => "the encrypted export is damaged",
    })
}

impl<R: Read> Read for EnvelopeReader<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.place == self.chunk.len() {
            if self.has_ended {
                return Ok(0);
            }
            self.open()?;
        }
        let taken = bytes.len().min(self.chunk.len() - self.place);
        bytes[..taken].copy_from_slice(&self.chunk[self.place..][..taken]);
        self.place += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn sealed(text: &[u8]) -> Vec<u8> {
        let mut writer = EnvelopeWriter::new(Vec::new(), &passphrase("correct horse battery")).unwrap();
        writer.write_all(text).unwrap();
        writer.finish().unwrap()
    }

    fn opened(envelope: &[u8], with: &str) -> io::Result<Vec<u8>> {
        let rest = envelope.strip_prefix(MAGIC).unwrap();
        let mut text = Vec::new();
        EnvelopeReader::after_magic(rest, &passphrase(with))?.read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn what_was_sealed_comes_out_and_nothing_of_it_shows() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let text: Vec<u8> = (0..length).map(|at| b'a' + (at % 23) as u8).collect();
            let envelope = sealed(&text);
            assert_eq!(opened(&envelope, "correct horse battery").unwrap(), text, "{length}");
            assert!(length < 8 || !envelope.windows(8).any(|window| window == &text[..8]));
        }
    }

    #[test]
    fn what_was_changed_cut_off_or_moved_is_noticed() {
        let envelope = sealed(&vec![b'x'; 2 * CHUNK + 10]);
        let told = |envelope: &[u8]| opened(envelope, "correct horse battery").unwrap_err().to_string();
        assert!(opened(&envelope, "another passphrase").unwrap_err().to_string().contains("passphrase"));
        for at in [MAGIC.len() + 10, HEAD + 1, HEAD + 50, envelope.len() - 1] {
            let mut changed = envelope.clone();
            changed[at] ^= 1;
            assert!(told(&changed).contains("damaged") || told(&changed).contains("cut off"), "{at}");
        }
        assert!(told(&envelope[..envelope.len() - 1]).contains("cut off"));
        let chunk = 4 + CHUNK + TAG;
        assert!(told(&envelope[..HEAD + 2 * chunk]).contains("cut off"), "the last chunk is missing");
        let swapped =
            [&envelope[..HEAD], &envelope[HEAD + chunk..HEAD + 2 * chunk], &envelope[HEAD..HEAD + chunk]].concat();
        assert!(told(&swapped).contains("damaged"));
    }
}
