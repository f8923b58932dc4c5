//! Holds an answer against what a fixture says of it: placeholders such as `<guid>` stand for what varies.

use std::collections::BTreeMap;

use serde_json::Value;

/// What named placeholders (`<guid:trace>`) stood for: the same name is the same text everywhere in an answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bindings(BTreeMap<String, String>);

impl Bindings {
    /// What the placeholder of this name, or the unnamed one of this kind, stood for last.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

enum Token<'a> {
    Literal(&'a str),
    Hole { kind: &'a str, name: Option<&'a str> },
}

/// Whether `text` is what `pattern` describes.
pub(crate) fn text_matches(pattern: &str, text: &str, bound: &mut Bindings) -> bool {
    let tokens = tokens(pattern);
    match walk(&tokens, text, bound.clone()) {
        Some(found) => {
            *bound = found;
            true
        }
        None => false,
    }
}

/// Compares JSON with JSON: the same members, no others, each of the same type.
pub(crate) fn json_matches(pattern: &Value, actual: &Value, at: &str, bound: &mut Bindings) -> Result<(), String> {
    match (pattern, actual) {
        (Value::String(pattern), Value::String(text))
            if !pattern.starts_with("<lifetime_number") && text_matches(pattern, text, bound) =>
        {
            Ok(())
        }
        // A placeholder for a number stands in quotes, since JSON has no other place for it.
        (Value::String(pattern), Value::Number(number))
            if pattern.starts_with("<lifetime_number") && text_matches(pattern, &number.to_string(), bound) =>
        {
            Ok(())
        }
        (Value::Array(patterns), Value::Array(items)) if patterns.len() == items.len() => patterns
            .iter()
            .zip(items)
            .enumerate()
            .try_for_each(|(index, (pattern, item))| json_matches(pattern, item, &format!("{at}[{index}]"), bound)),
        (Value::Object(patterns), Value::Object(members))
            if patterns.len() == members.len() && patterns.keys().all(|name| members.contains_key(name)) =>
        {
            patterns
                .iter()
                .try_for_each(|(name, pattern)| json_matches(pattern, &members[name], &format!("{at}.{name}"), bound))
        }
        (pattern, actual) if !pattern.is_string() && pattern == actual => Ok(()),
        _ => Err(format!("{at} is {actual}, not {pattern}")),
    }
}

fn tokens(pattern: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let Some((before, inside, after)) = next_hole(rest) {
        if !before.is_empty() {
            tokens.push(Token::Literal(before));
        }
        let (kind, name) = inside.split_once(':').map_or((inside, None), |(kind, name)| (kind, Some(name)));
        tokens.push(Token::Hole { kind, name });
        rest = after;
    }
    if !rest.is_empty() {
        tokens.push(Token::Literal(rest));
    }
    tokens
}

fn next_hole(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('<')?;
    let (inside, after) = rest.split_once('>')?;
    let kind = inside.split(':').next().unwrap_or_default();
    assert!(KINDS.iter().any(|(known, _)| *known == kind), "`<{inside}>` is no placeholder");
    Some((before, inside, after))
}

fn walk(tokens: &[Token<'_>], text: &str, mut bound: Bindings) -> Option<Bindings> {
    match tokens {
        [] => text.is_empty().then_some(bound),
        [Token::Literal(literal), rest @ ..] => walk(rest, text.strip_prefix(literal)?, bound),
        [Token::Hole { kind, name: Some(name) }, rest @ ..] if bound.get(name).is_some() => {
            let known = bound.get(name)?.to_owned();
            assert!(accepts(kind, &known), "`{name}` is bound to another kind");
            walk(rest, text.strip_prefix(known.as_str())?, bound)
        }
        [Token::Hole { kind, name }, rest @ ..] => {
            let ends = (0..=text.len()).rev().filter(|end| text.is_char_boundary(*end));
            let mut taken = ends.filter(|end| accepts(kind, &text[..*end]));
            taken.find_map(|end| {
                bound.0.insert(name.unwrap_or(kind).to_owned(), text[..end].to_owned());
                walk(rest, &text[end..], bound.clone())
            })
        }
    }
}

fn accepts(kind: &str, text: &str) -> bool {
    let (_, test) = KINDS.iter().find(|(known, _)| *known == kind).expect("checked when the pattern was read");
    test(text)
}

type Test = fn(&str) -> bool;

/// The placeholders, as listed in `fixtures/wire/README.md`.
const KINDS: [(&str, Test); 9] = [
    ("guid", is_guid),
    ("text", |text| !text.is_empty()),
    ("rest", |_| true),
    ("digits", |text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())),
    ("cv", is_vector_v1),
    ("lifetime", is_lifetime),
    ("lifetime_number", is_lifetime),
    ("key", is_jwt),
    ("access_token", is_jwt),
];

fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_vector_v1(text: &str) -> bool {
    let Some((base, elements)) = text.split_once('.') else { return false };
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    let is_number = |element: &str| element.parse::<u32>().is_ok_and(|number| number.to_string() == element);
    base.len() == 16 && base.bytes().all(is_base64) && elements.split('.').all(is_number) && text.len() <= 63
}

/// Entra issues for an hour to an hour and a half, and counts down from there.
fn is_lifetime(text: &str) -> bool {
    text.parse().is_ok_and(|seconds| (3599..=5400).contains(&seconds))
}

fn is_jwt(text: &str) -> bool {
    let is_part =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    text.split('.').count() == 3 && text.split('.').all(is_part)
}

/// The judge is judged: a pattern that accepts everything would prove nothing.
#[test]
fn patterns_accept_what_they_describe_and_nothing_else() {
    let check = |pattern: &str, text: &str, expected: bool| {
        assert_eq!(text_matches(pattern, text, &mut Bindings::default()), expected, "{pattern} against {text}");
    };
    check("plain", "plain", true);
    check("plain", "plain ", false);
    check("<text>", "", false);
    check("<rest>", "", true);
    check("a<rest>b<text>", "abb", true);
    check("a<text>b", "ab", false);
    check("id <guid>.", "id 1b5fa630-d672-4971-b2c0-3713f4ea6c85.", true);
    check("id <guid>.", "id 1B5FA630-d672-4971-b2c0-3713f4ea6c85.", false);
    check("<guid>", "1b5fa630d672-4971-b2c0-3713f4ea6c85", false);
    check("<guid:a> <guid:a>", "1b5fa630-d672-4971-b2c0-3713f4ea6c85 1b5fa630-d672-4971-b2c0-3713f4ea6c85", true);
    check("<guid:a> <guid:a>", "1b5fa630-d672-4971-b2c0-3713f4ea6c85 1b5fa630-d672-4971-b2c0-3713f4ea6c86", false);
    check("<cv>", "xu2HW6SrSkyfHyFh.0.0", true);
    check("<cv>", "xu2HW6SrSkyHyFh.0", false);
    check("<cv>", "xu2HW6SrSkyfHyFh", false);
    check("<cv>", "xu2HW6SrSkyfHyFh.01", false);
    check("<digits>", "60", true);
    check("<digits>", "60s", false);
    check("<key>", "eyJ.eyJ.c2ln", true);
    check("<key>", "eyJ.eyJ", false);
}

#[test]
fn json_is_compared_member_by_member() {
    let check = |pattern: Value, actual: Value, expected: bool| {
        let outcome = json_matches(&pattern, &actual, "body", &mut Bindings::default());
        assert_eq!(outcome.is_ok(), expected, "{pattern} against {actual}");
    };
    use serde_json::json;
    check(json!({"a": 1, "b": ["<text>"]}), json!({"b": ["x"], "a": 1}), true);
    check(json!({"a": 1}), json!({"a": "1"}), false);
    check(json!({"a": "1"}), json!({"a": 1}), false);
    check(json!({"a": 1}), json!({"a": 1, "b": null}), false);
    check(json!({"a": 1, "b": null}), json!({"a": 1}), false);
    check(json!("<lifetime_number>"), json!(3599), true);
    check(json!("<lifetime_number>"), json!(3598), false);
    check(json!("<lifetime_number>"), json!("3599"), false);
    check(json!("<lifetime>"), json!("5400"), true);
    check(json!("<lifetime>"), json!(5400), false);
    check(json!([]), json!(["x"]), false);
    check(json!(["<text>"]), json!([""]), false);
    check(
        json!({"a": "<guid:x>", "b": "<guid:x>"}),
        json!({"a": "1b5fa630-d672-4971-b2c0-3713f4ea6c85", "b": "-"}),
        false,
    );
}
