//! The only file that listens: sockets, handshakes, and HTTP/1.1 on top of them.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::body::AnswerBody;
use crate::connection::{Connections, End, Seated};
use crate::exchange::virtual_host;
use crate::request::VirtualHost;

/// How many connections the kernel keeps for us while every seat is taken.
const BACKLOG: u32 = 4096;
/// The most a request's head may take, and the most that is read ahead.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// What a connection is there for.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request, or breaks the connection off. A connection's requests come one after the other. Has to say
    /// [`Seated::request_arrived`] once the whole request is there.
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        via: Arc<Via>,
    ) -> impl Future<Output = Result<Response<AnswerBody>, BrokenOff>> + Send;
}

/// No answer is given and the connection ends.
#[derive(Debug, thiserror::Error)]
#[error("the connection was broken off")]
pub(crate) struct BrokenOff;

/// By which way a request came.
pub(crate) struct Via {
    /// The connection's place.
    pub(crate) seated: Seated,
    /// The emulated host named in the TLS handshake.
    pub(crate) sni: Option<VirtualHost>,
    /// Our own end of the connection.
    pub(crate) local: Option<IpAddr>,
}

/// A bound socket that does not accept yet.
pub(crate) struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds; port 0 picks a free one.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let tcp = socket.listen(BACKLOG)?;
        let address = tcp.local_addr()?;
        Ok(Self { tcp, address })
    }

    /// Where it is bound.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until the group of connections closes. While every seat is taken and in use, newcomers wait in the
    /// kernel's queue.
    pub(crate) async fn serve<S: Service>(self, group: Arc<Connections>, tls: Option<TlsAcceptor>, service: Arc<S>) {
        let mut closing = pin!(group.closing());
        loop {
            let (tcp, seated) = tokio::select! {
                () = &mut closing => return,
                accepted = self.accept(&group) => accepted,
            };
            let (tls, service) = (tls.clone(), Arc::clone(&service));
            tokio::spawn(async move {
                if let Err(error) = connection(tcp, seated, tls, service).await {
                    tracing::debug!(%error, "a connection ended early");
                }
            });
        }
    }

    async fn accept(&self, group: &Arc<Connections>) -> (TcpStream, Seated) {
        loop {
            match self.tcp.accept().await {
                Ok((tcp, _)) => return (tcp, group.seat().await),
                Err(error) => {
                    // The caller went away, or this process has no file to spare: neither is a reason to stop.
                    tracing::warn!(%error, "a connection could not be accepted");
                    group.breathe().await;
                }
            }
        }
    }
}

async fn connection<S: Service>(
    tcp: TcpStream,
    seated: Seated,
    tls: Option<TlsAcceptor>,
    service: Arc<S>,
) -> Result<(), ConnectionError> {
    tcp.set_nodelay(true)?;
    let local = tcp.local_addr().ok().map(|address| address.ip());
    let stream = seated.guard(tcp);
    let Some(tls) = tls else {
        return converse(stream, Via { seated, sni: None, local }, service).await;
    };
    let stream = tokio::select! {
        biased;
        stream = tls.accept(stream) => stream?,
        () = seated.overdue() => return Ok(()),
        _ = seated.end() => return Ok(()),
    };
    seated.answered();
    let sni = stream.get_ref().1.server_name().and_then(virtual_host);
    converse(stream, Via { seated, sni, local }, service).await
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

async fn converse<S, I>(stream: I, via: Via, service: Arc<S>) -> Result<(), ConnectionError>
where
    S: Service,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let via = Arc::new(via);
    let answer = |request| {
        let (service, via) = (Arc::clone(&service), Arc::clone(&via));
        async move {
            let answer = service.call(request, Arc::clone(&via)).await;
            via.seated.answered();
            answer
        }
    };
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .auto_date_header(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    let mut connection = pin!(connection);
    let mut overdue = pin!(via.seated.overdue());
    let end = tokio::select! {
        biased;
        ended = &mut connection => return Ok(ended?),
        () = &mut overdue => return Ok(()),
        end = via.seated.end() => end,
    };
    if end == End::Closing {
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            biased;
            ended = connection => ended?,
            () = overdue => {}
        }
    }
    Ok(())
}
