//! `POST /v1/admin/keys:import`: many keys are taken up as another keeper has kept them.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use serde::Deserialize;
use storekeeper_keeper::{EnrollError, Enrolled, ImportFacts, ImportRequest, Keeper, Standing};
use storekeeper_keyring::{Refused, Revision};
use storekeeper_model::{Fingerprint, Secret, Timestamp};
use utoipa::ToSchema;

use crate::api::Api;
use crate::batch::{self, Job};
use crate::batch_enroll::{EnrollLine, EnrolledLine, write_enrolled};
use crate::body;
use crate::call::Call;
use crate::caller::{Caller, Scope};
use crate::code;
use crate::day;
use crate::problem::Problem;

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
    /// The row's write counter in the keeper that wrote the line.
    revision: Option<i64>,
    /// True in the lines of `storekeeper export --handover`: the keeper that wrote the line gives the key up. A row that holds the same key and
    /// was handed over before the line was written is renewed here again.
    #[serde(default)]
    handing_over: bool,
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
    call.caller.demand_for_visible(Scope::Admin)?;
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
        let ImportLine { app, user, slot, kind, key, .. } = line;
        let request = EnrollLine { app, user, slot, kind, key }.request(&self.api, &self.caller, Scope::Admin)?;
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

const REVISION_MAX: i64 = i64::MAX / 2;

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
    // Half of all numbers, so that there is always a next one.
    let revision = |number| match number {
        0..=REVISION_MAX => Ok(Revision::from_number(number)),
        _ => Err(invalid("revision")),
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
            .map(|text| day::read(text).ok_or_else(|| invalid("last_used")))
            .transpose()?,
        newcomer: None,
        revision: line.revision.map(revision).transpose()?,
        handing_over: line.handing_over,
    })
}
