//! Every kind of fault, as a caller meets it and as the ledger tells it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod http_support;

use std::time::Duration;

use http_support::{Reply, Rig};
use serde_json::{Value, json};
use storekeeper_emulator::VirtualHost;
use storekeeper_model::{Fingerprint, StoreIdKey};

/// A rig with one fault planned, and the answer to one renewal of a live key.
async fn struck(fault: Value) -> (Rig, std::io::Result<Reply>, Fingerprint) {
    let rig = Rig::start().await;
    rig.grant("POST", "/control/v1/faults", fault).await;
    let key = rig.mint_key("purchase", "u").await;
    let body = rig.renewal(&key).await;
    let reply = rig.renew(VirtualHost::Purchase, &body).await;
    (rig, reply, Fingerprint::of(&key))
}

async fn last(rig: &Rig) -> Value {
    rig.ledger().await.pop().unwrap()
}

#[tokio::test]
async fn a_status_before_processing_mints_nothing() {
    let (rig, reply, fingerprint) = struck(json!({"endpoint": "renew", "status": 503})).await;
    let reply = reply.unwrap();
    assert_eq!((reply.status, reply.body.len()), (503, 0));
    let entry = last(&rig).await;
    assert_eq!((&entry["status"], &entry["successor"]), (&json!(503), &Value::Null));
    assert_eq!(entry["fingerprint"], fingerprint.to_string());
}

#[tokio::test]
async fn a_status_after_processing_hides_what_was_minted() {
    let (rig, reply, _) = struck(json!({"endpoint": "renew", "status": 500, "when": "after"})).await;
    let reply = reply.unwrap();
    assert_eq!((reply.status, &reply.json()["innererror"]["code"]), (500, &json!("InternalAadAuthenticationError")));
    let entry = last(&rig).await;
    assert!(entry["successor"].is_string());
    assert_eq!(entry["inner_code"], "InternalAadAuthenticationError");
}

#[tokio::test]
async fn bodies_and_headers_are_as_ordered() {
    let check = async |fault: Value, status, body: &str, header: (&str, &str)| {
        let (_rig, reply, _) = struck(fault.clone()).await;
        let reply = reply.unwrap();
        assert_eq!((reply.status, reply.body.as_slice()), (status, body.as_bytes()), "{fault}");
        assert_eq!(reply.header(header.0), Some(header.1), "{fault}");
    };
    check(json!({"endpoint": "renew", "body": {}}), 200, "{}", ("content-type", "application/json")).await;
    check(
        json!({"endpoint": "renew", "status": 200, "body": "{\"key\":\"\"}"}),
        200,
        "{\"key\":\"\"}",
        ("content-length", "10"),
    )
    .await;
    check(json!({"endpoint": "renew", "status": 500, "body": "<html>"}), 500, "<html>", ("content-type", "text/html"))
        .await;
    let elsewhere = "https://elsewhere.example/v6.0/b2b/keys/renew";
    let redirect = json!({"endpoint": "renew", "status": 307, "headers": {"Location": elsewhere}});
    check(redirect, 307, "", ("location", elsewhere)).await;
    let throttle = json!({"endpoint": "renew", "status": 429, "body": "", "headers": {"Retry-After": "Fri, 15 Jan 2027 09:00:00 GMT"}});
    check(throttle, 429, "", ("retry-after", "Fri, 15 Jan 2027 09:00:00 GMT")).await;
}

#[tokio::test]
async fn headers_alone_change_a_real_answer() {
    let odd = json!({"endpoint": "renew", "headers": {"Date": "Tue, 13 Sep 2015 00:00:00 GMT", "MS-CV": "5.1"}});
    let (_rig, reply, _) = struck(odd).await;
    let reply = reply.unwrap();
    assert_eq!((reply.status, reply.header("date")), (200, Some("Tue, 13 Sep 2015 00:00:00 GMT")));
    assert_eq!(reply.header("ms-cv"), Some("5.1"));
    assert!(reply.json()["key"].is_string());
}

#[tokio::test]
async fn the_ledger_names_a_made_up_inner_code() {
    let refusal = json!({"code": "Unauthorized", "innererror": {"code": "AuthenticationTokenInvalid"}});
    let (rig, reply, _) = struck(json!({"endpoint": "renew", "status": 401, "body": refusal})).await;
    assert_eq!(reply.unwrap().status, 401);
    assert_eq!(last(&rig).await["inner_code"], "AuthenticationTokenInvalid");
}

#[tokio::test]
async fn a_reset_leaves_no_answer() {
    for (when, minted) in [("before", false), ("after", true)] {
        let (rig, reply, _) = struck(json!({"endpoint": "renew", "reset": true, "when": when})).await;
        assert_eq!(reply.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        let entry = last(&rig).await;
        assert_eq!((&entry["status"], entry["successor"].is_string()), (&Value::Null, minted), "{when}");
    }
}

#[tokio::test]
async fn a_truncated_body_is_shorter_than_promised() {
    for (truncate, expected) in [(json!(true), None), (json!(100), Some(100)), (json!(0), Some(0))] {
        let (rig, reply, _) = struck(json!({"endpoint": "renew", "truncate": truncate})).await;
        let reply = reply.unwrap();
        let promised: usize = reply.header("content-length").unwrap().parse().unwrap();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.body.len(), expected.unwrap_or(promised / 2));
        assert!(promised > 1000);
        assert_eq!(last(&rig).await["status"], 200);
    }
}

#[tokio::test]
async fn a_delay_passes_on_the_emulators_clock() {
    for when in ["before", "after"] {
        let rig = Rig::start().await;
        rig.grant("POST", "/control/v1/faults", json!({"endpoint": "renew", "delay": "5m", "when": when})).await;
        let key = rig.mint_key("collections", "u").await;
        let body = rig.renewal(&key).await;
        let (reply, ()) = tokio::join!(rig.renew(VirtualHost::Collections, &body), async {
            while rig.grant("GET", "/control/v1/faults", Value::Null).await["faults"][0]["fired"] == 0 {}
            rig.grant("POST", "/control/v1/clock", json!({"advance": "1d"})).await;
        });
        let successor = StoreIdKey::parse(reply.unwrap().json()["key"].as_str().unwrap().to_owned().into()).unwrap();
        let minted_after = successor.lifetime().issued_at().since(http_support::START);
        assert_eq!(minted_after, Duration::from_secs(if when == "before" { 300 } else { 0 }));
        let entry = last(&rig).await;
        assert_eq!(
            (&entry["began_at"], &entry["ended_at"]),
            (&json!("2027-01-15T08:00:00Z"), &json!("2027-01-15T08:05:00Z"))
        );
    }
}

#[tokio::test]
async fn a_plan_is_listed_and_cleared() {
    let rig = Rig::start().await;
    let first = rig.grant("POST", "/control/v1/faults", json!({"endpoint": "renew", "status": 503, "count": 1})).await;
    assert_eq!((&first["id"], &first["fired"], &first["endpoint"]), (&json!(1), &json!(0), &json!("renew")));
    rig.grant("POST", "/control/v1/faults", json!({"endpoint": "renew", "status": 429, "for": "1h"})).await;
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(rig.renew(VirtualHost::Purchase, "{}").await.unwrap().status);
    }
    rig.grant("POST", "/control/v1/clock", json!({"advance": "1h"})).await;
    statuses.push(rig.renew(VirtualHost::Purchase, "{}").await.unwrap().status);
    assert_eq!(statuses, [503, 429, 401]);
    let listed = rig.grant("GET", "/control/v1/faults", Value::Null).await;
    let listed: Vec<_> =
        listed["faults"].as_array().unwrap().iter().map(|fault| (&fault["fired"], &fault["active"])).collect();
    assert_eq!(listed, [(&json!(1), &json!(false)), (&json!(1), &json!(false))]);
    rig.grant("DELETE", "/control/v1/faults/1", Value::Null).await;
    rig.refuse("DELETE", "/control/v1/faults/1", "", (404, "fault_unknown"), "no fault 1").await;
    assert_eq!(rig.grant("DELETE", "/control/v1/faults", Value::Null).await["cleared"], 1);
}
