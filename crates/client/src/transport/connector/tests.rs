//! A host with two addresses, 127.0.0.1 and 127.0.0.2, of which one is of no use.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use http::{HeaderMap, Method};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{RootCertStore, ServerConfig};
use storekeeper_model::Secret;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{HttpOptions, HttpTransport, PreparedRequest, RawAnswer, RequestBody, Transport as _, TransportError};

const LIMIT: Duration = Duration::from_millis(1500);

/// What one address does with connections.
#[derive(Clone)]
enum Manner {
    Answers,
    AnswersInTls(TlsAcceptor),
    /// Accepts connections and says nothing.
    Silent,
    /// Answers `GET /quick` and nothing else.
    AnswersQuick,
    Closes,
}

/// One of the addresses of a host; counts connections.
struct Place {
    at: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Place {
    async fn start(at: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let place = Self { at: listener.local_addr().unwrap(), connections: Arc::clone(&connections) };
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(speak(tcp, manner.clone()));
            }
        });
        place
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn speak(mut tcp: TcpStream, manner: Manner) {
    match manner {
        Manner::Answers => answer(tcp, "").await,
        Manner::AnswersQuick => answer(tcp, "GET /quick").await,
        Manner::AnswersInTls(tls) => {
            if let Ok(tls) = tls.accept(tcp).await {
                answer(tls, "").await;
            }
        }
        Manner::Silent => while tcp.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {},
        Manner::Closes => drop(tcp.read(&mut [0; 4096]).await),
    }
}

/// Answers each request that begins so, and never the first that does not.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, beginning: &str) {
    let mut request = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut request).await {
        if !request[..count].starts_with(beginning.as_bytes()) {
            std::future::pending::<()>().await;
        }
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}

/// The first address of the host, and the second one at the same port.
async fn places(first: Manner, second: Manner) -> [Place; 2] {
    for _ in 0..50 {
        let second = Place::start("127.0.0.2:0".parse().unwrap(), second.clone()).await;
        let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), second.at.port());
        // Another test may have the port.
        if TcpListener::bind(at).await.is_ok() {
            return [Place::start(at, first).await, second];
        }
    }
    panic!("no port is free at both addresses");
}

/// Sends to a host whose addresses are these places.
struct Client {
    transport: HttpTransport,
    origin: String,
}

impl Client {
    fn new(scheme: &str, places: &[Place; 2], roots: RootCertStore) -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut connector = Connector::new(config, Duration::from_secs(5));
        connector.fixed = places.iter().map(|place| place.at).collect();
        let transport = HttpTransport::with_connector(connector, &HttpOptions::default());
        Self { transport, origin: format!("{scheme}://localhost:{}", places[0].at.port()) }
    }

    fn plain(places: &[Place; 2]) -> Self {
        Self::new("http", places, RootCertStore::empty())
    }

    async fn send(&self, path: &str, limit: Duration) -> Result<RawAnswer, TransportError> {
        let url = format!("{}{path}", self.origin).parse().unwrap();
        let body = RequestBody::new(Secret::new(Vec::new()));
        self.transport.send(PreparedRequest { method: Method::GET, url, headers: HeaderMap::new(), body }, limit).await
    }

    /// Several at once, each of which needs a connection.
    async fn send_many(&self, path: &str) {
        let many = join_all((0..8).map(|_| self.send(path, LIMIT))).await;
        assert!(many.iter().all(Result::is_ok), "{many:?}");
    }
}

/// A certificate for `localhost`, and what trusts it.
fn certificate() -> (TlsAcceptor, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(vec![String::from("localhost")]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into(),
        )
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), roots)
}

#[tokio::test]
async fn an_address_that_is_silent_during_tls_is_passed_over() {
    let (tls, roots) = certificate();
    let places = places(Manner::Silent, Manner::AnswersInTls(tls)).await;
    let client = Client::new("https", &places, roots);
    assert!(client.send("/", LIMIT).await.is_ok(), "in the first attempt");
    assert_eq!(places[0].connections(), 1);
    client.send_many("/").await;
    assert_eq!(places[0].connections(), 1, "the address that answered comes first");
    assert!(places[1].connections() > 1);
}

#[tokio::test]
async fn an_address_that_answers_no_request_is_tried_last() {
    let places = places(Manner::Silent, Manner::Answers).await;
    let client = Client::plain(&places);
    let error = client.send("/", Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error, TransportError::TimedOut, "the request may have been processed, so it is not sent again");
    client.send_many("/").await;
    assert_eq!(places[0].connections(), 1);
}

#[tokio::test]
async fn an_address_that_closes_every_connection_is_tried_last() {
    let places = places(Manner::Closes, Manner::Answers).await;
    let client = Client::plain(&places);
    assert_eq!(client.send("/", LIMIT).await.unwrap_err().code(), "reset");
    client.send_many("/").await;
    assert_eq!(places[0].connections(), 1);
}

#[tokio::test]
async fn an_address_that_fell_silent_loses_its_idle_connections() {
    let places = places(Manner::AnswersQuick, Manner::Answers).await;
    let client = Client::plain(&places);
    client.send_many("/quick").await;
    assert_eq!((places[0].connections(), places[1].connections()), (8, 0));
    let error = client.send("/slow", Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error, TransportError::TimedOut);
    client.send_many("/slow").await;
    assert_eq!((places[0].connections(), places[1].connections()), (8, 8));
}

#[tokio::test]
async fn one_slow_request_among_others_says_nothing_about_the_address() {
    let places = places(Manner::AnswersQuick, Manner::Answers).await;
    let client = Client::plain(&places);
    let slow = async {
        let limit = Duration::from_millis(400);
        assert_eq!(client.send("/slow", limit).await.unwrap_err(), TransportError::TimedOut);
    };
    tokio::join!(slow, client.send_many("/quick"));
    client.send_many("/quick").await;
    assert_eq!(places[1].connections(), 0);
}

#[tokio::test]
async fn where_every_address_fails_the_most_telling_error_is_returned() {
    let (_, roots) = certificate();
    for (first, second) in [(Manner::Silent, Manner::Closes), (Manner::Closes, Manner::Silent)] {
        let places = places(first, second).await;
        let client = Client::new("https", &places, roots.clone());
        let error = client.send("/", Duration::from_millis(600)).await.unwrap_err();
        assert_eq!(error.code(), "connect_failed", "{error:?}");
    }
    let places = places(Manner::Silent, Manner::Silent).await;
    let client = Client::new("https", &places, roots);
    let error = client.send("/", Duration::from_millis(600)).await.unwrap_err();
    assert_eq!(error, TransportError::TimedOut);
    assert_eq!((places[0].connections(), places[1].connections()), (1, 1), "both had their share of the time");
}

#[test]
fn a_lack_of_this_machine_says_nothing_about_an_address() {
    for (code, expected) in [(24, true), (23, true), (12, true), (111, false), (101, false)] {
        let wrapped = io::Error::other(io::Error::from_raw_os_error(code));
        assert_eq!(is_local(&wrapped), expected, "{code}");
    }
}
