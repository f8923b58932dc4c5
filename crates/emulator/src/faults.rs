//! The fault plan: which exchanges go wrong, how, and how often; the emulator's clock and seed decide, nothing else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use storekeeper_model::Timestamp;

use crate::request::Endpoint;
use crate::span::Span;

/// How many faults a plan holds, spent ones included.
pub const FAULTS_MAX: usize = 10_000;

/// A fault as it is ordered: which exchanges it meets, what it does to them, and how often.
///
/// Without `status` and `body` the exchange is processed as usual and only delayed, cut short or given other headers.
/// With one of them the answer is made up: instead of processing (`before`, where a body alone is sent with status 200)
/// or in place of what processing answered (`after`, where a body alone keeps the status).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultOrder {
    /// What has to be called.
    pub endpoint: Endpoint,
    /// Whether the fault meets the request or the answer.
    #[serde(default)]
    pub when: When,
    /// The status to answer with, 200 to 599.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Headers to put on the answer; they replace those of the same name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body to answer with: a string is sent as it is, anything else as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Box<RawValue>>,
    /// How long to wait, on the emulator's clock: before processing, or with the answer in hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    /// Break the connection off without an answer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reset: bool,
    /// Promise the whole body and send a part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncate: Option<Truncate>,
    /// Strike so many times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Strike each exchange with this probability, above 0 and at most 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Strike for so long, on the emulator's clock.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Span>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Whether a fault meets the request or the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Before processing: nothing is minted, counted or changed by a made-up answer or a reset.
    #[default]
    Before,
    /// After processing: what was done stays done, whatever the caller gets to hear.
    After,
}

/// How much of a body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Truncate {
    /// `true`: half of it.
    Half(bool),
    /// So many bytes of it.
    Bytes(usize),
}

/// Why a fault cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// Nothing would happen.
    #[error("a fault needs at least one of status, headers, body, delay, reset and truncate")]
    Harmless,
    /// `unknown` is what the ledger calls a path that is none.
    #[error("a fault's endpoint is one of the Store's or Entra's routes")]
    Endpoint,
    /// Not a final status.
    #[error("status is {0}, but an answer has 200 to 599")]
    Status(u16),
    /// Not a header, or one that frames the answer.
    #[error("header `{0}` is not allowed: {1}")]
    Header(String, &'static str),
    /// A reset has no answer.
    #[error("reset leaves no answer for status, headers, body or truncate")]
    ResetWithAnswer,
    /// `"truncate": false`.
    #[error("truncate is true or a number of bytes")]
    Truncate,
    /// Zero times.
    #[error("count is at least 1")]
    Count,
    /// Not a probability, or never.
    #[error("probability is above 0 and at most 1")]
    Probability,
    /// A span of nothing.
    #[error("`{0}` is longer than nothing")]
    Span(&'static str),
    /// See [`FAULTS_MAX`].
    #[error("the plan holds {FAULTS_MAX} faults; clear some")]
    TooMany,
}

/// What a fault does to the exchange it strikes.
#[derive(Debug)]
pub(crate) struct Strike {
    pub(crate) when: When,
    pub(crate) status: Option<StatusCode>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    pub(crate) delay: Option<Duration>,
    pub(crate) reset: bool,
    pub(crate) truncate: Option<Truncate>,
    /// The inner code of the made-up error document, for the ledger.
    pub(crate) inner_code: Option<String>,
}

impl Strike {
    /// Whether the caller is told something made up.
    pub(crate) fn makes_up_the_answer(&self) -> bool {
        self.status.is_some() || self.body.is_some()
    }

    /// What to wait before processing.
    pub(crate) fn delay_before(&self) -> Option<Duration> {
        self.delay.filter(|_| self.when == When::Before)
    }

    /// What to wait with the answer in hand.
    pub(crate) fn delay_after(&self) -> Option<Duration> {
        self.delay.filter(|_| self.when == When::After)
    }
}

/// A planned fault and how it went so far.
#[derive(Debug, Clone, Serialize)]
pub struct Fault {
    /// Its number in the plan.
    pub id: u64,
    /// What was ordered.
    #[serde(flatten)]
    pub order: FaultOrder,
    /// When it was planned, on the emulator's clock.
    pub added_at: Timestamp,
    /// How often it struck.
    pub fired: u64,
    /// Whether it may strike again.
    pub active: bool,
}

/// A plan as a snapshot keeps it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanSnapshot {
    next_id: u64,
    faults: Vec<PlannedSnapshot>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlannedSnapshot {
    id: u64,
    order: FaultOrder,
    added_at: Timestamp,
    met: u64,
    fired: u64,
}

struct Planned {
    id: u64,
    order: FaultOrder,
    strike: Arc<Strike>,
    added_at: Timestamp,
    /// How many exchanges it could have struck.
    met: u64,
    fired: u64,
}

impl Planned {
    fn is_active(&self, now: Timestamp) -> bool {
        let times_left = self.order.count.is_none_or(|count| self.fired < count);
        times_left && self.order.lasts.is_none_or(|lasts| now < self.added_at + lasts.get())
    }

    /// Whether it strikes this time. The draw depends on the seed, the fault and the number of exchanges it met, so
    /// that other faults do not change it and a restored plan goes on as it would have.
    fn strikes(&mut self, seed: u64) -> bool {
        self.met += 1;
        let Some(probability) = self.order.probability else { return true };
        let draw = seed ^ self.id.rotate_left(32) ^ self.met;
        SmallRng::seed_from_u64(draw).random_bool(probability)
    }

    fn shown(&self, now: Timestamp) -> Fault {
        Fault {
            id: self.id,
            order: self.order.clone(),
            added_at: self.added_at,
            fired: self.fired,
            active: self.is_active(now),
        }
    }
}

/// Every fault in the order in which it was planned; the first that strikes an exchange is the only one that does.
pub(crate) struct FaultPlan {
    seed: u64,
    /// Whether there is anything to look at: what an exchange pays when no fault is planned.
    armed: AtomicBool,
    plan: Mutex<Plan>,
}

#[derive(Default)]
struct Plan {
    next_id: u64,
    faults: Vec<Planned>,
}

impl FaultPlan {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, armed: AtomicBool::new(false), plan: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().expect("no holder of this lock panics")
    }

    /// Plans a fault from `now` on.
    pub(crate) fn add(&self, order: FaultOrder, now: Timestamp) -> Result<Fault, FaultError> {
        let strike = Arc::new(strike(&order)?);
        let mut plan = self.lock();
        if plan.faults.len() >= FAULTS_MAX {
            return Err(FaultError::TooMany);
        }
        plan.next_id += 1;
        let planned = Planned { id: plan.next_id, order, strike, added_at: now, met: 0, fired: 0 };
        let shown = planned.shown(now);
        plan.faults.push(planned);
        self.armed.store(true, Ordering::Release);
        Ok(shown)
    }

    /// Every fault, spent ones included.
    pub(crate) fn list(&self, now: Timestamp) -> Vec<Fault> {
        self.lock().faults.iter().map(|fault| fault.shown(now)).collect()
    }

    /// Takes one fault off the plan; `false` when there is none with that number.
    pub(crate) fn remove(&self, id: u64) -> bool {
        let mut plan = self.lock();
        let before = plan.faults.len();
        plan.faults.retain(|fault| fault.id != id);
        self.armed.store(!plan.faults.is_empty(), Ordering::Release);
        plan.faults.len() < before
    }

    /// Takes every fault off the plan and says how many there were.
    pub(crate) fn clear(&self) -> usize {
        let mut plan = self.lock();
        self.armed.store(false, Ordering::Release);
        std::mem::take(&mut plan.faults).len()
    }

    /// What strikes a call of `endpoint`, if anything does.
    pub(crate) fn strike(&self, endpoint: Endpoint, now: Timestamp) -> Option<Arc<Strike>> {
        if !self.armed.load(Ordering::Acquire) {
            return None;
        }
        let mut plan = self.lock();
        let mut candidates = plan.faults.iter_mut().filter(|fault| fault.order.endpoint == endpoint);
        let struck = candidates.find_map(|fault| {
            let strikes = fault.is_active(now) && fault.strikes(self.seed);
            strikes.then_some(fault)
        })?;
        struck.fired += 1;
        Some(Arc::clone(&struck.strike))
    }

    pub(crate) fn snapshot(&self) -> PlanSnapshot {
        let plan = self.lock();
        let kept = |fault: &Planned| PlannedSnapshot {
            id: fault.id,
            order: fault.order.clone(),
            added_at: fault.added_at,
            met: fault.met,
            fired: fault.fired,
        };
        PlanSnapshot { next_id: plan.next_id, faults: plan.faults.iter().map(kept).collect() }
    }

    /// Checks a snapshot; the result replaces the plan by [`FaultPlan::replace`].
    pub(crate) fn check(snapshot: PlanSnapshot) -> Result<CheckedPlan, FaultError> {
        let planned = |kept: PlannedSnapshot| {
            let strike = Arc::new(strike(&kept.order)?);
            let PlannedSnapshot { id, order, added_at, met, fired } = kept;
            Ok(Planned { id, order, strike, added_at, met, fired })
        };
        let faults = snapshot.faults.into_iter().map(planned).collect::<Result<Vec<_>, _>>()?;
        let next_id = faults.iter().map(|fault| fault.id).max().unwrap_or(0).max(snapshot.next_id);
        Ok(CheckedPlan(Plan { next_id, faults }))
    }

    pub(crate) fn replace(&self, checked: CheckedPlan) {
        let mut plan = self.lock();
        *plan = checked.0;
        self.armed.store(!plan.faults.is_empty(), Ordering::Release);
    }
}

/// A plan that can be put in place.
pub(crate) struct CheckedPlan(Plan);

/// Checks an order and prepares what it does.
fn strike(order: &FaultOrder) -> Result<Strike, FaultError> {
    check_frequency(order)?;
    if matches!(order.truncate, Some(Truncate::Half(false))) {
        return Err(FaultError::Truncate);
    }
    if order.delay.is_some_and(|delay| delay.get().is_zero()) {
        return Err(FaultError::Span("delay"));
    }
    let answers =
        order.status.is_some() || !order.headers.is_empty() || order.body.is_some() || order.truncate.is_some();
    if order.reset && answers {
        return Err(FaultError::ResetWithAnswer);
    }
    if !order.reset && !answers && order.delay.is_none() {
        return Err(FaultError::Harmless);
    }
    let mut headers = headers(&order.headers)?;
    let body = order.body.as_deref().map(body_bytes);
    if let Some((_, media_type)) = &body
        && !headers.contains_key(header::CONTENT_TYPE)
    {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    let status = order.status.map(status).transpose()?;
    let body = body.map(|(bytes, _)| bytes);
    let inner_code = body.as_deref().and_then(inner_code);
    let delay = order.delay.map(Span::get);
    Ok(Strike {
        when: order.when,
        status,
        headers,
        body,
        delay,
        reset: order.reset,
        truncate: order.truncate,
        inner_code,
    })
}

fn check_frequency(order: &FaultOrder) -> Result<(), FaultError> {
    if order.endpoint == Endpoint::Unknown {
        return Err(FaultError::Endpoint);
    }
    if order.count == Some(0) {
        return Err(FaultError::Count);
    }
    if order.probability.is_some_and(|probability| !(probability > 0.0 && probability <= 1.0)) {
        return Err(FaultError::Probability);
    }
    if order.lasts.is_some_and(|lasts| lasts.get().is_zero()) {
        return Err(FaultError::Span("for"));
    }
    Ok(())
}

fn status(number: u16) -> Result<StatusCode, FaultError> {
    let status = StatusCode::from_u16(number).ok().filter(|_| (200..600).contains(&number));
    status.ok_or(FaultError::Status(number))
}

fn headers(ordered: &BTreeMap<String, String>) -> Result<HeaderMap, FaultError> {
    let mut headers = HeaderMap::with_capacity(ordered.len());
    for (name, value) in ordered {
        let fail = |why| FaultError::Header(name.chars().take(64).collect(), why);
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fail("it is not a header's name"))?;
        if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION].contains(&parsed) {
            return Err(fail("it frames the answer; see truncate and reset"));
        }
        let value = HeaderValue::from_str(value).map_err(|_| fail("its value has a control character"))?;
        headers.insert(parsed, value);
    }
    Ok(headers)
}

/// The bytes to send and the media type they most likely are.
fn body_bytes(body: &RawValue) -> (Bytes, &'static str) {
    let Ok(text) = serde_json::from_str::<String>(body.get()) else {
        return (Bytes::copy_from_slice(body.get().as_bytes()), "application/json");
    };
    let media_type = match text.trim_start().as_bytes().first() {
        Some(b'{' | b'[') => "application/json",
        Some(b'<') => "text/html",
        _ => "text/plain",
    };
    (text.into(), media_type)
}

#[derive(Deserialize)]
struct ErrorDocument {
    innererror: InnerError,
}

#[derive(Deserialize)]
struct InnerError {
    code: String,
}

fn inner_code(body: &[u8]) -> Option<String> {
    let document: ErrorDocument = serde_json::from_slice(body).ok()?;
    Some(document.innererror.code.chars().take(64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn order(json: &str) -> FaultOrder {
        serde_json::from_str(json).unwrap()
    }

    fn plan(orders: &[&str]) -> FaultPlan {
        let plan = FaultPlan::new(7);
        orders.iter().for_each(|json| drop(plan.add(order(json), NOW).unwrap()));
        plan
    }

    fn statuses(plan: &FaultPlan, calls: usize, now: Timestamp) -> Vec<Option<u16>> {
        let strike =
            |_| plan.strike(Endpoint::Renew, now).and_then(|strike| strike.status.map(|status| status.as_u16()));
        (0..calls).map(strike).collect()
    }

    #[test]
    fn the_first_that_strikes_is_the_only_one() {
        let plan = plan(&[
            r#"{"endpoint":"token","status":500}"#,
            r#"{"endpoint":"renew","status":503,"count":2}"#,
            r#"{"endpoint":"renew","status":429,"count":1}"#,
        ]);
        assert_eq!(statuses(&plan, 4, NOW), [Some(503), Some(503), Some(429), None]);
        let fired: Vec<_> = plan.list(NOW).iter().map(|fault| (fault.id, fault.fired, fault.active)).collect();
        assert_eq!(fired, [(1, 0, true), (2, 2, false), (3, 1, false)]);
    }

    #[test]
    fn a_fault_lasts_its_span_on_the_emulators_clock() {
        let plan = plan(&[r#"{"endpoint":"renew","status":503,"for":"4d"}"#]);
        let day = Duration::from_secs(86_400);
        assert_eq!(statuses(&plan, 1, NOW + day * 4 - Duration::from_millis(1)), [Some(503)]);
        assert_eq!(statuses(&plan, 1, NOW + day * 4), [None]);
    }

    #[test]
    fn a_probability_is_met_and_a_restored_plan_goes_on_alike() {
        let one = plan(&[r#"{"endpoint":"renew","status":401,"probability":0.4}"#]);
        let struck = statuses(&one, 5000, NOW).iter().flatten().count();
        assert!((1850..2150).contains(&struck), "{struck}");
        let text = serde_json::to_string(&one.snapshot()).unwrap();
        let two = FaultPlan::new(7);
        two.replace(FaultPlan::check(serde_json::from_str(&text).unwrap()).unwrap());
        assert_eq!(statuses(&one, 500, NOW), statuses(&two, 500, NOW));
    }

    #[test]
    fn a_removed_fault_strikes_no_more() {
        let plan = plan(&[r#"{"endpoint":"renew","status":503}"#, r#"{"endpoint":"renew","status":500}"#]);
        assert!(plan.remove(1));
        assert!(!plan.remove(1));
        assert_eq!(statuses(&plan, 1, NOW), [Some(500)]);
        assert_eq!(plan.clear(), 1);
        assert_eq!(statuses(&plan, 1, NOW), [None]);
    }

    #[test]
    fn what_cannot_happen_is_refused() {
        let check = |json, expected| {
            assert_eq!(FaultPlan::new(0).add(order(json), NOW).unwrap_err(), expected, "{json}");
        };
        check(r#"{"endpoint":"renew"}"#, FaultError::Harmless);
        check(r#"{"endpoint":"renew","status":101}"#, FaultError::Status(101));
        check(r#"{"endpoint":"renew","status":1000}"#, FaultError::Status(1000));
        check(r#"{"endpoint":"renew","reset":true,"status":500}"#, FaultError::ResetWithAnswer);
        check(r#"{"endpoint":"renew","truncate":false}"#, FaultError::Truncate);
        check(r#"{"endpoint":"renew","status":500,"count":0}"#, FaultError::Count);
        check(r#"{"endpoint":"renew","status":500,"probability":0}"#, FaultError::Probability);
        check(r#"{"endpoint":"renew","status":500,"probability":1.5}"#, FaultError::Probability);
        check(r#"{"endpoint":"renew","status":500,"for":"0s"}"#, FaultError::Span("for"));
        check(r#"{"endpoint":"renew","delay":"0s"}"#, FaultError::Span("delay"));
        for name in ["content-length", "a b"] {
            let json = format!(r#"{{"endpoint":"renew","headers":{{"{name}":"1"}}}}"#);
            assert!(matches!(FaultPlan::new(0).add(order(&json), NOW), Err(FaultError::Header(..))), "{name}");
        }
    }

    #[test]
    fn bodies_keep_their_bytes_and_get_a_media_type() {
        let check = |body: &str, bytes: &str, media_type: &str| {
            let order = order(&format!(r#"{{"endpoint":"renew","body":{body}}}"#));
            let strike = strike(&order).unwrap();
            assert_eq!(strike.body.unwrap(), bytes);
            assert_eq!(strike.headers[header::CONTENT_TYPE], media_type);
        };
        check(r#"{"z":1, "a":2}"#, r#"{"z":1, "a":2}"#, "application/json");
        check(r#""{\"key\":\"\"}""#, r#"{"key":""}"#, "application/json");
        check(r#""<html>""#, "<html>", "text/html");
        check(r#""gone""#, "gone", "text/plain");
        check(r#""""#, "", "text/plain");
    }
}
