//! One line of an import: looked at before it is sent, so that what is damaged is told with its number and why.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use storekeeper_model::{
    AppName, Identity, KeyId, KeyKind, Lifetime, ParseKeyError, Secret, Slot, StoreIdKey, UserName,
};

/// No line is longer: the keeper takes none that is.
pub(super) const LINE_MAX: usize = 64 * 1024;

/// A line that was not taken.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) number: u32,
    pub(super) code: String,
    pub(super) detail: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {} [{}]", self.number, self.detail, self.code)
    }
}

/// A line that can be sent.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) app: AppName,
    pub(super) kind: KeyKind,
    pub(super) id: KeyId,
    pub(super) lifetime: Lifetime,
    /// Whether an export wrote it, and not somebody by hand.
    pub(super) is_exported: bool,
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    app: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow, default)]
    slot: Cow<'a, str>,
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    fingerprint: Option<Cow<'a, str>>,
    enrolled: Option<serde::de::IgnoredAny>,
}

/// Looks at a line. What it holds is never quoted: it may be a key.
pub(super) fn look(text: &[u8], number: u32, default_app: Option<&str>) -> Result<Seen, Rejected> {
    let reject = |code: &str, detail: String| Rejected { number, code: code.to_owned(), detail };
    if text.len() > LINE_MAX {
        return Err(reject("line_too_long", String::from("the line is longer than 64 KiB")));
    }
    let members: Members<'_> = serde_json::from_slice(text).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "a member is missing, repeated or of another type",
            serde_json::error::Category::Eof => "the line is cut off",
            _ => "the line is not JSON",
        };
        reject("line_invalid", format!("{what} (column {})", error.column()))
    })?;
    let app = members
        .app
        .as_deref()
        .or(default_app)
        .ok_or_else(|| reject("app_unknown", String::from("the line names no app: say --app for such lines")))?;
    let invalid = |error: storekeeper_model::IdentityError| reject("line_invalid", error.to_string());
    let app = AppName::new(app).map_err(invalid)?;
    let user = UserName::from_bytes(members.user.as_bytes()).map_err(invalid)?;
    let slot = Slot::new(&members.slot).map_err(invalid)?;
    let key = StoreIdKey::parse(Secret::new(members.key.into_owned())).map_err(|error| {
        let code = match error {
            ParseKeyError::Empty => "key_empty",
            ParseKeyError::TooLarge => "key_too_large",
            _ => "key_malformed",
        };
        reject(code, error.to_string())
    })?;
    if members.kind.is_some_and(|kind| kind != key.kind().as_str()) {
        return Err(reject(
            "key_wrong_kind",
            format!("the key is for the other service: its `aud` says {}", key.kind()),
        ));
    }
    if members.fingerprint.is_some_and(|told| told != key.fingerprint().to_string()) {
        return Err(reject("key_altered", String::from("the key is not the one whose fingerprint stands beside it")));
    }
    let identity = Identity { app, user, slot, kind: key.kind() };
    let (id, lifetime) = (identity.key_id(), *key.lifetime());
    Ok(Seen { id, kind: identity.kind, app: identity.app, lifetime, is_exported: members.enrolled.is_some() })
}

/// The app that a line names.
pub(super) fn app_of(text: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct App {
        app: String,
    }
    serde_json::from_slice::<App>(text).ok().map(|line| line.app)
}

/// The line with an app, where it names none.
pub(super) fn with_app(text: Vec<u8>, default_app: Option<&str>) -> Vec<u8> {
    let Some(app) = default_app else { return text };
    let Ok(serde_json::Value::Object(mut members)) = serde_json::from_slice(&text) else { return text };
    if members.get("app").is_some_and(|app| !app.is_null()) {
        return text;
    }
    members.insert(String::from("app"), app.into());
    serde_json::Value::Object(members).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_line_is_told_without_quoting_it() {
        let check = |text: &str, expected: &str| {
            let rejected = look(text.as_bytes(), 7, None).unwrap_err();
            assert_eq!(rejected.code, expected, "{rejected}");
            assert!(rejected.to_string().starts_with("line 7: ") && !rejected.to_string().contains("s3cret"));
        };
        check("s3cret", "line_invalid");
        check("{\"app\":\"mygame\",\"user\":\"a\",\"key\":\"s3cret", "line_invalid");
        check("{\"app\":\"mygame\",\"key\":\"s3cret\"}", "line_invalid");
        check("{\"user\":\"a\",\"key\":\"s3cret\"}", "app_unknown");
        check("{\"app\":\"mygame\",\"user\":\"a\"}", "key_empty");
        check("{\"app\":\"mygame\",\"user\":\"a\",\"key\":\"s3cret\"}", "key_malformed");
        check("{\"app\":\"mygame\",\"user\":\"\",\"key\":\"s3cret\"}", "line_invalid");
        check(&format!("{{\"user\":\"{}\"}}", "a".repeat(LINE_MAX)), "line_too_long");
    }

    #[test]
    fn only_a_line_without_an_app_is_given_one() {
        let given = |text: &str| String::from_utf8(with_app(text.as_bytes().to_vec(), Some("mygame"))).unwrap();
        assert_eq!(given("{\"user\":\"a\"}"), "{\"app\":\"mygame\",\"user\":\"a\"}");
        assert_eq!(given("{\"app\":\"other\"}"), "{\"app\":\"other\"}");
    }
}
