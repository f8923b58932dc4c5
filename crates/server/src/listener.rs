//! The accept loop: one task per connection, a cap on connections, guards against slow clients, and an orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::config::SocketGuards;
use crate::drain::Drain;
use crate::socket::Socket;

/// Serves HTTP/1.1 until `shutdown` resolves; then accepts nothing more, finishes what is under way and returns, after
/// `guards.drain_timeout` at the latest.
pub async fn serve<S>(listener: TcpListener, service: S, guards: SocketGuards, shutdown: impl Future<Output = ()>)
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(guards.connections_max));
    let closing = Drain::default();
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            (stream, slot) = accept(&listener, &slots) => {
                connections.spawn(converse(stream, slot, service.clone(), guards, closing.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    closing.begin();
    finish(connections, guards.drain_timeout).await;
}

/// Waits for a free slot, then for a connection to put into it.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(error) => pause_after(&error).await,
        }
    }
}

/// Out of file descriptors, most likely: some will be given back.
#[expect(clippy::disallowed_methods, reason = "guards the accept loop against spinning")]
async fn pause_after(error: &std::io::Error) {
    tracing::info!(%error, "no connection accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn converse<S>(stream: TcpStream, _slot: OwnedSemaphorePermit, service: S, guards: SocketGuards, closing: Drain)
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    // Answers are written in one piece; to hold them back for more gains nothing.
    let _ = stream.set_nodelay(true);
    let socket = TokioIo::new(Socket::new(stream, &guards));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(guards.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(socket, service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
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
