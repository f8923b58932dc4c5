//! Packing: a key's text made small before it is sealed, proven to come back byte for byte, with the text itself as fallback.
//!
//! The text is folded (see [`crate::fold`]); the skeleton is compressed by zstd with a dictionary of the skeletons of
//! made-up keys, the holes are random bytes and stay as they are.
//! A format, once used, never changes: its dictionary stands in rows. `cargo run --release -p storekeeper-keyring
//! --example dictionary` shows how the one here was made, and makes it again.

use std::cell::RefCell;
use std::sync::LazyLock;

use storekeeper_model::{Secret, Wipe};
use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};
use zstd::zstd_safe::{CParameter, compress_bound};

use crate::fold::{Folded, SKELETON_MAX, TEXT_MAX, unfold};

/// The text as it is.
pub const RAW: u8 = 0;
/// Folded, the skeleton compressed by zstd with dictionary 1.
pub const FOLDED_1: u8 = 1;

/// Dictionary 1.
pub const DICTIONARY_1: &[u8] = include_bytes!("pack/dictionary-1.zstd");

// The lowest level that finds a skeleton whole in the dictionary; above it nothing is gained.
const LEVEL: i32 = 9;

static ENCODER_1: LazyLock<EncoderDictionary<'static>> = LazyLock::new(|| EncoderDictionary::copy(DICTIONARY_1, LEVEL));
static DECODER_1: LazyLock<DecoderDictionary<'static>> = LazyLock::new(|| DecoderDictionary::copy(DICTIONARY_1));

thread_local! {
    static CONTEXT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// What is stored cannot be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// Written by a version that knows more formats.
    #[error("packed in format {0}, which this version does not know")]
    Format(u8),
    /// Not what packing makes.
    #[error("the packed text is damaged")]
    Damaged,
}

/// Packs a text and gives the format and what was packed to `take`. That it unpacks to the very text has been tried.
///
/// What is lent to `take` is overwritten afterwards. Packing needs more room than what it makes, so whoever kept that room
/// for each key would have to cut it to size, which leaves as many holes in the heap as there are keys.
pub fn pack<T>(text: &str, take: impl FnOnce(u8, &[u8]) -> T) -> T {
    CONTEXT.with_borrow_mut(|context| match Context::made(context) {
        Some(context) => context.pack(text, take),
        None => take(RAW, text.as_bytes()),
    })
}

/// Undoes [`pack`]. What was packed otherwise than by [`pack`] cannot make it take more than 16 KiB or so.
///
/// # Errors
/// See [`UnpackError`].
pub fn unpack(format: u8, packed: &[u8]) -> Result<Secret<String>, UnpackError> {
    match format {
        RAW => String::from_utf8(packed.to_vec()).map(Secret::new).map_err(|_| UnpackError::Damaged),
        FOLDED_1 => with_context(|context| context.text(packed)).ok_or(UnpackError::Damaged),
        unknown => Err(UnpackError::Format(unknown)),
    }
}

/// What is allocated once per thread.
struct Context {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
    folded: Folded,
    skeleton: Box<[u8]>,
    json: Vec<u8>,
    text: String,
    packed: Vec<u8>,
    known: Known,
}

/// The last skeletons that were proven to come back, newest first. An app's keys differ in their holes and share their
/// skeleton, so that most need neither be compressed nor decompressed. Holes are never kept: they are the secrets.
#[derive(Default)]
struct Known([Pair; 4]);

#[derive(Default)]
struct Pair {
    skeleton: Vec<u8>,
    compressed: Vec<u8>,
}

impl Known {
    fn compressed(&self, skeleton: &[u8]) -> Option<&[u8]> {
        self.0.iter().find(|pair| pair.skeleton == skeleton).map(|pair| pair.compressed.as_slice())
    }

    fn skeleton(&self, compressed: &[u8]) -> Option<&[u8]> {
        self.0.iter().find(|pair| pair.compressed == compressed).map(|pair| pair.skeleton.as_slice())
    }

    /// Keeps a pair in the place of the oldest.
    fn keep(&mut self, skeleton: &[u8], compressed: &[u8]) {
        self.0.rotate_right(1);
        let Pair { skeleton: kept_skeleton, compressed: kept_compressed } = &mut self.0[0];
        for (kept, bytes) in [(kept_skeleton, skeleton), (kept_compressed, compressed)] {
            kept.as_mut_slice().wipe();
            kept.clear();
            kept.extend_from_slice(bytes);
        }
    }
}

fn with_context<T>(act: impl FnOnce(&mut Context) -> Option<T>) -> Option<T> {
    CONTEXT.with_borrow_mut(|context| act(Context::made(context)?))
}

impl Context {
    /// The thread's own, made when it is first used.
    fn made(context: &mut Option<Self>) -> Option<&mut Self> {
        if context.is_none() {
            *context = Self::new().ok();
        }
        context.as_mut()
    }

    fn new() -> std::io::Result<Self> {
        let mut compressor = Compressor::with_prepared_dictionary(&ENCODER_1)?;
        // The format names the dictionary, AES-GCM is the checksum.
        compressor.set_parameter(CParameter::DictIdFlag(false))?;
        compressor.set_parameter(CParameter::ChecksumFlag(false))?;
        let decompressor = Decompressor::with_prepared_dictionary(&DECODER_1)?;
        // Each large enough for whatever fits, so that no copy of a secret is left behind by growing.
        let text = String::with_capacity(TEXT_MAX);
        let packed = Vec::with_capacity(2 + compress_bound(SKELETON_MAX) + TEXT_MAX);
        let (folded, json) = (Folded::default(), Vec::new());
        let (skeleton, known) = (vec![0; SKELETON_MAX].into(), Known::default());
        Ok(Self { compressor, decompressor, folded, skeleton, json, text, packed, known })
    }

    fn pack<T>(&mut self, text: &str, take: impl FnOnce(u8, &[u8]) -> T) -> T {
        let mut packed = std::mem::take(&mut self.packed);
        let is_folded = self.folded.fold(text).and_then(|()| self.compress(&mut packed));
        self.folded.wipe();
        let is_proven = is_folded.is_some()
            && packed.len() < text.len()
            && self.in_scratch(|context, unpacked| context.unpack(&packed, unpacked).is_some() && unpacked == text);
        let taken = if is_proven { take(FOLDED_1, &packed) } else { take(RAW, text.as_bytes()) };
        packed.as_mut_slice().wipe();
        packed.clear();
        self.packed = packed;
        taken
    }

    /// The length of the compressed skeleton in two bytes, that, and the holes.
    fn compress(&mut self, packed: &mut Vec<u8>) -> Option<()> {
        let Folded { skeleton, holes, .. } = &self.folded;
        packed.extend_from_slice(&[0; 2]);
        if let Some(compressed) = self.known.compressed(skeleton) {
            packed.extend_from_slice(compressed);
        } else {
            packed.resize(2 + compress_bound(skeleton.len()), 0);
            let length = self.compressor.compress_to_buffer(skeleton, &mut packed[2..]).ok()?;
            packed.truncate(2 + length);
        }
        let length = u16::try_from(packed.len() - 2).ok()?;
        packed[..2].copy_from_slice(&length.to_be_bytes());
        packed.extend_from_slice(holes);
        Some(())
    }

    /// The text, in memory of its own that is as long as it.
    fn text(&mut self, packed: &[u8]) -> Option<Secret<String>> {
        self.in_scratch(|context, text| {
            context.unpack(packed, text)?;
            Some(Secret::new(text.as_str().to_owned()))
        })
    }

    /// Lends out memory that is large enough for any text, so that none is left behind by growing.
    fn in_scratch<T>(&mut self, act: impl FnOnce(&mut Self, &mut String) -> T) -> T {
        let mut text = std::mem::take(&mut self.text);
        let made = act(self, &mut text);
        self.text = wiped(text);
        made
    }

    fn unpack(&mut self, packed: &[u8], text: &mut String) -> Option<()> {
        let (length, rest) = packed.split_first_chunk()?;
        let (compressed, holes) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        let unfolded = match self.known.skeleton(compressed) {
            Some(skeleton) => unfold(skeleton, holes, &mut self.json, text),
            None => {
                let length = self.decompressor.decompress_to_buffer(compressed, &mut *self.skeleton).ok()?;
                let skeleton = &mut self.skeleton[..length];
                let unfolded = unfold(skeleton, holes, &mut self.json, text);
                if unfolded.is_some() {
                    self.known.keep(skeleton, compressed);
                }
                skeleton.wipe();
                unfolded
            }
        };
        self.json.as_mut_slice().wipe();
        unfolded
    }
}

fn wiped(text: String) -> String {
    let mut bytes = text.into_bytes();
    bytes.as_mut_slice().wipe();
    bytes.clear();
    String::from_utf8(bytes).expect("nothing is UTF-8")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use storekeeper_model::{Fingerprint, KeyKind, Timestamp};

    use super::*;
    use crate::conformance::Shape;

    fn made_up_key() -> String {
        let shape = Shape::usual(KeyKind::Collections, Timestamp::from_seconds(1_800_000_000));
        shape.jwt(&mut rand_chacha::ChaCha8Rng::seed_from_u64(7))
    }

    fn check(text: &str) -> (u8, Vec<u8>) {
        let (format, packed) = pack(text, |format, packed| (format, packed.to_vec()));
        assert_eq!(unpack(format, &packed).unwrap().expose(), text);
        (format, packed)
    }

    #[test]
    fn a_key_is_packed_to_little_more_than_its_random_bytes() {
        let text = made_up_key();
        let (format, packed) = check(&text);
        assert_eq!(format, FOLDED_1);
        let random = 256 + 256 + 20 + 16;
        assert!(packed.len() < random + 64, "{} bytes packed to {}", text.len(), packed.len());
    }

    #[test]
    fn keys_of_one_app_share_what_is_known_of_them() {
        let shape = Shape::usual(KeyKind::Collections, Timestamp::from_seconds(1_800_000_000));
        let other = Shape::usual(KeyKind::Purchase, Timestamp::from_seconds(1_800_000_000));
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(8);
        for shape in [&shape, &other, &shape, &shape, &other] {
            let text = shape.jwt(&mut random);
            let (_, with_what_is_known) = check(&text);
            with_context(|context| {
                context.known = Known::default();
                Some(())
            });
            assert_eq!(check(&text).1, with_what_is_known, "what is known changes nothing");
        }
    }

    #[test]
    fn keys_on_record_come_back() {
        let fixture =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/keys/key.json")).unwrap();
        let fixture: serde_json::Value = serde_json::from_str(&fixture).unwrap();
        let keys = fixture["keys"].as_array().unwrap();
        assert!(!keys.is_empty());
        for key in keys {
            check(key["jwt"].as_str().unwrap());
        }
    }

    #[test]
    fn what_is_no_key_stays_as_it_is() {
        for text in ["", "a.b.c", "not a key at all", &"x".repeat(40_000)] {
            assert_eq!(check(text).0, RAW);
        }
    }

    /// Rows name the format: what this dictionary packed has to come back for ever.
    #[test]
    fn format_1_never_changes() {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, DICTIONARY_1);
        let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            digest, "957d696b1c81dc9de9bbece1436b678da37119a9c482eaa627e052e38745e7ff",
            "a new dictionary is a new format"
        );
        let packed = include_bytes!("pack/format-1.bin");
        let text = unpack(FOLDED_1, packed).unwrap();
        assert_eq!(Fingerprint::of(text.expose()).to_string(), "e4381c548002694cad2008ecfe54a710");
    }

    #[test]
    fn a_bomb_does_not_go_off() {
        let bomb = zstd::bulk::compress(&vec![b'x'; 100 << 20], 1).unwrap();
        assert_eq!(unpack(FOLDED_1, &bomb), Err(UnpackError::Damaged));
        assert_eq!(unpack(9, b""), Err(UnpackError::Format(9)));
        assert_eq!(unpack(RAW, &[0xff]), Err(UnpackError::Damaged));
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in ".*") {
            check(&text);
        }

        #[test]
        fn any_three_parts_come_back(header: Vec<u8>, claims in "[ -~]{0,300}", signature: Vec<u8>) {
            use base64::Engine;
            let encode = |part: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(part);
            check(&format!("{}.{}.{}", encode(&header), encode(claims.as_bytes()), encode(&signature)));
        }

        #[test]
        fn damage_never_panics(at: prop::sample::Index, byte: u8) {
            let (format, mut packed) = check(&made_up_key());
            let at = at.index(packed.len());
            packed[at] = byte;
            let _ = unpack(format, &packed);
        }
    }
}
