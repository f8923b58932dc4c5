//! The body of a row: everything that no query looks at, packed into one value, since a row is written and read as a
//! whole far more often than anybody asks for one of these.
//!
//! Layout 1: the number 1, flags, `key_version`, failures, `nbf` from `iat`, then where a flag says so `exp` from `iat`
//! (unusable times), refused since (from `iat`) and how often, then root generation and format, then where a flag says so
//! the fingerprint last enrolled, the certificate (20 bytes of a thumbprint, or length and text), length of the history
//! and the history, and the sealed key up to the end. Numbers have seven bits per byte, spans are milliseconds (zigzag).

use storekeeper_model::{CertificateId, Fingerprint, Lifetime, Timestamp};

use crate::fold::{put_varint, take_varint, unzigzag, zigzag};
use crate::{History, Record, Refused, Sealed};

const LAYOUT: u8 = 1;
const PROVEN: u8 = 1;
const UNUSABLE: u8 = 1 << 1;
const REFUSED: u8 = 1 << 2;
const ENROLLED: u8 = 1 << 3;
const THUMBPRINT: u8 = 1 << 4;

/// What a body holds.
#[derive(Debug)]
pub struct Body {
    /// [`Record::key_version`]
    pub key_version: u32,
    /// [`Record::proven`]
    pub proven: bool,
    /// [`Record::failures`]
    pub failures: u32,
    /// Of the held key.
    pub lifetime: Lifetime,
    /// What is held against the held key.
    pub refused: Option<Refused>,
    /// The key last handed in, where that is not the held one.
    pub enrolled: Option<Fingerprint>,
    /// Of the held key.
    pub certificate: CertificateId,
    /// [`Record::history`]
    pub history: History,
    /// The held key's text.
    pub sealed: Sealed,
}

/// Packs a row's body.
pub fn pack(record: &Record) -> Vec<u8> {
    let key = &record.key;
    let [issued_at, not_before, expires_at] = key.lifetime.claimed();
    let since_issue = |at: Timestamp| zigzag(at.millis().wrapping_sub(issued_at.millis()));
    let unusable = (!key.lifetime.is_usable()).then_some(expires_at);
    let refused = record.state.refused();
    let enrolled = (record.enrolled != key.fingerprint).then_some(record.enrolled);
    let certificate = key.certificate.as_str();
    let thumbprint = thumbprint(certificate.as_bytes());
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let flags = flag(record.proven, PROVEN)
        | flag(unusable.is_some(), UNUSABLE)
        | flag(refused.is_some(), REFUSED)
        | flag(enrolled.is_some(), ENROLLED)
        | flag(thumbprint.is_some(), THUMBPRINT);
    let mut bytes = Vec::with_capacity(96 + record.history.packed().len() + key.sealed.bytes.len());
    bytes.extend_from_slice(&[LAYOUT, flags]);
    put_varint(&mut bytes, record.key_version.into());
    put_varint(&mut bytes, record.failures.into());
    put_varint(&mut bytes, since_issue(not_before));
    if let Some(expires_at) = unusable {
        put_varint(&mut bytes, since_issue(expires_at));
    }
    if let Some(Refused { since, count }) = refused {
        put_varint(&mut bytes, since_issue(since));
        put_varint(&mut bytes, count.into());
    }
    put_varint(&mut bytes, key.sealed.root_generation.into());
    bytes.push(key.sealed.format);
    if let Some(enrolled) = enrolled {
        bytes.extend_from_slice(enrolled.as_bytes());
    }
    match thumbprint {
        Some(thumbprint) => bytes.extend_from_slice(&thumbprint),
        None => put_slice(&mut bytes, certificate.as_bytes()),
    }
    put_slice(&mut bytes, record.history.packed());
    bytes.extend_from_slice(&key.sealed.bytes);
    bytes
}

/// Undoes [`pack`] for a row whose key was issued at this instant and expires then, where its times are usable. `None` if
/// this is not what [`pack`] makes.
pub fn unpack(bytes: &[u8], issued_at: Timestamp, expires_at: Option<Timestamp>) -> Option<Body> {
    let rest = &mut { bytes };
    let [LAYOUT, flags] = *take::<2>(rest)? else { return None };
    let is = |flag| flags & flag != 0;
    let since_issue =
        |rest: &mut &[u8]| Some(Timestamp::from_millis(issued_at.millis().wrapping_add(unzigzag(take_varint(rest)?))));
    let key_version = u32::try_from(take_varint(rest)?).ok()?;
    let failures = u32::try_from(take_varint(rest)?).ok()?;
    let not_before = since_issue(rest)?;
    let expires_at = if is(UNUSABLE) { since_issue(rest)? } else { expires_at? };
    let refused = match is(REFUSED) {
        true => Some(Refused { since: since_issue(rest)?, count: u32::try_from(take_varint(rest)?).ok()? }),
        false => None,
    };
    let root_generation = u16::try_from(take_varint(rest)?).ok()?;
    let [format] = *take::<1>(rest)?;
    let enrolled = if is(ENROLLED) { Some(Fingerprint::from_bytes(*take(rest)?)) } else { None };
    let certificate = match is(THUMBPRINT) {
        true => CertificateId::new(text(&hexadecimal(take(rest)?))?),
        false => CertificateId::new(text(take_slice(rest)?)?),
    };
    let history = History::from_packed(take_slice(rest)?);
    let sealed = Sealed { root_generation, format, bytes: rest.to_vec() };
    let lifetime = Lifetime::new(issued_at, not_before, expires_at);
    let proven = is(PROVEN);
    Some(Body { key_version, proven, failures, lifetime, refused, enrolled, certificate, history, sealed })
}

fn put_slice(bytes: &mut Vec<u8>, slice: &[u8]) {
    put_varint(bytes, slice.len() as u64);
    bytes.extend_from_slice(slice);
}

fn take_slice<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_varint(bytes)?).ok()?;
    let (slice, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(slice)
}

fn take<'a, const LENGTH: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; LENGTH]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(taken)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The bytes of a certificate's name that is 40 upper-case hexadecimal digits, as `kid` is.
fn thumbprint(text: &[u8]) -> Option<[u8; 20]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let pairs: &[[u8; 2]; 20] = pairs.try_into().ok()?;
    let mut bytes = [0; 20];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn hexadecimal(bytes: &[u8; 20]) -> [u8; 40] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = [0; 40];
    for ([high, low], byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        (*high, *low) = (DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn damage_never_panics(bytes: Vec<u8>) {
            let _ = unpack(&bytes, Timestamp::from_millis(i64::MIN), None);
        }

        #[test]
        fn damage_behind_the_layout_never_panics(bytes: Vec<u8>) {
            let _ = unpack(&[&[LAYOUT][..], &bytes].concat(), Timestamp::from_millis(i64::MAX), None);
        }
    }

    #[test]
    fn a_name_that_only_looks_like_a_thumbprint_stays_text() {
        let check = |name: &str, expected| assert_eq!(thumbprint(name.as_bytes()).is_some(), expected, "{name}");
        check("C5D2A1E09B7F4836AD10E2C7B845F6039D8E1A74", true);
        check("c5d2a1e09b7f4836ad10e2c7b845f6039d8e1a74", false);
        check("C5D2A1E09B7F4836AD10E2C7B845F6039D8E1A7", false);
        check("", false);
        let name = "C5D2A1E09B7F4836AD10E2C7B845F6039D8E1A74";
        assert_eq!(&hexadecimal(&thumbprint(name.as_bytes()).unwrap()), name.as_bytes());
    }
}
