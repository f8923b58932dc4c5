//! What operators order: pause, resume, acquit, reclaim.

use axum::body::Body;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::answer::OrderAnswer;
use crate::body;
use crate::call::Call;
use crate::caller::Scope;
use crate::keys::json;
use crate::problem::Problem;

/// How to resume.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResumeBody {
    /// Condemn now the keys that wait because the daily cap on condemnations was reached.
    #[serde(default)]
    condemn: bool,
}

/// Stop renewing an app's keys.
///
/// They are served all the while. Holds until `resume`.
#[utoipa::path(
    post,
    path = "/v1/admin/apps/{app}/pause",
    operation_id = "pause_app",
    tag = "admin",
    responses((status = 200, description = "paused", body = OrderAnswer))
)]
pub(crate) async fn pause(call: Call) -> Result<Response, Problem> {
    let app = call.app(Scope::Admin)?;
    call.query(&[])?;
    call.api.keeper().pause(app).await?;
    let answer = OrderAnswer {
        app: app.as_str(),
        paused: Some(Some("operator")),
        condemned: None,
        acquitted: None,
        reclaimed: None,
    };
    Ok(json(&answer))
}

/// Renew an app's keys again.
#[utoipa::path(
    post,
    path = "/v1/admin/apps/{app}/resume",
    operation_id = "resume_app",
    tag = "admin",
    request_body = ResumeBody,
    responses((status = 200, description = "resumed", body = OrderAnswer))
)]
pub(crate) async fn resume(call: Call, body: Body) -> Result<Response, Problem> {
    let app = call.app(Scope::Admin)?;
    call.query(&[])?;
    let order: ResumeBody = body::json_or_default(&call.headers, body, call.api.guards().body_timeout).await?;
    let condemned = call.api.keeper().resume(app, order.condemn).await?;
    let answer = OrderAnswer {
        app: app.as_str(),
        paused: Some(None),
        condemned: Some(condemned),
        acquitted: None,
        reclaimed: None,
    };
    Ok(json(&answer))
}

/// Undo the condemnation of keys whose text still lives.
#[utoipa::path(
    post,
    path = "/v1/admin/apps/{app}/acquit",
    operation_id = "acquit_app",
    tag = "admin",
    responses((status = 200, description = "acquitted", body = OrderAnswer))
)]
pub(crate) async fn acquit(call: Call) -> Result<Response, Problem> {
    let app = call.app(Scope::Admin)?;
    call.query(&[])?;
    let acquitted = call.api.keeper().acquit(app).await?;
    let answer =
        OrderAnswer { app: app.as_str(), paused: None, condemned: None, acquitted: Some(acquitted), reclaimed: None };
    Ok(json(&answer))
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
