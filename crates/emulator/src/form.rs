//! Form bodies as the token endpoints take them: `application/x-www-form-urlencoded`.

/// The pairs of a form, decoded.
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a body. What is not valid UTF-8 after decoding is replaced, and a stray `%` stands for itself.
    pub(crate) fn parse(body: &[u8]) -> Self {
        let pairs = body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
        let read = |pair: &[u8]| {
            let middle = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            (decode(&pair[..middle]), decode(pair.get(middle + 1..).unwrap_or_default()))
        };
        Self(pairs.map(read).collect())
    }

    /// The first value of that name, unless it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

/// Undoes percent encoding, `+` being a space.
pub(crate) fn decode(text: &[u8]) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut index = 0;
    while let Some(byte) = text.get(index) {
        index += 1;
        match (byte, digit(text.get(index)), digit(text.get(index + 1))) {
            (b'+', _, _) => bytes.push(b' '),
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high << 4 | low).expect("two hexadecimal digits are a byte"));
                index += 2;
            }
            _ => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let form = Form::parse(b"a=1&b=x%2By%25%26z&c=one+two&empty=&flag&a=2&%C3%BC=%zz%4");
        let check = |name, expected| assert_eq!(form.get(name), expected, "{name}");
        check("a", Some("1"));
        check("b", Some("x+y%&z"));
        check("c", Some("one two"));
        check("empty", None);
        check("flag", None);
        check("ü", Some("%zz%4"));
        check("absent", None);
        assert_eq!(Form::parse(b"").get("a"), None);
    }
}
