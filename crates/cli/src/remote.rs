//! `Remote`: how commands speak with a running keeper or emulator. Whatever goes wrong is one line that says what to do.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls_platform_verifier::BuilderVerifierExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use storekeeper_client::Endpoint;
use storekeeper_model::Secret;

use crate::exit::{CommandError, Exit};

mod problem;

use problem::Problem;

/// The longest answer that is read: a snapshot of an emulator is the longest there is.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an answer may take: longer than the keeper waits for the Store.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Who is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A keeper's listener.
    Keeper,
    /// An emulator's control port.
    Emulator,
}

impl Peer {
    const fn name(self) -> &'static str {
        match self {
            Self::Keeper => "keeper",
            Self::Emulator => "emulator",
        }
    }

    /// How to start one, and how to name another.
    const fn remedy(self) -> &'static str {
        match self {
            Self::Keeper => "start one with `storekeeper dev`, or name one with --server",
            Self::Emulator => "start one with `storekeeper emulator`, or name one with --control",
        }
    }
}

/// How long to wait for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// A minute.
    Usual,
    /// As long as it takes: time is being moved.
    Endless,
}

/// A listener to talk to.
#[derive(Debug, Clone)]
pub struct Remote {
    peer: Peer,
    base: Endpoint,
    token: Option<Secret<String>>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// A document, understood and as it came.
#[derive(Debug)]
pub struct Answer<T> {
    /// What this version knows of it.
    pub value: T,
    /// All of it.
    pub raw: Box<RawValue>,
}

/// An answer that says yes.
#[derive(Debug)]
pub struct Reply {
    /// The status, 200 to 299.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Remote {
    /// Talks to `base`; a token is sent along where there is one.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(peer: Peer, base: Endpoint, token: Option<Secret<String>>) -> Result<Self, CommandError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_MAX));
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls(&base)?).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new()).build(connector.wrap_connector(tcp));
        Ok(Self { peer, base, token, client })
    }

    /// The address, as it is told to people.
    pub fn address(&self) -> String {
        let text = self.base.to_string();
        text.strip_prefix("http://").unwrap_or(&text).to_owned()
    }

    /// Whether it knows a token to send.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// `GET`, answered with JSON.
    ///
    /// # Errors
    /// What to tell the person, with the exit code for it.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CommandError> {
        self.read(&self.send(Method::GET, path, None, Patience::Usual).await?)
    }

    /// As [`Remote::get`], and the document as it came.
    ///
    /// # Errors
    /// As [`Remote::get`].
    pub async fn fetch<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, CommandError> {
        let reply = self.send(Method::GET, path, None, Patience::Usual).await?;
        Ok(Answer { value: self.read(&reply)?, raw: self.read(&reply)? })
    }

    /// `POST` with a JSON document, answered with JSON.
    ///
    /// # Errors
    /// As [`Remote::get`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CommandError> {
        self.post_patiently(path, body, Patience::Usual).await
    }

    /// As [`Remote::post`], waiting as long as told.
    ///
    /// # Errors
    /// As [`Remote::get`].
    pub async fn post_patiently<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        patience: Patience,
    ) -> Result<T, CommandError> {
        let body = serde_json::to_vec(body).map_err(|error| CommandError::new(Exit::Failure, error))?;
        self.read(&self.send(Method::POST, path, Some(body), patience).await?)
    }

    /// Sends anything; a body is JSON.
    ///
    /// # Errors
    /// As [`Remote::get`]; an answer that says no is one.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        patience: Patience,
    ) -> Result<Reply, CommandError> {
        let request = self.request(method, path, body)?;
        let exchange = self.exchange(request);
        let answered = match patience {
            Patience::Endless => exchange.await,
            Patience::Usual => {
                #[expect(clippy::disallowed_methods, reason = "a guard on a socket that stays silent")]
                let answered = tokio::time::timeout(ANSWER_MAX, exchange).await;
                answered.unwrap_or_else(|_| Err(self.unavailable("no answer within a minute")))
            }
        };
        let reply = answered?;
        if reply.status.is_success() { Ok(reply) } else { Err(Problem::of(&reply).told(self)) }
    }

    /// The answer's JSON document.
    ///
    /// # Errors
    /// When it is another one than this version knows.
    pub fn read<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T, CommandError> {
        serde_json::from_slice(&reply.body).map_err(|error| {
            let (address, name) = (self.address(), self.peer.name());
            CommandError::new(
                Exit::Failure,
                format!("{address} does not answer like a {name} of this version: {error}"),
            )
        })
    }

    fn request(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Request<Full<Bytes>>, CommandError> {
        let fail = |error: http::Error| CommandError::new(Exit::Usage, format!("`{path}` is no path: {error}"));
        let uri = Uri::try_from(format!("{}{path}", self.base)).map_err(|error| fail(error.into()))?;
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(token) = &self.token {
            let bearer = HeaderValue::try_from(format!("Bearer {}", token.expose()));
            let mut bearer = bearer.map_err(|_| CommandError::new(Exit::Usage, "the token is not visible ASCII"))?;
            bearer.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, bearer);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(Bytes::from(body.unwrap_or_default()))).map_err(fail)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Reply, CommandError> {
        let answer = match self.client.request(request).await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => return Err(self.nobody_there(&error)),
            Err(error) => return Err(self.unavailable(innermost(&error))),
        };
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| self.unavailable(format!("the answer broke off: {error}")))?;
        Ok(Reply { status: head.status, headers: head.headers, body: body.to_bytes() })
    }

    fn nobody_there(&self, error: &dyn std::error::Error) -> CommandError {
        let (address, name, remedy) = (self.address(), self.peer.name(), self.peer.remedy());
        let cause = innermost(error);
        CommandError::new(Exit::Unavailable, format!("no {name} at {address} ({cause}): {remedy}"))
    }

    fn unavailable(&self, why: impl std::fmt::Display) -> CommandError {
        CommandError::new(Exit::Unavailable, format!("the {} at {}: {why}", self.peer.name(), self.address()))
    }
}

/// The cause that says most, such as `connection refused`.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let text = last.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// The platform's certificates, which are read only where they are needed.
fn tls(base: &Endpoint) -> Result<rustls::ClientConfig, CommandError> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| CommandError::new(Exit::Failure, format!("TLS: {error}")))?;
    if base.to_string().starts_with("http://") {
        return Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth());
    }
    let verified = builder.with_platform_verifier();
    Ok(verified.map_err(|error| CommandError::new(Exit::Failure, format!("TLS: {error}")))?.with_no_client_auth())
}

/// A text as one segment of a path or one value of a query.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_that_means_something_is_encoded() {
        assert_eq!(encoded("player-0001"), "player-0001");
        assert_eq!(encoded("a/b c?d#e%f"), "a%2Fb%20c%3Fd%23e%25f");
        assert_eq!(encoded("é"), "%C3%A9");
    }

    #[tokio::test]
    async fn nobody_listening_is_told_with_what_to_do() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let base = Endpoint::parse(&format!("http://{address}")).unwrap();
        let remote = Remote::new(Peer::Keeper, base, None).unwrap();
        let error = remote.get::<serde_json::Value>("/v1/stats").await.unwrap_err();
        assert_eq!(error.exit, Exit::Unavailable);
        let expected = format!(
            "no keeper at {address} (connection refused): start one with `storekeeper dev`, or name one with --server"
        );
        assert_eq!(error.message, expected);
    }
}
