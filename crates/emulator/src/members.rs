//! Reading the few members of a JSON request body that matter, names folded, no name twice (store.md 4.1, 4.5 step 5).

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

/// The value of a member that was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Member<'a> {
    /// It is not there.
    #[default]
    Absent,
    /// A string.
    Text(Cow<'a, str>),
    /// `null`.
    Null,
    /// Anything else.
    Other,
}

impl Member<'_> {
    /// The string, unless it is empty or none.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// Not one JSON object.
    NotAnObject,
    /// Two members fold to this name.
    Twice(String),
}

/// Reads a body and picks the `wanted` members, whose names are given in lower case; all others are ignored.
pub(crate) fn read_members<'a, const N: usize>(
    body: &'a [u8],
    wanted: [&'static str; N],
) -> Result<[Member<'a>; N], BodyFault> {
    let text = std::str::from_utf8(body).map_err(|_| BodyFault::NotAnObject)?;
    let mut json = serde_json::Deserializer::from_str(text);
    let mut names = Vec::with_capacity(4);
    let members = Picker { wanted, names: &mut names }.deserialize(&mut json).map_err(|_| BodyFault::NotAnObject)?;
    json.end().map_err(|_| BodyFault::NotAnObject)?;
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(BodyFault::Twice(pair[0].chars().take(64).collect())),
        None => Ok(members),
    }
}

struct Picker<'n, const N: usize> {
    wanted: [&'static str; N],
    names: &'n mut Vec<String>,
}

impl<'de, const N: usize> DeserializeSeed<'de> for Picker<'_, N> {
    type Value = [Member<'de>; N];
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Picker<'_, N> {
    type Value = [Member<'de>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = [const { Member::Absent }; N];
        while let Some(Name(name)) = map.next_key()? {
            let name = name.to_lowercase();
            match self.wanted.iter().position(|wanted| *wanted == name) {
                Some(index) => members[index] = map.next_value()?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            self.names.push(name);
        }
        Ok(members)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Member<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MemberVisitor)
    }
}

struct MemberVisitor;

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = Member<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Member::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Member::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Member::Null)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: Result<[Member<'_>; 2], BodyFault>) {
        assert_eq!(read_members(body.as_bytes(), ["serviceticket", "key"]), expected, "{body}");
    }

    fn text(text: &str) -> Member<'_> {
        Member::Text(Cow::Borrowed(text))
    }

    #[test]
    fn names_are_folded_and_others_ignored() {
        check(r#"{"serviceTicket":"t","key":"k"}"#, Ok([text("t"), text("k")]));
        check(r#" {"Key":"k","SERVICETICKET":"t","x":{"key":[1e999]}} "#, Ok([text("t"), text("k")]));
        check(r#"{"\u006bey":"a\nb"}"#, Ok([Member::Absent, text("a\nb")]));
        check("{}", Ok([Member::Absent, Member::Absent]));
    }

    #[test]
    fn values_that_are_no_text() {
        for value in ["1", "-1", "1.5", "true", "[1,[2]]", r#"{"a":{"b":1}}"#] {
            check(&format!(r#"{{"key":{value}}}"#), Ok([Member::Absent, Member::Other]));
        }
        check(r#"{"key":null,"serviceTicket":""}"#, Ok([text(""), Member::Null]));
        assert_eq!((text("").text(), Member::Null.text(), text("x").text()), (None, None, Some("x")));
    }

    #[test]
    fn a_name_twice_is_a_fault_however_it_is_spelled() {
        let twice = |name: &str| Err(BodyFault::Twice(name.to_owned()));
        check(r#"{"key":"k","Key":"k"}"#, twice("key"));
        check(r#"{"key":"k","key":"k"}"#, twice("key"));
        check(r#"{"a":1,"key":"k","A":2}"#, twice("a"));
        check(r#"{"Ä":1,"ä":2}"#, twice("ä"));
    }

    #[test]
    fn what_is_no_object_is_a_fault() {
        for body in
            ["", "null", "[]", "\"key\"", "{", r#"{"key":"k"} x"#, r#"{"key":"k"}{}"#, r#"{"key":tru}"#, "\u{feff}{}"]
        {
            check(body, Err(BodyFault::NotAnObject));
        }
        assert_eq!(read_members(b"{\"key\":\"\xff\"}", ["key"]), Err(BodyFault::NotAnObject));
        let deep = format!(r#"{{"x":{}"#, "[".repeat(60_000));
        check(&deep, Err(BodyFault::NotAnObject));
    }
}
