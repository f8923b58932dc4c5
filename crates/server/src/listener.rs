//! The accept loop: one task per connection, a cap on connections, guards against slow clients, and an orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::HttpBody as _;
use axum::response::Response;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::config::SocketGuards;
use crate::drain::Drain;
use crate::failure_log::FailureLog;
use crate::seats::{Seat, Seats};
use crate::socket::Socket;

/// Serves HTTP/1.1 until `shutdown` resolves; then accepts nothing more, finishes what is under way and returns, after
/// `guards.drain_timeout` at the latest.
pub(crate) async fn serve<S>(
    listener: TcpListener,
    service: S,
    guards: SocketGuards,
    seats: Arc<Seats>,
    shutdown: impl Future<Output = ()>,
) where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let closing = Drain::default();
    let failures = FailureLog::default();
    let mut connections = JoinSet::new();
    // Waits where every place has a request under way.
    let mut newcomer: Option<TcpStream> = None;
    tokio::pin!(shutdown);
    loop {
        if let Some(stream) = newcomer.take() {
            match seats.take() {
                Some(seat) => {
                    connections.spawn(converse(stream, seat, service.clone(), guards, closing.clone()));
                }
                None => newcomer = Some(stream),
            }
        }
        tokio::select! {
            () = &mut shutdown => break,
            stream = accept(&listener, &seats, &failures), if newcomer.is_none() => newcomer = Some(stream),
            () = pause(LOOK_AGAIN), if newcomer.is_some() => {}
            Some(_) = connections.join_next() => {}
        }
    }
    drop((listener, newcomer));
    closing.begin();
    finish(connections, guards.drain_timeout).await;
}

/// Waits for a connection. Failures end nothing and do not make the loop spin.
async fn accept(listener: &TcpListener, seats: &Seats, failures: &FailureLog) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                seats.accept_failed();
                #[expect(clippy::disallowed_methods, reason = "log lines are spaced, nothing is decided by it")]
                let now = Instant::now();
                if let Some(more) = failures.admit("accept_failed", now) {
                    tracing::warn!(%error, more, "no connection accepted; the one that was idle longest is closed");
                }
                pause(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the connection that was to be accepted has failed, and no other one is affected.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[expect(clippy::disallowed_methods, reason = "guards the accept loop against spinning")]
async fn pause(span: Duration) {
    tokio::time::sleep(span).await;
}

async fn converse<S>(stream: TcpStream, seat: Seat, service: S, guards: SocketGuards, closing: Drain)
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    // Answers are written in one piece; to hold them back for more gains nothing.
    let _ = stream.set_nodelay(true);
    let seat = Arc::new(seat);
    let socket = TokioIo::new(Socket::new(stream, Arc::clone(&seat), &guards));
    let counted = service_fn(|request| {
        let (began, seat) = (seat.begin(), Arc::clone(&seat));
        let answering = began.then(|| service.call(request));
        async move {
            let Some(answering) = answering else { return std::future::pending().await };
            let response = answering.await;
            if let Ok(response) = &response {
                seat.answered(
                    response.status() != StatusCode::UNAUTHORIZED,
                    response.body().size_hint().exact().is_some(),
                );
            }
            response
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(guards.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(socket, counted);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = seat.evicted() => {
            tracing::debug!("idle connection closed in favour of another one");
            return;
        }
        () = closing.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}

#[expect(clippy::disallowed_methods, reason = "guards against clients that never finish")]
async fn finish(mut connections: JoinSet<()>, patience: Duration) {
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(patience, all).await.is_err() {
        tracing::info!(connections = connections.len(), "connections cut off");
        connections.shutdown().await;
    }
}

/// The longest head of a request, and the most that is read at once, in bytes.
const HEAD_BYTES_MAX: usize = 128 * 1024;
/// A connection that could not be accepted is tried again after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a connection that waits for a place looks for one.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
