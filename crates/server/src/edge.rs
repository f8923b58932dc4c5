//! The edge every request passes, in and out: it is authenticated, counted, timed and, when it fails, logged by its code.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, header};
use tokio::sync::Semaphore;

use crate::api::Api;
use crate::caller::Caller;
use crate::code;
use crate::metrics::{Listener, RouteLabel, method_label};
use crate::problem::{Problem, Told};

/// One listener's edge.
#[derive(Clone)]
pub(crate) struct Edge {
    api: Api,
    listener: Listener,
    slots: Arc<Semaphore>,
}

impl Edge {
    pub(crate) fn new(api: &Api, listener: Listener) -> Self {
        Self { api: api.clone(), listener, slots: Arc::new(Semaphore::new(api.requests_max())) }
    }

    /// Whether a path answers without a token.
    fn is_open(&self, path: &str) -> bool {
        self.listener == Listener::Admin && matches!(path, "/livez" | "/readyz")
    }

    /// Lets the request through to its handler, or says why not.
    async fn admit(&self, mut request: Request, next: Next) -> (Option<Arc<Caller>>, Response) {
        if self.is_open(request.uri().path()) {
            return (None, next.run(request).await);
        }
        let caller = match self.api.callers().authenticate(request.headers()) {
            Ok(caller) => Arc::clone(caller),
            Err(problem) => return (None, problem.into_response()),
        };
        let Ok(_slot) = self.slots.try_acquire() else {
            let detail = "as many requests as this listener takes are under way";
            return (Some(caller), Problem::new(&code::TOO_MANY_REQUESTS, detail).into_response());
        };
        request.extensions_mut().insert(Arc::clone(&caller));
        let response = next.run(request).await;
        (Some(caller), response)
    }

    fn log(&self, told: &Told, caller: Option<&Caller>, route: &str, method: &Method) {
        let (listener, method) = (self.listener.as_str(), method_label(method));
        let caller = caller.map(Caller::name);
        let (code, status, cause) = (told.code.code, told.code.status, told.cause.as_deref());
        if told.code.status >= 500 {
            tracing::info!(listener, route, method, status, code, caller, cause, "request failed");
        } else {
            tracing::debug!(listener, route, method, status, code, caller, cause, "request failed");
        }
    }
}

/// The middleware.
#[expect(clippy::disallowed_methods, reason = "how long an answer took is measured, nothing is decided by it")]
pub(crate) async fn pass(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = RouteLabel(request.extensions().get::<MatchedPath>().cloned());
    let method = request.method().clone();
    let (caller, mut response) = edge.admit(request, next).await;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(told) = response.extensions_mut().remove::<Told>() {
        edge.log(&told, caller.as_deref(), route.as_str(), &method);
    }
    edge.api.metrics().observe(edge.listener, route, &method, response.status(), began.elapsed());
    response
}
