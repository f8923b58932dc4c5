//! The control port: clock, minting, ledger and profile, and how strictly it reads.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod http_support;

use std::time::Duration;

use http_support::{RENEW, Rig, START, exchange, request};
use serde_json::{Value, json};
use storekeeper_clock::Clock;
use storekeeper_emulator::VirtualHost;
use storekeeper_emulator::server::ServerOptions;
use storekeeper_model::{Fingerprint, StoreIdKey};

#[tokio::test]
async fn the_clock_advances_jumps_runs_and_freezes() {
    let rig = Rig::start().await;
    let check = |shown: Value, now: &str, rate: f64| assert_eq!(shown, json!({"now": now, "rate": rate}));
    check(rig.grant("GET", "/control/v1/clock", Value::Null).await, "2027-01-15T08:00:00Z", 0.0);
    check(rig.grant("POST", "/control/v1/clock", json!({"advance": "13d"})).await, "2027-01-28T08:00:00Z", 0.0);
    let set = json!({"set": "2026-12-31T23:00:00+01:00"});
    check(rig.grant("POST", "/control/v1/clock", set).await, "2026-12-31T22:00:00Z", 0.0);
    let running = rig.grant("POST", "/control/v1/clock", json!({"rate": 8640000})).await;
    assert_eq!(running["rate"], 8_640_000.0);
    while rig.clock.now() < START {
        tokio::task::yield_now().await;
    }
    let frozen = rig.grant("POST", "/control/v1/clock", json!({"freeze": true})).await;
    assert_eq!(frozen, rig.grant("GET", "/control/v1/clock", Value::Null).await);
}

#[tokio::test]
async fn an_advance_answers_when_what_fell_due_is_done() {
    let rig = Rig::start().await;
    let clock = rig.clock.clone();
    let sleep = clock.sleep_until(START + Duration::from_secs(3600));
    let work = tokio::spawn(async move {
        let _hold = sleep.await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        clock.now()
    });
    rig.grant("POST", "/control/v1/clock", json!({"advance": "30d"})).await;
    assert!(work.is_finished());
    assert_eq!(work.await.unwrap(), START + Duration::from_secs(3600));
}

#[tokio::test(start_paused = true)]
async fn a_stuck_clock_names_who_holds_it() {
    let rig = Rig::start().await;
    let _hold = rig.clock.hold("a renewal");
    let reason = "a renewal (1)";
    rig.refuse("POST", "/control/v1/clock", r#"{"advance":"1d"}"#, (503, "clock_stuck"), reason).await;
}

#[tokio::test]
async fn bad_input_is_named() {
    let rig = Rig::start().await;
    let check = async |method: &str, path: &str, body: &str, reason: &str| {
        rig.refuse(method, path, body, (400, "request_invalid"), reason).await;
    };
    let clock = "/control/v1/clock";
    check("POST", clock, r#"{"advanse":"13d"}"#, "advanse").await;
    check("POST", clock, r#"{"advance":"13"}"#, "13").await;
    check("POST", clock, r#"{"advance":"13d","freeze":true}"#, "").await;
    check("POST", clock, "{}", "").await;
    check("POST", clock, "not json", "").await;
    check("POST", clock, r#"{"advance":"99999999d"}"#, "instants from").await;
    check("POST", clock, r#"{"set":"tomorrow"}"#, "tomorrow").await;
    check("POST", clock, r#"{"set":"1969-01-01T00:00:00Z"}"#, "instants from").await;
    check("POST", clock, r#"{"rate":0}"#, "freeze").await;
    check("POST", clock, r#"{"rate":-1}"#, "above 0").await;
    check("POST", clock, r#"{"freeze":false}"#, "rate ends a freeze").await;
    check("POST", "/control/v1/keys", r#"{"kind":"gift","user_id":"u"}"#, "kind").await;
    check("POST", "/control/v1/keys", r#"{"kind":"purchase","user_id":"u","isued_at":1}"#, "isued_at").await;
    check("POST", "/control/v1/keys", r#"{"kind":"purchase","user_id":"u","certificate":"AB"}"#, "AB").await;
    check("POST", "/control/v1/tickets", r#"{"audience":"x"}"#, "").await;
    check("POST", "/control/v1/revocations", r#"{"user":"u"}"#, "user").await;
    check("POST", "/control/v1/clients", r#"{"tenant_id":"x","client_id":"y","secret":"z"}"#, "tenant").await;
    check("POST", "/control/v1/certificates/rotate", r#"{"accept_previous":"5d"}"#, "accept_previous_for").await;
    check("POST", "/control/v1/faults", r#"{"endpoint":"renewal","status":500}"#, "renewal").await;
    check("POST", "/control/v1/faults", r#"{"endpoint":"renew","stauts":500}"#, "stauts").await;
    check("POST", "/control/v1/faults", r#"{"endpoint":"renew"}"#, "at least one").await;
    check("POST", "/control/v1/profile", r#"{"profile":"future"}"#, "future").await;
    check("POST", "/control/v1/restore", "{}", "missing").await;
    check("GET", "/control/v1/ledger?after=x", "", "after").await;
    check("GET", "/control/v1/ledger?since=1", "", "after").await;
    check("GET", "/control/v1/clock?x=1", "", "no query").await;
    assert_eq!(rig.clock.now(), START);
}

#[tokio::test]
async fn unknown_routes_and_methods_are_named() {
    let rig = Rig::start().await;
    rig.refuse("GET", "/control/v1/clocks", "", (404, "route_unknown"), "GET /").await;
    rig.refuse("PUT", "/control/v1/clock", "{}", (405, "method_not_allowed"), "").await;
    let reply = exchange(rig.control(), &request("PUT", "/control/v1/clock", "localhost", "", "")).await.unwrap();
    assert_eq!(reply.header("allow"), Some("GET, POST"));
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    let routes = rig.grant("GET", "/", Value::Null).await;
    assert!(routes["routes"].as_array().unwrap().iter().any(|route| route["path"] == "/control/v1/ledger"));
    let long = "x".repeat(100_000);
    rig.refuse("POST", "/control/v1/keys", &long, (413, "body_too_large"), "65536").await;
}

#[tokio::test]
async fn web_pages_and_foreign_hosts_are_refused() {
    let rig = Rig::start().await;
    let check = async |host: &str, headers: &str, expected: Option<&str>| {
        let body = r#"{"set":"2020-01-01T00:00:00Z"}"#;
        let bytes = request("POST", "/control/v1/clock", host, headers, body);
        let reply = exchange(rig.control(), &bytes).await.unwrap();
        assert_eq!(reply.json()["code"].as_str(), expected, "{host} {headers}");
    };
    check("localhost", "Origin: http://localhost\r\n", Some("origin_refused")).await;
    check("localhost", "Origin: null\r\n", Some("origin_refused")).await;
    check("evil.example", "", Some("host_refused")).await;
    check("evil.example:8444", "", Some("host_refused")).await;
    check("collections.mp.microsoft.com", "", Some("host_refused")).await;
    check("192.0.2.1", "", Some("host_refused")).await;
    assert_eq!(rig.clock.now(), START, "nothing was done");
    check("127.0.0.1:8444", "", None).await;
    check("[::1]:8444", "", None).await;
}

#[tokio::test]
async fn the_control_routes_are_on_no_other_port_and_the_hosts_not_on_this_one() {
    let rig = Rig::start().await;
    let reply = exchange(rig.http(), &request("GET", "/control/v1/clock", "localhost", "", "")).await.unwrap();
    assert_eq!(reply.status, 404);
    rig.refuse("POST", RENEW, "{}", (404, "route_unknown"), "").await;
}

#[tokio::test]
async fn a_key_is_minted_for_any_instant() {
    let rig = Rig::start().await;
    let wanted =
        json!({"kind": "collections", "user_id": "Zoë", "issued_at": "2015-09-16T09:25:42Z", "payload_length": 684});
    let minted = rig.grant("POST", "/control/v1/keys", wanted).await;
    let key = StoreIdKey::parse(minted["key"].as_str().unwrap().to_owned().into()).unwrap();
    assert_eq!(key.lifetime().issued_at().seconds(), 1_442_395_542);
    assert_eq!(key.user_id().as_str(), "Zoë");
    assert_eq!(minted.as_object().map(|members| members.len()), Some(1), "nothing but the key, as it can be handed on");
}

#[tokio::test]
async fn the_ledger_is_read_in_pages() {
    let rig = Rig::start().await;
    for _ in 0..5 {
        rig.renew(VirtualHost::Purchase, "{}").await.unwrap();
    }
    let check = async |query: &str, numbers: &[u64], next: Value| {
        let page = rig.grant("GET", &format!("/control/v1/ledger{query}"), Value::Null).await;
        let found: Vec<_> =
            page["exchanges"].as_array().unwrap().iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
        assert_eq!((found.as_slice(), &page["next"]), (numbers, &next), "{query}");
    };
    check("", &[1, 2, 3, 4, 5], Value::Null).await;
    check("?limit=2", &[1, 2], json!(2)).await;
    check("?after=2&limit=2", &[3, 4], json!(4)).await;
    check("?after=4&limit=2", &[5], Value::Null).await;
    check("?after=5", &[], Value::Null).await;
    let entry = rig.ledger().await.pop().unwrap();
    let names: Vec<_> = entry.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected =
        ["seq", "began_at", "ended_at", "endpoint", "host", "status", "inner_code", "fingerprint", "successor"];
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!((&entry["status"], &entry["inner_code"]), (&json!(401), &json!("AuthenticationTokenInvalid")));
}

#[tokio::test]
async fn a_profile_is_changed_and_shown() {
    let rig = Rig::start().await;
    rig.grant("POST", "/control/v1/profile", json!({"profile": "legacy", "superseded": "refused"})).await;
    let shown = rig.grant("GET", "/control/v1/profile", Value::Null).await;
    assert_eq!(
        (&shown["profile"], &shown["superseded"], &shown["errors"]),
        (&json!("legacy"), &json!("refused"), &json!("plain"))
    );
}

#[tokio::test]
async fn certificates_rotate_on_request() {
    let rig = Rig::start().await;
    let key = rig.mint_key("purchase", "u").await;
    let rotated = rig.grant("POST", "/control/v1/certificates/rotate", json!({"accept_previous_for": "5d"})).await;
    assert_eq!(rotated["certificates"].as_array().unwrap().len(), 2);
    let renew = async || rig.renew(VirtualHost::Purchase, &rig.renewal(&key).await).await.unwrap().status;
    assert_eq!(renew().await, 200);
    rig.grant("POST", "/control/v1/clock", json!({"advance": "5d1s"})).await;
    assert_eq!(renew().await, 401);
}

#[tokio::test]
async fn a_registered_client_gets_tickets() {
    let rig = Rig::start().await;
    let (tenant, client) = ("33333333-3333-4333-8333-333333333333", "44444444-4444-4444-8444-444444444444");
    let ask = async || {
        let scope = "https%3A%2F%2Fonestore.microsoft.com%2F.default";
        let form = format!("grant_type=client_credentials&client_id={client}&client_secret=a%2Bb%26c&scope={scope}");
        let path = format!("/login.microsoftonline.com/{tenant}/oauth2/v2.0/token");
        let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
        exchange(rig.http(), &request("POST", &path, "127.0.0.1", headers, &form)).await.unwrap()
    };
    assert_eq!(ask().await.status, 400);
    let wanted = json!({"tenant_id": tenant, "client_id": client, "secret": "a+b&c"});
    let registered = rig.grant("POST", "/control/v1/clients", wanted).await;
    assert_eq!(registered, json!({"tenant_id": tenant, "client_id": client}), "the secret is not told again");
    let answer = ask().await;
    assert_eq!((answer.status, answer.json()["token_type"].as_str()), (200, Some("Bearer")));
    assert_eq!(rig.ledger().await.pop().unwrap()["host"], "login.microsoftonline.com");
}

#[tokio::test]
async fn revoked_is_what_was_named() {
    let rig = Rig::start().await;
    let minted = rig.grant("POST", "/control/v1/keys", json!({"kind": "purchase", "user_id": "u"})).await;
    let other = rig.mint_key("purchase", "u").await;
    let fingerprint = Fingerprint::of(minted["key"].as_str().unwrap());
    rig.grant("POST", "/control/v1/revocations", json!({"fingerprint": fingerprint})).await;
    let renew = async |key: &str| rig.renew(VirtualHost::Purchase, &rig.renewal(key).await).await.unwrap().status;
    assert_eq!(renew(minted["key"].as_str().unwrap()).await, 401);
    assert_eq!(renew(&other).await, 200);
}

#[tokio::test]
async fn a_listener_that_is_not_wanted_is_not_there() {
    let options = ServerOptions { https: None, ..ServerOptions::ephemeral() };
    let rig = Rig::start_with(options).await;
    assert_eq!((rig.running.https(), rig.running.ca_file()), (None, None));
}
