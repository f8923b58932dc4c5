//! The control port: who may speak to it, its routes, and how they are answered. What a route does stands in
//! [`action`].

mod action;
mod clock;
mod problem;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;

use self::action::Action;
use self::problem::{Code, Problem};
use crate::body::{AnswerBody, Received, discard, receive};
use crate::exchange::Hosts;
use crate::http::{BrokenOff, Service, Via};
use crate::saver::Saver;

/// The longest body but for a snapshot.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// The longest snapshot.
const SNAPSHOT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The control port's side of the emulator.
pub(crate) struct Control {
    hosts: Arc<Hosts>,
    /// Makes changes durable.
    saver: Arc<Saver>,
    /// Changes come one after the other; an advance does not count as one.
    turn: tokio::sync::Mutex<()>,
}

/// A request that may be granted.
struct Wish {
    action: Action,
    query: Option<String>,
    body: Bytes,
}

impl Control {
    pub(crate) fn new(hosts: Arc<Hosts>, saver: Arc<Saver>) -> Self {
        Self { hosts, saver, turn: tokio::sync::Mutex::new(()) }
    }

    /// The JSON document to answer with.
    async fn grant(self: Arc<Self>, wish: Wish) -> Result<Vec<u8>, Problem> {
        if wish.action == Action::MoveClock {
            return clock::move_clock(&self.hosts, &self.saver, &wish.body).await;
        }
        let _turn = self.turn.lock().await;
        let (hosts, saver) = (Arc::clone(&self.hosts), Arc::clone(&self.saver));
        let granted = tokio::task::spawn_blocking(move || {
            let answer = action::perform(wish.action, &hosts, wish.query.as_deref(), &wish.body)?;
            if wish.action.is_change() {
                action::save(&saver)?;
            }
            Ok(answer)
        });
        granted.await.unwrap_or_else(|_| Err(Problem::new(Code::Internal, "the emulator failed")))
    }
}

impl Service for Control {
    async fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        via: Arc<Via>,
    ) -> Result<Response<AnswerBody>, BrokenOff> {
        let (head, body) = request.into_parts();
        let action = match admitted(&head, via.local).and_then(|()| Action::of(&head.method, head.uri.path())) {
            Ok(action) => action,
            Err(problem) => {
                discard(body, Arc::clone(via.seated.group()));
                return Ok(last(refuse(&problem, &head)));
            }
        };
        let limit = if action == Action::Restore { SNAPSHOT_BYTES_MAX } else { BODY_BYTES_MAX };
        let body = match receive(body, limit).await.map_err(|_| BrokenOff)? {
            Received::Whole(body) => body,
            Received::TooLong(rest) => {
                discard(rest, Arc::clone(via.seated.group()));
                let problem = Problem::new(Code::BodyTooLarge, format!("this route reads at most {limit} bytes"));
                return Ok(last(refuse(&problem, &head)));
            }
        };
        if !via.seated.request_arrived() {
            return Err(BrokenOff);
        }
        let wish = Wish { action, query: head.uri.query().map(str::to_owned), body };
        match self.grant(wish).await {
            Ok(document) => Ok(answer(document, "application/json")),
            Err(problem) => Ok(refuse(&problem, &head)),
        }
    }
}

/// Keeps web pages out: a browser sends `Origin` with what a page asks for, and the page's own name in `Host` when its
/// name was pointed at this machine.
fn admitted(head: &Parts, local: Option<IpAddr>) -> Result<(), Problem> {
    if head.headers.contains_key(header::ORIGIN) {
        return Err(Problem::new(Code::OriginRefused, "the control port does not serve web pages"));
    }
    let named = head.uri.authority().map(|authority| authority.as_str());
    let named = named.or_else(|| head.headers.get(header::HOST)?.to_str().ok());
    if named.is_some_and(|named| is_this_machine(named, local)) {
        return Ok(());
    }
    Err(Problem::new(Code::HostRefused, "the header Host has to name this machine: localhost, or the address called"))
}

fn is_this_machine(authority: &str, local: Option<IpAddr>) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match host.parse::<IpAddr>() {
        Ok(address) => {
            address.is_loopback() || local.is_some_and(|local| local.to_canonical() == address.to_canonical())
        }
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn answer(document: Vec<u8>, media_type: &'static str) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Whole(document.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refuse(problem: &Problem, head: &Parts) -> Response<AnswerBody> {
    let mut response = answer(problem.document(), "application/problem+json");
    *response.status_mut() = problem.code.status();
    if problem.code == Code::MethodNotAllowed {
        let allowed = action::methods(head.uri.path()).map(Method::as_str).collect::<Vec<_>>().join(", ");
        response.headers_mut().extend(HeaderValue::try_from(allowed).map(|allowed| (header::ALLOW, allowed)));
    }
    response
}

/// Says that the connection ends with this answer.
fn last(mut response: Response<AnswerBody>) -> Response<AnswerBody> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_meant() {
        let check = |authority: &str, expected| {
            assert_eq!(is_this_machine(authority, Some([10, 0, 0, 7].into())), expected, "{authority}");
        };
        for authority in
            ["localhost", "LOCALHOST:8444", "127.0.0.1:8444", "127.8.8.8", "[::1]:8444", "[::1]", "10.0.0.7:1"]
        {
            check(authority, true);
        }
        for authority in ["", "evil.example", "localhost.evil.example:8444", "10.0.0.8", "[::2]:8444", "user@localhost"]
        {
            check(authority, false);
        }
    }
}
