//! The stub upstream: Entra and the Store in one process, as cheap as can be, with answers that a keeper believes.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use storekeeper_clock::{Clock as _, SystemClock};
use tokio::net::{TcpListener, TcpStream};

use super::http::find;
use super::made_up::{self, Maker};
use super::part::{Awake, Listening, Orders};
use super::{failure, report};
use crate::exit::{CommandError, CommandResult};

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const CORRELATION_ID: HeaderName = HeaderName::from_static("ms-correlationid");

/// The stub.
#[derive(Serialize, Deserialize)]
pub(super) struct Stub {
    /// Whether it has a core of its own, on which it need not sleep.
    pub(super) awake: bool,
}

impl Stub {
    /// Serves until there are no more orders.
    pub(super) async fn run(self, mut orders: Orders) -> CommandResult {
        let listener = listen().await?;
        report(&Listening { address: listener.local_addr().map_err(failure)? })?;
        let store = Rc::new(Store::new());
        let _awake = self.awake.then(Awake::new);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted.map_err(failure)?;
                    tokio::task::spawn_local(converse(stream, Rc::clone(&store)));
                }
                () = orders.end() => return Ok(()),
            }
        }
    }
}

/// A free port on loopback.
pub(super) async fn listen() -> Result<TcpListener, CommandError> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.map_err(failure)
}

async fn converse(stream: TcpStream, store: Rc<Store>) {
    // A connection that breaks is seen by who counts answers.
    drop(stream.set_nodelay(true));
    let answer = service_fn(move |request| Rc::clone(&store).answer(request));
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await);
}

/// What answers.
struct Store {
    clock: SystemClock,
    maker: RefCell<Maker>,
}

impl Store {
    fn new() -> Self {
        Self { clock: SystemClock::new(), maker: RefCell::new(Maker::new(0x57ab)) }
    }

    async fn answer(self: Rc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let is_entra = request.uri().path().ends_with("/oauth2/v2.0/token");
        let body = request.into_body().collect().await?.to_bytes();
        let mut maker = self.maker.borrow_mut();
        let text = if is_entra { Some(self.ticket()) } else { self.successor(&body, &mut maker) };
        let mut response = Response::new(Full::default());
        match text {
            Some(text) => *response.body_mut() = Full::new(Bytes::from(text)),
            None => *response.status_mut() = StatusCode::BAD_REQUEST,
        }
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        let correlation_id =
            HeaderValue::try_from(maker.correlation_id()).expect("digits and dashes are visible ASCII");
        response.headers_mut().insert(CORRELATION_ID, correlation_id);
        Ok(response)
    }

    fn ticket(&self) -> String {
        let ticket = made_up::ticket(self.clock.now());
        format!(r#"{{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"{ticket}"}}"#)
    }

    /// Finds the key in the body by its name and the next quotation mark: a key needs no escapes.
    fn successor(&self, body: &[u8], maker: &mut Maker) -> Option<String> {
        let name = b"\"key\":\"";
        let start = body.len() - body.windows(name.len()).rev().position(|window| window == name)? - name.len();
        let key = &body[start + name.len()..];
        let key = std::str::from_utf8(&key[..find(key, b"\"")?]).ok()?;
        let mut text = String::with_capacity(key.len() + 16);
        text.push_str(r#"{"key":""#);
        maker.succeed(key, self.clock.now(), &mut text)?;
        text.push_str(r#""}"#);
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use storekeeper_model::{Secret, StoreIdKey, Timestamp};

    use super::*;

    #[test]
    fn a_posted_key_is_succeeded_wherever_it_stands_in_the_body() {
        let store = Store::new();
        let key = Maker::new(4).key(5, Timestamp::from_seconds(1_700_000_000));
        let bodies = [
            format!(r#"{{"serviceTicket":"a.b.c","key":"{key}"}}"#),
            format!(r#"{{"key":"{key}","serviceTicket":"a.b.c"}}"#),
        ];
        for body in bodies {
            let answer = store.successor(body.as_bytes(), &mut store.maker.borrow_mut()).unwrap();
            let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
            let successor = StoreIdKey::parse(Secret::new(answer["key"].as_str().unwrap().to_owned())).unwrap();
            assert_eq!(successor.user_id().as_str(), made_up::player(5));
            assert!(successor.lifetime().expires_at() > Some(store.clock.now()));
        }
        assert!(store.successor(b"{}", &mut store.maker.borrow_mut()).is_none());
    }
}
