//! `fold`: a JWT's text undone into what compresses well, and back; the text is never re-serialised, so the way back is exact.
//!
//! A compact JWT is three base64url parts. Header and claims are decoded to their JSON text, in which values that are
//! themselves base64 or hexadecimal, and ten-digit numbers (instants), are taken out and kept as bytes behind the text:
//!
//! ```text
//! header text, holes marked │ 0 │ claims text, holes marked │ 0 │ mark of the signature │ 0 │ bytes of the holes in order
//! ```
//!
//! A mark is one of the bytes 1 to 5, which no JSON text contains, and for all but numbers a length of two bytes with
//! the top bit set. A number is kept as its distance from the number before it, zigzag, seven bits per byte.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// The longest text that is folded; a longer one stays as it is.
pub const TEXT_MAX: usize = 16 * 1024;
/// A folded text is never longer than this: every hole takes more out than its mark puts in.
pub const FOLDED_MAX: usize = TEXT_MAX + 16;

const END: u8 = 0;
const BASE64: u8 = 1;
const BASE64URL: u8 = 2;
const HEX_UPPER: u8 = 3;
const HEX_LOWER: u8 = 4;
const NUMBER: u8 = 5;
const HOLE_TEXT_MIN: usize = 20;
const HOLE_BYTES_MAX: usize = (1 << 14) - 1;

/// Folds a compact JWT, or says that this text is none that folds. Whoever keeps the result proves the way back first.
pub fn fold(jwt: &str) -> Option<Zeroizing<Vec<u8>>> {
    if jwt.len() > TEXT_MAX {
        return None;
    }
    let mut parts = jwt.split('.');
    let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let mut folder = Folder { folded: Zeroizing::new(Vec::with_capacity(jwt.len() + 16)), ..Folder::default() };
    folder.part(header)?;
    folder.part(claims)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    folder.mark(BASE64URL, &signature)?;
    folder.folded.push(END);
    folder.folded.extend_from_slice(&folder.holes);
    Some(folder.folded)
}

/// Undoes [`fold`]. The result is never longer than [`TEXT_MAX`]; `None` if `folded` is not the form above.
pub fn unfold(folded: &[u8]) -> Option<Zeroizing<String>> {
    let ends: [usize; 3] = first_ends(folded)?;
    let mut unfolder = Unfolder { holes: folded.get(ends[2] + 1..)?, number: 0 };
    let mut text = Zeroizing::new(String::with_capacity(folded.len().saturating_mul(2).min(TEXT_MAX)));
    let mut json = Zeroizing::new(Vec::with_capacity(folded.len().saturating_mul(2).min(TEXT_MAX)));
    for part in [&folded[..ends[0]], &folded[ends[0] + 1..ends[1]]] {
        json.clear();
        unfolder.part(part, &mut json)?;
        if text.len() + json.len() > TEXT_MAX {
            return None;
        }
        URL_SAFE_NO_PAD.encode_string(&*json, &mut text);
        text.push('.');
    }
    let [BASE64URL, length @ ..] = &folded[ends[1] + 1..ends[2]] else { return None };
    let signature = unfolder.hole(length)?;
    URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    (unfolder.holes.is_empty() && text.len() <= TEXT_MAX).then_some(text)
}

fn first_ends(folded: &[u8]) -> Option<[usize; 3]> {
    let mut ends = folded.iter().enumerate().filter(|(_, byte)| **byte == END).map(|(at, _)| at);
    Some([ends.next()?, ends.next()?, ends.next()?])
}

#[derive(Default)]
struct Folder {
    folded: Zeroizing<Vec<u8>>,
    holes: Zeroizing<Vec<u8>>,
    number: i64,
}

impl Folder {
    fn part(&mut self, part: &str) -> Option<()> {
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(part).ok()?);
        if json.iter().any(|byte| *byte <= NUMBER) {
            return None;
        }
        let mut rest = json.as_slice();
        while let Some(first) = rest.first() {
            let length = match first {
                b'"' => self.string(rest),
                b'0'..=b'9' => self.digits(rest),
                _ => self.plain(rest),
            };
            rest = &rest[length..];
        }
        self.folded.push(END);
        Some(())
    }

    /// What is neither text nor a number; returns how much was taken.
    fn plain(&mut self, rest: &[u8]) -> usize {
        let length = rest.iter().position(|byte| *byte == b'"' || byte.is_ascii_digit()).unwrap_or(rest.len());
        self.folded.extend_from_slice(&rest[..length]);
        length
    }

    fn string(&mut self, rest: &[u8]) -> usize {
        let length = string_length(rest);
        let content = rest[..length].strip_prefix(b"\"").and_then(|content| content.strip_suffix(b"\""));
        let hole = content.filter(|content| content.len() >= HOLE_TEXT_MIN).and_then(decoded);
        if let Some((mark, bytes)) = hole {
            self.folded.push(b'"');
            if self.mark(mark, &bytes).is_some() {
                self.folded.push(b'"');
                return length;
            }
            self.folded.pop();
        }
        self.folded.extend_from_slice(&rest[..length]);
        length
    }

    fn digits(&mut self, rest: &[u8]) -> usize {
        let length = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        let digits = &rest[..length];
        if length == 10 && digits[0] != b'0' {
            let number = digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
            self.folded.push(NUMBER);
            put_varint(&mut self.holes, zigzag(number - self.number));
            self.number = number;
        } else {
            self.folded.extend_from_slice(digits);
        }
        length
    }

    fn mark(&mut self, mark: u8, bytes: &[u8]) -> Option<()> {
        let length = u16::try_from(bytes.len()).ok().filter(|length| usize::from(*length) <= HOLE_BYTES_MAX)?;
        let [high, low] = [(length >> 7) as u8, (length & 0x7f) as u8];
        self.folded.extend_from_slice(&[mark, high | 0x80, low | 0x80]);
        self.holes.extend_from_slice(bytes);
        Some(())
    }
}

/// The length of a JSON string that starts here, quotes included; the rest when it does not end.
fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    rest.len()
}

fn decoded(content: &[u8]) -> Option<(u8, Zeroizing<Vec<u8>>)> {
    let hex = |digits: &[u8; 16]| {
        (content.len() % 2 == 0 && content.iter().all(|byte| digits.contains(byte))).then(|| unhex(content))
    };
    if let Some(bytes) = hex(b"0123456789ABCDEF") {
        return Some((HEX_UPPER, bytes));
    }
    if let Some(bytes) = hex(b"0123456789abcdef") {
        return Some((HEX_LOWER, bytes));
    }
    if let Ok(bytes) = STANDARD.decode(content) {
        return Some((BASE64, bytes.into()));
    }
    URL_SAFE_NO_PAD.decode(content).ok().map(|bytes| (BASE64URL, bytes.into()))
}

fn unhex(digits: &[u8]) -> Zeroizing<Vec<u8>> {
    let value = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { (digit | 0x20) - b'a' + 10 };
    Zeroizing::new(digits.chunks_exact(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect())
}

struct Unfolder<'a> {
    holes: &'a [u8],
    number: i64,
}

impl<'a> Unfolder<'a> {
    fn part(&mut self, mut marked: &[u8], json: &mut Vec<u8>) -> Option<()> {
        while !marked.is_empty() {
            let length = marked.iter().position(|byte| *byte <= NUMBER).unwrap_or(marked.len());
            json.extend_from_slice(&marked[..length]);
            marked = &marked[length..];
            let Some((mark, rest)) = marked.split_first() else { break };
            let taken = if *mark == NUMBER { 0 } else { 2 };
            let length = rest.get(..taken)?;
            self.fill(*mark, length, json)?;
            if json.len() > TEXT_MAX {
                return None;
            }
            marked = &rest[taken..];
        }
        Some(())
    }

    fn fill(&mut self, mark: u8, length: &[u8], json: &mut Vec<u8>) -> Option<()> {
        match mark {
            BASE64 => push_encoded(&STANDARD, self.hole(length)?, json),
            BASE64URL => push_encoded(&URL_SAFE_NO_PAD, self.hole(length)?, json),
            HEX_UPPER => push_hex(b"0123456789ABCDEF", self.hole(length)?, json),
            HEX_LOWER => push_hex(b"0123456789abcdef", self.hole(length)?, json),
            NUMBER => {
                self.number = self.number.checked_add(unzigzag(take_varint(&mut self.holes)?))?;
                push_number(self.number, json)?;
            }
            _ => return None,
        }
        Some(())
    }

    fn hole(&mut self, length: &[u8]) -> Option<&'a [u8]> {
        let [high, low] = length else { return None };
        let (hole, rest) = self.holes.split_at_checked(usize::from(high & 0x7f) << 7 | usize::from(low & 0x7f))?;
        self.holes = rest;
        Some(hole)
    }
}

fn push_encoded(engine: &impl Engine, bytes: &[u8], json: &mut Vec<u8>) {
    let at = json.len();
    json.resize(at + bytes.len().div_ceil(3) * 4, 0);
    let length = engine.encode_slice(bytes, &mut json[at..]).expect("four characters for three bytes are enough");
    json.truncate(at + length);
}

fn push_hex(digits: &[u8; 16], bytes: &[u8], json: &mut Vec<u8>) {
    json.extend(bytes.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]));
}

fn push_number(number: i64, json: &mut Vec<u8>) -> Option<()> {
    let mut digits = [0; 10];
    let mut rest = u64::try_from(number).ok()?;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).expect("below ten");
        rest /= 10;
    }
    json.extend_from_slice(&digits);
    (rest == 0).then_some(())
}

/// Maps small numbers of either sign to small numbers.
pub(crate) const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

pub(crate) const fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Appends seven bits per byte, the lowest first; all but the last byte have the top bit set.
pub(crate) fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(header: &str, claims: &str, signature: &[u8]) -> String {
        let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
        format!("{}.{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()), encode(signature))
    }

    fn folds(text: &str) -> Vec<u8> {
        let folded = fold(text).expect("it is a JWT");
        assert_eq!(*unfold(&folded).expect("it was folded"), text);
        folded.to_vec()
    }

    #[test]
    fn every_kind_of_hole_comes_back() {
        let payload = STANDARD.encode([0xfb; 257]);
        let claims = format!(
            r#"{{ "payload":"{payload}","a":"1d5773695a3b44928227393bfef1e13d","b":"36D101AF67A9F61B8017FB96F91EDD4B22F05804",
               "c":"agA_pgJ7Twx_Ex2_rEeQ2o5fZ5g","iat":1442395542,"nbf":1442391941,"exp":1450171541,"d":0123456789,"e":12345678901,"f":"a\"b\\" }}"#
        );
        let text = jwt(r#"{"alg":"RS256"}"#, &claims, &[7; 256]);
        let folded = folds(&text);
        assert!(folded.len() < text.len() * 3 / 4, "{} of {}", folded.len(), text.len());
    }

    #[test]
    fn odd_texts_come_back_or_do_not_fold() {
        for claims in
            ["", "\"", "\"\\", "\"abc", "{\"a\":\"\\\"\"}", "9999999999", "99999999990000000001", "\"\u{e4}\u{f6}\""]
        {
            folds(&jwt("", claims, b""));
        }
        for text in ["", ".", "..a", "a.b", "a.b.c.d", "QQ==.QQ.QQ", "QR.QQ.QQ", "AA.QQ.QQ"] {
            assert!(fold(text).is_none(), "{text} must not fold");
        }
        assert!(fold(&jwt("{}", "{}", &[0; TEXT_MAX])).is_none());
    }

    #[test]
    fn a_forged_form_is_refused_or_bounded() {
        for folded in [
            &b""[..],
            b"\0",
            b"\0\0",
            b"\0\0\0",
            b"\0\0\x02\x80\x80\0x",
            b"\x01\xff\xff\0\0\x02\x80\x80\0",
            b"\x05\0\0\x02\x80\x80\0",
        ] {
            assert!(unfold(folded).is_none(), "{folded:?}");
        }
        let long = [&[b'x'; FOLDED_MAX][..], b"\0\0\x02\x80\x80\0"].concat();
        assert!(unfold(&long).is_none());
    }

    #[test]
    fn small_numbers_take_little_room() {
        for number in [0, 1, -1, 3600, -3600, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, zigzag(number));
            assert_eq!(take_varint(&mut bytes.as_slice()).map(unzigzag), Some(number));
        }
        assert_eq!(take_varint(&mut &[0xff; 10][..]), None);
    }
}
