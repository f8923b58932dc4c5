//! `Call`: what a handler knows of its request, and the order in which a request is judged: scope, app, the rest of the
//! path, then the query.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath};
use http::request::Parts;
use http::{HeaderMap, Uri};
use storekeeper_model::{AppName, Identity, KeyKind, Slot, UserName};

use crate::api::Api;
use crate::caller::{Caller, Scope};
use crate::code;
use crate::metrics::RouteLabel;
use crate::percent;
use crate::problem::Problem;
use crate::query::Query;

/// A request from a known caller.
pub(crate) struct Call {
    pub(crate) api: Api,
    pub(crate) caller: Arc<Caller>,
    pub(crate) headers: HeaderMap,
    route: RouteLabel,
    uri: Uri,
}

impl FromRequestParts<Api> for Call {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let route = RouteLabel::of(parts.extensions.get::<MatchedPath>());
        let caller = parts.extensions.remove::<Arc<Caller>>();
        Self::new(api, route, caller, std::mem::take(&mut parts.headers), std::mem::take(&mut parts.uri))
    }
}

impl Call {
    /// A call of a route.
    pub(crate) fn new(
        api: &Api,
        route: RouteLabel,
        caller: Option<Arc<Caller>>,
        headers: HeaderMap,
        uri: Uri,
    ) -> Result<Self, Problem> {
        // Whoever forgets to let the edge authenticate a route gets a route that answers nobody.
        let caller = caller.ok_or_else(Problem::no_token)?;
        Ok(Self { api: api.clone(), caller, headers, route, uri })
    }

    /// A segment of the path, decoded. The raw path is split, so that an encoded `/` stays inside its segment and
    /// nothing is decoded twice.
    pub(crate) fn segment(&self, name: &str) -> Result<Cow<'_, [u8]>, Problem> {
        segment(self.route.as_str(), self.uri.path(), name)
    }

    /// The app of the path, once scope and app are allowed.
    pub(crate) fn app(&self, scope: Scope) -> Result<&AppName, Problem> {
        // The scope comes first, also before a path that cannot be decoded.
        self.caller.demand_for_visible(scope)?;
        let name = self.segment("{app}")?;
        // No app's name has a character that this could change.
        self.allowed_app(scope, &String::from_utf8_lossy(&name))
    }

    /// A configured app for which the caller has the scope. A caller that is limited to some apps does not learn which
    /// others exist.
    pub(crate) fn allowed_app(&self, scope: Scope, name: &str) -> Result<&AppName, Problem> {
        self.api.allowed_app(&self.caller, scope, name)
    }

    /// App and player of the path.
    pub(crate) fn player(&self, scope: Scope) -> Result<(AppName, UserName), Problem> {
        let app = self.app(scope)?.clone();
        Ok((app, UserName::from_bytes(&self.segment("{user}")?)?))
    }

    /// The key that path and `slot` name, and the query, in which `known` may stand.
    pub(crate) fn key(&self, scope: Scope, known: &[&'static str]) -> Result<(Identity, Query), Problem> {
        let (app, user) = self.player(scope)?;
        let kind = kind(&self.segment("{kind}")?)?;
        let query = self.query(known)?;
        let slot = Slot::new(query.value("slot").unwrap_or_default())?;
        Ok((Identity { app, user, slot, kind }, query))
    }

    /// The query, in which only `known` may stand.
    pub(crate) fn query(&self, known: &[&'static str]) -> Result<Query, Problem> {
        Query::parse(self.uri.query(), known)
    }
}

/// The kind a decoded text names.
pub(crate) fn kind(text: &[u8]) -> Result<KeyKind, Problem> {
    let unknown = || Problem::new(&code::KIND_UNKNOWN, "a key's kind is `collections` or `purchase`");
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(unknown)
}

/// The key that a line of a batch names.
pub(crate) fn identity(app: AppName, user: &str, slot: Option<&str>, kind_named: &str) -> Result<Identity, Problem> {
    Ok(Identity {
        app,
        user: UserName::from_bytes(user.as_bytes())?,
        kind: kind(kind_named.as_bytes())?,
        slot: Slot::new(slot.unwrap_or_default())?,
    })
}

fn segment<'a>(route: &str, path: &'a str, name: &str) -> Result<Cow<'a, [u8]>, Problem> {
    let raw = segments(route).zip(segments(path)).find(|(template, _)| *template == name).map(|(_, raw)| raw);
    let raw = raw.ok_or_else(|| Problem::new(&code::INTERNAL, "the route has no such segment"))?;
    let told = |percent::Invalid| {
        Problem::new(&code::PATH_INVALID, "a `%` in the path is not followed by two hexadecimal digits")
    };
    percent::decode(raw).map_err(told)
}

/// What stands between the slashes of a path. (Splitting at a character looks for it with more ado than a path is long.)
pub(crate) fn segments(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(path);
    std::iter::from_fn(move || {
        let path = rest.take()?;
        let end = path.bytes().position(|byte| byte == b'/');
        rest = end.map(|end| &path[end + 1..]);
        Some(&path[..end.unwrap_or(path.len())])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_found_by_its_place_in_the_route() {
        let route = "/v1/apps/{app}/users/{user}/keys/{kind}";
        let path = "/v1/apps/mygame/users/a%2Fusers%2Fb/keys/purchase";
        let found = |name| segment(route, path, name).unwrap().into_owned();
        assert_eq!(found("{app}"), b"mygame");
        assert_eq!(found("{user}"), b"a/users/b");
        assert_eq!(found("{kind}"), b"purchase");
        assert!(segment(route, path, "{other}").is_err());
    }
}
