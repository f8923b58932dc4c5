//! One key through the API: enrolled, got, renewed, remembered, forgotten.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::time::Duration;

use axum::body::Body;
use common::store::Renewal;
use common::{DAY, KEY, Mint, ROOT, START, World, key, request, send};
use http::{Method, StatusCode, header};
use serde_json::json;
use storekeeper_model::{Fingerprint, KeyKind};

#[tokio::test]
async fn a_key_is_enrolled_and_handed_out_with_the_members_of_the_contract() {
    let world = World::new().await;
    let text = key(1);
    let enrolled = world.put(KEY, &text).await;
    assert_eq!(enrolled.status, StatusCode::CREATED);
    assert_eq!(enrolled.json()["outcome"], "new");
    assert_eq!(enrolled.json()["enrolled"], Fingerprint::of(&text).to_string());
    assert_eq!(enrolled.json().get("key"), None);

    let got = world.get(KEY).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.headers[header::CONTENT_TYPE], "application/json");
    let mut json = got.json();
    let renew_at = json["renew_at"].take();
    assert!(renew_at.as_str().unwrap() > "2026-01-06" && renew_at.as_str().unwrap() < "2026-01-12", "{renew_at}");
    assert_eq!(
        json,
        json!({
            "key": text, "app": "mygame", "user": "player-0001", "slot": "", "kind": "collections",
            "state": "active", "proven": false, "refused_since": null, "key_version": 1,
            "fingerprint": Fingerprint::of(&text).to_string(), "certificate": "36D101AF67A9F61B8017FB96F91EDD4B22F05804",
            "issued_at": "2025-12-31T00:00:00Z", "expires_at": "2026-01-30T00:00:00Z", "renew_at": null,
        })
    );
}

#[tokio::test]
async fn enrolling_is_idempotent_and_a_newer_key_replaces_an_unproven_one() {
    let world = World::new().await;
    let (first, second) = (key(1), Mint { issued_at: START, serial: 2, ..Mint::default() }.jwt());
    let outcome = async |text: &str| {
        let answer = world.put(KEY, text).await;
        (answer.status.as_u16(), answer.json()["outcome"].as_str().unwrap().to_owned())
    };
    assert_eq!(outcome(&first).await, (201, "new".into()));
    assert_eq!(outcome(&first).await, (200, "known".into()));
    assert_eq!(outcome(&second).await, (200, "replaced".into()));
    assert_eq!(world.get(KEY).await.json()["key"], second);
    assert_eq!(world.put(KEY, &first).await.code(), "key_older");
}

#[tokio::test]
async fn a_newcomer_waits_beside_a_proven_key() {
    let world = World::new().await;
    world.enroll(KEY, &key(1)).await;
    let proven = world.post(&format!("{KEY}/renew"), "").await;
    assert_eq!((proven.status, proven.json()["proven"].as_bool()), (StatusCode::OK, Some(true)));
    world.store.answer_renewals(Renewal::Status(503));
    let newcomer = Mint { issued_at: START + Duration::from_secs(60), serial: 2, ..Mint::default() }.jwt();
    let waiting = world.put(KEY, &newcomer).await;
    assert_eq!((waiting.status, waiting.json()["outcome"].as_str()), (StatusCode::OK, Some("waiting")));
    let json = waiting.json();
    assert_eq!(json["enrolled"], Fingerprint::of(&newcomer).to_string());
    assert_eq!(json["newcomer"], json["enrolled"]);
    assert_eq!(json["fingerprint"], proven.json()["fingerprint"]);
}

#[tokio::test]
async fn the_bare_key_is_handed_to_who_asks_for_it() {
    let world = World::new().await;
    let text = key(1);
    world.enroll(KEY, &text).await;
    let mut asked = request(Method::GET, KEY, ROOT, Body::empty());
    asked.headers_mut().insert(header::ACCEPT, "application/jwt".parse().unwrap());
    let bare = send(&world.data, asked).await;
    assert_eq!((bare.headers[header::CONTENT_TYPE].to_str().unwrap(), bare.text()), ("application/jwt", text.as_str()));
}

#[tokio::test]
async fn min_ttl_renews_first_and_serves_the_live_key_when_that_fails() {
    let world = World::new().await;
    let old = Mint { issued_at: START - DAY * 29, serial: 1, ..Mint::default() }.jwt();
    world.store.answer_renewals(Renewal::Status(503));
    world.enroll(KEY, &old).await;
    let long_enough = world.get(&format!("{KEY}?min_ttl=1h")).await;
    assert_eq!(long_enough.json()["key"], old);
    assert!(!long_enough.headers.contains_key("storekeeper-renewal-failed"));

    let failed = world.get(&format!("{KEY}?min_ttl=2d")).await;
    assert_eq!((failed.status, failed.json()["key"].as_str()), (StatusCode::OK, Some(old.as_str())));
    assert_eq!(failed.headers["storekeeper-renewal-failed"], "renewal_failed");

    world.store.answer_renewals(Renewal::Renew);
    let renewed = world.get(&format!("{KEY}?min_ttl=2d")).await;
    assert_eq!(renewed.json()["expires_at"], "2026-01-31T00:00:00Z");
    assert!(!renewed.headers.contains_key("storekeeper-renewal-failed"));
    assert_eq!(world.get(&format!("{KEY}?min_ttl=16d")).await.code(), "min_ttl_too_long");
    for bad in ["", "1", "soon", "-1h"] {
        assert_eq!(world.get(&format!("{KEY}?min_ttl={bad}")).await.code(), "query_invalid", "{bad}");
    }
}

#[tokio::test]
async fn a_renewal_answers_without_the_key_and_is_remembered() {
    let world = World::new().await;
    world.enroll(KEY, &key(1)).await;
    let renewed = world.post(&format!("{KEY}/renew"), "").await;
    let mut expected = world.get(KEY).await.json();
    expected.as_object_mut().unwrap().remove("key");
    assert_eq!((renewed.status, renewed.json()), (StatusCode::OK, expected));
    assert_eq!(renewed.json()["key_version"], 2);

    let history = world.get(&format!("{KEY}/history")).await.json();
    let outcomes = history["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.len(), 2);
    assert_eq!((outcomes[0]["result"].as_str(), outcomes[0]["status"].as_u64()), (Some("enrolled"), None));
    assert_eq!((outcomes[1]["result"].as_str(), outcomes[1]["status"].as_u64()), (Some("renewed"), Some(200)));
    assert_eq!(outcomes[1]["correlation_id"], "6e5a3f2e-0d52-4a53-9c3a-0f3d8f3a1b2c");
    let members: Vec<&str> = outcomes[1].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["at", "code", "correlation_id", "result", "status"]);
}

#[tokio::test]
async fn forgetting_is_idempotent_and_says_how_many_there_were() {
    let world = World::new().await;
    let purchase = Mint { kind: KeyKind::Purchase, ..Mint::default() }.jwt();
    let player = "/v1/apps/mygame/users/player-0001";
    let forget = async |path: &str| {
        let answer = world.data(Method::DELETE, path, Body::empty()).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::NO_CONTENT, 0));
        answer.headers["storekeeper-forgotten"].to_str().unwrap().to_owned()
    };
    let fill = async || {
        world.enroll(KEY, &key(1)).await;
        world.enroll(&format!("{KEY}?slot=second"), &key(2)).await;
        world.enroll(&format!("{player}/keys/purchase"), &purchase).await;
    };
    fill().await;
    assert_eq!(forget(KEY).await, "1");
    assert_eq!(forget(KEY).await, "0");
    assert_eq!(world.get(KEY).await.code(), "key_not_found");
    assert_eq!(world.get(&format!("{KEY}?slot=second")).await.status, StatusCode::OK);
    assert_eq!(forget(player).await, "2");
    fill().await;
    assert_eq!(forget(&format!("{player}?slot=second")).await, "1");
    assert_eq!(forget(&format!("{player}?slot=")).await, "2");
}

#[tokio::test]
async fn names_are_exact_decoded_bytes() {
    let world = World::new().await;
    let longest = "ä".repeat(128);
    let names = [
        ("a%2Fkeys%2Fb", "a/keys/b"),
        ("a%252Fb", "a%2Fb"),
        ("a+b", "a+b"),
        ("%C3%A4", "ä"),
        ("%00", "\0"),
        ("a%20b", "a b"),
    ];
    for (serial, (raw, name)) in names.into_iter().chain([(longest.as_str(), longest.as_str())]).enumerate() {
        let path = format!("/v1/apps/mygame/users/{raw}/keys/collections");
        let text = key(serial as u64);
        assert_eq!(world.enroll(&path, &text).await.json()["user"], name);
        assert_eq!(world.get(&path).await.json()["key"], text);
    }
    let spelled_otherwise = world.get("/v1/apps/mygame/users/%c3%a4/keys/c%6fllections").await;
    assert_eq!(spelled_otherwise.json()["user"], "ä");
    let slot = world.enroll(&format!("{KEY}?slot=a%26b+c"), &key(99)).await;
    assert_eq!(slot.json()["slot"], "a&b c");
}

#[tokio::test]
async fn operators_look_at_keys_in_any_state_and_never_see_the_key() {
    let world = World::new().await;
    let path = "/v1/admin/apps/mygame/users/player-0001/keys/collections";
    assert_eq!(world.admin(Method::GET, path, "").await.code(), "key_not_found");
    world.store.answer_renewals(Renewal::Status(503));
    world.enroll(KEY, &key(1)).await;
    assert_eq!(world.admin(Method::GET, path, "").await.json()["state"], "active");
    world.clock.set(START + DAY * 40);
    let lapsed = world.admin(Method::GET, path, "").await;
    assert_eq!((lapsed.status, lapsed.json()["state"].as_str()), (StatusCode::OK, Some("lapsed")));
    assert!(!lapsed.text().contains("eyJ"));
    assert_eq!(world.get(KEY).await.code(), "key_lapsed");
}
