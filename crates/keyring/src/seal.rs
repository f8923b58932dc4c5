//! `Sealer`: keys at rest are encrypted under a data key per bucket, derived from a root that the master key wraps.
//!
//! AES-256-GCM with a random nonce; the authenticated text beside it names the identity, the role in the row, the
//! `key_version`, the root and the format, so that a sealed key moved to another place does not open.

use std::sync::OnceLock;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::rand;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use storekeeper_model::{Bucket, Identity, KeyId, Secret, Timestamp, Wipe};
use zeroize::Zeroizing;

use crate::pack::{UnpackError, pack, unpack};
use crate::{KeyringId, Sealed, WrappedRoot};

const KEY_LENGTH: usize = 32;
const TAG_LENGTH: usize = 16;
const CHECK_LENGTH: usize = 8;
/// Of a wrapped root: layout number, check value of the master key, nonce, encrypted root with tag.
const WRAPPED_LENGTH: usize = 1 + CHECK_LENGTH + NONCE_LEN + KEY_LENGTH + TAG_LENGTH;
const WRAPPED_LAYOUT: u8 = 1;
const TEXT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The key that wraps roots: 32 random bytes that never enter the keyring.
#[derive(Clone)]
pub struct MasterKey(Secret<Vec<u8>>);

/// Why a text is no master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyError {
    /// Not base64.
    #[error("the master key is not base64 text")]
    NotBase64,
    /// Not 32 bytes.
    #[error("the master key has {found} bytes instead of 32")]
    Length {
        /// How many it has.
        found: usize,
    },
}

impl MasterKey {
    /// Makes one from the operating system's generator.
    pub fn generate() -> Self {
        let mut bytes = vec![0; KEY_LENGTH];
        fill_random(&mut bytes);
        Self(Secret::new(bytes))
    }

    /// Reads the text of a `master.key` file: 32 bytes in base64; white space around it is ignored.
    ///
    /// # Errors
    /// See [`MasterKeyError`].
    pub fn from_text(text: &str) -> Result<Self, MasterKeyError> {
        let bytes = Secret::new(TEXT.decode(text.trim()).map_err(|_| MasterKeyError::NotBase64)?);
        match bytes.expose().len() {
            KEY_LENGTH => Ok(Self(bytes)),
            found => Err(MasterKeyError::Length { found }),
        }
    }

    /// The text for a `master.key` file, without a line end.
    pub fn to_text(&self) -> Secret<String> {
        Secret::new(TEXT.encode(self.0.expose()))
    }

    fn prk(&self) -> Prk {
        Salt::new(HKDF_SHA256, b"storekeeper master key").extract(self.0.expose())
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey([redacted])")
    }
}

/// Why the keys of a keyring cannot be opened with this master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoadRootsError {
    /// Another master key wrapped the roots.
    #[error("the master key is not the one this keyring was sealed with: put the right one in its place")]
    WrongMasterKey,
    /// The check value fits, the rest does not.
    #[error("root {generation} of the keyring is damaged: restore a backup")]
    Damaged {
        /// Which root.
        generation: u16,
    },
    /// Wrapped by a version that knows more layouts.
    #[error("root {generation} of the keyring was wrapped by a newer version: start that version")]
    TooNew {
        /// Which root.
        generation: u16,
    },
}

/// Why a sealed key does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// Sealed under a root that was not loaded.
    #[error("sealed under root {generation}, which the keyring does not hold")]
    UnknownRoot {
        /// Which root.
        generation: u16,
    },
    /// Not what was sealed for this identity, role and version.
    #[error("the sealed key does not belong to this row, or is damaged")]
    Mismatch,
    /// It opened, but does not unpack.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

/// What a sealed key is in its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The key that is served.
    Held,
    /// The key that waits for proof.
    Newcomer,
}

/// Seals and unseals. Shared by all threads; derives each data key once.
pub struct Sealer {
    /// By generation, ascending; never empty.
    roots: Vec<Root>,
}

struct Root {
    generation: u16,
    prk: Prk,
    data_keys: Box<[OnceLock<LessSafeKey>]>,
}

impl Sealer {
    /// Unwraps the roots of a keyring. In one that has none a first root is made: it comes back wrapped, and **has to
    /// be durable before anything sealed is**.
    ///
    /// # Errors
    /// See [`LoadRootsError`].
    pub fn load_or_create(
        master: &MasterKey,
        mut wrapped: Vec<WrappedRoot>,
        now: Timestamp,
    ) -> Result<(Self, Option<WrappedRoot>), LoadRootsError> {
        let wrapper = Wrapper::new(master);
        if wrapped.is_empty() {
            let mut root = Zeroizing::new([0; KEY_LENGTH]);
            fill_random(&mut *root);
            let first = WrappedRoot { generation: 1, wrapped: wrapper.wrap(1, &root), created_at: now };
            return Ok((Self { roots: vec![Root::new(1, &root)] }, Some(first)));
        }
        wrapped.sort_by_key(|root| root.generation);
        let unwrap = |root: &WrappedRoot| Ok(Root::new(root.generation, &*wrapper.unwrap(root)?));
        Ok((Self { roots: wrapped.iter().map(unwrap).collect::<Result<_, _>>()? }, None))
    }

    /// Which keyring this is: derived from its first root, so that another master key or a later root changes nothing.
    pub fn keyring_id(&self) -> KeyringId {
        let root = self.roots.first().expect("a sealer has at least one root");
        let mut id = [0; 16];
        expand(&root.prk, &[b"keyring id"], &mut id);
        KeyringId::from_bytes(id)
    }

    /// Packs and encrypts a key's text. `id` is `identity.key_id()`.
    pub fn seal(&self, identity: &Identity, id: KeyId, role: Role, key_version: u32, jwt: &Secret<String>) -> Sealed {
        let root = self.roots.last().expect("a sealer has at least one root");
        pack(jwt.expose(), |format, packed| {
            let mut nonce = [0; NONCE_LEN];
            fill_random(&mut nonce);
            let mut bytes = Vec::with_capacity(NONCE_LEN + packed.len() + TAG_LENGTH);
            bytes.extend_from_slice(&nonce);
            bytes.extend_from_slice(packed);
            let aad = Place { identity, role, key_version, generation: root.generation, format }.authenticated();
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = root
                .data_key(id.bucket())
                .seal_in_place_separate_tag(nonce, Aad::from(&aad), &mut bytes[NONCE_LEN..])
                .expect("a key is far shorter than AES-GCM's limit");
            bytes.extend_from_slice(tag.as_ref());
            Sealed { root_generation: root.generation, format, bytes }
        })
    }

    /// Undoes [`Sealer::seal`], for the same identity, role and version only.
    ///
    /// # Errors
    /// See [`UnsealError`].
    pub fn unseal(
        &self,
        identity: &Identity,
        id: KeyId,
        role: Role,
        key_version: u32,
        sealed: &Sealed,
    ) -> Result<Secret<String>, UnsealError> {
        let generation = sealed.root_generation;
        let root = self.roots.iter().rev().find(|root| root.generation == generation);
        let root = root.ok_or(UnsealError::UnknownRoot { generation })?;
        let (nonce, text) = sealed.bytes.split_at_checked(NONCE_LEN).ok_or(UnsealError::Mismatch)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).expect("a nonce has twelve bytes");
        let aad = Place { identity, role, key_version, generation, format: sealed.format }.authenticated();
        let mut text = text.to_vec();
        let opened = root.data_key(id.bucket()).open_in_place(nonce, Aad::from(&aad), &mut text);
        let unpacked = match opened {
            Ok(packed) => unpack(sealed.format, packed).map_err(UnsealError::from),
            Err(_) => Err(UnsealError::Mismatch),
        };
        text.as_mut_slice().wipe();
        unpacked
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.roots.iter().map(|root| root.generation)).finish()
    }
}

impl Root {
    fn new(generation: u16, root: &[u8; KEY_LENGTH]) -> Self {
        let prk = Salt::new(HKDF_SHA256, b"storekeeper root").extract(root);
        Self { generation, prk, data_keys: (0..Bucket::COUNT).map(|_| OnceLock::new()).collect() }
    }

    fn data_key(&self, bucket: Bucket) -> &LessSafeKey {
        self.data_keys[usize::from(bucket.number())]
            .get_or_init(|| derived_key(&self.prk, &[b"data key", &bucket.number().to_be_bytes()]))
    }
}

/// What the master key does.
struct Wrapper {
    check: [u8; CHECK_LENGTH],
    key: LessSafeKey,
}

impl Wrapper {
    fn new(master: &MasterKey) -> Self {
        let prk = master.prk();
        let mut check = [0; CHECK_LENGTH];
        expand(&prk, &[b"check value"], &mut check);
        Self { check, key: derived_key(&prk, &[b"root wrap"]) }
    }

    fn wrap(&self, generation: u16, root: &[u8; KEY_LENGTH]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        fill_random(&mut nonce);
        let mut sealed = root.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), wrap_aad(generation), &mut sealed)
            .expect("a root is far shorter than AES-GCM's limit");
        [&[WRAPPED_LAYOUT][..], &self.check, &nonce, &sealed].concat()
    }

    fn unwrap(&self, root: &WrappedRoot) -> Result<Zeroizing<[u8; KEY_LENGTH]>, LoadRootsError> {
        let generation = root.generation;
        let damaged = LoadRootsError::Damaged { generation };
        let (layout, rest) = root.wrapped.split_first().ok_or(damaged)?;
        if *layout > WRAPPED_LAYOUT {
            return Err(LoadRootsError::TooNew { generation });
        }
        if root.wrapped.len() != WRAPPED_LENGTH || *layout != WRAPPED_LAYOUT {
            return Err(damaged);
        }
        let (check, rest) = rest.split_at(CHECK_LENGTH);
        if check != self.check {
            return Err(LoadRootsError::WrongMasterKey);
        }
        let (nonce, sealed) = rest.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).expect("a nonce has twelve bytes");
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let opened = self.key.open_in_place(nonce, wrap_aad(generation), &mut sealed).map_err(|_| damaged)?;
        let mut root = Zeroizing::new([0; KEY_LENGTH]);
        root.copy_from_slice(opened);
        Ok(root)
    }
}

fn wrap_aad(generation: u16) -> Aad<[u8; 2]> {
    Aad::from(generation.to_be_bytes())
}

/// Where a sealed key belongs.
struct Place<'a> {
    identity: &'a Identity,
    role: Role,
    key_version: u32,
    generation: u16,
    format: u8,
}

impl Place<'_> {
    /// Every part has a fixed length or is preceded by it, so that no two places read alike.
    fn authenticated(&self) -> Vec<u8> {
        let Identity { app, user, slot, kind } = self.identity;
        let role = match self.role {
            Role::Held => 0,
            Role::Newcomer => 1,
        };
        let mut bytes = Vec::with_capacity(96);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&[self.format, role]);
        bytes.extend_from_slice(&self.key_version.to_be_bytes());
        for part in [app.as_str(), user.as_str(), slot.as_str(), kind.as_str()] {
            let length = u16::try_from(part.len()).expect("every part is bounded by its constructor");
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

fn derived_key(prk: &Prk, info: &[&[u8]]) -> LessSafeKey {
    let mut key = Zeroizing::new([0; KEY_LENGTH]);
    expand(prk, info, &mut *key);
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).expect("AES-256 takes 32 bytes"))
}

fn expand(prk: &Prk, info: &[&[u8]], key: &mut [u8]) {
    struct Length(usize);
    impl aws_lc_rs::hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let okm = prk.expand(info, Length(key.len())).expect("HKDF gives up to 8160 bytes");
    okm.fill(key).expect("it is the length that was asked for");
}

fn fill_random(bytes: &mut [u8]) {
    rand::fill(bytes).expect("the generator of the cryptography library does not fail once it is seeded");
}

#[cfg(test)]
mod tests;
