//! What the control port's routes do.

use http::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use storekeeper_clock::Clock;
use storekeeper_model::Timestamp;

use super::clock::ClockDocument;
use super::problem::{Code, Problem};
use crate::exchange::Hosts;
use crate::faults::{FaultError, FaultOrder, FaultPlan, PlanSnapshot};
use crate::management::{AddClient, ControlError, MintKey, MintTicket, Revocation};
use crate::saver::Saver;
use crate::span::Span;
use crate::{ProfileChange, Snapshot};

/// How many exchanges a page of the ledger has at most, and when nothing is said.
const PAGE_MAX: usize = 10_000;
const PAGE_DEFAULT: usize = 1000;

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    ListRoutes,
    ShowClock,
    MoveClock,
    MintKey,
    MintTicket,
    Revoke,
    AddClient,
    ListCertificates,
    Rotate,
    ListFaults,
    AddFault,
    ClearFaults,
    RemoveFault(u64),
    ShowLedger,
    ShowProfile,
    ChangeProfile,
    Snapshot,
    Restore,
    Reset,
}

/// Every route, what it does, and in a few words how it is used. `{id}` stands for a number.
const ROUTES: [(Method, &str, Action, &str); 19] = [
    (Method::GET, "/", Action::ListRoutes, "this list"),
    (Method::GET, "/control/v1/clock", Action::ShowClock, "the emulator's time and rate"),
    (
        Method::POST,
        "/control/v1/clock",
        Action::MoveClock,
        r#"{"advance":"13d"} | {"set":"2026-01-31T12:00:00Z"} | {"rate":86400} | {"freeze":true}"#,
    ),
    (
        Method::POST,
        "/control/v1/keys",
        Action::MintKey,
        "mint a Store ID key: kind, user_id, and if wanted account, client_id, issued_at, certificate, payload_length",
    ),
    (
        Method::POST,
        "/control/v1/tickets",
        Action::MintTicket,
        "mint a ticket: audience, and if wanted client_id, claims",
    ),
    (
        Method::POST,
        "/control/v1/revocations",
        Action::Revoke,
        "revoke keys: fingerprint, user_id, client_id or certificate",
    ),
    (Method::POST, "/control/v1/clients", Action::AddClient, "register a client: tenant_id, client_id, secret"),
    (Method::GET, "/control/v1/certificates", Action::ListCertificates, "the signing certificates"),
    (
        Method::POST,
        "/control/v1/certificates/rotate",
        Action::Rotate,
        r#"sign with a new certificate: {"accept_previous_for":"5d"}"#,
    ),
    (Method::GET, "/control/v1/faults", Action::ListFaults, "the planned faults and how often each fired"),
    (
        Method::POST,
        "/control/v1/faults",
        Action::AddFault,
        "plan a fault: endpoint, and status, headers, body, delay, reset or truncate; when; count, probability or for",
    ),
    (Method::DELETE, "/control/v1/faults", Action::ClearFaults, "clear every fault"),
    (Method::DELETE, "/control/v1/faults/{id}", Action::RemoveFault(0), "clear one fault"),
    (Method::GET, "/control/v1/ledger", Action::ShowLedger, "exchanges after number ?after=, at most ?limit="),
    (Method::GET, "/control/v1/profile", Action::ShowProfile, "the switches in force"),
    (
        Method::POST,
        "/control/v1/profile",
        Action::ChangeProfile,
        "change switches: profile, errors, superseded and more",
    ),
    (Method::POST, "/control/v1/snapshot", Action::Snapshot, "everything but the ledger, as one document"),
    (Method::POST, "/control/v1/restore", Action::Restore, "put a snapshot back"),
    (Method::POST, "/control/v1/reset", Action::Reset, "start afresh: keys, clients, faults, ledger; the clock stays"),
];

impl Action {
    /// What the route of that method and path does.
    pub(crate) fn of(method: &Method, path: &str) -> Result<Self, Problem> {
        let mut known = matching(path).peekable();
        if known.peek().is_none() {
            return Err(Problem::new(Code::RouteUnknown, "there is no such route; GET / lists them"));
        }
        match known.find(|(route, _, _)| route == method) {
            Some((_, Self::RemoveFault(_), Some(id))) => Ok(Self::RemoveFault(id)),
            Some((_, action, _)) => Ok(action),
            None => Err(Problem::new(Code::MethodNotAllowed, "the route takes another method")),
        }
    }

    /// Whether something changes that a data directory keeps.
    pub(crate) fn is_change(self) -> bool {
        let kept = [Self::MoveClock, Self::MintKey, Self::Revoke, Self::AddClient, Self::Rotate];
        kept.contains(&self) || [Self::ChangeProfile, Self::Restore, Self::Reset].contains(&self)
    }
}

/// The methods that a path takes.
pub(crate) fn methods(path: &str) -> impl Iterator<Item = &'static Method> {
    matching(path).map(|(method, _, _)| method)
}

fn matching(path: &str) -> impl Iterator<Item = (&'static Method, Action, Option<u64>)> {
    ROUTES.iter().filter_map(move |(method, route, action, _)| match route.strip_suffix("{id}") {
        None => (*route == path).then_some((method, *action, None)),
        Some(prefix) => Some((method, *action, Some(path.strip_prefix(prefix)?.parse().ok()?))),
    })
}

/// Does what a route does, but for moving the clock; blocks. The answer is a JSON document.
pub(crate) fn perform(action: Action, hosts: &Hosts, query: Option<&str>, body: &[u8]) -> Result<Vec<u8>, Problem> {
    let now = hosts.clock.now();
    if action != Action::ShowLedger && query.is_some_and(|query| !query.is_empty()) {
        return Err(Problem::invalid("this route takes no query"));
    }
    match action {
        Action::ListRoutes => json(&Routes { routes: ROUTES.iter().map(Route::from).collect() }),
        Action::ShowClock | Action::MoveClock => json(&ClockDocument::of(&hosts.clock)),
        Action::MintKey => mint_key(hosts, parse(body)?, now),
        Action::MintTicket => mint_ticket(hosts, parse(body)?, now),
        Action::Revoke => revoke(hosts, parse(body)?),
        Action::AddClient => add_client(hosts, parse(body)?),
        Action::ListCertificates => certificates(hosts, now),
        Action::Rotate => rotate(hosts, &parse(body)?, now),
        Action::ListFaults => json(&serde_json::json!({ "faults": hosts.faults.list(now) })),
        Action::AddFault => json(&hosts.faults.add(parse::<FaultOrder>(body)?, now)?),
        Action::ClearFaults => json(&Cleared { cleared: hosts.faults.clear() }),
        Action::RemoveFault(id) if hosts.faults.remove(id) => json(&Cleared { cleared: 1 }),
        Action::RemoveFault(id) => Err(Problem::new(Code::FaultUnknown, format!("there is no fault {id}"))),
        Action::ShowLedger => ledger(hosts, query.unwrap_or_default()),
        Action::ShowProfile => json(&hosts.emulator.profile()),
        Action::ChangeProfile => json(&hosts.emulator.set_profile(parse::<ProfileChange>(body)?, now)),
        Action::Snapshot => json(&SnapshotDocument::of(hosts)),
        Action::Restore => restore(hosts, body),
        Action::Reset => reset(hosts, now),
    }
}

/// Makes a change durable.
pub(crate) fn save(saver: &Saver) -> Result<(), Problem> {
    saver.save_change().map_err(|error| {
        tracing::error!(%error, "a change is not durable");
        Problem::new(Code::NotSaved, format!("the change was made, but it is not durable: {error}"))
    })
}

pub(super) fn json(document: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(document).map_err(|error| Problem::new(Code::Internal, error.to_string()))
}

/// Reads a body; no body is an empty object.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(Problem::invalid)
}

impl From<FaultError> for Problem {
    fn from(error: FaultError) -> Self {
        Self::invalid(error)
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        Self::invalid(error)
    }
}

#[derive(Serialize)]
struct Routes {
    routes: Vec<Route>,
}

#[derive(Serialize)]
struct Route {
    method: &'static str,
    path: &'static str,
    what: &'static str,
}

impl From<&'static (Method, &'static str, Action, &'static str)> for Route {
    fn from((method, path, _, what): &'static (Method, &'static str, Action, &'static str)) -> Self {
        Self { method: method.as_str(), path, what }
    }
}

#[derive(Serialize)]
struct Cleared {
    cleared: usize,
}

fn mint_key(hosts: &Hosts, wanted: MintKey, now: Timestamp) -> Result<Vec<u8>, Problem> {
    let key = hosts.emulator.mint_key(wanted, now)?;
    json(&serde_json::json!({ "key": key.expose() }))
}

fn mint_ticket(hosts: &Hosts, wanted: MintTicket, now: Timestamp) -> Result<Vec<u8>, Problem> {
    json(&serde_json::json!({ "access_token": hosts.emulator.mint_ticket(wanted, now).expose() }))
}

fn revoke(hosts: &Hosts, revocation: Revocation) -> Result<Vec<u8>, Problem> {
    let answer = json(&revocation)?;
    hosts.emulator.revoke(revocation)?;
    Ok(answer)
}

fn add_client(hosts: &Hosts, client: AddClient) -> Result<Vec<u8>, Problem> {
    let answer = json(&serde_json::json!({ "tenant_id": client.tenant_id, "client_id": client.client_id }))?;
    hosts.emulator.add_client(client)?;
    Ok(answer)
}

fn certificates(hosts: &Hosts, now: Timestamp) -> Result<Vec<u8>, Problem> {
    json(&serde_json::json!({ "certificates": hosts.emulator.certificates(now) }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    accept_previous_for: Option<Span>,
}

fn rotate(hosts: &Hosts, rotation: &Rotation, now: Timestamp) -> Result<Vec<u8>, Problem> {
    hosts.emulator.rotate(rotation.accept_previous_for.map(Span::get), now);
    certificates(hosts, now)
}

fn ledger(hosts: &Hosts, query: &str) -> Result<Vec<u8>, Problem> {
    let (mut after, mut limit) = (0, PAGE_DEFAULT);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let number = value.parse().map_err(|_| Problem::invalid(format!("`{name}` needs a number")));
        match name {
            "after" => after = number?,
            "limit" => limit = usize::try_from(number?).unwrap_or(PAGE_MAX).min(PAGE_MAX),
            _ => return Err(Problem::invalid("the ledger's query takes `after` and `limit`")),
        }
    }
    if limit == 0 {
        return Err(Problem::invalid("`limit` is at least 1"));
    }
    json(&hosts.ledger.page(after, limit))
}

/// Everything but the ledger, which tells what happened and is no state.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SnapshotDocument {
    format: u32,
    clock: ClockDocument,
    faults: PlanSnapshot,
    emulator: Snapshot,
}

/// The only format there is.
const FORMAT: u32 = 1;

impl SnapshotDocument {
    fn of(hosts: &Hosts) -> Self {
        let (clock, faults) = (ClockDocument::of(&hosts.clock), hosts.faults.snapshot());
        Self { format: FORMAT, clock, faults, emulator: hosts.emulator.snapshot() }
    }
}

/// Puts all of a snapshot in place, or nothing.
fn restore(hosts: &Hosts, body: &[u8]) -> Result<Vec<u8>, Problem> {
    let SnapshotDocument { format, clock, faults, emulator } = parse(body)?;
    if format != FORMAT {
        return Err(Problem::invalid(format!("the snapshot's format is {format}, this version reads {FORMAT}")));
    }
    let clock = clock.check()?;
    let faults = FaultPlan::check(faults)?;
    hosts.emulator.restore(&emulator)?;
    hosts.faults.replace(faults);
    hosts.clock.set(clock.now);
    hosts.clock.set_rate(clock.rate);
    json(&ClockDocument::of(&hosts.clock))
}

fn reset(hosts: &Hosts, now: Timestamp) -> Result<Vec<u8>, Problem> {
    hosts.emulator.reset(now);
    hosts.faults.clear();
    hosts.ledger.clear();
    json(&ClockDocument::of(&hosts.clock))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, path: &str, expected: Result<Action, Code>) {
        assert_eq!(Action::of(&method, path).map_err(|problem| problem.code), expected, "{method} {path}");
    }

    #[test]
    fn routes_are_found_by_method_and_path() {
        for (method, path, action, _) in ROUTES {
            let path = path.replace("{id}", "0");
            check(method, &path, Ok(action));
        }
        check(Method::DELETE, "/control/v1/faults/17", Ok(Action::RemoveFault(17)));
        check(Method::DELETE, "/control/v1/faults/x", Err(Code::RouteUnknown));
        check(Method::GET, "/control/v1", Err(Code::RouteUnknown));
        check(Method::PUT, "/control/v1/clock", Err(Code::MethodNotAllowed));
        assert_eq!(methods("/control/v1/faults").collect::<Vec<_>>(), [Method::GET, Method::POST, Method::DELETE]);
    }
}
