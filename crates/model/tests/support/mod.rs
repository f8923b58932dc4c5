//! Reads the golden values in `fixtures/keys/` for the tests of the vocabulary.

use serde_json::Value;

/// One file of `fixtures/keys/`, parsed.
pub(crate) fn golden(name: &str) -> Value {
    let path = format!("{}/../../fixtures/keys/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The list called `name`, which must not be empty: a golden file without cases would prove nothing.
pub(crate) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    let list = value[name].as_array().unwrap_or_else(|| panic!("no list `{name}`"));
    assert!(!list.is_empty(), "the list `{name}` is empty");
    list
}

/// The text called `name`.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no text `{name}` in {value}"))
}
