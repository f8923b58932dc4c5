//! The few steps into DER that the emulator needs: the public key of a certificate, and the numbers of an RSA key.

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// One element: its tag, its content, and the whole of it.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
}

/// Takes the first element off `input`.
fn take<'a>(input: &mut &'a [u8]) -> Option<Element<'a>> {
    let (&tag, &first) = (input.first()?, input.get(1)?);
    let (length, head) = match first {
        0..=0x7f => (usize::from(first), 2),
        0x81..=0x83 => {
            let size = usize::from(first & 0x7f);
            let bytes = input.get(2..2 + size)?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + size)
        }
        _ => return None,
    };
    let whole = input.get(..head.checked_add(length)?)?;
    *input = &input[whole.len()..];
    Some(Element { tag, content: &whole[head..], whole })
}

fn take_tagged<'a>(input: &mut &'a [u8], tag: u8) -> Option<Element<'a>> {
    take(input).filter(|element| element.tag == tag)
}

/// The `SubjectPublicKeyInfo` of an X.509 certificate, as DER. Nothing else of the certificate is looked at.
pub(crate) fn certificate_public_key(mut certificate: &[u8]) -> Option<&[u8]> {
    let mut certificate = take_tagged(&mut certificate, SEQUENCE)?.content;
    let mut signed = take_tagged(&mut certificate, SEQUENCE)?.content;
    if signed.first() == Some(&VERSION) {
        take(&mut signed)?;
    }
    // serial number, signature algorithm, issuer, validity, subject
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
        take_tagged(&mut signed, tag)?;
    }
    take_tagged(&mut signed, SEQUENCE).map(|key| key.whole)
}

/// Modulus and exponent of an `RSAPublicKey`, big-endian, without leading zeros.
pub(crate) fn rsa_numbers(mut key: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut numbers = take_tagged(&mut key, SEQUENCE)?.content;
    let modulus = take_tagged(&mut numbers, INTEGER)?.content;
    let exponent = take_tagged(&mut numbers, INTEGER)?.content;
    Some((without_zeros(modulus), without_zeros(exponent)))
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_small_key() {
        let key = [0x30, 0x08, 0x02, 0x03, 0x00, 0xc1, 0x03, 0x02, 0x01, 0x03];
        assert_eq!(rsa_numbers(&key), Some((&[0xc1, 0x03][..], &[3][..])));
    }

    #[test]
    fn cut_and_foreign_input_is_none() {
        for input in [&[][..], &[0x30], &[0x30, 0x84, 0, 0, 0, 1], &[0x30, 0x05, 0x02], &[0x02, 0x01, 0x00]] {
            assert_eq!(certificate_public_key(input), None);
            assert_eq!(rsa_numbers(input), None);
        }
    }
}
