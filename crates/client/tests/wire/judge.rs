//! Plays the client's side of one fixture and says what the client does otherwise than the fixture tells.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::Value;
use storekeeper_client::{
    Advice, CorrelationVector, Credential, Endpoints, EntraVersion, PreparedRequest, RawAnswer, RenewalCall,
    RetryAfter, TransportError, entra, renewal,
};
use storekeeper_model::{Audience, ClientId, Secret, ServiceTicket, StoreIdKey, Timestamp, parse_span};

use crate::fixture::{Body, Client, Fixture, Given, KeySpec, Request, Response, START, Shape, Step};
use crate::form::{decoded, field, fields};
use crate::sample::{self, Samples};

/// What a client made of an answer, in the fixture's words.
#[derive(Debug, Default, PartialEq)]
struct Conclusion {
    name: String,
    advice: Option<&'static str>,
    inner_code: Option<String>,
    retry_after: Option<Duration>,
}

impl Conclusion {
    fn success(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    fn failure(name: &str, advice: Advice, inner_code: Option<&str>) -> Self {
        let (advice, wait) = match advice {
            Advice::Retry { not_before } => ("retry", not_before.map(RetryAfter::wait)),
            Advice::ReplaceTicket => ("replace_ticket", None),
            Advice::Stop(_) => ("stop", None),
        };
        let inner_code = inner_code.map(str::to_owned);
        Self { name: name.to_owned(), advice: Some(advice), inner_code, retry_after: wait }
    }

    fn told(client: &Client) -> Self {
        let advice = client.advice.as_deref().map(|told| {
            let known = ["retry", "replace_ticket", "stop"].into_iter().find(|name| *name == told);
            known.unwrap_or_else(|| panic!("`{told}` is no advice"))
        });
        let retry_after = client.retry_after.as_deref().map(|span| parse_span(span).expect("a span"));
        Self { name: client.conclusion.clone(), advice, inner_code: client.inner_code.clone(), retry_after }
    }
}

/// Plays all steps of a fixture under one error shape.
pub(crate) fn play(fixture: &Fixture, shape: Shape) -> Result<(), String> {
    let mut now: Timestamp = START.parse().expect("an instant");
    let minted_at = now;
    advance(&fixture.given, &mut now);
    for (index, step) in fixture.steps.iter().enumerate() {
        advance(&step.given, &mut now);
        let outcome = match &fixture.key {
            Some(key) => Renewing { spec: key, jwt: sample::key(key, minted_at), step, shape, now }.play(),
            None => Fetching { step, shape, now }.play(),
        };
        outcome.map_err(|why| format!("step {}: {why}", index + 1))?;
    }
    Ok(())
}

fn advance(given: &[Given], now: &mut Timestamp) {
    for given in given {
        if let Given::Advance(span) = given {
            *now = *now + parse_span(span).expect("a span");
        }
    }
}

/// One renewal.
struct Renewing<'a> {
    spec: &'a KeySpec,
    jwt: String,
    step: &'a Step,
    shape: Shape,
    now: Timestamp,
}

impl Renewing<'_> {
    fn play(&self) -> Result<(), String> {
        let key = StoreIdKey::parse(Secret::new(self.jwt.clone())).map_err(|error| error.to_string())?;
        if let Some(known) = self.step.client.refresh_uri_is_known {
            expect("refreshUri is known", &key.refresh_uri_is_known(), &known)?;
        }
        self.judge_request(&key)?;
        self.judge_conclusion(&key, self.step.response.as_ref(), &Conclusion::told(&self.step.client))?;
        match &self.step.otherwise {
            Some(otherwise) => self.judge_conclusion(&key, Some(otherwise), &Conclusion::success("renewed")),
            None => Ok(()),
        }
    }

    /// A client that would never send this either has rejected the ticket or makes another request.
    fn judge_request(&self, key: &StoreIdKey) -> Result<(), String> {
        let request = &self.step.request;
        let token = sample::ticket(&request.ticket, self.now);
        let client_id = ClientId::new(request.ticket.client_id.as_deref().unwrap_or(sample::CLIENT_ID));
        let same = match self.fetched(&token, &client_id) {
            Ok(ticket) => self.judge_prepared(key, &ticket)?,
            Err(why) if self.step.client.sends => return Err(why),
            Err(_) => false,
        };
        expect("whether the client sends this", &same, &self.step.client.sends)
    }

    /// A ticket as a client gets one: out of Entra's answer, checked. Whether it is fresh is looked at elsewhere.
    fn fetched(&self, token: &str, client_id: &ClientId) -> Result<ServiceTicket, String> {
        let body = serde_json::json!({"token_type": "Bearer", "expires_in": 3599, "access_token": token});
        let answer = RawAnswer { status: StatusCode::OK, headers: HeaderMap::new(), body: body.to_string().into() };
        entra::interpret_ticket(Audience::Service, client_id, &answer, self.now).map_err(|error| error.to_string())
    }

    /// Whether what the client makes is the fixture's request; `Err` when no renewal may look like it.
    fn judge_prepared(&self, key: &StoreIdKey, ticket: &ServiceTicket) -> Result<bool, String> {
        let mut vector = CorrelationVector::seed(&mut ChaCha8Rng::seed_from_u64(1));
        vector.increment();
        let endpoints = Endpoints::default();
        let call = RenewalCall::new(endpoints.for_kind(key.kind()), key, ticket, &vector);
        let prepared = renewal::prepare(&call);
        expect("the headers", &names(&prepared), &vec!["content-type", "ms-cv"])?;
        expect("ms-cv", &prepared.headers["ms-cv"].to_str().ok(), &Some(vector.as_str()))?;
        let body: Value = serde_json::from_slice(prepared.body.expose()).map_err(|error| error.to_string())?;
        let members = serde_json::json!({"serviceTicket": ticket.token().expose(), "key": self.jwt});
        expect("the body", &body, &members)?;
        let request = &self.step.request;
        let told = request.body.as_deref().unwrap_or_default();
        let told = told.replace("<ticket>", ticket.token().expose()).replace("<key>", &self.jwt);
        // Compared as text first: JSON with a member twice is another request, though it parses to the same value.
        let same_body =
            told.len() == prepared.body.expose().len() && serde_json::from_str::<Value>(&told).ok() == Some(body);
        Ok(same_place(&prepared, request) && same_body)
    }

    fn judge_conclusion(&self, key: &StoreIdKey, response: Option<&Response>, told: &Conclusion) -> Result<(), String> {
        let Some(response) = response else {
            expect("a lost answer's conclusion", &told.name.as_str(), &"lost")?;
            let error = renewal::RenewalAnswer::unanswered(TransportError::Reset { reason: String::from("closed") })
                .result
                .err();
            let advice = error.map(|error| error.advice());
            return expect("the advice", &advice, &Some(Advice::Retry { not_before: None }));
        };
        let successor = response.successor.as_ref().map(|times| sample::successor(self.spec, times));
        let samples = Samples { key: successor.unwrap_or_default(), access_token: String::new() };
        let answer = raw(response, self.shape, &samples);
        let read = renewal::interpret(key, &answer, self.now);
        let found = match &read.result {
            Ok(new) => {
                expect("the successor", &new.jwt().expose().as_str(), &samples.key.as_str())?;
                Conclusion::success("renewed")
            }
            Err(error) => Conclusion::failure(error.code(), error.advice(), error.inner_code()),
        };
        let shown = read.result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        expect(&format!("the conclusion ({shown})"), &found, told)?;
        no_secret(&format!("{read:?} {shown}"), &[&self.jwt, &samples.key])
    }
}

/// One request for a service ticket.
struct Fetching<'a> {
    step: &'a Step,
    shape: Shape,
    now: Timestamp,
}

impl Fetching<'_> {
    fn play(&self) -> Result<(), String> {
        let same = self.judge_prepared()?;
        expect("whether the client sends this", &same, &self.step.client.sends)?;
        let body = self.step.request.body.as_deref().unwrap_or_default();
        let client_id = ClientId::new(&field(body, "client_id").expect("every request names its client"));
        let response = self.step.response.as_ref().expect("no answer of Entra's is lost");
        let token = sample::access_token(
            Audience::Service.resource(),
            &client_id.to_string(),
            self.now.seconds(),
            &serde_json::Map::new(),
        );
        let samples = Samples { key: String::new(), access_token: token };
        let read =
            entra::interpret_ticket(Audience::Service, &client_id, &raw(response, self.shape, &samples), self.now);
        let found = match &read {
            Ok(ticket) => {
                expect("the ticket", &ticket.token().expose().as_str(), &samples.access_token.as_str())?;
                let issued = response.issued.as_ref().expect("the fixture tells what was issued");
                expect("the audience", &ticket.audience().resource(), &issued.audience.as_str())?;
                expect("the client", ticket.client_id(), &ClientId::new(&issued.client_id))?;
                expect("the lifetime", &ticket.lifetime(), &Duration::from_secs(3599))?;
                Conclusion::success("issued")
            }
            Err(error) => Conclusion::failure(error.code(), error.advice(), None),
        };
        let shown = read.as_ref().err().map(ToString::to_string).unwrap_or_default();
        expect(&format!("the conclusion ({shown})"), &found, &Conclusion::told(&self.step.client))?;
        no_secret(&format!("{read:?} {shown}"), &[&samples.access_token])
    }

    /// Whether what the client makes of tenant, client and secret is the fixture's request.
    fn judge_prepared(&self) -> Result<bool, String> {
        let request = &self.step.request;
        let told = request.body.as_deref().unwrap_or_default();
        let version = if request.path.contains("/v2.0/") { EntraVersion::V2 } else { EntraVersion::V1 };
        let tenant = decoded(request.path.split('/').nth(1).expect("the path begins with the tenant"));
        let client_id = ClientId::new(&field(told, "client_id").expect("every request names its client"));
        let secret = field(told, "client_secret").expect("every request carries a secret");
        let credential = Credential::ClientSecret(Secret::new(secret));
        let entra = &Endpoints::default().entra;
        let prepared = entra::prepare_ticket(entra, &tenant, &client_id, Audience::Service, &credential, version);
        expect("the headers", &names(&prepared), &vec!["accept", "content-type"])?;
        let body = std::str::from_utf8(prepared.body.expose()).map_err(|error| error.to_string())?;
        Ok(same_place(&prepared, request) && fields(body) == fields(told))
    }
}

/// An answer as the fixture tells it, its placeholders filled.
fn raw(response: &Response, shape: Shape, samples: &Samples) -> RawAnswer {
    let headers = response.headers.iter().map(|(name, pattern)| {
        let name: HeaderName = name.parse().expect("a header's name");
        (name, HeaderValue::from_str(&samples.text(pattern)).expect("a header's value"))
    });
    let body = match response.body(shape) {
        Body::Json(pattern) => samples.json(pattern).to_string(),
        Body::Bytes(bytes) => bytes.to_owned(),
        Body::Any => String::new(),
    };
    let status = StatusCode::from_u16(response.status).expect("a status");
    RawAnswer { status, headers: headers.collect(), body: body.into() }
}

/// Whether method, URL and media type are the fixture's.
fn same_place(prepared: &PreparedRequest, request: &Request) -> bool {
    let host = match request.host.as_str() {
        "collections" => "collections.mp.microsoft.com",
        "purchase" => "purchase.mp.microsoft.com",
        "login" => "login.microsoftonline.com",
        other => panic!("`{other}` is no host"),
    };
    let media_type = |value: &str| value.split(';').next().unwrap_or_default().trim().to_owned();
    let sent = prepared.headers.get("content-type").and_then(|value| value.to_str().ok()).map(media_type);
    prepared.method == request.method.parse::<Method>().expect("a method")
        && prepared.url.to_string() == format!("https://{host}{}", request.path)
        && sent == request.content_type.as_deref().map(media_type)
}

fn names(prepared: &PreparedRequest) -> Vec<&str> {
    let mut names: Vec<&str> = prepared.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

/// What is printed about an exchange holds neither key nor ticket.
fn no_secret(shown: &str, secrets: &[&str]) -> Result<(), String> {
    let tells = |secret: &&str| secret.split('.').any(|part| !part.is_empty() && shown.contains(part));
    if secrets.iter().any(tells) { Err("a secret is shown".to_owned()) } else { Ok(()) }
}

fn expect<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, found: &T, told: &T) -> Result<(), String> {
    if found == told { Ok(()) } else { Err(format!("{what} is {found:?}, not {told:?}")) }
}
