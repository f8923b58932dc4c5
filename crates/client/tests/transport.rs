//! `HttpTransport` against small servers on loopback: every guard holds, and every way to fail has its name.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{KeySpec, answer, now, ticket};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::json;
use storekeeper_client::{
    Advice, Credential, Endpoint, Endpoints, EntraVersion, HttpOptions, HttpTransport, PreparedRequest, RawAnswer,
    RenewError, RequestBody, SetupError, StoreClient, Transport, TransportError,
};
use storekeeper_model::{Audience, ClientId, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const LIMIT: Duration = Duration::from_secs(10);

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A certificate authority that signs for 127.0.0.1 and localhost: its PEM, and what a TLS server needs.
fn authority() -> (String, Arc<rustls::ServerConfig>) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec![String::from("127.0.0.1"), String::from("localhost")];
    let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    (ca_pem, Arc::new(config))
}

/// Trusts the machine's certificates and a CA of our own, so that the tests need no certificates on the machine.
fn transport() -> HttpTransport {
    HttpTransport::new(provider(), HttpOptions::default().extra_ca(authority().0)).unwrap()
}

/// A hyper server: answers with `answer`, counts connections and requests.
struct Server {
    at: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    async fn start<F>(tls: Option<Arc<rustls::ServerConfig>>, reply: F) -> Self
    where
        F: Fn(Request<Bytes>) -> Response<Full<Bytes>> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let server = Self { at, connections: Arc::clone(&connections), requests: Arc::clone(&requests) };
        let reply = Arc::new(reply);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (reply, requests, tls) = (Arc::clone(&reply), Arc::clone(&requests), tls.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    requests.fetch_add(1, Ordering::SeqCst);
                    let reply = Arc::clone(&reply);
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await?.to_bytes();
                        Ok::<_, hyper::Error>(reply(Request::from_parts(parts, body)))
                    }
                });
                tokio::spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    // A client that goes away in the middle is what some of these tests are about.
                    let _ = match tls {
                        Some(tls) => {
                            let Ok(tls) = tokio_rustls::TlsAcceptor::from(tls).accept(tcp).await else { return };
                            http.serve_connection(TokioIo::new(tls), service).await
                        }
                        None => http.serve_connection(TokioIo::new(tcp), service).await,
                    };
                });
            }
        });
        server
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.at)
    }
}

/// A server that reads a request and then writes exactly these bytes and closes, or waits for ever where there are none.
async fn raw_server(bytes: Option<&'static [u8]>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = tcp.read(&mut request).await;
                match bytes {
                    Some(bytes) => tcp.write_all(bytes).await.unwrap(),
                    None => std::future::pending().await,
                }
            });
        }
    });
    at
}

/// A server that begins an answer and never ends it.
async fn stuck_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let _ = tcp.read(&mut [0; 4096]).await;
        tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
        std::future::pending::<()>().await;
    });
    at
}

fn request(url: &str) -> PreparedRequest {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json; charset=utf-8"));
    let body = RequestBody::new(Secret::new(b"{\"a\":1}".to_vec()));
    PreparedRequest { method: Method::POST, url: url.parse().unwrap(), headers, body }
}

fn json(body: String) -> Response<Full<Bytes>> {
    Response::new(Full::new(body.into()))
}

#[tokio::test]
async fn a_request_arrives_as_prepared_and_connections_are_used_again() {
    let server = Server::start(None, |request| {
        let shown = format!(
            "{} {} {:?} {:?} {:?}",
            request.method(),
            request.uri(),
            request.headers().get("content-type"),
            request.headers().get("content-length"),
            request.body(),
        );
        assert!(request.headers().contains_key("host"));
        Response::builder().status(418).header("MS-CV", "5.1").body(Full::new(shown.into())).unwrap()
    })
    .await;
    let transport = transport();
    for _ in 0..10 {
        let answer = transport.send(request(&format!("{}/a/b?c", server.url("http"))), LIMIT).await.unwrap();
        assert_eq!(answer.status, 418);
        assert_eq!(answer.headers["ms-cv"], "5.1");
        let expected = r#"POST /a/b?c Some("application/json; charset=utf-8") Some("7") b"{\"a\":1}""#;
        assert_eq!(answer.body, expected);
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    assert_eq!(server.requests.load(Ordering::SeqCst), 10);
}

/// A server that ends a connection after its answer without having said so.
#[tokio::test]
async fn a_connection_that_the_other_side_has_ended_is_not_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (ended, mut has_ended) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut request = [0; 4096];
            assert!(tcp.read(&mut request).await.unwrap() > 0);
            tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            drop(tcp);
            ended.send(()).unwrap();
        }
    });
    let elsewhere = Server::start(None, |_| json(String::new())).await;
    let transport = transport();
    for _ in 0..5 {
        let answer = transport.send(request(&url), LIMIT).await.unwrap();
        assert_eq!(answer.body, "ok");
        has_ended.recv().await.unwrap();
        // What has arrived on the first connection is seen at the latest while another one is waited for.
        transport.send(request(&elsewhere.url("http")), LIMIT).await.unwrap();
    }
}

#[tokio::test]
async fn the_host_is_named_with_its_port_unless_that_is_the_usual_one() {
    let server = Server::start(None, |request| {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        json(host)
    })
    .await;
    let transport = transport();
    let answer = transport.send(request(&server.url("http")), LIMIT).await.unwrap();
    assert_eq!(answer.body, server.at.to_string());
}

/// An answer that nobody waits for any more must not be taken for that to the next request.
#[tokio::test]
async fn a_connection_is_closed_when_its_exchange_is_given_up() {
    let server = Server::start(None, |_| json(String::new())).await;
    let transport = transport();
    let url = server.url("http");
    transport.send(request(&url), LIMIT).await.unwrap();
    {
        let mut given_up = pin!(transport.send(request(&url), LIMIT));
        // Sent, and dropped before the answer is read.
        assert!(given_up.as_mut().now_or_never().is_none());
    }
    transport.send(request(&url), LIMIT).await.unwrap();
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Server::start(None, |_| json(String::new())).await;
    let location = other.url("http");
    let server = Server::start(None, move |_| {
        Response::builder().status(307).header("location", &location).body(Full::default()).unwrap()
    })
    .await;
    let client = client(&server.url("http"));
    let key = KeySpec::default().key();
    let error = client.renew(&key, &ticket(), now()).await.result.unwrap_err();
    assert_eq!(error, RenewError::Redirected { status: 307, host: Some(String::from("127.0.0.1")) });
    assert_eq!(other.connections.load(Ordering::SeqCst), 0);
}

fn client(url: &str) -> StoreClient<HttpTransport> {
    let endpoint = Endpoint::parse(url).unwrap();
    let endpoints = Endpoints { collections: endpoint.clone(), purchase: endpoint.clone(), entra: endpoint };
    StoreClient::new(transport(), endpoints, &mut ChaCha8Rng::seed_from_u64(3)).limit(LIMIT)
}

#[tokio::test]
async fn both_conversations_work_over_one_transport() {
    let server = Server::start(None, |request| match request.uri().path() {
        "/contoso.example/oauth2/v2.0/token" => {
            assert!(request.body().ends_with(b"client_secret=a%2Bb"));
            let token = common::access_token(Audience::Service, &json!({}));
            json(json!({"token_type": "Bearer", "expires_in": 3599, "access_token": token}).to_string())
        }
        "/v6.0/b2b/keys/renew" => {
            let vector = request.headers()["ms-cv"].to_str().unwrap().to_owned();
            let mut answer = json(json!({"key": KeySpec::fresh().jwt()}).to_string());
            answer.headers_mut().insert("ms-cv", format!("{vector}.0").parse().unwrap());
            answer
        }
        path => panic!("{path}"),
    })
    .await;
    let client = client(&server.url("http"));
    let credential = Credential::ClientSecret(Secret::new(String::from("a+b")));
    let id = ClientId::new(common::CLIENT);
    let ticket = client
        .fetch_ticket("contoso.example", &id, Audience::Service, &credential, EntraVersion::V2, now())
        .await
        .unwrap();
    let key = KeySpec::default().key();
    for attempt in 1..=3 {
        let read = client.renew(&key, &ticket, now()).await;
        assert_eq!(read.result.unwrap().fingerprint(), KeySpec::fresh().key().fingerprint());
        let vector = read.correlation.vector.unwrap();
        assert!(vector.ends_with(&format!(".{attempt}.0")), "{vector}");
        assert!(read.store_date.is_some(), "hyper's server sends a Date");
    }
}

#[tokio::test]
async fn an_answer_is_read_up_to_its_bound() {
    let server = Server::start(None, |request| {
        let length: usize = request.uri().path()[1..].parse().unwrap();
        json("x".repeat(length))
    })
    .await;
    let transport = transport();
    for (length, fits) in
        [(0, true), (RawAnswer::BYTES_MAX, true), (RawAnswer::BYTES_MAX + 1, false), (9_000_000, false)]
    {
        let answer = transport.send(request(&format!("{}/{length}", server.url("http"))), LIMIT).await;
        match answer {
            Ok(answer) => assert_eq!((fits, answer.body.len()), (true, length)),
            Err(error) => assert_eq!((fits, error), (false, TransportError::TooLarge)),
        }
    }
}

#[tokio::test]
async fn an_answer_without_a_length_is_bounded_too() {
    let mut endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..20 {
        endless.extend_from_slice(b"1000\r\n");
        endless.extend_from_slice(&[b'x'; 4096]);
        endless.extend_from_slice(b"\r\n");
    }
    let at = raw_server(Some(endless.leak())).await;
    let error = transport().send(request(&format!("http://{at}")), LIMIT).await.unwrap_err();
    assert_eq!(error, TransportError::TooLarge);
    let at = raw_server(Some(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"))
        .await;
    let answer = transport().send(request(&format!("http://{at}")), LIMIT).await.unwrap();
    assert_eq!(answer.body, "abcde");
}

#[tokio::test]
async fn what_breaks_off_is_a_reset_and_what_is_not_http_is_malformed() {
    for (bytes, code) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"key\":\"eyJ"[..], "reset"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", "reset"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "reset"),
        (b"", "reset"),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n\r\n", "answer_malformed"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "answer_malformed"),
    ] {
        let at = raw_server(Some(bytes)).await;
        let error = transport().send(request(&format!("http://{at}")), LIMIT).await.unwrap_err();
        assert_eq!(error.code(), code, "{error:?} for {bytes:?}");
        assert_eq!(error.advice(), Advice::Retry { not_before: None });
        assert!(!format!("{error} {error:?}").contains("eyJ"));
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up_on() {
    let silent = raw_server(None).await;
    let transport = transport();
    let error = transport.send(request(&format!("http://{silent}")), Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error, TransportError::TimedOut);
    assert_eq!(error.advice(), Advice::Retry { not_before: None });
    // Headers that came do not lengthen the wait for the rest.
    let half = stuck_server().await;
    let error = transport.send(request(&format!("http://{half}")), Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error, TransportError::TimedOut);
}

#[tokio::test]
async fn nothing_is_sent_over_plain_http_to_another_machine() {
    for url in ["http://collections.mp.microsoft.com/", "http://10.0.0.1/", "ftp://127.0.0.1/", "http://[fe80::1]/"] {
        let error = transport().send(request(url), LIMIT).await.unwrap_err();
        assert_eq!(error, TransportError::Insecure, "{url}");
    }
    assert_eq!(transport().send(request("/no/host"), LIMIT).await.unwrap_err(), TransportError::Insecure);
}

#[tokio::test]
async fn localhost_is_this_machine_without_asking() {
    let server = Server::start(None, |_| json(String::from("{}"))).await;
    let url = format!("http://LocalHost:{}/", server.at.port());
    assert_eq!(transport().send(request(&url), LIMIT).await.unwrap().body, "{}");
}

#[tokio::test]
async fn where_nobody_listens_there_is_no_connection() {
    let at = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = transport().send(request(&format!("http://{at}/")), LIMIT).await.unwrap_err();
    assert_eq!(error.code(), "connect_failed", "{error:?}");
    let TransportError::Connect { reason } = error else { panic!() };
    assert!(reason.contains("refused"), "{reason}");
}

#[tokio::test]
async fn tls_is_believed_only_with_the_right_authority() {
    let (ca, tls) = authority();
    let server = Server::start(Some(tls), |_| json(String::from("{}"))).await;
    let trusting = HttpTransport::new(provider(), HttpOptions::default().extra_ca(ca)).unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("https://{host}:{}/", server.at.port());
        assert_eq!(trusting.send(request(&url), LIMIT).await.unwrap().body, "{}");
    }
    let stranger = transport();
    let error = stranger.send(request(&server.url("https")), LIMIT).await.unwrap_err();
    assert_eq!(error.code(), "tls_failed", "{error:?}");
    assert_eq!(error.advice(), Advice::Retry { not_before: None });
    let plain = Server::start(None, |_| json(String::from("{}"))).await;
    let error = stranger.send(request(&plain.url("https")), LIMIT).await.unwrap_err();
    assert_eq!(error.code(), "tls_failed", "{error:?}");
    assert_eq!(plain.requests.load(Ordering::SeqCst), 0);
}

#[test]
fn a_ca_file_without_certificates_is_refused() {
    for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"] {
        let made = HttpTransport::new(provider(), HttpOptions::default().extra_ca(pem));
        assert!(matches!(made, Err(SetupError::ExtraCa)), "{pem}");
    }
}

#[tokio::test]
async fn a_transport_can_be_anything_that_sends() {
    struct Fixed;
    impl Transport for Fixed {
        fn send(
            &self,
            request: PreparedRequest,
            limit: Duration,
        ) -> futures_util::future::BoxFuture<'_, Result<RawAnswer, TransportError>> {
            assert_eq!((request.method, limit), (Method::POST, StoreClient::<Self>::LIMIT));
            Box::pin(async { Ok(answer(429, &[("retry-after", "3")], "")) })
        }
    }
    let shared: Arc<dyn Transport> = Arc::new(Fixed);
    let client = StoreClient::new(shared, Endpoints::default(), &mut ChaCha8Rng::seed_from_u64(1));
    let error = client.renew(&KeySpec::default().key(), &ticket(), now()).await.result.unwrap_err();
    assert_eq!((error.code(), error.status()), ("throttled", Some(429)));
}
