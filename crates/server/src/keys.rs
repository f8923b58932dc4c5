//! One key: enroll, get, forget, renew, history, and the keyless view for operators.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use storekeeper_keeper::{EnrollOutcome, EnrollRequest, Enrolled, KeyView, LiveKey};
use storekeeper_model::{Secret, Slot, parse_span};
use utoipa::ToSchema;

use crate::accept::wants_jwt;
use crate::answer::{self, EnrolledAnswer, HistoryAnswer, KeyAnswer, LiveKeyAnswer};
use crate::body;
use crate::call::Call;
use crate::caller::Scope;
use crate::code;
use crate::problem::Problem;

/// Where a key is found.
pub(crate) const ROUTE: &str = "/v1/apps/{app}/users/{user}/keys/{kind}";
/// Says of a live key why the renewal that `min_ttl` asked for failed.
pub const RENEWAL_FAILED: HeaderName = HeaderName::from_static("storekeeper-renewal-failed");
/// Says how many keys a `DELETE` has forgotten.
pub const FORGOTTEN: HeaderName = HeaderName::from_static("storekeeper-forgotten");

/// A key to enroll.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyBody {
    /// The compact JWT as the client app received it.
    #[serde(default)]
    key: String,
}

/// Enroll a key.
///
/// Idempotent. A 2xx is durable. A key that is handed in while a proven one is alive waits beside it until the Store has accepted it.
#[utoipa::path(
    put,
    path = "/v1/apps/{app}/users/{user}/keys/{kind}",
    operation_id = "enroll_key",
    tag = "keys",
    request_body = KeyBody,
    responses(
        (status = 201, description = "a key for a player who had none", body = EnrolledAnswer),
        (status = 200, description = "known, replaced or waiting for proof", body = EnrolledAnswer),
    )
)]
pub(crate) async fn enroll(call: Call, body: Body) -> Result<Response, Problem> {
    let (identity, _) = call.key(Scope::KeyWrite, &["slot"])?;
    let KeyBody { key } = body::json(&call.headers, body, call.api.guards().body_timeout).await?;
    let request = EnrollRequest {
        app: identity.app,
        user: identity.user,
        slot: identity.slot,
        kind: Some(identity.kind),
        key: Secret::new(key),
    };
    let enrolled = call.api.keeper().enroll(vec![request]).await.pop();
    let enrolled = enrolled.ok_or_else(|| Problem::new(&code::INTERNAL, "the keeper gave no answer"))??;
    Ok((enrolled_status(enrolled.outcome), json(&enrolled_answer(&enrolled))).into_response())
}

/// The status an enrollment is answered with.
pub(crate) fn enrolled_status(outcome: EnrollOutcome) -> StatusCode {
    match outcome {
        EnrollOutcome::New => StatusCode::CREATED,
        EnrollOutcome::Known | EnrollOutcome::Replaced | EnrollOutcome::Waiting => StatusCode::OK,
    }
}

fn enrolled_answer(enrolled: &Enrolled) -> EnrolledAnswer<'_> {
    EnrolledAnswer {
        outcome: enrolled.outcome.as_str(),
        enrolled: enrolled.fingerprint,
        view: KeyAnswer::from(&enrolled.view),
    }
}

/// Get a live key.
///
/// With `Accept: application/jwt` the bare key. With `min_ttl` a key with less life than that is renewed first; if that fails the live key is
/// served all the same, and the header `Storekeeper-Renewal-Failed` says why.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/users/{user}/keys/{kind}",
    operation_id = "get_key",
    tag = "keys",
    responses((status = 200, description = "the key", content(
        (LiveKeyAnswer = "application/json"),
        (String = "application/jwt"),
    ), headers(("Storekeeper-Renewal-Failed" = String, description = "why the renewal that `min_ttl` asked for failed"))))
)]
pub(crate) async fn get(call: Call) -> Result<Response, Problem> {
    let (identity, query) = call.key(Scope::KeyRead, &["slot", "min_ttl"])?;
    let min_ttl = query.read("min_ttl", "a duration such as `1h`", |text| parse_span(text).ok())?;
    let live = call.api.keeper().get(&identity, min_ttl).await?;
    let mut response = if wants_jwt(&call.headers) { bare(&live) } else { whole(&live) };
    if let Some(code) = live.renewal_failed {
        response.headers_mut().insert(RENEWAL_FAILED, HeaderValue::from_static(code));
    }
    Ok(response)
}

fn bare(live: &LiveKey) -> Response {
    let kind = HeaderValue::from_static("application/jwt");
    ([(header::CONTENT_TYPE, kind)], Bytes::copy_from_slice(live.key.expose().as_bytes())).into_response()
}

fn whole(live: &LiveKey) -> Response {
    let mut body = Vec::new();
    answer::write_key(live, &mut body);
    json_bytes(body)
}

/// Forget one key.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/users/{user}/keys/{kind}",
    operation_id = "forget_key",
    tag = "keys",
    responses((status = 204, description = "forgotten, or not there in the first place",
        headers(("Storekeeper-Forgotten" = u64, description = "how many keys there were"))))
)]
pub(crate) async fn forget(call: Call) -> Result<Response, Problem> {
    let (identity, _) = call.key(Scope::KeyWrite, &["slot"])?;
    let keeper = &call.api.keeper();
    let count = keeper.forget(&identity.app, &identity.user, Some(&identity.slot), Some(identity.kind)).await?;
    Ok(forgotten(count))
}

/// Forget every key of a player.
///
/// Of all slots, unless `slot` names one.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/users/{user}",
    operation_id = "forget_player",
    tag = "keys",
    responses((status = 204, description = "forgotten, or not there in the first place",
        headers(("Storekeeper-Forgotten" = u64, description = "how many keys there were"))))
)]
pub(crate) async fn forget_player(call: Call) -> Result<Response, Problem> {
    let (app, user) = call.player(Scope::KeyWrite)?;
    let query = call.query(&["slot"])?;
    let slot = query.value("slot").map(Slot::new).transpose()?;
    let count = call.api.keeper().forget(&app, &user, slot.as_ref(), None).await?;
    Ok(forgotten(count))
}

fn forgotten(count: usize) -> Response {
    let count = HeaderValue::from(u64::try_from(count).unwrap_or(u64::MAX));
    (StatusCode::NO_CONTENT, [(FORGOTTEN, count)]).into_response()
}

/// Renew a key now.
///
/// Also one that is not due; whoever asks while a renewal is under way gets its answer.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/users/{user}/keys/{kind}/renew",
    operation_id = "renew_key",
    tag = "keys",
    responses((status = 200, description = "renewed; the answer of get without `key`", body = KeyAnswer))
)]
pub(crate) async fn renew(call: Call) -> Result<Response, Problem> {
    let (identity, _) = call.key(Scope::KeyWrite, &["slot"])?;
    Ok(view(&call.api.keeper().renew(&identity).await?))
}

/// Tell what became of a key's renewals.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/users/{user}/keys/{kind}/history",
    operation_id = "key_history",
    tag = "keys",
    responses((status = 200, description = "the last outcomes", body = HistoryAnswer))
)]
pub(crate) async fn history(call: Call) -> Result<Response, Problem> {
    let (identity, _) = call.key(Scope::KeyRead, &["slot"])?;
    let outcomes = call.api.keeper().history(&identity).await?;
    Ok(json(&HistoryAnswer::from(outcomes.as_slice())))
}

/// Look at a key in any state.
///
/// The answer of get without `key`, for revoked and lapsed keys too. It notes no use of the key.
#[utoipa::path(
    get,
    path = "/v1/admin/apps/{app}/users/{user}/keys/{kind}",
    operation_id = "show_key",
    tag = "admin",
    responses((status = 200, description = "what is known of the key", body = KeyAnswer))
)]
pub(crate) async fn show(call: Call) -> Result<Response, Problem> {
    let (identity, _) = call.key(Scope::Admin, &["slot"])?;
    Ok(view(&call.api.keeper().show(&identity).await?))
}

fn view(view: &KeyView) -> Response {
    json(&KeyAnswer::from(view))
}

/// A JSON answer.
pub(crate) fn json(answer: &impl Serialize) -> Response {
    let mut body = Vec::with_capacity(768);
    answer::write(answer, &mut body);
    json_bytes(body)
}

fn json_bytes(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}
