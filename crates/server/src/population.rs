//! Many keys at a glance: the list and the statistics.

use axum::response::Response;
use storekeeper_keeper::{KeyPage, ListQuery, Standing, Visibility};
use storekeeper_model::{AppName, Timestamp};

use crate::answer::{PageAnswer, StatsAnswer};
use crate::call::Call;
use crate::caller::Scope;
use crate::keys::json;
use crate::problem::Problem;
use crate::query::Query;

/// How many keys a page holds unless the caller says.
const LIMIT: usize = 100;
/// How many keys a page holds at most.
const LIMIT_MAX: usize = 1000;

/// List keys.
#[utoipa::path(
    get,
    path = "/v1/keys",
    operation_id = "list_keys",
    tag = "population",
    responses((status = 200, description = "a page of keys, without the keys themselves", body = PageAnswer))
)]
pub(crate) async fn list(call: Call) -> Result<Response, Problem> {
    let visible = call.caller.demand_for_visible(Scope::KeyRead)?.clone();
    let query = call.query(&["app", "state", "due_before", "limit", "cursor"])?;
    let app = query.value("app").map(|name| call.allowed_app(Scope::KeyRead, name)).transpose()?.cloned();
    let sees_nothing = visible.is_none();
    let query = page_query(&query, app, visible)?;
    // The cursor of a page names a row, also one of another app.
    let page = match sees_nothing {
        true => KeyPage { keys: Vec::new(), next: None },
        false => call.api.keeper().list(query).await?,
    };
    Ok(json(&PageAnswer::from(&page)))
}

fn page_query(query: &Query, app: Option<AppName>, visible: Visibility) -> Result<ListQuery, Problem> {
    let state = |text: &str| {
        [Standing::Active, Standing::Revoked, Standing::Lapsed].into_iter().find(|standing| standing.as_str() == text)
    };
    Ok(ListQuery {
        app,
        visible,
        standing: query.read("state", "`active`, `revoked` or `lapsed`", state)?,
        due_before: query
            .read("due_before", "an instant such as 2026-01-31T12:00:00Z", |text| text.parse::<Timestamp>().ok())?,
        after: query.read("cursor", "what the page before calls `next`", |text| text.parse().ok())?,
        limit: query.read("limit", "a number from 1 on", limit)?.unwrap_or(LIMIT),
    })
}

/// A number above the maximum, however large, means the maximum.
fn limit(text: &str) -> Option<usize> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| text.parse().unwrap_or(usize::MAX))?;
    (number > 0).then(|| number.min(LIMIT_MAX))
}

/// Count the population.
#[utoipa::path(
    get,
    path = "/v1/stats",
    operation_id = "stats",
    tag = "population",
    responses((status = 200, description = "exact counts", body = StatsAnswer))
)]
pub(crate) async fn stats(call: Call) -> Result<Response, Problem> {
    let visible = call.caller.demand_for_visible(Scope::KeyRead)?;
    call.query(&[])?;
    let stats = call.api.keeper().stats().await?;
    Ok(json(&StatsAnswer::new(&stats, visible)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_clamped_from_above_only() {
        assert_eq!(limit("1"), Some(1));
        assert_eq!(limit("1000"), Some(1000));
        assert_eq!(limit("1001"), Some(1000));
        assert_eq!(limit("99999999999999999999999"), Some(1000));
        for bad in ["", "0", "-1", "+1", "1.5", "ten", " 1"] {
            assert_eq!(limit(bad), None, "{bad}");
        }
    }
}
