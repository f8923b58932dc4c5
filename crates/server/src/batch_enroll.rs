//! `POST /v1/keys:enroll`: many keys in, and names that should not stand in proxy logs.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use storekeeper_keeper::{EnrollError, EnrollRequest, Enrolled, Keeper};
use storekeeper_model::{Fingerprint, Secret, Slot, UserName};
use utoipa::ToSchema;

use crate::answer;
use crate::api::Api;
use crate::batch::{self, Job};
use crate::body;
use crate::call::{self, Call};
use crate::caller::{Caller, Scope};
use crate::keys::enrolled_status;
use crate::problem::Problem;

/// One key to enroll.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnrollLine<'a> {
    /// The configured app.
    #[serde(borrow)]
    pub(crate) app: Cow<'a, str>,
    /// The backend's own name for the player.
    #[serde(borrow)]
    pub(crate) user: Cow<'a, str>,
    /// Which of the player's Store accounts; usually absent.
    pub(crate) slot: Option<String>,
    /// `collections` or `purchase`; absent: the key's own.
    pub(crate) kind: Option<String>,
    /// The compact JWT.
    #[serde(borrow, default)]
    pub(crate) key: Cow<'a, str>,
}

impl EnrollLine<'_> {
    /// What the line asks for, if the caller may.
    pub(crate) fn request(self, api: &Api, caller: &Caller, scope: Scope) -> Result<EnrollRequest, Problem> {
        Ok(EnrollRequest {
            app: api.allowed_app(caller, scope, &self.app)?.clone(),
            user: UserName::from_bytes(self.user.as_bytes())?,
            kind: self.kind.map(|kind| call::kind(kind.as_bytes())).transpose()?,
            slot: Slot::new(self.slot.as_deref().unwrap_or_default())?,
            key: Secret::new(self.key.into_owned()),
        })
    }
}

/// What became of a line.
#[derive(Serialize, ToSchema)]
pub(crate) struct EnrolledLine<'a> {
    /// `new`, `known`, `replaced` or `waiting`.
    pub(crate) outcome: &'a str,
    /// Of the key that was handed in.
    #[schema(value_type = String)]
    pub(crate) fingerprint: Fingerprint,
    /// True when the key that is held was handed over to another keeper and is not renewed here; else absent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) handed_over: bool,
}

/// Enroll many keys.
///
/// One JSON object per line; one answer line for each, in order. A line that fails says so, and the batch goes on.
#[utoipa::path(
    post,
    path = "/v1/keys:enroll",
    operation_id = "enroll_keys",
    tag = "batches",
    request_body(content = EnrollLine, content_type = "application/x-ndjson"),
    responses((status = 200, description = "a line for each line", content_type = "application/x-ndjson", body = EnrolledLine))
)]
pub(crate) async fn enroll(call: Call, body: Body) -> Result<Response, Problem> {
    call.caller.demand_for_visible(Scope::KeyWrite)?;
    call.query(&[])?;
    let job = Enroll { api: call.api.clone(), caller: Arc::clone(&call.caller) };
    batch::answer(&call, body, job)
}

struct Enroll {
    api: Api,
    caller: Arc<Caller>,
}

impl Job for Enroll {
    type Item = EnrollRequest;
    type Answer = Enrolled;
    type Error = EnrollError;

    const CHUNK_LINES_MAX: usize = 1024;

    fn read(&self, line: &[u8]) -> Result<EnrollRequest, Problem> {
        body::object::<EnrollLine<'_>>(line)?.request(&self.api, &self.caller, Scope::KeyWrite)
    }

    async fn carry_out(keeper: Keeper, items: Vec<EnrollRequest>) -> Vec<Result<Enrolled, EnrollError>> {
        keeper.enroll(items).await
    }

    fn write(answer: &Enrolled, out: &mut Vec<u8>) {
        write_enrolled(answer, out);
    }
}

/// Writes what became of a key that was taken in, behind the line's number.
pub(crate) fn write_enrolled(answer: &Enrolled, out: &mut Vec<u8>) {
    out.extend_from_slice(enrolled_status(answer.outcome).as_str().as_bytes());
    out.push(b',');
    let line = EnrolledLine {
        outcome: answer.outcome.as_str(),
        fingerprint: answer.fingerprint,
        handed_over: answer.view.handed_over,
    };
    answer::write_members(&line, out);
}
