//! One exchange with an emulated host: which host is meant, which fault strikes, what is answered, what is written down.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Deserialize;
use storekeeper_clock::{Clock, VirtualClock};
use storekeeper_model::{Fingerprint, Timestamp};

use crate::Emulator;
use crate::body::{AnswerBody, Received, discard, receive};
use crate::calendar::http_date;
use crate::faults::{FaultPlan, Strike, Truncate};
use crate::http::{BrokenOff, Service, Via};
use crate::ledger::{Event, Ledger};
use crate::request::{BODY_BYTES_MAX, Endpoint, ExchangeNote, StoreAnswer, StoreRequest, VirtualHost};
use crate::turn::Turns;

/// What stands for a body that is too long: the verdict is that of any other such body.
static TOO_LONG: [u8; BODY_BYTES_MAX + 1] = [b' '; BODY_BYTES_MAX + 1];

/// The emulated hosts as the listeners see them.
pub(crate) struct Hosts {
    pub(crate) emulator: Arc<Emulator>,
    pub(crate) clock: VirtualClock,
    pub(crate) faults: FaultPlan,
    pub(crate) ledger: Ledger,
    /// Who may do RSA work; `None` when there is none to do.
    pub(crate) turns: Option<Turns>,
}

/// A request that has arrived whole and found its host.
struct Call {
    host: VirtualHost,
    head: Parts,
    /// How many bytes of the path name the host.
    prefix: usize,
    body: Bytes,
}

impl Call {
    fn path(&self) -> &str {
        match &self.head.uri.path()[self.prefix..] {
            "" => "/",
            path => path,
        }
    }

    fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.head.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn request(&self) -> StoreRequest<'_> {
        StoreRequest {
            host: self.host,
            method: self.head.method.as_str(),
            path: self.path(),
            query: self.head.uri.query(),
            content_type: self.header(header::CONTENT_TYPE),
            authorization: self.header(header::AUTHORIZATION),
            ms_cv: self.header("ms-cv"),
            body: &self.body,
        }
    }

    /// The key that a renewal presents, when nobody has judged it.
    fn fingerprint(&self) -> Option<Fingerprint> {
        #[derive(Deserialize)]
        struct Renewal {
            #[serde(alias = "Key")]
            key: String,
        }
        let renewal: Renewal = serde_json::from_slice(&self.body).ok()?;
        Some(Fingerprint::of(&renewal.key))
    }
}

/// What the caller gets, if anything.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Separates what the caller gets from what the ledger keeps.
fn taken_apart(answer: StoreAnswer) -> (Answer, ExchangeNote) {
    let mut headers = HeaderMap::with_capacity(answer.headers.len() + 3);
    for (name, value) in answer.headers {
        // A name or value that is none would be the emulator's own mistake: the answer goes without it.
        if let (Some(name), Ok(value)) = (header_name(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (Answer { status, headers, body: answer.body }, answer.note)
}

/// The name of a header; those of every answer without any work.
fn header_name(name: &'static str) -> Option<HeaderName> {
    Some(match name {
        "Content-Type" => header::CONTENT_TYPE,
        "Date" => header::DATE,
        "MS-CV" => HeaderName::from_static("ms-cv"),
        "MS-CorrelationId" => HeaderName::from_static("ms-correlationid"),
        "MS-RequestId" => HeaderName::from_static("ms-requestid"),
        "MS-ServerId" => HeaderName::from_static("ms-serverid"),
        other => HeaderName::from_bytes(other.as_bytes()).ok()?,
    })
}

impl Service for Hosts {
    async fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        via: Arc<Via>,
    ) -> Result<Response<AnswerBody>, BrokenOff> {
        let (head, body) = request.into_parts();
        let (body, discarded) = match receive(body, BODY_BYTES_MAX).await.map_err(|_| BrokenOff)? {
            Received::Whole(body) => (body, None),
            Received::TooLong(rest) => (Bytes::from_static(&TOO_LONG), Some(rest)),
        };
        if !via.seated.request_arrived() {
            return Err(BrokenOff);
        }
        let mut answered = match host(&head, via.sni) {
            Some((host, prefix)) => self.exchange(Call { host, head, prefix, body }, &via).await?,
            None => self.nowhere(),
        };
        if let Some(rest) = discarded {
            answered.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            discard(rest, Arc::clone(via.seated.group()));
        }
        Ok(answered)
    }
}

/// The host that is meant and how many bytes of the path say so. `Host` decides when it names one of ours, then the
/// path's first segment, then SNI.
fn host(head: &Parts, sni: Option<VirtualHost>) -> Option<(VirtualHost, usize)> {
    let named = head.uri.host().or_else(|| {
        let authority = head.headers.get(header::HOST)?.to_str().ok()?;
        Some(authority.rsplit_once(':').map_or(authority, |(name, _)| name))
    });
    if let Some(host) = named.and_then(virtual_host) {
        return Some((host, 0));
    }
    let first = head.uri.path().strip_prefix('/').map(|path| path.split_once('/').map_or(path, |(first, _)| first));
    match first.and_then(|first| Some((virtual_host(first)?, first.len() + 1))) {
        Some(prefixed) => Some(prefixed),
        None => sni.map(|host| (host, 0)),
    }
}

/// The emulated host of that DNS name.
pub(crate) fn virtual_host(name: &str) -> Option<VirtualHost> {
    let name = name.strip_suffix('.').unwrap_or(name);
    VirtualHost::ALL.into_iter().find(|host| host.name().eq_ignore_ascii_case(name))
}

impl Hosts {
    async fn exchange(&self, call: Call, via: &Via) -> Result<Response<AnswerBody>, BrokenOff> {
        let began_at = self.clock.now();
        let endpoint = Endpoint::of(call.host, call.path());
        if let Some(strike) = self.faults.strike(endpoint, began_at) {
            return self.struck(call, endpoint, &strike, began_at, via).await;
        }
        let host = call.host;
        let (answer, note) = self.judge(call, endpoint, None).await;
        let ended_at = self.clock.now();
        self.record(host, Some(answer.status), note, began_at, ended_at);
        Ok(respond(answer, None, ended_at))
    }

    /// Has the emulator answer, by `now` when it is given and by the clock when its turn comes otherwise.
    async fn judge(&self, call: Call, endpoint: Endpoint, now: Option<Timestamp>) -> (Answer, ExchangeNote) {
        let judge = || taken_apart(self.emulator.answer(&call.request(), now.unwrap_or_else(|| self.clock.now())));
        let signs = matches!(endpoint, Endpoint::Token | Endpoint::Renew | Endpoint::Keys);
        match &self.turns {
            Some(turns) if signs => turns.take(judge).await,
            _ => judge(),
        }
    }

    /// An exchange that a fault strikes. Its instants are exact: a delay ends when it ends, wherever the clock runs on to
    /// before this is noticed.
    async fn struck(
        &self,
        call: Call,
        endpoint: Endpoint,
        strike: &Strike,
        began_at: Timestamp,
        via: &Via,
    ) -> Result<Response<AnswerBody>, BrokenOff> {
        let host = call.host;
        let mut at = self.delay(began_at, strike.delay_before()).await;
        let stand_in = self.stand_in(&call, strike, at);
        let (mut answer, note) = if strike.spares_the_request() {
            let fingerprint = if endpoint == Endpoint::Renew { call.fingerprint() } else { None };
            (Answer::empty(), ExchangeNote { fingerprint, ..ExchangeNote::new(endpoint) })
        } else {
            self.judge(call, endpoint, strike.delay.map(|_| at)).await
        };
        let mut unheard = Unheard { hosts: self, host, began_at, note: Some(note) };
        at = self.delay(at, strike.delay_after()).await;
        let mut note = unheard.note.take().expect("nothing else takes it");
        let ended_at = if strike.delay.is_some() { at } else { self.clock.now() };
        if strike.reset {
            self.record(host, None, note, began_at, ended_at);
            via.seated.seat().reset_on_close();
            return Err(BrokenOff);
        }
        if let Some((made_up, inner_code)) = stand_in {
            (answer, note.inner_code) = (made_up, inner_code);
        } else if let Some(body) = &strike.body {
            (answer.body, note.inner_code) = (body.clone(), strike.inner_code.clone());
        }
        answer.headers.extend(strike.headers.clone());
        self.record(host, Some(answer.status), note, began_at, ended_at);
        Ok(respond(answer, strike.truncate, ended_at))
    }

    /// The answer that a fault with a status stands for, and its inner code: with the fault's own body, or with what the
    /// service would say.
    fn stand_in(&self, call: &Call, strike: &Strike, now: Timestamp) -> Option<(Answer, Option<String>)> {
        let status = strike.status?;
        if let Some(body) = &strike.body {
            return Some((Answer { status, body: body.clone(), ..Answer::empty() }, strike.inner_code.clone()));
        }
        let (answer, note) = taken_apart(self.emulator.fault_answer(&call.request(), status.as_u16(), now));
        Some((answer, note.inner_code))
    }

    /// Waits on the emulator's clock and says when the wait ended.
    async fn delay(&self, from: Timestamp, span: Option<Duration>) -> Timestamp {
        let Some(span) = span else { return from };
        // What is left of it: the clock may have moved on since.
        self.clock.delay((from + span).since(self.clock.now())).await;
        from + span
    }

    /// A request for none of the emulated hosts.
    fn nowhere(&self) -> Response<AnswerBody> {
        let now = self.clock.now();
        let event = Event {
            began_at: now,
            ended_at: now,
            endpoint: Endpoint::Unknown,
            host: None,
            status: Some(404),
            inner_code: None,
            fingerprint: None,
            successor: None,
        };
        self.ledger.record(event);
        let answer = Answer { status: StatusCode::NOT_FOUND, ..Answer::empty() };
        respond(answer, None, now)
    }

    fn record(
        &self,
        host: VirtualHost,
        status: Option<StatusCode>,
        note: ExchangeNote,
        began_at: Timestamp,
        ended_at: Timestamp,
    ) {
        self.ledger.record(Event {
            began_at,
            ended_at,
            endpoint: note.endpoint,
            host: Some(host),
            status: status.map(|status| status.as_u16()),
            inner_code: note.inner_code,
            fingerprint: note.fingerprint,
            successor: note.successor,
        });
    }
}

/// Lists an exchange whose caller hangs up while the answer is delayed: what was renewed is renewed.
struct Unheard<'a> {
    hosts: &'a Hosts,
    host: VirtualHost,
    began_at: Timestamp,
    note: Option<ExchangeNote>,
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if let Some(note) = self.note.take() {
            self.hosts.record(self.host, None, note, self.began_at, self.hosts.clock.now());
        }
    }
}

impl Answer {
    /// What a made-up answer starts from.
    fn empty() -> Self {
        Self { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

fn respond(answer: Answer, truncate: Option<Truncate>, now: Timestamp) -> Response<AnswerBody> {
    let Answer { status, mut headers, body } = answer;
    if !headers.contains_key(header::DATE) {
        headers.insert(header::DATE, HeaderValue::try_from(http_date(now)).expect("a date is visible ASCII"));
    }
    let sent = match truncate {
        None => body.len(),
        Some(Truncate::Half(_)) => body.len() / 2,
        Some(Truncate::Bytes(length)) => length.min(body.len()),
    };
    let body = if sent == body.len() {
        AnswerBody::Whole(body)
    } else {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        AnswerBody::cut(&body, sent)
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, host_header: Option<&str>, sni: Option<VirtualHost>, expected: Option<(VirtualHost, usize)>) {
        let mut request = Request::builder().uri(uri);
        if let Some(name) = host_header {
            request = request.header("Host", name);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        assert_eq!(host(&head, sni), expected, "{uri} {host_header:?}");
    }

    #[test]
    fn host_then_prefix_then_sni() {
        use VirtualHost::{Collections, Login, Purchase};
        check("/x", Some("purchase.mp.microsoft.com"), None, Some((Purchase, 0)));
        check("/x", Some("PURCHASE.mp.microsoft.com.:8440"), Some(Login), Some((Purchase, 0)));
        check("http://login.microsoftonline.com/x", Some("127.0.0.1"), None, Some((Login, 0)));
        check("/collections.mp.microsoft.com/x", Some("127.0.0.1:8440"), Some(Login), Some((Collections, 29)));
        check("/collections.mp.microsoft.com", None, None, Some((Collections, 29)));
        check("/x", Some("[::1]:8440"), Some(Login), Some((Login, 0)));
        check("/x", Some("localhost"), None, None);
        check("/", Some("example.com"), None, None);
        check("/collections.mp.microsoft.com.evil/x", None, None, None);
    }
}
