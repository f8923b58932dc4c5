//! Pages of an export as the keeper tells them (`docs/reference/http.md`), and the marks that a hand-over sets.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use storekeeper_model::{AppName, Identity, KeyId, Slot, UserName};

use crate::exit::{CommandError, Exit};
use crate::remote::{Patience, Remote, encoded};

use super::written::Fate;

/// How many keys are asked for at once.
const PAGE: usize = 1000;
/// Where keys are marked.
const HAND_OVER: &str = "/v1/admin/keys:handover";

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

/// A line, and whose key it is.
pub(super) struct Line<'p> {
    text: &'p str,
    members: Members,
    /// Identifies the key.
    pub(super) id: KeyId,
    /// The mark was set since the page was read.
    pub(super) is_marked: bool,
}

/// What is looked at of a line.
#[derive(Deserialize)]
pub(super) struct Members {
    app: String,
    user: String,
    slot: String,
    kind: String,
    state: String,
    #[serde(default)]
    handed_over: bool,
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

impl<'p> Line<'p> {
    /// Looks at a line.
    pub(super) fn of(line: &'p RawValue) -> Result<Self, CommandError> {
        let fail = |what: String| CommandError::new(Exit::Failure, format!("the keeper is of another version: {what}"));
        let text = line.get();
        let members: Members = serde_json::from_str(text).map_err(|error| fail(error.to_string()))?;
        let id = members.id().ok_or_else(|| fail(String::from("it has a key under a name that no key can have")))?;
        Ok(Self { text, members, id, is_marked: false })
    }

    /// As the keeper wrote it.
    pub(super) fn text(&self) -> &'p str {
        self.text
    }

    /// The line with the promise that this keeper gives its key up.
    pub(super) fn handing_over(&self) -> Cow<'p, str> {
        match self.text.trim_end().strip_suffix('}') {
            Some(members) => format!("{members},\"handing_over\":true}}").into(),
            None => self.text.into(),
        }
    }

    /// What became of the key by now.
    pub(super) fn fate(&self) -> Fate {
        if self.is_marked && self.members.fate() == Fate::Active { Fate::HandedOver } else { self.members.fate() }
    }
}

impl Members {
    /// What tells the key from all others; `None` if no key can have these names.
    pub(super) fn id(&self) -> Option<KeyId> {
        let identity = Identity {
            app: AppName::new(&self.app).ok()?,
            user: UserName::from_bytes(self.user.as_bytes()).ok()?,
            slot: Slot::new(&self.slot).ok()?,
            kind: self.kind.parse().ok()?,
        };
        Some(identity.key_id())
    }

    /// What the line tells of the key.
    pub(super) fn fate(&self) -> Fate {
        match (self.state.as_str(), self.handed_over) {
            ("revoked", _) => Fate::Revoked,
            ("lapsed", _) => Fate::Lapsed,
            (_, true) => Fate::HandedOver,
            (_, false) => Fate::Active,
        }
    }
}

/// Whether the keeper may hand keys over at all, asked with a batch that holds none.
pub(super) async fn demand_hand_over(keeper: &Remote) -> Result<(), CommandError> {
    keeper.send(http::Method::POST, HAND_OVER, Some(Vec::new()), Patience::Usual).await.map(drop)
}

/// What became of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// It is set.
    Set,
    /// It is not: the key has changed, and stays this keeper's until it is exported again.
    Changed,
    /// There is no such key any more.
    Gone,
}

/// Marks keys as handed over; says of each, in order, what became of that.
pub(super) async fn hand_over(keeper: &Remote, lines: &[&Line<'_>]) -> Result<Vec<Mark>, CommandError> {
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let mut body = String::new();
    for Line { members: Members { app, user, slot, kind, revision, .. }, .. } in lines {
        let line = json!({ "app": app, "user": user, "slot": slot, "kind": kind, "revision": revision });
        body.push_str(&line.to_string());
        body.push('\n');
    }
    let reply = keeper.send(http::Method::POST, HAND_OVER, Some(body.into_bytes()), Patience::Usual).await?;
    let answers: Result<Vec<Answer>, _> =
        serde_json::Deserializer::from_slice(&reply.body).into_iter::<Answer>().collect();
    let answers = answers.map_err(|error| CommandError::new(Exit::Failure, error))?;
    if answers.len() != lines.len() {
        return Err(CommandError::new(Exit::Unavailable, "the keeper went away during the hand-over: begin again"));
    }
    answers.into_iter().map(Answer::into_mark).collect()
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    handed_over: bool,
    code: Option<String>,
    detail: Option<String>,
}

impl Answer {
    fn into_mark(self) -> Result<Mark, CommandError> {
        match self.code.as_deref() {
            None if self.handed_over => Ok(Mark::Set),
            None | Some("key_changed") => Ok(Mark::Changed),
            Some("key_not_found") => Ok(Mark::Gone),
            Some(code) => {
                let detail = self.detail.unwrap_or_default();
                let message = format!("the hand-over stopped: {detail} [{code}]; begin again, nothing is lost by that");
                Err(CommandError::new(Exit::Unavailable, message))
            }
        }
    }
}
