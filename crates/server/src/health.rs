//! Health: `/livez` and `/readyz`, which answer without a token and so say nothing else, and `/v1/health`, which says what an
//! operator has to look at.

use axum::extract::State;
use axum::response::Response;

use crate::answer::HealthAnswer;
use crate::api::Api;
use crate::call::Call;
use crate::caller::Scope;
use crate::code;
use crate::keys::json;
use crate::problem::Problem;

/// Say whether the core tasks live and make progress.
///
/// An outage of the database, the Store or Entra is no reason to restart the process: it stays alive through all of them.
#[utoipa::path(
    get,
    path = "/livez",
    operation_id = "livez",
    tag = "admin",
    security(()),
    responses((status = 200, description = "it runs", content_type = "text/plain", body = String))
)]
pub(crate) async fn livez(State(api): State<Api>) -> Result<&'static str, Problem> {
    let failed = |reason: String| {
        Problem::new(&code::NOT_LIVE, "a core task is dead or stands still; the keeper's log says which")
            .because(reason)
    };
    api.keeper().progress().map(|()| "alive\n").map_err(failed)
}

/// Say whether anything can be served.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "admin",
    security(()),
    responses((status = 200, description = "something can be served", content_type = "text/plain", body = String))
)]
pub(crate) async fn readyz(State(api): State<Api>) -> Result<&'static str, Problem> {
    if api.drain().has_begun() {
        return Err(Problem::new(&code::SHUTTING_DOWN, "the keeper is shutting down"));
    }
    // The reason may name files and hosts, and the caller shows no token: the log has it.
    let failed = |reason: String| {
        Problem::new(&code::NOT_READY, "nothing can be served; the keeper's log says why").because(reason)
    };
    api.keeper().ready().await.map(|()| "ready\n").map_err(failed)
}

/// Say what an operator has to look at.
///
/// Answers 200 also while the keyring is away. Conditions of apps that the caller may not see are left out.
#[utoipa::path(
    get,
    path = "/v1/health",
    operation_id = "health",
    tag = "population",
    responses((status = 200, description = "what an operator has to look at; nothing when all is well", body = HealthAnswer))
)]
pub(crate) async fn health(call: Call) -> Result<Response, Problem> {
    let visible = call.caller.demand_for_visible(Scope::KeyRead)?;
    call.query(&[])?;
    let health = call.api.keeper().health().await;
    Ok(json(&HealthAnswer::new(&health, visible)))
}
