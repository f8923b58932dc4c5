//! Keys on their way to another keeper: exported, handed over, imported, taken back. Keys are written here and in
//! `answer`, and nowhere else.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use storekeeper_keeper::{
    EnrollError, EnrollRequest, Enrolled, ExportCursor, ExportPage, ExportQuery, ExportedKey, HandOver, HandOverError,
    ImportFacts, ImportRequest, Keeper, Standing,
};
use storekeeper_keyring::{Refused, Revision};
use storekeeper_model::{AppName, Fingerprint, Identity, KeyId, Secret, Slot, Timestamp, UserName};
use utoipa::ToSchema;

use crate::answer::{self, OrderAnswer};
use crate::api::Api;
use crate::batch::{self, Job};
use crate::batch_enroll::{EnrolledLine, write_enrolled};
use crate::body;
use crate::call::{self, Call};
use crate::caller::{Caller, Scope};
use crate::code;
use crate::keys::json;
use crate::problem::Problem;

/// How many keys a page of an export holds at most, and unless the caller says.
const LIMIT_MAX: usize = 1000;

/// A page of an export.
#[derive(Serialize, ToSchema)]
#[schema(as = ExportPage)]
pub(crate) struct ExportAnswer<'a> {
    /// With the first page: give this as `since` to a later export, which then tells what has changed.
    cursor: String,
    /// May be fewer than asked for although there are more.
    keys: Vec<ExportedLine<'a>>,
    /// Keys whose text cannot be unsealed, by their names.
    damaged: Vec<NamedLine<'a>>,
    /// Give this as `cursor` to read on; null at the end.
    next: Option<String>,
    /// With the last page: how many keys there are of the apps asked for.
    counted: Option<u64>,
}

/// A key, and all that another keeper needs to take it up as it was: what `keys:import` takes.
#[derive(Serialize, ToSchema)]
#[schema(as = ExportedKey)]
pub(crate) struct ExportedLine<'a> {
    #[serde(flatten)]
    name: NamedLine<'a>,
    /// The compact JWT.
    key: &'a str,
    /// The compact JWT of a newer key that waits beside it; absent when none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    newcomer: Option<&'a str>,
    /// `active`, `revoked` or `lapsed`.
    state: &'a str,
    /// Whether the Store has renewed this line at least once.
    proven: bool,
    /// Changes only with the key.
    key_version: u32,
    /// Of the key last handed in.
    #[schema(value_type = String)]
    enrolled: Fingerprint,
    /// Which certificate signed it.
    certificate: &'a str,
    /// The claim `iat`.
    #[schema(value_type = String, format = DateTime)]
    issued_at: Timestamp,
    /// The claim `exp`; null when the key's times are unusable.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// Since when the Store refuses it, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    refused_since: Option<Timestamp>,
    /// How often in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusals: Option<u32>,
    /// When it was condemned, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// The last day on which somebody read it; null when nobody has.
    #[schema(value_type = Option<String>)]
    last_used: Option<String>,
    /// Whether its renewals are another keeper's already; absent when they are not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    handed_over: bool,
    /// The row's write counter, for `keys:handover`.
    revision: i64,
}

/// Whose key it is, and which.
#[derive(Serialize, ToSchema)]
#[schema(as = NamedKey)]
pub(crate) struct NamedLine<'a> {
    /// The configured app.
    app: &'a str,
    /// The backend's own name for the player.
    user: &'a str,
    /// Which of the player's Store accounts; usually empty.
    slot: &'a str,
    /// `collections` or `purchase`.
    kind: &'a str,
    /// The first 16 bytes of SHA-256 over the key, in lower-case hexadecimal digits.
    #[schema(value_type = String)]
    fingerprint: Fingerprint,
}

impl<'a> NamedLine<'a> {
    fn of(identity: &'a Identity, fingerprint: Fingerprint) -> Self {
        Self {
            app: identity.app.as_str(),
            user: identity.user.as_str(),
            slot: identity.slot.as_str(),
            kind: identity.kind.as_str(),
            fingerprint,
        }
    }
}

impl<'a> From<&'a ExportedKey> for ExportedLine<'a> {
    fn from(exported: &'a ExportedKey) -> Self {
        let view = &exported.view;
        Self {
            name: NamedLine::of(&view.identity, view.fingerprint),
            key: exported.key.expose(),
            newcomer: exported.newcomer.as_ref().map(|newcomer| newcomer.expose().as_str()),
            state: view.standing.as_str(),
            proven: view.proven,
            key_version: view.key_version,
            enrolled: exported.enrolled,
            certificate: view.certificate.as_str(),
            issued_at: view.issued_at,
            expires_at: view.expires_at,
            refused_since: exported.refused.map(|refused| refused.since),
            refusals: exported.refused.map(|refused| refused.count),
            revoked_at: exported.revoked_at,
            last_used: exported.last_used_day.map(date),
            handed_over: view.handed_over,
            revision: exported.revision.number(),
        }
    }
}

impl<'a> From<&'a ExportPage> for ExportAnswer<'a> {
    fn from(page: &'a ExportPage) -> Self {
        Self {
            cursor: page.cursor.to_string(),
            keys: page.keys.iter().map(ExportedLine::from).collect(),
            damaged: page.damaged.iter().map(|view| NamedLine::of(&view.identity, view.fingerprint)).collect(),
            next: page.next.map(|id| id.to_string()),
            counted: page.counted,
        }
    }
}

/// A day since the epoch as `2026-01-31`.
fn date(day: i64) -> String {
    let text = Timestamp::from_seconds(day.saturating_mul(86_400)).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// Export keys.
///
/// Keys with their texts and all that is known of them, in no particular order. What is read is not noted as a use.
#[utoipa::path(
    get,
    path = "/v1/admin/keys:export",
    operation_id = "export_keys",
    tag = "admin",
    responses((status = 200, description = "a page of keys, with the keys themselves", body = ExportAnswer))
)]
pub(crate) async fn export(call: Call) -> Result<Response, Problem> {
    call.caller.demand(Scope::Admin)?;
    let query = call.query(&["app", "since", "only", "limit", "cursor"])?;
    let app = query.value("app").map(|name| call.allowed_app(name)).transpose()?.cloned();
    let visible: Option<Vec<AppName>> = call.caller.apps().map(<[AppName]>::to_vec);
    let limit = |text: &str| text.parse().ok().filter(|limit| *limit > 0).map(|limit: usize| limit.min(LIMIT_MAX));
    let asked = ExportQuery {
        app,
        visible: visible.clone().unwrap_or_default(),
        since: query.read("since", "the cursor that a former export told", |text| text.parse::<ExportCursor>().ok())?,
        to_hand_over: query.read("only", "`to_hand_over`", |text| (text == "to_hand_over").then_some(()))?.is_some(),
        after: query.read("cursor", "what the page before calls `next`", |text| text.parse::<KeyId>().ok())?,
        limit: query.read("limit", "a number from 1 on", limit)?.unwrap_or(LIMIT_MAX),
    };
    if visible.is_some_and(|apps| apps.is_empty()) {
        return Err(Problem::app_not_allowed());
    }
    let page = call.api.keeper().export(asked).await?;
    Ok(json(&ExportAnswer::from(&page)))
}

/// A key whose renewals become another keeper's.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HandOverLine<'a> {
    /// The configured app.
    #[serde(borrow)]
    app: Cow<'a, str>,
    /// The backend's own name for the player.
    #[serde(borrow)]
    user: Cow<'a, str>,
    /// Which of the player's Store accounts; usually absent.
    slot: Option<String>,
    /// `collections` or `purchase`.
    #[serde(borrow)]
    kind: Cow<'a, str>,
    /// As it was exported; a key that was written since is not marked, and has to be exported again.
    revision: i64,
}

/// A key that is marked.
#[derive(Serialize, ToSchema)]
pub(crate) struct HandedOverLine {
    /// True.
    handed_over: bool,
}

/// Hand keys over.
///
/// Marks exported keys as another keeper's: they are served until they expire, and not renewed. A newer key that is enrolled, or `reclaim`, takes
/// them back.
#[utoipa::path(
    post,
    path = "/v1/admin/keys:handover",
    operation_id = "hand_over_keys",
    tag = "admin",
    request_body(content = HandOverLine, content_type = "application/x-ndjson"),
    responses((status = 200, description = "a line for each line", content_type = "application/x-ndjson", body = HandedOverLine))
)]
pub(crate) async fn hand_over(call: Call, body: Body) -> Result<Response, Problem> {
    call.caller.demand(Scope::Admin)?;
    call.query(&[])?;
    let job = HandOvers(Arc::clone(&call.caller));
    batch::answer(&call, body, job)
}

struct HandOvers(Arc<Caller>);

impl Job for HandOvers {
    type Item = HandOver;
    type Answer = ();
    type Error = HandOverError;

    const CHUNK_LINES_MAX: usize = 1024;

    fn read(&self, line: &[u8]) -> Result<HandOver, Problem> {
        let line: HandOverLine<'_> = body::object(line)?;
        // An app may have left the configuration: its keys are handed over all the same.
        self.0.demand_app(&line.app)?;
        let unknown = |_| Problem::new(&code::APP_UNKNOWN, "no app can have this name");
        let identity = Identity {
            app: AppName::new(&line.app).map_err(unknown)?,
            user: UserName::from_bytes(line.user.as_bytes())?,
            kind: call::kind(line.kind.as_bytes())?,
            slot: Slot::new(line.slot.as_deref().unwrap_or_default())?,
        };
        Ok(HandOver { identity, revision: Revision::from_number(line.revision) })
    }

    async fn carry_out(keeper: Keeper, items: Vec<HandOver>) -> Vec<Result<(), HandOverError>> {
        keeper.hand_over(items).await
    }

    fn write((): &(), out: &mut Vec<u8>) {
        out.extend_from_slice(b"200,");
        answer::write_members(&HandedOverLine { handed_over: true }, out);
    }
}

/// A key to take up. Everything behind `key` may be left out, and is as `keys:export` tells it; times are read from the key itself.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ImportLine<'a> {
    /// The configured app.
    #[serde(borrow)]
    app: Cow<'a, str>,
    /// The backend's own name for the player.
    #[serde(borrow)]
    user: Cow<'a, str>,
    /// Which of the player's Store accounts; usually absent.
    slot: Option<String>,
    /// `collections` or `purchase`; absent: the key's own.
    kind: Option<String>,
    /// The compact JWT.
    #[serde(borrow, default)]
    key: Cow<'a, str>,
    /// The compact JWT of a newer key that waits for proof.
    newcomer: Option<String>,
    /// `active`, `revoked` or `lapsed`.
    state: Option<String>,
    /// Whether the Store has renewed it at least once.
    #[serde(default)]
    proven: bool,
    /// Of the key; another one means that the line was damaged.
    #[schema(value_type = Option<String>)]
    fingerprint: Option<String>,
    /// Changes only with the key.
    key_version: Option<u32>,
    /// Of the key last handed in.
    #[schema(value_type = Option<String>)]
    enrolled: Option<String>,
    /// Since when the Store refuses it.
    #[schema(value_type = Option<String>, format = DateTime)]
    refused_since: Option<Timestamp>,
    /// How often in a row.
    refusals: Option<u32>,
    /// When it was condemned.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// The last day on which somebody read it.
    last_used: Option<String>,
}

/// Import keys.
///
/// Takes keys up as another keeper has kept them. To repeat it changes nothing. Members that this version does not know are passed over.
#[utoipa::path(
    post,
    path = "/v1/admin/keys:import",
    operation_id = "import_keys",
    tag = "admin",
    request_body(content = ImportLine, content_type = "application/x-ndjson"),
    responses((status = 200, description = "a line for each line", content_type = "application/x-ndjson", body = EnrolledLine))
)]
pub(crate) async fn import(call: Call, body: Body) -> Result<Response, Problem> {
    call.caller.demand(Scope::Admin)?;
    call.query(&[])?;
    let job = Imports { api: call.api.clone(), caller: Arc::clone(&call.caller) };
    batch::answer(&call, body, job)
}

struct Imports {
    api: Api,
    caller: Arc<Caller>,
}

impl Job for Imports {
    type Item = ImportRequest;
    type Answer = Enrolled;
    type Error = EnrollError;

    const CHUNK_LINES_MAX: usize = 1024;

    fn read(&self, line: &[u8]) -> Result<ImportRequest, Problem> {
        let line: ImportLine<'_> = body::object(line)?;
        let facts = facts(&line)?;
        let request = EnrollRequest {
            app: self.api.allowed_app(&self.caller, &line.app)?.clone(),
            user: UserName::from_bytes(line.user.as_bytes())?,
            kind: line.kind.map(|kind| call::kind(kind.as_bytes())).transpose()?,
            slot: Slot::new(line.slot.as_deref().unwrap_or_default())?,
            key: Secret::new(line.key.into_owned()),
        };
        let newcomer = line.newcomer.map(Secret::new);
        Ok(ImportRequest { request, facts: ImportFacts { newcomer, ..facts } })
    }

    async fn carry_out(keeper: Keeper, items: Vec<ImportRequest>) -> Vec<Result<Enrolled, EnrollError>> {
        keeper.import(items).await
    }

    fn write(answer: &Enrolled, out: &mut Vec<u8>) {
        write_enrolled(answer, out);
    }
}

/// What a line tells of its key, but for the newcomer. An unknown state is an error, not a default.
fn facts(line: &ImportLine<'_>) -> Result<ImportFacts, Problem> {
    let invalid = |what: &str| Problem::new(&code::BODY_INVALID, format!("`{what}` is not as an export tells it"));
    let standing = |text: &str| {
        let all = [Standing::Active, Standing::Revoked, Standing::Lapsed];
        all.into_iter().find(|standing| standing.as_str() == text).ok_or_else(|| invalid("state"))
    };
    let fingerprint = |text: &Option<String>, what: &str| {
        text.as_deref().map(|text| text.parse::<Fingerprint>().map_err(|_| invalid(what))).transpose()
    };
    let refused = match (line.refused_since, line.refusals) {
        (None, None) => None,
        (Some(since), Some(count)) => Some(Refused { since, count }),
        _ => return Err(invalid("refusals")),
    };
    Ok(ImportFacts {
        standing: line.state.as_deref().map(standing).transpose()?,
        proven: line.proven,
        fingerprint: fingerprint(&line.fingerprint, "fingerprint")?,
        key_version: line.key_version,
        enrolled: fingerprint(&line.enrolled, "enrolled")?,
        refused,
        revoked_at: line.revoked_at,
        last_used_day: line
            .last_used
            .as_deref()
            .map(|text| day(text).ok_or_else(|| invalid("last_used")))
            .transpose()?,
        newcomer: None,
    })
}

/// The day since the epoch that `2026-01-31` is.
fn day(text: &str) -> Option<i64> {
    Some(format!("{text}T00:00:00Z").parse::<Timestamp>().ok()?.day())
}

/// Take an app's keys back that were handed over.
///
/// Each is renewed again, at its own moment.
#[utoipa::path(
    post,
    path = "/v1/admin/apps/{app}/reclaim",
    operation_id = "reclaim_app",
    tag = "admin",
    responses((status = 200, description = "taken back", body = OrderAnswer))
)]
pub(crate) async fn reclaim(call: Call) -> Result<Response, Problem> {
    let app = call.app(Scope::Admin)?;
    call.query(&[])?;
    let reclaimed = call.api.keeper().reclaim(app).await?;
    let answer =
        OrderAnswer { app: app.as_str(), paused: None, condemned: None, acquitted: None, reclaimed: Some(reclaimed) };
    Ok(json(&answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_as_it_is_written() {
        for (number, text) in [(0, "1970-01-01"), (20_484, "2026-01-31")] {
            assert_eq!(date(number), text);
            assert_eq!(day(text), Some(number));
        }
        assert_eq!(day("yesterday"), None);
    }
}
