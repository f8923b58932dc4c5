//! Plays one fixture in a world and says what the emulator did otherwise than the fixture tells.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use storekeeper_model::{ClientId, StoreIdKey, Timestamp, parse_span};

use crate::fixture::{Body, Fixture, Given, Issued, KeySpec, Response, Shape, Step, Successor, TicketSpec};
use crate::pattern::{Bindings, json_matches, text_matches};

/// A request with its ingredients filled in.
pub(crate) struct Sent<'a> {
    pub(crate) host: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    pub(crate) body: &'a [u8],
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// An emulator and the means to arrange it. Orders are the bodies of the control port's routes.
pub(crate) trait World {
    fn now(&self) -> Timestamp;
    fn advance(&mut self, span: &str);
    fn mint_key(&mut self, order: Value) -> String;
    fn mint_ticket(&mut self, order: Value) -> String;
    fn add_client(&mut self, order: Value);
    fn revoke(&mut self, order: Value);
    fn rotate(&mut self, order: Value);
    fn fault(&mut self, order: Value);
    /// `None` when the connection ends without an answer.
    fn send(&mut self, request: &Sent<'_>) -> Option<Answer>;
}

/// Plays all steps of a fixture under one error shape.
pub(crate) fn play(fixture: &Fixture, shape: Shape, world: &mut dyn World) -> Result<(), String> {
    if let Some(application) = &fixture.application {
        let (tenant, client, secret) = (&application.tenant_id, &application.client_id, &application.secret);
        world.add_client(json!({"tenant_id": tenant, "client_id": client, "secret": secret}));
    }
    let key = fixture.key.as_ref().map(|spec| mint(spec, world)).transpose()?.unwrap_or_default();
    fixture.given.iter().for_each(|given| arrange(given, &key, world));
    for (index, step) in fixture.steps.iter().enumerate() {
        step.given.iter().for_each(|given| arrange(given, &key, world));
        play_step(step, shape, &key, world).map_err(|why| format!("step {}: {why}", index + 1))?;
    }
    Ok(())
}

fn mint(spec: &KeySpec, world: &mut dyn World) -> Result<String, String> {
    let mut order = json!({"kind": spec.kind, "user_id": spec.user_id, "issued_at": aged(world.now(), &spec.age)});
    if let Some(client_id) = &spec.client_id {
        order["client_id"] = client_id.as_str().into();
    }
    let key = world.mint_key(order);
    let parsed = StoreIdKey::parse(key.clone().into()).map_err(|error| format!("the minted key: {error}"))?;
    let lifetime = span(spec.lifetime.as_deref().unwrap_or("30d"));
    expect("the minted key's lifetime", &parsed.lifetime().length(), &Some(lifetime))?;
    let refresh_uri = spec.refresh_uri.as_deref().unwrap_or(parsed.kind().refresh_uri());
    expect("the minted key's refreshUri", &claim(&key, &long("refreshUri")), &json!(refresh_uri))?;
    Ok(if spec.flip_signature_byte { flipped(&key) } else { key })
}

fn arrange(given: &Given, key: &str, world: &mut dyn World) {
    match given {
        Given::Advance(span) => world.advance(span),
        Given::Rotate { accept_previous_for } => world.rotate(json!({"accept_previous_for": accept_previous_for})),
        Given::Revoke { fingerprint } => {
            assert_eq!(fingerprint, "<key>", "only the fixture's own key is revoked by fingerprint");
            world.revoke(json!({"fingerprint": storekeeper_model::Fingerprint::of(key)}));
        }
        Given::Fault(order) => world.fault(Value::Object(order.clone())),
    }
}

fn play_step(step: &Step, shape: Shape, key: &str, world: &mut dyn World) -> Result<(), String> {
    let request = &step.request;
    let ticket = ticket(&request.ticket, world);
    let body = request.body.as_deref().unwrap_or_default().replace("<ticket>", &ticket).replace("<key>", key);
    let mut headers: Vec<(&str, &str)> = request.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    headers.extend(request.content_type.as_deref().map(|value| ("Content-Type", value)));
    let (host, method, path) = (&*request.host, &*request.method, &*request.path);
    let sent = Sent { host, method, path, headers, body: body.as_bytes() };
    let judge = Judge { shape, key, tenant: path.split('/').nth(1).unwrap_or_default(), now: world.now() };
    let mut as_told = 0_usize;
    for _ in 0..step.repeat {
        let answer = world.send(&sent);
        match (judge.judge(step.response.as_ref(), answer.as_ref()), &step.otherwise) {
            (Ok(()), _) => as_told += 1,
            (Err(why), None) => return Err(why),
            (Err(_), Some(otherwise)) => judge.judge(Some(otherwise), answer.as_ref())?,
        }
    }
    let Some(share) = step.share else { return Ok(()) };
    #[expect(clippy::cast_precision_loss, reason = "a few hundred repetitions")]
    let found = as_told as f64 / step.repeat as f64;
    if (share.least..=share.most).contains(&found) {
        Ok(())
    } else {
        Err(format!("{found} of the answers are as told"))
    }
}

fn ticket(spec: &TicketSpec, world: &mut dyn World) -> String {
    let issued_at = aged(world.now(), &spec.age).seconds();
    let mut claims = json!({"iat": issued_at, "nbf": issued_at - 300, "exp": issued_at + 3600});
    for (name, value) in &spec.claims {
        claims[name] = value.clone();
    }
    let mut order = json!({"audience": spec.audience, "claims": claims});
    if let Some(client_id) = &spec.client_id {
        order["client_id"] = client_id.as_str().into();
    }
    world.mint_ticket(order)
}

struct Judge<'a> {
    shape: Shape,
    key: &'a str,
    tenant: &'a str,
    now: Timestamp,
}

impl Judge<'_> {
    fn judge(&self, told: Option<&Response>, answer: Option<&Answer>) -> Result<(), String> {
        let (told, answer) = match (told, answer) {
            (None, None) => return Ok(()),
            (Some(told), Some(answer)) => (told, answer),
            (told, answer) => return Err(format!("answered: {}, told: {}", answer.is_some(), told.is_some())),
        };
        let shown = String::from_utf8_lossy(&answer.body);
        expect(&format!("the status (body {shown})"), &answer.status, &told.status)?;
        for (name, pattern) in &told.headers {
            let value = answer.header(name).ok_or_else(|| format!("no header {name}"))?;
            if !text_matches(pattern, value, &mut Bindings::default()) {
                return Err(format!("header {name} is `{value}`, not `{pattern}`"));
            }
        }
        let mut bound = Bindings::default();
        self.judge_body(&told.body(self.shape), &answer.body, &mut bound)?;
        let found = |name| bound.get(name).ok_or_else(|| format!("the body holds no <{name}>"));
        told.successor.as_ref().map_or(Ok(()), |told| self.judge_successor(told, found("key")?))?;
        told.issued.as_ref().map_or(Ok(()), |told| self.judge_issued(told, found("access_token")?, &bound))
    }

    fn judge_body(&self, told: &Body<'_>, body: &[u8], bound: &mut Bindings) -> Result<(), String> {
        match told {
            Body::Any => Ok(()),
            Body::Bytes(bytes) => expect("the body", &body, &bytes.as_bytes()),
            Body::Json(pattern) => {
                let value: Value = serde_json::from_slice(body).map_err(|error| format!("the body: {error}"))?;
                json_matches(pattern, &value, "body", bound)?;
                expect("the body's length without blanks", &body.len(), &value.to_string().len())
            }
        }
    }

    fn judge_successor(&self, told: &Successor, jwt: &str) -> Result<(), String> {
        let key = StoreIdKey::parse(jwt.to_owned().into()).map_err(|error| format!("the successor: {error}"))?;
        let lifetime = key.lifetime();
        expect("iat", &lifetime.issued_at(), &instant(&told.issued_at))?;
        expect("nbf", &lifetime.not_before(), &Some(instant(&told.not_before)))?;
        expect("exp", &lifetime.expires_at(), &Some(instant(&told.expires_at)))?;
        for name in ["aud", "iss", &long("clientId"), &long("userId"), &long("refreshUri")] {
            expect(name, &claim(jwt, name), &claim(self.key, name))?;
        }
        let client_id = claim(jwt, &long("clientId"));
        expect("clientId without dashes", &client_id.as_str(), &Some(key.client_id().compact()))?;
        let payload = claim(jwt, &long("payload"));
        expect("the payload's length", &payload.as_str().map(str::len), &Some(344))?;
        judge_header(jwt)?;
        if jwt == self.key { Err("the successor is the old key".to_owned()) } else { Ok(()) }
    }

    fn judge_issued(&self, told: &Issued, jwt: &str, bound: &Bindings) -> Result<(), String> {
        let number = |name| claim(jwt, name).as_i64().ok_or_else(|| format!("claim {name} is no number"));
        expect("aud", &claim(jwt, "aud"), &json!(told.audience))?;
        expect("appid", &claim(jwt, "appid"), &json!(ClientId::new(&told.client_id).to_string()))?;
        expect("appidacr", &claim(jwt, "appidacr"), &json!("1"))?;
        expect("ver", &claim(jwt, "ver"), &json!("1.0"))?;
        expect("tid", &claim(jwt, "tid"), &json!(self.tenant))?;
        expect("iss", &claim(jwt, "iss"), &json!(format!("https://sts.windows.net/{}/", self.tenant)))?;
        let (now, until) = (self.now.seconds(), number("exp")?);
        expect("nbf, five minutes before issue,", &number("nbf")?, &(now - 300))?;
        let lifetime = bound.get("lifetime").and_then(|seconds| seconds.parse::<i64>().ok());
        // Entra counts from a moment later: 3599 for an hour.
        expect("exp, by expires_in,", &lifetime.is_some_and(|told| (told..=told + 1).contains(&(until - now))), &true)?;
        let expires_on = bound.get("expires_on").map(str::to_owned);
        expect("expires_on", &expires_on.as_deref().unwrap_or(&until.to_string()), &until.to_string().as_str())
    }
}

/// `kid` is the upper-case hexadecimal thumbprint and `x5t` the same in base64url (store.md 3.1).
fn judge_header(jwt: &str) -> Result<(), String> {
    let header = part(jwt, 0);
    expect("alg", &header["alg"], &json!("RS256"))?;
    let kid = header["kid"].as_str().unwrap_or_default();
    let thumbprint = header["x5t"].as_str().and_then(|x5t| URL_SAFE_NO_PAD.decode(x5t).ok()).unwrap_or_default();
    let hex: String = thumbprint.iter().map(|byte| format!("{byte:02X}")).collect();
    expect("kid, from x5t,", &kid, &hex.as_str())?;
    expect("the length of kid", &kid.len(), &40)
}

/// The instant an ingredient of this age was made; a leading `-` makes it the future.
fn aged(now: Timestamp, age: &str) -> Timestamp {
    age.strip_prefix('-').map_or_else(|| now - span(age), |ahead| now + span(ahead))
}

fn span(text: &str) -> Duration {
    parse_span(text).unwrap_or_else(|error| panic!("{error}"))
}

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn long(name: &str) -> String {
    format!("http://schemas.microsoft.com/marketplace/2015/08/claims/key/{name}")
}

fn claim(jwt: &str, name: &str) -> Value {
    part(jwt, 1)[name].clone()
}

fn part(jwt: &str, index: usize) -> Value {
    let part = jwt.split('.').nth(index).unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn flipped(jwt: &str) -> String {
    let (body, signature) = jwt.rsplit_once('.').expect("a key has three parts");
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("a signature is base64url");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    format!("{body}.{}", URL_SAFE_NO_PAD.encode(bytes))
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, told: &T) -> Result<(), String> {
    if found == told { Ok(()) } else { Err(format!("{what} is {found:?}, not {told:?}")) }
}
