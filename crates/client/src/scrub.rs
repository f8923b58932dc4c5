//! Text from outside: cut to a bound and freed of anything that could be a key, a ticket or a part of one.

/// What stands where something was taken out.
const SCRUBBED: &str = "[scrubbed]";

/// A run of base64 this long is taken out. The longest word the Store is known to say has 30 letters.
const LONG_RUN: usize = 32;

/// Three dotted parts that are each this long are taken for a JWT, whatever they start with.
const JWT_PART: usize = 10;

/// Returns the text with everything JWT-shaped and every long run of base64 taken out, controls turned into spaces, and
/// at most `chars_max` characters of it. Hexadecimal digests and GUIDs stay: they are what one searches for.
pub(crate) fn scrubbed(text: &str, chars_max: usize) -> String {
    // A GUID, as nearly all names of answers are.
    if is_identifier(text) && text.len() <= chars_max {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len().min(chars_max));
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        // Scrubbing only ever sees a whole word, so cutting afterwards cannot leave a part of a secret behind.
        if clean.len() >= chars_max.saturating_mul(4) {
            break;
        }
        if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            clean.push_str(if is_suspicious(&rest[..end]) { SCRUBBED } else { &rest[..end] });
            rest = &rest[end..];
        } else {
            clean.push(if first.is_control() { ' ' } else { printable(first) });
            rest = &rest[first.len_utf8()..];
        }
    }
    if let Some((cut, _)) = clean.char_indices().nth(chars_max) {
        clean.truncate(cut);
    }
    clean
}

/// As [`scrubbed`], of the first line only: what follows in an answer of the Store is a stack trace.
pub(crate) fn scrubbed_line(text: &str, chars_max: usize) -> String {
    let text = text.trim_start();
    let line = text.find(['\r', '\n']).map_or(text, |end| &text[..end]);
    scrubbed(line.trim_end(), chars_max)
}

/// Letters and digits of any script, so that a foreign letter cannot cut a secret into harmless-looking parts.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_' | '+' | '/' | '=' | '.' | '~' | '%')
}

/// Anything that could reorder or hide text on a terminal becomes a question mark.
fn printable(c: char) -> char {
    if c.is_ascii() { c } else { '?' }
}

fn is_suspicious(word: &str) -> bool {
    // Every JSON object that starts with `{"` starts so in base64: headers and claims of a JWT.
    if word.contains("eyJ") {
        return true;
    }
    if word.split(['.', '=', '/']).any(|part| part.chars().count() >= LONG_RUN && !is_identifier(part)) {
        return true;
    }
    let mut long_in_a_row = 0;
    word.split('.').any(|part| {
        long_in_a_row = if part.len() >= JWT_PART { long_in_a_row + 1 } else { 0 };
        long_in_a_row == 3
    })
}

/// A thumbprint or a GUID: at most 40 hexadecimal digits and dashes.
fn is_identifier(part: &str) -> bool {
    part.len() <= 40 && part.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_searches_for_stays() {
        for text in [
            "The client is not authorized to perform the requested operation.",
            "IDX10511: Signature validation failed. Keys tried: 'Microsoft.IdentityModel.Tokens.X509SecurityKey'",
            "InternalAadAuthenticationError : Internal error during AAD a",
            "kid: '36D101AF67A9F61B8017FB96F91EDD4B22F05804'",
            "Trace ID: 8f7c2c2e-8e9a-4b1c-9d4f-0a1b2c3d4e5f",
            "https://login.microsoftonline.com/11111111-1111-4111-8111-111111111111/v2.0",
            "xu2HW6SrSkyfHyFh.0.0",
            "scope https://onestore.microsoft.com/b2b/keys/create/collections/.default",
        ] {
            assert_eq!(scrubbed(text, 256), text);
        }
    }

    #[test]
    fn what_could_be_a_secret_goes() {
        let long = "Ab3".repeat(20);
        for (text, expected) in [
            ("token: 'eyJhbGciOiJSUzI1NiJ9.eyJ.c2ln'.", "token: '[scrubbed]'."),
            ("eyJ", "[scrubbed]"),
            ("a=eyJhbGci", "[scrubbed]"),
            ("x ewogICJhbGciOiAi.ewogICJhdWQi.c2lnbmF0dXJl y", "x [scrubbed] y"),
            (&format!("payload {long}=="), "payload [scrubbed]"),
            (&format!("{long}/{long}+"), "[scrubbed]"),
            (&format!("{}é{}", &long[..20], &long[..20]), "[scrubbed]"),
            ("line\r\nnext\u{7}\u{202e}", "line  next ?"),
        ] {
            assert_eq!(scrubbed(text, 256), expected, "{text}");
        }
    }

    #[test]
    fn cutting_comes_after_scrubbing() {
        let text = format!("{}eyJhbGciOiJSUzI1NiJ9.eyJpYXQiOjF9.c2ln", "word ".repeat(50));
        let clean = scrubbed(&text, 255);
        assert_eq!(clean.chars().count(), 255);
        assert!(!clean.contains("eyJ"));
        assert_eq!(scrubbed("éééé", 2), "éé");
        assert_eq!(scrubbed_line("\n first : line \r\n at Stack.Trace()", 256), "first : line");
    }
}
