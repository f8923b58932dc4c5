//! `/livez` and `/readyz`: the two routes that answer without a token, and so say nothing else.

use axum::extract::State;

use crate::api::Api;
use crate::code;
use crate::problem::Problem;

/// Tell that the process runs.
#[utoipa::path(
    get,
    path = "/livez",
    operation_id = "livez",
    tag = "admin",
    security(()),
    responses((status = 200, description = "it runs", content_type = "text/plain", body = String))
)]
pub(crate) async fn livez() -> &'static str {
    "alive\n"
}

/// Tell whether anything can be served.
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
    // The reason may name files and hosts, and whoever asks shows no token: the log has it.
    let told = |reason: String| {
        Problem::new(&code::NOT_READY, "nothing can be served; the keeper's log says why").because(reason)
    };
    api.keeper().ready().await.map(|()| "ready\n").map_err(told)
}
