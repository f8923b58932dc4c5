//! Folding: a JWT's text taken apart into what compresses well and what does not, and back; the text is never
//! re-serialised, so the way back is exact.
//!
//! A compact JWT is three base64url parts. Header and claims are decoded to their JSON text, in which values that are
//! themselves base64 or hexadecimal, and ten-digit numbers (instants), leave a mark; their bytes are the holes:
//!
//! ```text
//! skeleton: header text with marks │ 0 │ claims text with marks │ 0 │ mark of the signature
//! holes:    in the order of the marks
//! ```
//!
//! A mark is one of the bytes 1 to 6, which no JSON text contains. A hole is its length and one, seven bits per byte, and
//! its bytes; nought alone says that the hole before comes again (`kid` and `x5t` are one thumbprint). A number is kept as
//! its distance from the number before it, zigzag. The user's ID is a hole whatever it looks like. So the skeletons of one
//! app's keys are the same.

use std::ops::Range;

use base64_simd::{Base64, STANDARD, URL_SAFE_NO_PAD};
use storekeeper_model::Wipe;

/// The longest text that is folded; a longer one stays as it is.
pub const TEXT_MAX: usize = 16 * 1024;
/// A skeleton is never longer than this: it stands for text that was a third longer.
pub const SKELETON_MAX: usize = TEXT_MAX;

const END: u8 = 0;
const BASE64: u8 = 1;
const BASE64URL: u8 = 2;
const HEX_UPPER: u8 = 3;
const HEX_LOWER: u8 = 4;
const NUMBER: u8 = 5;
const TEXT: u8 = 6;
const LAST_MARK: u8 = TEXT;
/// What stands before the user's ID.
const USER_ID: &[u8] = b"userId\":";
const HOLE_TEXT_MIN: usize = 20;

/// A folded text.
#[derive(Debug, Default)]
pub struct Folded {
    /// The text with marks.
    pub skeleton: Vec<u8>,
    /// What the marks stand for.
    pub holes: Vec<u8>,
    json: Vec<u8>,
    hole: Vec<u8>,
    last_hole: Range<usize>,
    number: i64,
}

impl Folded {
    /// Folds a compact JWT into the place of what was here; `None` if this text is none that folds. Whoever keeps the
    /// result proves the way back first.
    pub fn fold(&mut self, jwt: &str) -> Option<()> {
        self.wipe();
        if jwt.len() > TEXT_MAX {
            return None;
        }
        let mut dots = memchr::memchr_iter(b'.', jwt.as_bytes());
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else { return None };
        self.part(&jwt[..first])?;
        self.part(&jwt[first + 1..second])?;
        self.decode_hole(&URL_SAFE_NO_PAD, &jwt.as_bytes()[second + 1..])?;
        self.mark(BASE64URL);
        Some(())
    }

    /// Forgets what was folded, and overwrites it: it was a secret.
    pub fn wipe(&mut self) {
        for bytes in [&mut self.skeleton, &mut self.holes, &mut self.json, &mut self.hole] {
            bytes.as_mut_slice().wipe();
            bytes.clear();
        }
        (self.last_hole, self.number) = (0..0, 0);
    }

    fn part(&mut self, part: &str) -> Option<()> {
        let mut json = std::mem::take(&mut self.json);
        json.clear();
        let is_base64url = URL_SAFE_NO_PAD.decode_append(part, &mut json).is_ok();
        let is_text = json.iter().fold(true, |is_text, byte| is_text & (*byte > LAST_MARK));
        if is_base64url && is_text {
            self.text(&json);
        }
        self.json = json;
        (is_base64url && is_text).then_some(())
    }

    fn text(&mut self, json: &[u8]) {
        let mut rest = json;
        while let Some(first) = rest.first() {
            let length = match first {
                b'"' => self.string(rest),
                b'0'..=b'9' => self.digits(rest),
                _ => self.plain(rest),
            };
            rest = &rest[length..];
        }
        self.skeleton.push(END);
    }

    /// What is neither text nor a number; returns how much was taken.
    fn plain(&mut self, rest: &[u8]) -> usize {
        let length = rest.iter().position(|byte| *byte == b'"' || byte.is_ascii_digit()).unwrap_or(rest.len());
        self.skeleton.extend_from_slice(&rest[..length]);
        length
    }

    fn string(&mut self, rest: &[u8]) -> usize {
        let length = string_length(rest);
        let content = rest[1..length].strip_suffix(b"\"");
        match content.and_then(|content| self.decode(content)) {
            Some(mark) => {
                self.skeleton.push(b'"');
                self.mark(mark);
                self.skeleton.push(b'"');
            }
            None => self.skeleton.extend_from_slice(&rest[..length]),
        }
        length
    }

    fn digits(&mut self, rest: &[u8]) -> usize {
        let length = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        let digits = &rest[..length];
        if length == 10 && digits[0] != b'0' {
            let number = digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
            self.skeleton.push(NUMBER);
            put_varint(&mut self.holes, zigzag(number - self.number));
            self.number = number;
        } else {
            self.skeleton.extend_from_slice(digits);
        }
        length
    }

    /// Decodes a value that is to be a hole into `hole`; returns the mark that says how.
    fn decode(&mut self, content: &[u8]) -> Option<u8> {
        if self.skeleton.ends_with(USER_ID) {
            self.hole.clear();
            self.hole.extend_from_slice(content);
            return Some(TEXT);
        }
        if content.len() < HOLE_TEXT_MIN {
            return None;
        }
        let is_hex = |letters: u8| {
            let is_digit = |byte: &u8| byte.is_ascii_digit() || (letters..letters + 6).contains(byte);
            content.len().is_multiple_of(2) && content.iter().all(is_digit)
        };
        if let Some((mark, _)) = [(HEX_UPPER, b'A'), (HEX_LOWER, b'a')].iter().find(|(_, letters)| is_hex(*letters)) {
            self.hole.clear();
            self.hole.extend(content.chunks_exact(2).map(|pair| unhex(pair[0]) << 4 | unhex(pair[1])));
            return Some(*mark);
        }
        let as_base64 = self.decode_hole(&STANDARD, content).map(|()| BASE64);
        as_base64.or_else(|| self.decode_hole(&URL_SAFE_NO_PAD, content).map(|()| BASE64URL))
    }

    fn decode_hole(&mut self, base64: &Base64, content: &[u8]) -> Option<()> {
        self.hole.clear();
        base64.decode_append(content, &mut self.hole).ok().map(|_| ())
    }

    /// Puts the mark of what stands in `hole`, and that among the holes.
    fn mark(&mut self, mark: u8) {
        self.skeleton.push(mark);
        if !self.hole.is_empty() && self.holes[self.last_hole.clone()] == self.hole {
            return put_varint(&mut self.holes, 0);
        }
        put_varint(&mut self.holes, self.hole.len() as u64 + 1);
        let start = self.holes.len();
        self.holes.extend_from_slice(&self.hole);
        self.last_hole = start..self.holes.len();
    }
}

/// The length of a JSON string that starts here, quotes included; the rest when it does not end.
fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = rest.get(at..).and_then(first_quote_or_escape) {
        at += found;
        if rest[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    rest.len()
}

const fn unhex(digit: u8) -> u8 {
    if digit.is_ascii_digit() { digit - b'0' } else { (digit | 0x20) - b'a' + 10 }
}

/// Where the string may end.
fn first_quote_or_escape(bytes: &[u8]) -> Option<usize> {
    let equal = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    first(bytes, |word| equal(word, b'"') | equal(word, b'\\'), |byte| matches!(byte, b'"' | b'\\'))
}

/// Where the first mark, or the end, stands.
fn first_mark(bytes: &[u8]) -> Option<usize> {
    first(bytes, |word| below(word, LAST_MARK + 1), |byte| byte <= LAST_MARK)
}

/// Where the first byte stands that is looked for, eight bytes at a time: keys are mostly text without marks. `in_word`
/// sets the top bit of each byte found, and may be wrong about bytes above the lowest one.
fn first(bytes: &[u8], in_word: impl Fn(u64) -> u64, is_it: impl Fn(u8) -> bool) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    let found = words.iter().enumerate().find_map(|(at, word)| {
        let found = in_word(u64::from_le_bytes(*word));
        (found != 0).then(|| at * 8 + found.trailing_zeros() as usize / 8)
    });
    found.or_else(|| rest.iter().position(|byte| is_it(*byte)).map(|at| words.len() * 8 + at))
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);

/// The top bit of each byte below `limit`, which is at most 128. Borrows run upwards, so the lowest one is right.
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * limit as u64) & !word & (ONES << 7)
}

/// Undoes [`Folded::fold`]: appends the text to `text`, at most [`TEXT_MAX`] bytes. `json` is scratch: it is left full
/// of the secret. `None` if this is not what folding makes.
pub fn unfold(skeleton: &[u8], holes: &[u8], json: &mut Vec<u8>, text: &mut String) -> Option<()> {
    let mut rest = skeleton;
    let mut unfolder = Unfolder { holes, last_hole: &[], number: 0 };
    for _ in 0..2 {
        json.clear();
        rest = unfolder.part(rest, json)?;
        if text.len() + json.len() > TEXT_MAX {
            return None;
        }
        URL_SAFE_NO_PAD.encode_append(&*json, text);
        text.push('.');
    }
    let [BASE64URL] = rest else { return None };
    let signature = unfolder.hole()?;
    URL_SAFE_NO_PAD.encode_append(signature, text);
    (unfolder.holes.is_empty() && text.len() <= TEXT_MAX).then_some(())
}

struct Unfolder<'a> {
    holes: &'a [u8],
    last_hole: &'a [u8],
    number: i64,
}

impl<'a> Unfolder<'a> {
    /// Fills one part's holes, up to its end; returns what follows.
    fn part<'s>(&mut self, mut marked: &'s [u8], json: &mut Vec<u8>) -> Option<&'s [u8]> {
        loop {
            let length = first_mark(marked)?;
            json.extend_from_slice(&marked[..length]);
            let (mark, rest) = marked[length..].split_first()?;
            if *mark == END {
                return Some(rest);
            }
            self.fill(*mark, json)?;
            if json.len() > TEXT_MAX {
                return None;
            }
            marked = rest;
        }
    }

    fn fill(&mut self, mark: u8, json: &mut Vec<u8>) -> Option<()> {
        match mark {
            BASE64 => STANDARD.encode_append(self.hole()?, json),
            BASE64URL => URL_SAFE_NO_PAD.encode_append(self.hole()?, json),
            HEX_UPPER => push_hex(b"0123456789ABCDEF", self.hole()?, json),
            HEX_LOWER => push_hex(b"0123456789abcdef", self.hole()?, json),
            TEXT => json.extend_from_slice(self.hole()?),
            NUMBER => {
                self.number = self.number.checked_add(unzigzag(take_varint(&mut self.holes)?))?;
                push_number(self.number, json)?;
            }
            _ => return None,
        }
        Some(())
    }

    fn hole(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(take_varint(&mut self.holes)?).ok()?;
        if let Some(length) = length.checked_sub(1) {
            (self.last_hole, self.holes) = self.holes.split_at_checked(length)?;
        }
        Some(self.last_hole)
    }
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
        let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode_to_string(part);
        format!("{}.{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()), encode(signature))
    }

    fn unfolded(skeleton: &[u8], holes: &[u8]) -> Option<String> {
        let mut text = String::new();
        unfold(skeleton, holes, &mut Vec::new(), &mut text).map(|()| text)
    }

    fn folds(text: &str) -> Folded {
        let mut folded = Folded::default();
        folded.fold(text).expect("it is a JWT");
        assert_eq!(unfolded(&folded.skeleton, &folded.holes).as_deref(), Some(text));
        folded
    }

    #[test]
    fn every_kind_of_hole_comes_back() {
        let payload = STANDARD.encode_to_string([0xfb; 257]);
        let claims = format!(
            r#"{{ "payload":"{payload}","a":"1d5773695a3b44928227393bfef1e13d","b":"36D101AF67A9F61B8017FB96F91EDD4B22F05804",
               "c":"NtEBr2ep9huAF_uW-R7dSyLwWAQ","iat":1442395542,"nbf":1442391941,"exp":1450171541,"d":0123456789,"e":12345678901,
               "f":"a\"b\\" }}"#
        );
        let folded = folds(&jwt(r#"{"alg":"RS256"}"#, &claims, &[7; 256]));
        let thumbprint_once = 257 + 16 + 20 + 256;
        let (numbers, lengths) = (5 + 2 + 4, 2 + 1 + 1 + 1 + 2);
        assert_eq!(folded.holes.len(), thumbprint_once + numbers + lengths);
    }

    #[test]
    fn odd_texts_come_back_or_do_not_fold() {
        for claims in
            ["", "\"", "\"\\", "\"abc", "{\"a\":\"\\\"\"}", "9999999999", "99999999990000000001", "\"\u{e4}\u{f6}\""]
        {
            folds(&jwt("", claims, b""));
        }
        for text in ["", ".", "..a", "a.b", "a.b.c.d", "QQ==.QQ.QQ", "QR.QQ.QQ", "AA.QQ.QQ"] {
            assert_eq!(Folded::default().fold(text), None, "{text} must not fold");
        }
        assert_eq!(Folded::default().fold(&jwt("{}", "{}", &[0; TEXT_MAX])), None);
    }

    #[test]
    fn users_leave_no_trace_in_the_skeleton() {
        let skeleton = |user: &str| {
            let claims = format!(r#"{{"claims/key/userId":"{user}","iss":"somebody"}}"#);
            folds(&jwt("{}", &claims, &[7; 256])).skeleton
        };
        let usual = skeleton("player-01");
        for other in
            ["", "a longer name", "a\\\"b", "\u{e4}\u{f6}", "\\u0001", "36D101AF67A9F61B8017FB96F91EDD4B22F05804"]
        {
            assert_eq!(skeleton(other), usual, "{other}");
        }
    }

    #[test]
    fn wiping_leaves_nothing_of_the_text() {
        let mut folded = folds(&jwt("{}", r#"{"user":"somebody whose name is long"}"#, &[7; 256]));
        folded.wipe();
        assert!(folded.skeleton.is_empty() && folded.holes.is_empty());
    }

    #[test]
    fn a_forged_form_is_refused_or_bounded() {
        let forged: [(&[u8], &[u8]); 8] = [
            (b"", b""),
            (b"\0", b""),
            (b"\0\0", b""),
            (b"\0\0\x02", b"\x01x"),
            (b"\0\0\x02", b"\x02"),
            (b"\0\0\x02\x02", b"\x01\x01"),
            (b"\x01\0\0\x02", b"\xff\xff\x03\x01"),
            (b"\x05\0\0\x02", b"\x01"),
        ];
        for (skeleton, holes) in forged {
            assert_eq!(unfolded(skeleton, holes), None, "{skeleton:?}");
        }
        let long = [&[b'x'; TEXT_MAX][..], b"\0\0\x02"].concat();
        assert_eq!(unfolded(&long, b"\x01"), None);
        let again = [b"\x02".as_slice(), &b"\x02".repeat(1000), b"\0\0\x02"].concat();
        let holes = [b"\x81\x20".as_slice(), &[b'x'; 4096], &[0; 1000], b"\x01"].concat();
        assert_eq!(unfolded(&again, &holes), None);
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
