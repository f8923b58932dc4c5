//! The edge every request passes, in and out: it is authenticated, counted, timed and, when it fails, logged by its code.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderValue, Method, Request, header};

use crate::api::Api;
use crate::caller::Caller;
use crate::code;
use crate::failure_log::FailureLog;
use crate::metrics::{Listener, RouteLabel, method_label};
use crate::problem::{Problem, Told};
use crate::shares::Shares;

/// One listener's edge.
#[derive(Clone)]
pub(crate) struct Edge {
    api: Api,
    listener: Listener,
    requests: Shares,
    failures: Arc<FailureLog>,
}

impl Edge {
    pub(crate) fn new(api: &Api, listener: Listener) -> Self {
        Self { api: api.clone(), listener, requests: Shares::new(api.requests_max()), failures: Arc::default() }
    }

    /// Whether it is the data listener's.
    pub(crate) fn is_for_backends(&self) -> bool {
        self.listener == Listener::Data
    }

    /// Whether a path answers without a token.
    fn is_open(&self, path: &str) -> bool {
        self.listener == Listener::Admin && matches!(path, "/livez" | "/readyz")
    }

    /// Leads a request past the edge to `next`, together with who sent it if he had to say so, and its answer back.
    #[expect(clippy::disallowed_methods, reason = "how long an answer took is measured, nothing is decided by it")]
    pub(crate) async fn pass<B, F: Future<Output = Response>>(
        &self,
        route: RouteLabel,
        request: Request<B>,
        next: impl FnOnce(Request<B>, Option<Arc<Caller>>) -> F,
    ) -> Response {
        let began = Instant::now();
        let method = request.method().clone();
        let (caller, mut response) = self.admit(request, next).await;
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(told) = response.extensions_mut().remove::<Told>() {
            self.log(&told, caller.as_deref(), route.as_str(), &method);
        }
        self.api.metrics().observe(self.listener, route, &method, response.status(), began.elapsed());
        response
    }

    /// Lets the request through to its handler, or says why not.
    async fn admit<B, F: Future<Output = Response>>(
        &self,
        request: Request<B>,
        next: impl FnOnce(Request<B>, Option<Arc<Caller>>) -> F,
    ) -> (Option<Arc<Caller>>, Response) {
        if self.is_open(request.uri().path()) {
            return (None, caught(next(request, None)).await);
        }
        let caller = match self.api.callers().authenticate(request.headers()) {
            Ok(caller) => Arc::clone(caller),
            Err(problem) => return (None, problem.into_response()),
        };
        let Some(_share) = self.requests.take(caller.shared_name()) else {
            let detail = "the caller's share of the requests that this listener takes is under way";
            return (Some(caller), Problem::new(&code::TOO_MANY_REQUESTS, detail).into_response());
        };
        let response = caught(next(request, Some(Arc::clone(&caller)))).await;
        (Some(caller), response)
    }

    fn log(&self, told: &Told, caller: Option<&Caller>, route: &str, method: &Method) {
        let (listener, method) = (self.listener.as_str(), method_label(method));
        let caller = caller.map(Caller::name);
        let (code, status, cause) = (told.code.code, told.code.status, told.cause.as_deref());
        if told.code.status >= 500 {
            #[expect(clippy::disallowed_methods, reason = "log lines are spaced, nothing is decided by it")]
            let now = Instant::now();
            if let Some(more) = self.failures.admit(code, now) {
                tracing::warn!(listener, route, method, status, code, caller, cause, more, "request failed");
            }
        } else {
            tracing::debug!(listener, route, method, status, code, caller, cause, "request failed");
        }
    }
}

/// What a handler answers. What a panic says may hold anything, so nobody is told.
async fn caught(response: impl Future<Output = Response>) -> Response {
    let response = AssertUnwindSafe(response).catch_unwind().await;
    response.unwrap_or_else(|_| {
        Problem::new(&code::INTERNAL, "the keeper met a bug of its own; its log may say more").into_response()
    })
}

/// The edge as a middleware of the router.
pub(crate) async fn pass(State(edge): State<Edge>, request: Request<Body>, next: Next) -> Response {
    let route = RouteLabel::of(request.extensions().get::<MatchedPath>());
    let run = |mut request: Request<Body>, caller| {
        if let Some(caller) = caller {
            request.extensions_mut().insert::<Arc<Caller>>(caller);
        }
        next.run(request)
    };
    edge.pass(route, request, run).await
}
