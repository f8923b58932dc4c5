//! Percent-decoding, once and exactly: what is not valid is an error, never a guess.

use std::borrow::Cow;

/// A `%` that is not followed by two hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Invalid;

/// Decodes a path segment; `+` stands for itself.
pub(crate) fn decode(text: &str) -> Result<Cow<'_, [u8]>, Invalid> {
    if text.contains('%') {
        decode_escapes(text.as_bytes()).map(Cow::Owned)
    } else {
        Ok(Cow::Borrowed(text.as_bytes()))
    }
}

/// Decodes a name or value of a query, where `+` stands for a space.
pub(crate) fn decode_form(text: &str) -> Result<Vec<u8>, Invalid> {
    decode_escapes(text.replace('+', " ").as_bytes())
}

fn decode_escapes(mut text: &[u8]) -> Result<Vec<u8>, Invalid> {
    let mut decoded = Vec::with_capacity(text.len());
    loop {
        match text {
            [] => return Ok(decoded),
            [b'%', high, low, rest @ ..] => {
                decoded.push(digit(*high)? << 4 | digit(*low)?);
                text = rest;
            }
            [b'%', ..] => return Err(Invalid),
            [byte, rest @ ..] => {
                decoded.push(*byte);
                text = rest;
            }
        }
    }
}

fn digit(character: u8) -> Result<u8, Invalid> {
    let value = char::from(character).to_digit(16).ok_or(Invalid)?;
    Ok(u8::try_from(value).expect("a hexadecimal digit is below 16"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[u8], Invalid>) {
        assert_eq!(decode(text).as_deref().map_err(|error| *error), expected, "{text}");
    }

    #[test]
    fn a_segment_is_decoded_exactly_once() {
        check("player-0001", Ok(b"player-0001"));
        check("a%2Fb", Ok(b"a/b"));
        check("a%2fb", Ok(b"a/b"));
        check("a%252Fb", Ok(b"a%2Fb"));
        check("a+b", Ok(b"a+b"));
        check("%C3%A4", Ok("ä".as_bytes()));
        check("ä", Ok("ä".as_bytes()));
        check("%FF", Ok(&[0xFF]));
        check("%00", Ok(&[0]));
        check("%", Err(Invalid));
        check("%4", Err(Invalid));
        check("a%zz", Err(Invalid));
        check("%+1", Err(Invalid));
    }

    #[test]
    fn in_a_query_a_plus_is_a_space() {
        assert_eq!(decode_form("a+b%2Bc"), Ok(b"a b+c".to_vec()));
        assert_eq!(decode_form("%g0"), Err(Invalid));
    }
}
