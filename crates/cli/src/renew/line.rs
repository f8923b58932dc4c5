//! `Line`: one line of the stream. What a caller put beside the key comes back as it came.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::value::RawValue;
use storekeeper_model::{ParseKeyError, Secret, StoreIdKey};

use super::verdict::{Verdict, Word};

/// The members that are ours; those of the same name in a line are replaced, so that an answer can be a line again.
const OURS: [&str; 5] = ["result", "code", "detail", "fingerprint", "expires_at"];
const KEY: &str = "key";

/// A line that was read.
#[derive(Debug)]
pub(super) struct Line {
    content: Content,
    key: Result<StoreIdKey, Verdict>,
    bytes: usize,
}

/// What a line holds. It comes out again whatever it is.
#[derive(Debug)]
enum Content {
    /// The members of an object.
    Members(Members),
    /// Text that is no object; comes out as the member `line`.
    Text(String),
    /// Bytes that are no UTF-8; come out as the member `line_base64`.
    Bytes(Vec<u8>),
}

/// The members of an object, in their order and as they were written.
#[derive(Debug)]
struct Members(Vec<(String, Box<RawValue>)>);

impl Line {
    /// Reads a line, without its end. One that cannot be understood has a verdict already.
    pub(super) fn read(line: &[u8]) -> Self {
        let Ok(members) = serde_json::from_slice::<Members>(line.trim_ascii()) else {
            return Self::unreadable(line, invalid("line_invalid", "the line is not a JSON object"));
        };
        let key = members.key().and_then(|text| StoreIdKey::parse(text).map_err(|error| not_a_key(&error)));
        Self { content: Content::Members(members), key, bytes: line.len() }
    }

    /// A line that is too long to be looked into.
    pub(super) fn too_long(line: &[u8]) -> Self {
        Self::unreadable(line, invalid("line_too_long", "the line is longer than 64 KiB"))
    }

    fn unreadable(line: &[u8], verdict: Verdict) -> Self {
        let content = match std::str::from_utf8(line) {
            Ok(text) => Content::Text(text.to_owned()),
            Err(_) => Content::Bytes(line.to_owned()),
        };
        Self { content, key: Err(verdict), bytes: line.len() }
    }

    /// How long it was.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The key, or why there is none.
    pub(super) fn key(&self) -> Result<&StoreIdKey, &Verdict> {
        self.key.as_ref()
    }

    /// The line to answer with.
    pub(super) fn answer(&self, verdict: &Verdict) -> Vec<u8> {
        let mut line = serde_json::to_vec(&Answered { line: self, verdict })
            .expect("text and raw JSON can always be written to memory");
        line.push(b'\n');
        line
    }
}

impl Members {
    fn key(&self) -> Result<Secret<String>, Verdict> {
        let mut keys = self.0.iter().filter(|(name, _)| name == KEY);
        let (Some((_, raw)), None) = (keys.next(), keys.next()) else {
            return Err(invalid("line_invalid", "the line needs one member `key`"));
        };
        let text = serde_json::from_str::<String>(raw.get());
        text.map(Secret::new).map_err(|_| invalid("line_invalid", "the member `key` is not a text"))
    }
}

fn invalid(code: &'static str, detail: &str) -> Verdict {
    Verdict::other(Word::Invalid, code, detail)
}

/// The words of the keeper's API for the same.
fn not_a_key(error: &ParseKeyError) -> Verdict {
    let code = match error {
        ParseKeyError::Empty => "key_empty",
        ParseKeyError::TooLarge => "key_too_large",
        _ => "key_malformed",
    };
    invalid(code, &error.to_string())
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::with_capacity(map.size_hint().unwrap_or(4));
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

struct Answered<'a> {
    line: &'a Line,
    verdict: &'a Verdict,
}

impl Serialize for Answered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { line, verdict } = self;
        let mut map = serializer.serialize_map(None)?;
        match &line.content {
            Content::Text(text) => map.serialize_entry("line", text)?,
            Content::Bytes(bytes) => map.serialize_entry("line_base64", &STANDARD.encode(bytes))?,
            Content::Members(Members(members)) => {
                for (name, value) in members {
                    match &verdict.successor {
                        _ if OURS.contains(&name.as_str()) => {}
                        Some(successor) if name == KEY => map.serialize_entry(name, successor.jwt().expose())?,
                        _ => map.serialize_entry(name, value)?,
                    }
                }
            }
        }
        map.serialize_entry("result", verdict.word.as_str())?;
        if let Some(code) = &verdict.code {
            map.serialize_entry("code", code)?;
        }
        if let Some(detail) = &verdict.detail {
            map.serialize_entry("detail", detail)?;
        }
        if let Some(key) = verdict.successor.as_deref().or(line.key.as_ref().ok()) {
            map.serialize_entry("fingerprint", &key.fingerprint())?;
            map.serialize_entry("expires_at", &key.lifetime().expires_at())?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(line: &str) -> String {
        let line = Line::read(line.as_bytes());
        let verdict = line.key().err().cloned().unwrap_or_else(|| Verdict::other(Word::Kept, "not_due", "later"));
        String::from_utf8(line.answer(&verdict)).unwrap().trim_end_matches('\n').to_owned()
    }

    fn check(line: &str, expected: &str) {
        assert_eq!(answered(line), expected);
    }

    #[test]
    fn what_is_no_line_comes_out_with_its_content() {
        let no_object = r#""result":"invalid","code":"line_invalid","detail":"the line is not a JSON object"}"#;
        for line in ["", "[]", "eyJ", "{", "7", "\r", " {\"key\":\"eyJ\"", "é\u{0}\\"] {
            check(line, &format!("{{\"line\":{},{no_object}", serde_json::to_string(line).unwrap()));
        }
        let line = Line::read(b"{\"key\":\"\xff\"}");
        let out = String::from_utf8(line.answer(line.key().unwrap_err())).unwrap();
        assert!(out.starts_with("{\"line_base64\":\"eyJrZXkiOiL/In0=\",\"result\":\"invalid\""), "{out}");
        let out = String::from_utf8(Line::too_long(b"long").answer(line.key().unwrap_err())).unwrap();
        assert!(out.starts_with("{\"line\":\"long\","), "{out}");
        check("{}", r#"{"result":"invalid","code":"line_invalid","detail":"the line needs one member `key`"}"#);
        check(
            r#"{"key":7}"#,
            r#"{"key":7,"result":"invalid","code":"line_invalid","detail":"the member `key` is not a text"}"#,
        );
        check(r#"{"key":""}"#, r#"{"key":"","result":"invalid","code":"key_empty","detail":"the key is empty"}"#);
        assert!(answered(r#"{"key":"a.b"}"#).contains(r#""code":"key_malformed""#));
        assert!(answered(r#"{"key":"a","key":"b"}"#).contains(r#""code":"line_invalid""#));
    }

    #[test]
    fn what_stands_beside_the_key_comes_back_as_it_came() {
        let line = r#"{"z":1e400,"user":"a\u00e9","key":"x","result":"renewed","code":null,"a":[1, 2]}"#;
        let told = answered(line);
        assert!(
            told.starts_with(r#"{"z":1e400,"user":"a\u00e9","key":"x","a":[1, 2],"result":"invalid","#)
                || told.starts_with(r#"{"z":1e400,"user":"aé","key":"x","a":[1, 2],"result":"invalid","#),
            "{told}"
        );
    }
}
