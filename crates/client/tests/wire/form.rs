//! Reads `application/x-www-form-urlencoded` bodies, so that two that say the same compare equal.

/// Names and values in alphabetical order.
pub(crate) fn fields(body: &str) -> Vec<(String, String)> {
    let pair = |field: &str| {
        let (name, value) = field.split_once('=').expect("a field has a value");
        (decoded(name), decoded(value))
    };
    let mut fields: Vec<_> = body.split('&').map(pair).collect();
    fields.sort();
    fields
}

/// The value of a field.
pub(crate) fn field(body: &str, name: &str) -> Option<String> {
    fields(body).into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// Undoes the encoding of a form's values.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = std::str::from_utf8(&rest[..2]).expect("two hexadecimal digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
                rest = &rest[2..];
            }
            plain => bytes.push(*plain),
        }
    }
    String::from_utf8(bytes).expect("forms hold UTF-8")
}

#[test]
fn forms_that_say_the_same_are_equal() {
    assert_eq!(fields("b=2&a=x%20%2B%25%26"), fields("a=x+%2b%25%26&b=2"));
    assert_ne!(fields("a=1+1"), fields("a=1%2B1"));
    assert_eq!(field("a=1&b=%3D", "b").as_deref(), Some("="));
    assert_eq!(field("a=1", "b"), None);
}
