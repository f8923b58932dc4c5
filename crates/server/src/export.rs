//! `GET /v1/admin/keys:export`: keys with their texts and all that is known of them, a page at a time. Keys are written here
//! and in `answer`, and nowhere else.

use axum::response::Response;
use serde::Serialize;
use storekeeper_keeper::{ExportCursor, ExportPage, ExportQuery, ExportedKey};
use storekeeper_model::{Fingerprint, Identity, KeyId, Timestamp};
use utoipa::ToSchema;

use crate::call::Call;
use crate::caller::Scope;
use crate::day;
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
    /// With the first page and the last: how many keys there are of the apps asked for.
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
            last_used: exported.last_used_day.map(day::write),
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
    let visible = call.caller.demand_for_visible(Scope::Admin)?.clone();
    let query = call.query(&["app", "since", "only", "limit", "cursor"])?;
    if visible.is_none() {
        return Err(Problem::app_not_allowed());
    }
    let app = query.value("app").map(|name| call.allowed_app(Scope::Admin, name)).transpose()?.cloned();
    let limit = |text: &str| text.parse().ok().filter(|limit| *limit > 0).map(|limit: usize| limit.min(LIMIT_MAX));
    let asked = ExportQuery {
        app,
        visible,
        since: query.read("since", "the cursor that a former export told", |text| text.parse::<ExportCursor>().ok())?,
        to_hand_over: query.read("only", "`to_hand_over`", |text| (text == "to_hand_over").then_some(()))?.is_some(),
        after: query.read("cursor", "what the page before calls `next`", |text| text.parse::<KeyId>().ok())?,
        limit: query.read("limit", "a number from 1 on", limit)?.unwrap_or(LIMIT_MAX),
    };
    let page = call.api.keeper().export(asked).await?;
    Ok(json(&ExportAnswer::from(&page)))
}
