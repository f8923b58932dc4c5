//! What is measured of HTTP, and the exposition of everything: the keeper's families and ours.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use axum::extract::{MatchedPath, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::api::Api;
use crate::call::Call;
use crate::caller::Scope;
use crate::keys;
use crate::problem::Problem;

/// Which listener a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Listener {
    /// The one for backends.
    Data,
    /// The one for operators.
    Admin,
}

impl Listener {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Admin => "admin",
        }
    }
}

/// A route's template, or that there is none: never the path itself, which carries a user.
#[derive(Debug, Clone)]
pub(crate) enum RouteLabel {
    /// Nobody answers there.
    Unknown,
    /// The router found it.
    Matched(MatchedPath),
    /// That of a live key, known without asking the router.
    Known(&'static str),
}

impl RouteLabel {
    /// What the router found.
    pub(crate) fn of(matched: Option<&MatchedPath>) -> Self {
        matched.map_or(Self::Unknown, |matched| Self::Matched(matched.clone()))
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Unknown => "unknown",
            Self::Matched(matched) => matched.as_str(),
            Self::Known(route) => route,
        }
    }
}

impl PartialEq for RouteLabel {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RouteLabel {}

impl Hash for RouteLabel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl EncodeLabelValue for RouteLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.as_str().encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    listener: &'static str,
    route: RouteLabel,
    method: &'static str,
    status: u32,
}

impl Labels {
    fn of(listener: Listener, route: RouteLabel, method: &Method, status: StatusCode) -> Self {
        Self { listener: listener.as_str(), route, method: method_label(method), status: status.as_u16().into() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: &'static str,
}

/// The connections of one listener. Clones share the numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionMetrics {
    pub(crate) open: Gauge,
    pub(crate) evicted: Counter,
    pub(crate) accept_errors: Counter,
}

/// The families of HTTP.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    registry: Registry,
    connections: Family<ListenerLabels, Gauge>,
    evicted: Family<ListenerLabels, Counter>,
    accept_errors: Family<ListenerLabels, Counter>,
    durations: Family<Labels, Histogram>,
    /// Of live keys handed out: looked up once, not for each of them.
    handed_out: Histogram,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        let durations = Family::<Labels, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        let mut registry = Registry::with_prefix("storekeeper");
        registry.register_with_unit(
            "http_request_duration",
            "From a request's head to the beginning of its answer",
            Unit::Seconds,
            durations.clone(),
        );
        let connections = Family::<ListenerLabels, Gauge>::default();
        registry.register("connections", "Open connections", connections.clone());
        let evicted = Family::<ListenerLabels, Counter>::default();
        let help = "Idle connections that were closed in favour of new ones";
        registry.register("connections_evicted", help, evicted.clone());
        let accept_errors = Family::<ListenerLabels, Counter>::default();
        let help = "Connections that could not be accepted, for want of descriptors most likely";
        registry.register("accept_errors", help, accept_errors.clone());
        let route = RouteLabel::Known(keys::ROUTE);
        let labels = Labels::of(Listener::Data, route, &Method::GET, StatusCode::OK);
        let handed_out = durations.get_or_create(&labels).clone();
        Self { registry, connections, evicted, accept_errors, durations, handed_out }
    }
}

impl HttpMetrics {
    /// The numbers of one listener.
    pub(crate) fn connections(&self, listener: Listener) -> ConnectionMetrics {
        let labels = ListenerLabels { listener: listener.as_str() };
        ConnectionMetrics {
            open: self.connections.get_or_create(&labels).clone(),
            evicted: self.evicted.get_or_create(&labels).clone(),
            accept_errors: self.accept_errors.get_or_create(&labels).clone(),
        }
    }

    /// Counts a request whose answer begins.
    pub(crate) fn observe(
        &self,
        listener: Listener,
        route: RouteLabel,
        method: &Method,
        status: StatusCode,
        duration: Duration,
    ) {
        if matches!(route, RouteLabel::Known(_)) && status == StatusCode::OK {
            return self.handed_out.observe(duration.as_secs_f64());
        }
        let labels = Labels::of(listener, route, method, status);
        self.durations.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// Our families, after the keeper's, closed as the format demands.
    fn expose(&self, mut exposition: String) -> String {
        if !exposition.is_empty() && !exposition.ends_with('\n') {
            exposition.push('\n');
        }
        encode_registry(&mut exposition, &self.registry).expect("writing to a string cannot fail");
        encode_eof(&mut exposition).expect("writing to a string cannot fail");
        exposition
    }
}

/// A client may invent methods; a label may not.
pub(crate) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

/// Scrape the keeper.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "scrape",
    tag = "admin",
    responses((status = 200, description = "every metric, in the OpenMetrics text format", content_type = "application/openmetrics-text", body = String))
)]
pub(crate) async fn scrape(State(api): State<Api>, call: Call) -> Result<Response, Problem> {
    let visible = call.caller.demand_for_visible(Scope::MetricsRead)?;
    let exposition = api.metrics().expose(api.keeper().metrics(visible).await);
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], exposition).into_response())
}

/// Upper bounds in seconds. A read takes tens of microseconds, an enrollment a commit, a renewal an exchange.
const BUCKETS: [f64; 14] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposition_ends_once_and_labels_are_a_known_set() {
        let metrics = HttpMetrics::default();
        let method = Method::from_bytes(b"INVENTED").unwrap();
        metrics.observe(Listener::Data, RouteLabel::Unknown, &method, StatusCode::NOT_FOUND, Duration::from_millis(2));
        let text = metrics.expose(String::from("# TYPE storekeeper_build info"));
        assert!(
            text.starts_with("# TYPE storekeeper_build info\n# HELP storekeeper_http_request_duration_seconds"),
            "{text}"
        );
        assert_eq!(text.matches("# EOF").count(), 1);
        assert!(text.ends_with("# EOF\n"));
        let counted = "storekeeper_http_request_duration_seconds_count{listener=\"data\",route=\"unknown\",method=\"other\",status=\"404\"} 1";
        assert!(text.contains(counted), "{text}");
    }
}
