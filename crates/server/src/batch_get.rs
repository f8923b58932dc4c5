//! `POST /v1/keys:get`: many live keys out, and names that should not stand in proxy logs.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use serde::Deserialize;
use storekeeper_keeper::{Keeper, LiveKey, ReadError};
use storekeeper_model::Identity;
use utoipa::ToSchema;

use crate::answer::{self, LiveKeyAnswer};
use crate::api::Api;
use crate::batch::{self, Job};
use crate::body;
use crate::call::{self, Call};
use crate::caller::{Caller, Scope};
use crate::problem::Problem;

/// One key to get.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GetLine<'a> {
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
}

/// Get many live keys.
///
/// One JSON object per line; one answer line for each, in order: as for a single key, with `line` and `status` 200, or `line`, `status`, `code`,
/// `act` and `detail`.
#[utoipa::path(
    post,
    path = "/v1/keys:get",
    operation_id = "get_keys",
    tag = "batches",
    request_body(content = GetLine, content_type = "application/x-ndjson"),
    responses((status = 200, description = "a line for each line", content_type = "application/x-ndjson", body = LiveKeyAnswer))
)]
pub(crate) async fn get(call: Call, body: Body) -> Result<Response, Problem> {
    call.caller.demand_for_visible(Scope::KeyRead)?;
    call.query(&[])?;
    let job = Get { api: call.api.clone(), caller: Arc::clone(&call.caller) };
    batch::answer(&call, body, job)
}

struct Get {
    api: Api,
    caller: Arc<Caller>,
}

impl Job for Get {
    type Item = Identity;
    type Answer = LiveKey;
    type Error = ReadError;

    /// An answer is some thirty times as long as its question.
    const CHUNK_LINES_MAX: usize = 256;

    fn read(&self, line: &[u8]) -> Result<Identity, Problem> {
        let line: GetLine<'_> = body::object(line)?;
        let app = self.api.allowed_app(&self.caller, Scope::KeyRead, &line.app)?.clone();
        call::identity(app, &line.user, line.slot.as_deref(), &line.kind)
    }

    async fn carry_out(keeper: Keeper, items: Vec<Identity>) -> Vec<Result<LiveKey, ReadError>> {
        keeper.get_many(&items).await
    }

    fn write(answer: &LiveKey, out: &mut Vec<u8>) {
        out.extend_from_slice(b"200,");
        answer::write_key_members(answer, out);
    }
}
