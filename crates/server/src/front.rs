//! `Front`: leads the one request that is made thousands of times a second, for a live key, straight to its handler.
//! Everything else goes through the router. Both pass the same edge.

use std::convert::Infallible;

use axum::Router;
use axum::body::{Bytes, HttpBody};
use axum::response::{IntoResponse, Response};
use http::{Method, Request};
use tower_service::Service;

use crate::api::Api;
use crate::call::{Call, segments};
use crate::edge::Edge;
use crate::keys;
use crate::metrics::RouteLabel;

/// What a listener serves.
#[derive(Clone)]
pub struct Front {
    api: Api,
    edge: Edge,
    router: Router,
}

impl Front {
    /// In front of a router that has the same edge.
    pub(crate) fn new(api: &Api, edge: Edge, router: Router) -> Self {
        Self { api: api.clone(), edge, router }
    }

    /// Answers a request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        if self.edge.is_for_backends() && request.method() == Method::GET && is_key(request.uri().path()) {
            return self.get(request).await;
        }
        let answered: Result<Response, Infallible> = self.router.clone().call(request).await;
        answered.unwrap_or_else(|never| match never {})
    }

    /// Whoever sends a body with a `GET` is not listened to.
    async fn get<B>(&self, request: Request<B>) -> Response {
        let route = RouteLabel::Known(keys::ROUTE);
        let get = async |request: Request<B>, caller| {
            let (parts, _) = request.into_parts();
            match Call::new(&self.api, RouteLabel::Known(keys::ROUTE), caller, parts.headers, parts.uri) {
                Ok(call) => keys::get(call).await.into_response(),
                Err(problem) => problem.into_response(),
            }
        };
        self.edge.pass(route, request, get).await
    }
}

/// Whether the router would find [`keys::ROUTE`]: the same segments, and something where a parameter stands.
fn is_key(path: &str) -> bool {
    let mut path = segments(path);
    let mut route = segments(keys::ROUTE);
    loop {
        match (route.next(), path.next()) {
            (None, None) => return true,
            (Some(template), Some(segment)) if template.starts_with('{') && !segment.is_empty() => {}
            (Some(template), Some(segment)) if template == segment => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_route_of_a_key_takes_the_short_way() {
        let check = |path, expected| assert_eq!(is_key(path), expected, "{path}");
        check("/v1/apps/mygame/users/player-1/keys/purchase", true);
        check("/v1/apps/mygame/users/a%2Fb/keys/unheard-of", true);
        check("/v1/apps/mygame/users//keys/purchase", false);
        check("/v1/apps/mygame/users/player-1/keys/", false);
        check("/v1/apps/mygame/users/player-1/keys/purchase/", false);
        check("/v1/apps/mygame/users/player-1/keys/purchase/renew", false);
        check("/v1/apps/mygame/users/a/b/keys/purchase", false);
        check("/v1/keys", false);
        check("v1/apps/mygame/users/player-1/keys/purchase", false);
    }
}
