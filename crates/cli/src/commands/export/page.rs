//! Pages of an export as the keeper tells them (`docs/reference/http.md`), and the marks that a hand-over sets.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::exit::{CommandError, Exit};
use crate::remote::{Patience, Remote, encoded};

/// How many keys are asked for at once.
const PAGE: usize = 1000;

/// What is asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) app: Option<String>,
    pub(super) since: Option<String>,
    pub(super) is_to_hand_over: bool,
    pub(super) cursor: Option<String>,
}

/// A page.
#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) cursor: String,
    pub(super) keys: Vec<Box<RawValue>>,
    pub(super) damaged: Vec<Named>,
    pub(super) next: Option<String>,
    pub(super) counted: Option<u64>,
}

/// Whose key it is.
#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) app: String,
    pub(super) user: String,
    pub(super) kind: String,
}

/// What is looked at of a line.
#[derive(Deserialize)]
pub(super) struct Line {
    app: String,
    user: String,
    slot: String,
    kind: String,
    pub(super) state: String,
    #[serde(default)]
    pub(super) handed_over: bool,
    revision: i64,
}

impl Asked {
    /// Asks for a page.
    pub(super) async fn page(&self, keeper: &Remote) -> Result<Page, CommandError> {
        let mut path = format!("/v1/admin/keys:export?limit={PAGE}");
        let only = self.is_to_hand_over.then_some("to_hand_over");
        let parameters = [
            ("app", self.app.as_deref()),
            ("since", self.since.as_deref()),
            ("only", only),
            ("cursor", self.cursor.as_deref()),
        ];
        for (name, value) in parameters {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        keeper.get(&path).await
    }
}

impl Line {
    /// Looks at a line.
    pub(super) fn of(line: &RawValue) -> Result<Self, CommandError> {
        let fail = |error| CommandError::new(Exit::Failure, format!("the keeper is of another version: {error}"));
        serde_json::from_str(line.get()).map_err(fail)
    }

    /// What tells the key from all others.
    pub(super) fn name(&self) -> String {
        [&self.app, &self.user, &self.slot, &self.kind].map(String::as_str).join("\u{0}")
    }
}

/// Marks keys as handed over; says of each, in order, whether it is. One that is not has changed, or is gone.
pub(super) async fn hand_over(keeper: &Remote, lines: &[&Line]) -> Result<Vec<bool>, CommandError> {
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let mut body = String::new();
    for Line { app, user, slot, kind, revision, .. } in lines {
        let line = json!({ "app": app, "user": user, "slot": slot, "kind": kind, "revision": revision });
        body.push_str(&line.to_string());
        body.push('\n');
    }
    let path = "/v1/admin/keys:handover";
    let reply = keeper.send(http::Method::POST, path, Some(body.into_bytes()), Patience::Usual).await?;
    let answers: Result<Vec<Answer>, _> =
        serde_json::Deserializer::from_slice(&reply.body).into_iter::<Answer>().collect();
    let answers = answers.map_err(|error| CommandError::new(Exit::Failure, error))?;
    if answers.len() != lines.len() {
        return Err(CommandError::new(Exit::Unavailable, "the keeper went away during the hand-over: begin again"));
    }
    answers.into_iter().map(Answer::into_marked).collect()
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    handed_over: bool,
    code: Option<String>,
    detail: Option<String>,
}

impl Answer {
    fn into_marked(self) -> Result<bool, CommandError> {
        match self.code.as_deref() {
            None => Ok(self.handed_over),
            Some("key_changed" | "key_not_found") => Ok(false),
            Some(code) => {
                let detail = self.detail.unwrap_or_default();
                let message = format!("the hand-over stopped: {detail} [{code}]; begin again, nothing is lost by that");
                Err(CommandError::new(Exit::Unavailable, message))
            }
        }
    }
}
