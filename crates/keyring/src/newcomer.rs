//! How a key that waits for proof is packed, for a backend's one column that is null in nearly every row.
//!
//! Big-endian: layout 1, fingerprint (16), `iat`, `nbf`, `exp` (8 each), root generation (2), format (1), refusals (4),
//! refused since (8, when there are refusals), length of the certificate's name (1) and the name, sealed text.

use storekeeper_model::{CertificateId, Fingerprint, Lifetime, Timestamp};

use crate::{Newcomer, Refused, Sealed, SealedKey};

const LAYOUT: u8 = 1;

/// Packs it for its column.
pub fn pack(newcomer: &Newcomer) -> Vec<u8> {
    let SealedKey { fingerprint, certificate, lifetime, sealed } = &newcomer.key;
    let mut bytes = Vec::with_capacity(128 + sealed.bytes.len());
    bytes.push(LAYOUT);
    bytes.extend_from_slice(fingerprint.as_bytes());
    lifetime.claimed().iter().for_each(|at| bytes.extend_from_slice(&at.millis().to_be_bytes()));
    bytes.extend_from_slice(&sealed.root_generation.to_be_bytes());
    bytes.push(sealed.format);
    bytes.extend_from_slice(&newcomer.refused.map_or(0, |refused| refused.count).to_be_bytes());
    if let Some(refused) = newcomer.refused.filter(|refused| refused.count > 0) {
        bytes.extend_from_slice(&refused.since.millis().to_be_bytes());
    }
    bytes.push(u8::try_from(certificate.as_str().len()).expect("a certificate's name has at most 64 bytes"));
    bytes.extend_from_slice(certificate.as_str().as_bytes());
    bytes.extend_from_slice(&sealed.bytes);
    bytes
}

/// Undoes [`pack`]; `None` if this is not what it makes.
pub fn unpack(mut bytes: &[u8]) -> Option<Newcomer> {
    let rest = &mut bytes;
    if take::<1>(rest)? != [LAYOUT] {
        return None;
    }
    let fingerprint = Fingerprint::from_bytes(take(rest)?);
    let lifetime = Lifetime::new(instant(rest)?, instant(rest)?, instant(rest)?);
    let root_generation = u16::from_be_bytes(take(rest)?);
    let [format] = take(rest)?;
    let refused = match u32::from_be_bytes(take(rest)?) {
        0 => None,
        count => Some(Refused { since: instant(rest)?, count }),
    };
    let [length] = take(rest)?;
    let (name, sealed) = rest.split_at_checked(length.into())?;
    let certificate = CertificateId::new(std::str::from_utf8(name).ok()?);
    let sealed = Sealed { root_generation, format, bytes: sealed.to_vec() };
    Some(Newcomer { key: SealedKey { fingerprint, certificate, lifetime, sealed }, refused })
}

fn take<const LENGTH: usize>(bytes: &mut &[u8]) -> Option<[u8; LENGTH]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn instant(bytes: &mut &[u8]) -> Option<Timestamp> {
    Some(Timestamp::from_millis(i64::from_be_bytes(take(bytes)?)))
}
