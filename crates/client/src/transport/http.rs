//! `HttpTransport`: pooled HTTP/1.1 connections over TCP or TLS, with every guard that [`Transport`] promises.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;

use super::connections::{Connections, Failure, Limits, Peer};
use super::connector::{Connector, ResolveError};
use crate::endpoint::is_safe;
use crate::scrub::scrubbed_line;
use crate::{PreparedRequest, RawAnswer, Transport, TransportError};

/// Sends over HTTP/1.1. Cheap to clone; clones share their connections.
///
/// ```no_run
/// use std::sync::Arc;
/// use storekeeper_client::{HttpOptions, HttpTransport};
/// let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
/// let transport = HttpTransport::new(provider, HttpOptions::default()).expect("the platform has root certificates");
/// ```
#[derive(Debug, Clone)]
pub struct HttpTransport {
    connections: Arc<Connections>,
}

/// How connections are made and kept.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    connect_limit: Duration,
    idle_limit: Duration,
    idle_connections_max: usize,
    extra_ca: Option<Vec<u8>>,
}

impl Default for HttpOptions {
    /// 5 s for each address to connect; up to 256 idle connections per host, each for a minute; the platform's certificates only.
    fn default() -> Self {
        Self {
            connect_limit: Duration::from_secs(5),
            idle_limit: Duration::from_secs(60),
            idle_connections_max: 256,
            extra_ca: None,
        }
    }
}

impl HttpOptions {
    /// How long one address of a host may take until a connection is ready, TLS included. Several addresses, or an
    /// exchange with a short limit, shorten it, so that the next address still has time.
    #[must_use]
    pub fn connect_limit(self, connect_limit: Duration) -> Self {
        Self { connect_limit, ..self }
    }

    /// How long an idle connection is kept.
    #[must_use]
    pub fn idle_limit(self, idle_limit: Duration) -> Self {
        Self { idle_limit, ..self }
    }

    /// How many idle connections are kept per host.
    #[must_use]
    pub fn idle_connections_max(self, idle_connections_max: usize) -> Self {
        Self { idle_connections_max, ..self }
    }

    /// Certificates to trust besides the platform's, as the contents of a PEM file: the emulator's local CA.
    #[must_use]
    pub fn extra_ca(self, pem: impl Into<Vec<u8>>) -> Self {
        Self { extra_ca: Some(pem.into()), ..self }
    }
}

/// Why a transport could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The extra CA file holds no certificate, or a broken one.
    #[error("the extra CA file holds no readable PEM certificate")]
    ExtraCa,
    /// The platform has no root certificates, or the crypto provider lacks what TLS needs.
    #[error("TLS could not be set up; install the system's CA certificates or name a CA file")]
    Tls(#[source] rustls::Error),
}

impl HttpTransport {
    /// Trusts what the platform trusts, and the extra CA of the options. The crypto provider is the caller's choice.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(provider: Arc<CryptoProvider>, options: HttpOptions) -> Result<Self, SetupError> {
        let roots = options.extra_ca.as_deref().map_or(Ok(Vec::new()), certificates)?;
        let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider)).map_err(SetupError::Tls)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(SetupError::Tls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self::with_tls(config, options))
    }

    /// Uses the caller's TLS configuration as it stands; the options' extra CA is not looked at.
    pub fn with_tls(config: ClientConfig, options: HttpOptions) -> Self {
        Self::with_connector(Connector::new(config, options.connect_limit), &options)
    }

    pub(super) fn with_connector(connector: Connector, options: &HttpOptions) -> Self {
        let limits = Limits {
            idle_max: options.idle_connections_max,
            idle_limit: options.idle_limit,
            buffer_bytes_max: RawAnswer::BYTES_MAX,
        };
        Self { connections: Arc::new(Connections::new(connector, limits)) }
    }

    /// `sent` is where the request went, and when: what has to be known when the time is up.
    async fn exchange(
        &self,
        request: PreparedRequest,
        url: &Uri,
        limit: Duration,
        sent: &mut Option<(Peer, Duration)>,
    ) -> Result<RawAnswer, TransportError> {
        let mut outgoing = outgoing(request)?;
        loop {
            let kept = self.connections.take(url);
            let was_used = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                // Seldom, and much larger than the rest of an exchange: in memory of its own.
                None => {
                    let connecting = Box::pin(self.connections.connect(url, limit));
                    connecting.await.map_err(|error| classify(&*error, true))?
                }
            };
            let (peer, since) = (connection.peer(), self.connections.elapsed());
            *sent = Some((peer, since));
            let answer = connection.exchange(outgoing, read).await;
            *sent = None;
            match answer {
                Ok(answer) => {
                    if answer.is_ok() {
                        self.connections.keep(url, connection);
                    }
                    return answer;
                }
                // The other side had ended it while nobody used it, and has seen nothing of this request.
                Err(Failure::NotSent(unsent)) if was_used => outgoing = *unsent,
                Err(failure) => {
                    // A connection that was idle may end for reasons of its own; one that was made for this request says
                    // something about its address.
                    if !was_used {
                        self.connections.not_answered(url, peer, since);
                    }
                    return Err(match failure {
                        Failure::NotSent(_) => closed(),
                        Failure::Broken(error) => classify(&error, false),
                    });
                }
            }
        }
    }
}

/// The request as it is written to a connection with its host: with a path alone, and the host beside it.
fn outgoing(request: PreparedRequest) -> Result<Request<Full<Bytes>>, TransportError> {
    let malformed = |_| TransportError::Malformed { reason: String::from("the URL names no host") };
    let host = HeaderValue::from_str(host(&request.url)).map_err(malformed)?;
    let mut outgoing = Request::new(Full::new(request.body.expose().clone()));
    *outgoing.method_mut() = request.method;
    *outgoing.uri_mut() = request.url.into_parts().path_and_query.map_or_else(Uri::default, Uri::from);
    *outgoing.headers_mut() = request.headers;
    outgoing.headers_mut().insert(header::HOST, host);
    Ok(outgoing)
}

/// The host and, unless it is the scheme's own, the port.
fn host(url: &Uri) -> &str {
    let own = if url.scheme_str() == Some("http") { 80 } else { 443 };
    match url.port_u16() {
        Some(port) if port != own => url.authority().map_or("", |authority| authority.as_str()),
        _ => url.host().unwrap_or_default(),
    }
}

fn closed() -> TransportError {
    TransportError::Reset { reason: String::from("the other side closed the connection before it had a request") }
}

impl Transport for HttpTransport {
    fn send(&self, request: PreparedRequest, limit: Duration) -> BoxFuture<'_, Result<RawAnswer, TransportError>> {
        Box::pin(async move {
            // Endpoints are checked when they are configured; a request can be built by hand.
            if !is_safe(&request.url) {
                return Err(TransportError::Insecure);
            }
            let url = request.url.clone();
            let mut sent = None;
            #[expect(clippy::disallowed_methods, reason = "a guard on a slow socket uses the operating system's time")]
            let answer = tokio::time::timeout(limit, self.exchange(request, &url, limit, &mut sent)).await;
            answer.unwrap_or_else(|_| {
                if let Some((peer, since)) = sent {
                    self.connections.not_answered(&url, peer, since);
                }
                Err(TransportError::TimedOut)
            })
        })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or(SetupError::ExtraCa)
}

/// Reads the body up to its bound, into memory of its own: what it arrived in is the connection's, to be used again.
async fn read(answer: Response<Incoming>) -> Result<RawAnswer, TransportError> {
    let (parts, mut body) = answer.into_parts();
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > RawAnswer::BYTES_MAX {
        return Err(TransportError::TooLarge);
    }
    let mut whole = BytesMut::with_capacity(announced);
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|error| classify(&error, false))?.into_data() else { continue };
        if whole.len() + piece.len() > RawAnswer::BYTES_MAX {
            return Err(TransportError::TooLarge);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(RawAnswer { status: parts.status, headers: parts.headers, body: whole.freeze() })
}

/// Finds out what happened from an error and everything beneath it.
fn classify(error: &(dyn Error + 'static), is_connect: bool) -> TransportError {
    let causes = causes(error);
    let reason = || scrubbed_line(&causes.last().unwrap_or(&error).to_string(), 256);
    let tls = causes.iter().find_map(|cause| cause.downcast_ref::<rustls::Error>());
    let is_io = |kind| causes.iter().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|io| io.kind() == kind);
    let is_http = |test: fn(&hyper::Error) -> bool| {
        causes.iter().filter_map(|cause| cause.downcast_ref::<hyper::Error>()).any(test)
    };
    if causes.iter().any(|cause| cause.is::<ResolveError>()) {
        TransportError::Dns { reason: reason() }
    } else if let Some(tls) = tls {
        TransportError::Tls { reason: scrubbed_line(&tls.to_string(), 256) }
    } else if is_io(io::ErrorKind::TimedOut) {
        TransportError::TimedOut
    } else if is_connect {
        TransportError::Connect { reason: reason() }
    } else if is_http(hyper::Error::is_parse_too_large) {
        TransportError::TooLarge
    } else if is_http(hyper::Error::is_parse) || is_io(io::ErrorKind::InvalidInput) || is_io(io::ErrorKind::InvalidData)
    {
        TransportError::Malformed { reason: reason() }
    } else {
        TransportError::Reset { reason: reason() }
    }
}

/// The error and everything beneath it, outermost first. An [`io::Error`] hides what it wraps from `source`, which is
/// where TLS errors are.
pub(super) fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut found = vec![error];
    let mut current = error;
    while found.len() < 16 {
        let wrapped = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let beneath = match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => current.source(),
        };
        let Some(beneath) = beneath else { break };
        found.push(beneath);
        current = beneath;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_port_is_not_named() {
        let check = |url: &'static str, expected| assert_eq!(host(&Uri::from_static(url)), expected);
        check("https://purchase.mp.microsoft.com/a", "purchase.mp.microsoft.com");
        check("https://purchase.mp.microsoft.com:443/a", "purchase.mp.microsoft.com");
        check("https://localhost:80/a", "localhost:80");
        check("http://127.0.0.1:80/", "127.0.0.1");
        check("http://[::1]:8440/", "[::1]:8440");
    }

    #[test]
    fn a_name_without_an_address_is_told_from_a_host_without_a_server() {
        // What the resolver says arrives below what the connector says, as here.
        let resolver = io::Error::other(ResolveError(io::Error::other("no such host")));
        assert_eq!(classify(&resolver, true), TransportError::Dns { reason: String::from("no such host") });
        let connector = io::Error::new(io::ErrorKind::ConnectionRefused, "refused");
        assert_eq!(classify(&connector, true), TransportError::Connect { reason: String::from("refused") });
        let slow = io::Error::new(io::ErrorKind::TimedOut, "deadline has elapsed");
        assert_eq!(classify(&slow, true), TransportError::TimedOut);
    }
}
