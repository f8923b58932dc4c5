//! Names: who a key belongs to, how it is spoken of, and where its row lives.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::KeyKind;

/// A configured application's name, as it stands in routes and configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AppName(std::sync::Arc<str>);

impl AppName {
    /// Takes a name: 1 to 64 bytes of `a-z`, `A-Z`, `0-9`, `-`, `_` and `.`.
    ///
    /// # Errors
    /// [`IdentityError::AppName`] otherwise.
    pub fn new(name: &str) -> Result<Self, IdentityError> {
        let fits =
            (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if fits { Ok(Self(name.into())) } else { Err(IdentityError::AppName) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The backend's own name for a player: 1 to 256 bytes of UTF-8, compared byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserName(String);

impl UserName {
    /// The longest name in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Takes the exact decoded bytes.
    ///
    /// # Errors
    /// [`IdentityError::UserNotUtf8`], [`IdentityError::UserTooLong`] or [`IdentityError::UserEmpty`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IdentityError> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(IdentityError::UserTooLong);
        }
        if bytes.is_empty() {
            return Err(IdentityError::UserEmpty);
        }
        let name = std::str::from_utf8(bytes).map_err(|_| IdentityError::UserNotUtf8)?;
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets one player hold keys of two Store accounts; empty by default, at most 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(String);

impl Slot {
    /// The longest slot in bytes.
    pub const BYTES_MAX: usize = 64;

    /// Takes a slot's name.
    ///
    /// # Errors
    /// [`IdentityError::SlotTooLong`].
    pub fn new(slot: &str) -> Result<Self, IdentityError> {
        if slot.len() <= Self::BYTES_MAX { Ok(Self(slot.to_owned())) } else { Err(IdentityError::SlotTooLong) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// See [`AppName::new`].
    #[error("an app's name is 1 to 64 characters of a-z, A-Z, 0-9, `-`, `_` and `.`")]
    AppName,
    /// The decoded bytes are not UTF-8.
    #[error("the user name is not UTF-8")]
    UserNotUtf8,
    /// More than 256 bytes.
    #[error("the user name is longer than 256 bytes")]
    UserTooLong,
    /// No bytes at all.
    #[error("the user name is empty")]
    UserEmpty,
    /// More than 64 bytes.
    #[error("the slot is longer than 64 bytes")]
    SlotTooLong,
}

/// Who a key belongs to: the four parts that name a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The configured application.
    pub app: AppName,
    /// The player, in the backend's words.
    pub user: UserName,
    /// Which of the player's Store accounts.
    pub slot: Slot,
    /// Which service the key is for.
    pub kind: KeyKind,
}

impl Identity {
    /// The row id: the first 16 bytes of SHA-256 over the four parts, each preceded by its length as a
    /// big-endian `u32`. Golden values stand in `fixtures/keys/identity.json`.
    pub fn key_id(&self) -> KeyId {
        let mut hash = Sha256::new();
        for part in [self.app.as_str(), self.user.as_str(), self.slot.as_str(), self.kind.as_str()] {
            let length = u32::try_from(part.len()).expect("every part is bounded by its constructor");
            hash.update(length.to_be_bytes());
            hash.update(part.as_bytes());
        }
        KeyId(first_16(&hash.finalize()))
    }

    /// The ids of all rows that a player can have without a slot: one of each kind.
    pub fn usual_ids(app: &AppName, user: &UserName) -> [KeyId; KeyKind::ALL.len()] {
        KeyKind::ALL.map(|kind| {
            let (app, user) = (app.clone(), user.clone());
            Self { app, user, slot: Slot::default(), kind }.key_id()
        })
    }
}

/// A row's id; see [`Identity::key_id`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId([u8; 16]);

impl Hash for KeyId {
    /// An id is made of a digest already: eight bytes of it are a hash.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl KeyId {
    /// From the stored bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as stored.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The bucket: the top 12 bits.
    pub const fn bucket(&self) -> Bucket {
        Bucket(u16::from_be_bytes([self.0[0], self.0[1]]) >> 4)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl FromStr for KeyId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        unhex(text).map(Self).ok_or(())
    }
}

/// One of the 4096 parts of the population that leases and data keys are kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u16);

impl Bucket {
    /// How many there are.
    pub const COUNT: u16 = 4096;

    /// From the stored number, when it is below [`Bucket::COUNT`].
    pub fn new(number: u16) -> Option<Self> {
        (number < Self::COUNT).then_some(Self(number))
    }

    /// The number as stored.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// The short digest by which a key is spoken of: the first 16 bytes of SHA-256 over the compact JWT, lower-case hex.
/// Keeper and emulator compute the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// Of a compact JWT.
    pub fn of(jwt: &str) -> Self {
        Self(first_16(&Sha256::digest(jwt.as_bytes())))
    }

    /// From the stored bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as stored.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

/// The text is not 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 32 hexadecimal digits")]
pub struct ParseFingerprintError;

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        unhex(text).map(Self).ok_or(ParseFingerprintError)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text(&digits(&self.0)))
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A publisher's Entra application ID.
///
/// The Store writes it without dashes, Entra with them (store.md 3.2), so both parse as a GUID (dashes and braces
/// optional, any case) and compare equal; what is no GUID compares byte for byte without regard to case.
///
/// ```
/// use storekeeper_model::ClientId;
/// assert_eq!(ClientId::new("1d5773695a3b44928227393bfef1e13d"), ClientId::new("{1D577369-5A3B-4492-8227-393BFEF1E13D}"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(String);

impl ClientId {
    /// Normalises: a GUID becomes 32 lower-case digits, anything else its lower-case self.
    pub fn new(text: &str) -> Self {
        // Without an early exit, here and below, the compiler looks at many bytes at once.
        let is_normal = |b: u8| b.is_ascii_digit() | (b'a'..=b'f').contains(&b);
        if text.len() == 32 && text.bytes().fold(true, |is, b| is & is_normal(b)) {
            return Self(text.to_owned());
        }
        let bare = text.trim().trim_start_matches('{').trim_end_matches('}');
        let digits: String = bare.chars().filter(|c| *c != '-').collect();
        if digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            Self(digits.to_ascii_lowercase())
        } else {
            Self(text.to_ascii_lowercase())
        }
    }

    /// Whether it is a GUID.
    pub fn is_guid(&self) -> bool {
        self.0.len() == 32 && self.0.bytes().all(|b| b.is_ascii_hexdigit())
    }

    /// Without dashes: the form of the key's claim.
    pub fn compact(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    /// With dashes when it is a GUID: the form of Entra's `appid`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = &self.0;
        if self.is_guid() {
            write!(f, "{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..])
        } else {
            f.write_str(id)
        }
    }
}

/// The publisher's own name for the user, stamped into the key as claim `userId`. It proves nothing by itself: whoever
/// calls the client API chooses it (store.md 3.6).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PublisherUserId(String);

impl PublisherUserId {
    /// Takes the claim as it stands; the empty string is allowed.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The claim.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which certificate signed a key: the header's `kid`, or `x5t` where there is none. Opaque, at most 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CertificateId(String);

impl CertificateId {
    /// Takes what the header names; longer text is cut, and what is not a visible ASCII character is replaced by `?`.
    pub fn new(text: &str) -> Self {
        // As they all are.
        if text.len() <= 64 && text.bytes().fold(true, |is, b| is & b.is_ascii_graphic()) {
            return Self(text.to_owned());
        }
        Self(text.chars().take(64).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn first_16(digest: &[u8]) -> [u8; 16] {
    digest[..16].try_into().expect("a SHA-256 digest has 32 bytes")
}

/// Written in one go: fingerprints stand in every answer and every log line.
fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8; 16]) -> fmt::Result {
    f.write_str(text(&digits(bytes)))
}

fn digits(bytes: &[u8; 16]) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    digits
}

fn text(digits: &[u8; 32]) -> &str {
    std::str::from_utf8(digits).expect("hexadecimal digits are ASCII")
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
