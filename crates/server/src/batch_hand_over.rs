//! `POST /v1/admin/keys:handover`: many keys become another keeper's.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use storekeeper_keeper::{HandOver, HandOverError, Keeper};
use storekeeper_keyring::Revision;
use storekeeper_model::AppName;
use utoipa::ToSchema;

use crate::answer;
use crate::batch::{self, Job};
use crate::body;
use crate::call::{self, Call};
use crate::caller::{Caller, Scope};
use crate::code;
use crate::problem::Problem;

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
/// them back. Of several keepers that share a keyring, only one that holds every lease may do so.
#[utoipa::path(
    post,
    path = "/v1/admin/keys:handover",
    operation_id = "hand_over_keys",
    tag = "admin",
    request_body(content = HandOverLine, content_type = "application/x-ndjson"),
    responses((status = 200, description = "a line for each line", content_type = "application/x-ndjson", body = HandedOverLine))
)]
pub(crate) async fn hand_over(call: Call, body: Body) -> Result<Response, Problem> {
    call.caller.demand_for_visible(Scope::Admin)?;
    call.query(&[])?;
    call.api.keeper().may_hand_over()?;
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
        self.0.demand_for(Scope::Admin, &line.app)?;
        let unknown = |_| Problem::new(&code::APP_UNKNOWN, "no app can have this name");
        let app = AppName::new(&line.app).map_err(unknown)?;
        let identity = call::identity(app, &line.user, line.slot.as_deref(), &line.kind)?;
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
