//! The format of a rescue file: successors that could not be committed, outside the keyring, each with a checksum of its
//! own, so that damage in one place costs no record in another.
//!
//! Layout 1: a header of 64 bytes (magic, the [`KeyringId`], the node, the instant, checksum of these), then frames. A frame
//! is a mark of four bytes, the length of its content (4), a checksum (8) of keyring, length and content, and the content: a
//! packed [`Successor`], or in a frame of another mark the number of successors before it. The file is
//! larger than its frames, since its space is reserved in advance: behind the last frame it holds zeros. Numbers are
//! big-endian, a checksum is the beginning of a SHA-256.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use storekeeper_model::Timestamp;

use crate::NodeId;
use crate::successor::{self, Successor};

const MAGIC: &[u8; 8] = b"SKRSCUE1";
const RECORD: &[u8; 4] = b"SKr\x01";
const END: &[u8; 4] = b"SKe\x01";
const CHECKSUM: usize = 8;
const FRAME: usize = 4 + 4 + CHECKSUM;
/// The length of a header.
pub const HEADER: usize = 64;
/// A packed successor is far shorter.
const CONTENT_MAX: usize = 1 << 16;

/// Which keyring: the same for every keeper, backup and master key of it, and different from that of any other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyringId([u8; 16]);

impl KeyringId {
    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for KeyringId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyringId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The header of a file of this keyring, begun by this node at this instant.
pub fn header(keyring: KeyringId, node: NodeId, began_at: Timestamp) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..24].copy_from_slice(keyring.as_bytes());
    bytes[24..40].copy_from_slice(node.as_bytes());
    bytes[40..48].copy_from_slice(&began_at.millis().to_be_bytes());
    let checksum = checksum(&[&bytes[..HEADER - CHECKSUM]]);
    bytes[HEADER - CHECKSUM..].copy_from_slice(&checksum);
    bytes
}

/// Appends the frame of a [packed](successor::pack) successor.
pub fn put_record(bytes: &mut Vec<u8>, keyring: KeyringId, packed: &[u8]) {
    put_frame(bytes, RECORD, keyring, packed);
}

/// Appends the frame that ends the file: behind so many successors.
pub fn put_end(bytes: &mut Vec<u8>, keyring: KeyringId, records: u64) {
    put_frame(bytes, END, keyring, &records.to_be_bytes());
}

fn put_frame(bytes: &mut Vec<u8>, mark: &[u8; 4], keyring: KeyringId, content: &[u8]) {
    let length = u32::try_from(content.len()).expect("a packed successor is short").to_be_bytes();
    bytes.extend_from_slice(mark);
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&checksum(&[mark, keyring.as_bytes(), &length, content]));
    bytes.extend_from_slice(content);
}

fn checksum(parts: &[&[u8]]) -> [u8; CHECKSUM] {
    let digest = digest(&SHA256, &parts.concat());
    *digest.as_ref().first_chunk().expect("a SHA-256 is longer")
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// The keyring that the header names; `None` when the header cannot be read.
    pub keyring: Option<KeyringId>,
    /// The successors whose frames are whole.
    pub successors: Vec<Successor>,
    /// The places that are damaged; a missing end is one.
    pub damaged: usize,
}

/// Reads a file as one of this keyring. The frames of another keyring do not count: their checksums differ.
pub fn read(bytes: &[u8], ours: KeyringId) -> Contents {
    let mut contents = Contents { keyring: keyring_of(bytes), ..Contents::default() };
    if contents.keyring.is_some_and(|keyring| keyring != ours) {
        return contents;
    }
    contents.damaged += usize::from(contents.keyring.is_none());
    let mut at = HEADER.min(bytes.len());
    let (mut ends_well, mut is_in_damage, mut frames) = (false, false, 0_u64);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let Some(frame) = frame(rest, ours) else {
            // Nothing but zeros is behind the last frame. Behind damage the next whole frame is looked for.
            let Some(step) = rest.iter().position(|byte| *byte != 0) else { break };
            contents.damaged += usize::from(!is_in_damage);
            (is_in_damage, ends_well) = (true, false);
            at += step.max(1);
            continue;
        };
        is_in_damage = false;
        at += frame.length;
        match frame.content {
            Content::Successor(successor) => {
                ends_well = false;
                frames += 1;
                match successor {
                    Some(successor) => contents.successors.push(*successor),
                    None => contents.damaged += 1,
                }
            }
            Content::End(records) => ends_well = records == frames,
        }
    }
    contents.damaged += usize::from(!ends_well && contents.damaged == 0);
    contents
}

/// The keyring that a header names; `None` if this is no header.
pub fn keyring_of(bytes: &[u8]) -> Option<KeyringId> {
    let header: &[u8; HEADER] = bytes.first_chunk()?;
    let (facts, sum) = header.split_at(HEADER - CHECKSUM);
    let is_one = facts.starts_with(MAGIC) && checksum(&[facts]) == sum;
    is_one.then(|| KeyringId(*facts[8..].first_chunk().expect("a header is longer")))
}

struct Frame {
    content: Content,
    length: usize,
}

enum Content {
    /// `None` where a newer version packed it.
    Successor(Option<Box<Successor>>),
    End(u64),
}

fn frame(bytes: &[u8], keyring: KeyringId) -> Option<Frame> {
    let (mark, rest) = bytes.split_first_chunk::<4>()?;
    if mark != RECORD && mark != END {
        return None;
    }
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<CHECKSUM>()?;
    let content_length = usize::try_from(u32::from_be_bytes(*length)).ok().filter(|length| *length <= CONTENT_MAX)?;
    let content = rest.get(..content_length)?;
    if checksum(&[mark, keyring.as_bytes(), length, content]) != *sum {
        return None;
    }
    let length = FRAME + content_length;
    let content = match mark {
        END => Content::End(u64::from_be_bytes(content.try_into().ok()?)),
        _ => Content::Successor(successor::unpack(content).map(Box::new)),
    };
    Some(Frame { content, length })
}
