//! `Connector`: connects to the first address of a host that is ready, TLS included. An address that says nothing has its
//! share of the time, and the next one is tried in parallel soon.
#![expect(clippy::disallowed_methods, reason = "how long a socket may take goes by the operating system's time")]

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service as _;

use super::http::causes;
use crate::endpoint::is_localhost;
use crate::scrub::scrubbed_line;

/// An address that is not ready after this has the next one tried in parallel.
const HEAD_START: Duration = Duration::from_secs(1);

/// A connection that is ready for a request.
pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A connection that could not be made.
pub(super) type ConnectError = Box<dyn Error + Send + Sync>;

/// Learns which addresses fail.
pub(super) trait Watcher {
    /// No connection could be made at this address; whether the host has others, and why.
    fn failed(&self, url: &Uri, address: SocketAddr, has_others: bool, why: &str);
}

/// Makes connections.
pub(super) struct Connector {
    tls: Arc<ClientConfig>,
    /// How long one address may take until a connection is ready.
    limit: Duration,
    /// What a name stands for, instead of what the resolver says.
    #[cfg(test)]
    pub(super) fixed: Vec<SocketAddr>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Connector {
    /// One address has up to `limit` for TCP and TLS together.
    pub(super) fn new(tls: ClientConfig, limit: Duration) -> Self {
        Self {
            tls: Arc::new(tls),
            limit,
            #[cfg(test)]
            fixed: Vec::new(),
        }
    }

    /// The addresses of a URL's host. The network is never asked for `localhost`: plain http is allowed to it, so it has
    /// to be this machine.
    pub(super) async fn addresses(&self, url: &Uri) -> Result<Vec<SocketAddr>, ConnectError> {
        #[cfg(test)]
        if !self.fixed.is_empty() {
            return Ok(self.fixed.clone());
        }
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let own = if url.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 };
        let port = url.port_u16().unwrap_or(own);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        if is_localhost(host) {
            let own = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            return Ok(own.map(|address| SocketAddr::new(address, port)).to_vec());
        }
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await.map_err(ResolveError)?.collect();
        if found.is_empty() {
            return Err(ResolveError(io::ErrorKind::NotFound.into()).into());
        }
        Ok(found)
    }

    /// A connection to the first of these addresses that is ready. However long they take, an exchange with this limit
    /// has time left for a request.
    pub(super) async fn first(
        &self,
        url: &Uri,
        addresses: &[SocketAddr],
        limit: Duration,
        watcher: &impl Watcher,
    ) -> Result<(Stream, SocketAddr), ConnectError> {
        let has_others = addresses.len() > 1;
        let parts = u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_add(1);
        let each = self.limit.min(limit / parts);
        let mut waiting = addresses.iter().copied();
        let mut trying = FuturesUnordered::new();
        let mut error = None;
        loop {
            if let Some(address) = waiting.next() {
                trying.push(async move { (address, self.one(url, address, each).await) });
            }
            let ready = if waiting.len() > 0 {
                match timeout(HEAD_START.min(each), trying.next()).await {
                    Ok(ready) => ready,
                    Err(_) => continue,
                }
            } else {
                trying.next().await
            };
            match ready {
                Some((address, Ok(stream))) => return Ok((stream, address)),
                Some((address, Err(why))) => {
                    if !is_local(&*why) {
                        watcher.failed(url, address, has_others, &reason(&*why));
                    }
                    error = Some(more_telling(error, why));
                }
                None => return Err(error.unwrap_or_else(|| ResolveError(io::ErrorKind::NotFound.into()).into())),
            }
        }
    }

    async fn one(&self, url: &Uri, address: SocketAddr, limit: Duration) -> Result<Stream, ConnectError> {
        let mut tcp = HttpConnector::new_with_resolver(Only(address));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        let mut connector = HttpsConnector::from((tcp, Arc::clone(&self.tls)));
        timeout(limit, connector.call(url.clone())).await.unwrap_or_else(|_| Err(timed_out().into()))
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no connection was ready in time")
}

/// Whether this machine lacks what a socket takes: that says nothing about the address.
fn is_local(error: &(dyn Error + 'static)) -> bool {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    const ENOMEM: i32 = 12;
    const ENOBUFS: i32 = 105;
    let codes = causes(error).into_iter().filter_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    codes.into_iter().any(|code| [EMFILE, ENFILE, ENOMEM, ENOBUFS].contains(&code))
}

fn reason(error: &(dyn Error + 'static)) -> String {
    scrubbed_line(&causes(error).last().unwrap_or(&error).to_string(), 256)
}

/// What another side has said explains more than that one says nothing.
fn more_telling(before: Option<ConnectError>, error: ConnectError) -> ConnectError {
    let is_silence = |error: &ConnectError| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    };
    match before {
        Some(before) if is_silence(&error) => before,
        _ => error,
    }
}

/// The name of the host has no address.
#[derive(Debug, thiserror::Error)]
#[error("no address")]
pub(super) struct ResolveError(#[source] pub(super) io::Error);

/// Resolves every name to one address.
#[derive(Debug, Clone)]
struct Only(SocketAddr);

impl tower_service::Service<Name> for Only {
    type Response = std::iter::Once<SocketAddr>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        std::future::ready(Ok(std::iter::once(self.0)))
    }
}

#[cfg(test)]
mod tests;
