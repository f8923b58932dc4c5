//! The routes of both listeners, each registered together with its description.

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Api;
use crate::code;
use crate::edge::{Edge, pass};
use crate::front::Front;
use crate::metrics::Listener;
use crate::openapi;
use crate::problem::Problem;
use crate::{
    batch_enroll, batch_get, batch_hand_over, batch_import, export, fleet, health, keys, metrics, orders, population,
    tickets,
};

/// What the data listener serves, for backends.
pub fn data_service(api: &Api) -> Front {
    finish(api, Listener::Data, data_routes().into())
}

/// What the admin listener serves, for operators and their tools.
pub fn admin_service(api: &Api) -> Front {
    finish(api, Listener::Admin, admin_routes().into())
}

pub(crate) fn data_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(keys::enroll, keys::get, keys::forget))
        .routes(routes!(keys::forget_player))
        .routes(routes!(keys::renew))
        .routes(routes!(keys::history))
        .routes(routes!(batch_enroll::enroll))
        .routes(routes!(batch_get::get))
        .routes(routes!(population::list))
        .routes(routes!(population::stats))
        .routes(routes!(health::health))
        .routes(routes!(tickets::get))
        .routes(routes!(openapi::document))
}

pub(crate) fn admin_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::scrape))
        .routes(routes!(keys::show))
        .routes(routes!(orders::pause))
        .routes(routes!(orders::resume))
        .routes(routes!(orders::acquit))
        .routes(routes!(fleet::nodes))
        .routes(routes!(fleet::leases))
        .routes(routes!(fleet::drain))
        .routes(routes!(fleet::undrain))
        .routes(routes!(orders::reclaim))
        .routes(routes!(export::export))
        .routes(routes!(batch_hand_over::hand_over))
        .routes(routes!(batch_import::import))
}

fn finish(api: &Api, listener: Listener, routes: Router<Api>) -> Front {
    let edge = Edge::new(api, listener);
    let router = routes
        .fallback(route_unknown)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(edge.clone(), pass))
        .with_state(api.clone());
    Front::new(api, edge, router)
}

/// An empty segment matches no `{user}`, so what names nobody arrives here.
async fn route_unknown(request: Request) -> Problem {
    let mut segments = request.uri().path().split('/').skip_while(|segment| *segment != "users");
    if segments.next().is_some() && segments.next() == Some("") && segments.next() != Some("") {
        return Problem::new(&code::USER_EMPTY, "the user name is empty");
    }
    Problem::new(&code::ROUTE_UNKNOWN, "this listener has no such route; `/openapi.json` lists what there is")
}

async fn method_not_allowed() -> Problem {
    Problem::new(&code::METHOD_NOT_ALLOWED, "the header `Allow` lists the methods of this route")
}
