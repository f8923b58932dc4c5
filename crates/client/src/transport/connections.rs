//! `Connections`: HTTP/1.1 connections to a few hosts, kept for the exchanges to come.
//!
//! A connection belongs to the exchange that uses it, which also drives it: nobody has to be woken between sending a
//! request and reading its answer, and an exchange that is given up closes its connection.
#![expect(clippy::disallowed_methods, reason = "how long a socket may be idle goes by the operating system's time")]

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use storekeeper_addresses::AddressOrder;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::connector::{ConnectError, Connector, Watcher};

/// Connects to hosts and keeps what is still good afterwards.
#[derive(Debug)]
pub(super) struct Connections {
    connector: Connector,
    limits: Limits,
    began: Instant,
    kept: Arc<Mutex<Kept>>,
}

/// How many connections are kept for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For each host.
    pub(super) idle_max: usize,
    pub(super) idle_limit: Duration,
    /// How much of an answer is read ahead, in bytes.
    pub(super) buffer_bytes_max: usize,
}

impl Connections {
    pub(super) fn new(connector: Connector, limits: Limits) -> Self {
        Self { connector, limits, began: Instant::now(), kept: Arc::default() }
    }

    /// One to this URL's host that was used before and is still open.
    pub(super) fn take(&self, url: &Uri) -> Option<Box<Connection>> {
        let mut kept = self.kept();
        let hosts = &mut kept.hosts;
        let host = hosts.iter_mut().find(|host| host.is_of(url))?;
        loop {
            let (mut connection, since) = host.idle.pop()?;
            if since.elapsed() < self.limits.idle_limit && connection.is_open() {
                return Some(connection);
            }
        }
    }

    /// A new one, in memory of its own: it is large, and goes from hand to hand. The whole exchange has this limit.
    pub(super) async fn connect(&self, url: &Uri, limit: Duration) -> Result<Box<Connection>, ConnectError> {
        let mut addresses = self.connector.addresses(url).await?;
        self.kept().order.sort(&mut addresses, self.elapsed());
        let has_others = addresses.len() > 1;
        let (stream, address) = self.connector.first(url, &addresses, limit, self).await?;
        let mut http = http1::Builder::new();
        http.max_buf_size(self.limits.buffer_bytes_max);
        let (sender, driver) = http.handshake(stream).await?;
        let peer = Peer { address, has_others };
        Ok(Box::new(Connection { sender, driver, peer, has_ended: false }))
    }

    /// A request that was sent at `since` was not answered, or not to its end. Unless another one was answered meanwhile,
    /// the address is tried last from now on, and its idle connections are closed.
    pub(super) fn not_answered(&self, url: &Uri, peer: Peer, since: Duration) {
        let elapsed = self.elapsed();
        let mut kept = self.kept();
        if kept.order.has_answered_since(&peer.address, since) {
            return;
        }
        let is_news = kept.order.failed(&peer.address, elapsed);
        for host in &mut kept.hosts {
            host.idle.retain(|(connection, _)| connection.peer.address != peer.address);
        }
        drop(kept);
        if is_news {
            report(url, peer.address, peer.has_others, "a request was not answered");
        }
    }

    /// The time since these connections began to be made.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Takes one back whose answer was read to its end, unless it is at its end too or there are enough.
    pub(super) fn keep(&self, url: &Uri, mut connection: Box<Connection>) {
        let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else { return };
        let elapsed = self.elapsed();
        let is_usable = connection.is_open() && connection.sender.is_ready();
        let mut kept = self.kept();
        kept.order.answered(&connection.peer.address, elapsed);
        if !is_usable {
            return;
        }
        if !kept.hosts.iter().any(|host| host.is_of(url)) {
            let (scheme, authority) = (scheme.clone(), authority.clone());
            kept.hosts.push(Host { scheme, authority, idle: Vec::new() });
        }
        let host = kept.hosts.iter_mut().find(|host| host.is_of(url)).expect("it is there by now");
        if host.idle.len() < self.limits.idle_max {
            host.idle.push((connection, Instant::now()));
        }
        if !std::mem::replace(&mut kept.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(&self.kept), self.limits.idle_limit));
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect(UNPOISONED)
    }
}

impl Watcher for Connections {
    fn failed(&self, url: &Uri, address: SocketAddr, has_others: bool, why: &str) {
        let elapsed = self.elapsed();
        if self.kept().order.failed(&address, elapsed) {
            report(url, address, has_others, why);
        }
    }
}

/// Where a host has no other address, the failed request is report enough.
fn report(url: &Uri, address: SocketAddr, has_others: bool, why: &str) {
    let host = url.host().unwrap_or_default();
    if has_others {
        tracing::warn!(host, %address, why, "an address failed; the host's other addresses are tried first for 5 minutes");
    } else {
        tracing::debug!(host, %address, why, "the only address of a host failed");
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    address: SocketAddr,
    /// Whether the host had other addresses to choose from.
    has_others: bool,
}

#[derive(Debug, Default)]
struct Kept {
    hosts: Vec<Host>,
    /// Which of a host's addresses to try first.
    order: AddressOrder<SocketAddr>,
    /// Whether a task closes what is idle for too long.
    is_swept: bool,
}

#[derive(Debug)]
struct Host {
    scheme: Scheme,
    authority: Authority,
    /// And since when; the one used last stands last, and is used first.
    idle: Vec<(Box<Connection>, Instant)>,
}

impl Host {
    fn is_of(&self, url: &Uri) -> bool {
        url.scheme() == Some(&self.scheme) && url.authority() == Some(&self.authority)
    }
}

/// Closes what nobody has used for so long, until nothing is left.
async fn sweep(kept: Weak<Mutex<Kept>>, idle_limit: Duration) {
    loop {
        tokio::time::sleep(idle_limit).await;
        let Some(kept) = kept.upgrade() else { return };
        let mut kept = kept.lock().expect(UNPOISONED);
        kept.hosts.iter_mut().for_each(|host| host.idle.retain(|(_, since)| since.elapsed() < idle_limit));
        kept.hosts.retain(|host| !host.idle.is_empty());
        if kept.hosts.is_empty() {
            kept.is_swept = false;
            return;
        }
    }
}

/// One connection, whoever uses it its only user.
#[derive(Debug)]
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: http1::Connection<MaybeHttpsStream<TokioIo<TcpStream>>, Full<Bytes>>,
    peer: Peer,
    has_ended: bool,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// The connection had ended before the request was written; here it is.
    NotSent(Box<Request<Full<Bytes>>>),
    /// The request may have been processed.
    Broken(hyper::Error),
}

impl Connection {
    /// Its other end.
    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    /// Sends a request and does `read` with the answer, while the connection is driven.
    pub(super) async fn exchange<T, F: Future<Output = T>>(
        &mut self,
        request: Request<Full<Bytes>>,
        read: impl FnOnce(Response<Incoming>) -> F,
    ) -> Result<T, Failure> {
        let answer = self.sender.try_send_request(request);
        let exchange = async {
            let answer = answer.await.map_err(|mut error| match error.take_message() {
                Some(request) => Failure::NotSent(Box::new(request)),
                None => Failure::Broken(error.into_error()),
            })?;
            Ok(read(answer).await)
        };
        let mut exchange = pin!(exchange);
        poll_fn(|cx| {
            // Whatever ends the connection early is told to the exchange as well.
            self.drive(cx);
            exchange.as_mut().poll(cx)
        })
        .await
    }

    /// Whether it may be used again, as far as is known.
    fn is_open(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.has_ended
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.has_ended {
            self.has_ended = matches!(self.driver.poll_unpin(cx), Poll::Ready(_));
        }
    }
}

const UNPOISONED: &str = "nothing panics while it holds the lock";
