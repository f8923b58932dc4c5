//! The two NDJSON routes: one answer for each line, in order, whatever the lines hold.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use common::{KEY, LIMITED, Mint, ROOT, World, config, key, request, send};
use futures_util::{StreamExt, stream};
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use storekeeper_model::{Fingerprint, KeyKind};

fn enroll_line(user: &str, key: &str) -> String {
    format!("{}\n", json!({"app": "mygame", "user": user, "key": key}))
}

fn told(line: &Value) -> (u64, u64, &str) {
    (line["line"].as_u64().unwrap(), line["status"].as_u64().unwrap(), line["code"].as_str().unwrap_or("-"))
}

#[tokio::test]
async fn every_line_is_answered_in_order_and_bad_ones_harm_nobody() {
    let world = World::new().await;
    let purchase = Mint { kind: KeyKind::Purchase, ..Mint::default() }.jwt();
    let mut text = String::new();
    text += &enroll_line("player-0001", &key(1));
    text += "\n";
    text += "not json\n";
    text += &json!({"app": "nonsuch", "user": "a", "key": key(2)}).to_string();
    text += "\n";
    text += &enroll_line("", &key(2));
    text += &enroll_line(&"a".repeat(257), &key(2));
    text += &enroll_line("player-0002", "");
    text += &enroll_line("player-0002", "a.b.c");
    text += &json!({"app": "mygame", "user": "a/b", "slot": null, "kind": "purchase", "key": purchase}).to_string();
    text += "\r\n";
    text += &json!({"app": "mygame", "user": "a", "kind": "both", "key": key(2)}).to_string();
    text += "\n";
    text += &json!({"app": "mygame", "user": "a", "kind": "purchase", "key": key(2)}).to_string();
    text += "\n";
    text += &json!({"app": "mygame", "user": "a", "slot": "s".repeat(65), "key": key(2)}).to_string();
    text += "\n";
    text += &json!({"app": "mygame", "user": "a", "key": key(2), "extra": 1}).to_string();
    text += "\n[\"mygame\",\"a\",null,null,\"b\"]\n";
    text += &enroll_line("player-0001", &key(1));
    text += enroll_line("player-0003", &key(3)).trim_end();
    let answer = world.post("/v1/keys:enroll", text).await;
    assert_eq!(
        (answer.status, answer.headers[header::CONTENT_TYPE].as_bytes()),
        (StatusCode::OK, &b"application/x-ndjson"[..])
    );
    let lines = answer.lines();
    assert_eq!(
        lines.iter().map(told).collect::<Vec<_>>(),
        [
            (1, 201, "-"),
            (3, 400, "body_invalid"),
            (4, 404, "app_unknown"),
            (5, 400, "user_empty"),
            (6, 400, "user_too_long"),
            (7, 400, "key_empty"),
            (8, 400, "key_malformed"),
            (9, 201, "-"),
            (10, 404, "kind_unknown"),
            (11, 400, "key_wrong_kind"),
            (12, 400, "slot_too_long"),
            (13, 400, "body_invalid"),
            (14, 400, "body_invalid"),
            (15, 200, "-"),
            (16, 201, "-"),
        ]
    );
    assert_eq!(
        lines[0],
        json!({"line": 1, "status": 201, "outcome": "new", "fingerprint": Fingerprint::of(&key(1)).to_string()})
    );
    assert_eq!(lines[13]["outcome"], "known");
    assert_eq!(lines[1]["act"], "caller");
    assert_eq!(world.get("/v1/apps/mygame/users/a%2Fb/keys/purchase").await.json()["key"], purchase);
    assert_eq!(world.get("/v1/keys").await.json()["keys"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn many_keys_are_got_at_once() {
    let world = World::new().await;
    world.enroll(KEY, &key(1)).await;
    world.enroll(&format!("{KEY}?slot=second"), &key(2)).await;
    let line = |user: &str, slot: &str, kind: &str| {
        format!("{}\n", json!({"app": "mygame", "user": user, "slot": slot, "kind": kind}))
    };
    let text = [
        line("player-0001", "", "collections"),
        line("player-0001", "second", "collections"),
        line("player-0001", "", "purchase"),
        line("player-0001", "", "store"),
        "{\"app\":\"mygame\",\"user\":\"player-0001\"}\n".into(),
    ];
    let lines = world.post("/v1/keys:get", text.concat()).await.lines();
    let mut first = lines[0].clone();
    let members = first.as_object_mut().unwrap();
    assert_eq!((members.remove("line"), members.remove("status")), (Some(json!(1)), Some(json!(200))));
    assert_eq!(first, world.get(KEY).await.json());
    assert_eq!((lines[1]["key"].as_str(), lines[1]["slot"].as_str()), (Some(key(2).as_str()), Some("second")));
    let rest: Vec<_> = lines[2..].iter().map(told).collect();
    assert_eq!(rest, [(3, 404, "key_not_found"), (4, 404, "kind_unknown"), (5, 400, "body_invalid")]);
}

#[tokio::test]
async fn a_caller_limited_to_apps_is_told_per_line() {
    let world = World::new().await;
    let line = |app: &str| format!("{}\n", json!({"app": app, "user": "a", "kind": "collections"}));
    let text = ["mygame", "other", "nonsuch"].map(line).concat();
    let answer = send(&world.data, request(Method::POST, "/v1/keys:get", LIMITED, text.into())).await;
    let lines = answer.lines();
    let expected = [(1, 404, "key_not_found"), (2, 403, "forbidden"), (3, 403, "forbidden")];
    assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn thousands_of_lines_are_answered_in_order() {
    let world = World::new().await;
    let count: u64 = 5_000;
    let text: String = (1..=count).map(|serial| enroll_line(&format!("player-{serial}"), &key(serial))).collect();
    // In pieces that end anywhere.
    let pieces: Vec<_> =
        text.as_bytes().chunks(7_777).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
    let answer = world.post("/v1/keys:enroll", Body::from_stream(stream::iter(pieces))).await;
    let lines = answer.lines();
    assert_eq!(lines.len() as u64, count);
    for (number, line) in (1..=count).zip(&lines) {
        assert_eq!(told(line), (number, 201, "-"));
        assert_eq!(line["fingerprint"], Fingerprint::of(&key(number)).to_string());
    }
    let text: String = (1..=count)
        .map(|serial| {
            format!("{}\n", json!({"app": "mygame", "user": format!("player-{serial}"), "kind": "collections"}))
        })
        .collect();
    let lines = world.post("/v1/keys:get", text).await.lines();
    assert_eq!(lines.len() as u64, count);
    for (number, line) in (1..=count).zip(&lines) {
        assert_eq!((line["line"].as_u64(), line["key"].as_str()), (Some(number), Some(key(number).as_str())));
    }
}

#[tokio::test]
async fn a_line_is_answered_before_the_next_is_sent() {
    let world = World::new().await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<String>(1);
    let body = stream::unfold(receiver, |mut receiver| async {
        Some((Ok::<_, std::io::Error>(Bytes::from(receiver.recv().await?)), receiver))
    });
    let asked = request(Method::POST, "/v1/keys:enroll", ROOT, Body::from_stream(body));
    let mut answers = world.data.answer(asked).await.into_body().into_data_stream();
    for serial in 1..=3 {
        sender.send(enroll_line(&format!("player-{serial}"), &key(serial))).await.unwrap();
        let line: Value = serde_json::from_slice(&answers.next().await.unwrap().unwrap()).unwrap();
        assert_eq!(told(&line), (serial, 201, "-"));
    }
    drop(sender);
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn what_ends_a_batch_early_is_told_in_its_last_line() {
    let mut config = config();
    config.guards.line_timeout = Duration::from_millis(20);
    let world = World::with(config).await;
    let first = || stream::iter([Ok::<_, std::io::Error>(Bytes::from(enroll_line("player-0001", &key(1))))]);
    let stalled = Body::from_stream(first().chain(stream::pending()));
    let lines = world.post("/v1/keys:enroll", stalled).await.lines();
    assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), [(1, 201, "-"), (2, 408, "request_timeout")]);
    let broken = Body::from_stream(first().chain(stream::iter([Err(std::io::Error::other("gone"))])));
    let lines = world.post("/v1/keys:enroll", broken).await.lines();
    assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), [(1, 200, "-"), (2, 400, "body_invalid")]);
}

#[tokio::test]
async fn a_keyring_that_fails_is_told_per_line() {
    let world = World::new().await;
    world.keyring.memory.set_available(false);
    let text = [enroll_line("a", &key(1)), enroll_line("b", "bad"), enroll_line("c", &key(3))].concat();
    let lines = world.post("/v1/keys:enroll", text).await.lines();
    let expected = [(1, 503, "keyring_unavailable"), (2, 400, "key_malformed"), (3, 503, "keyring_unavailable")];
    assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), expected);
    assert_eq!(lines[0]["act"], "wait");
}

#[tokio::test]
async fn a_batch_is_read_no_faster_than_its_answers_are_taken() {
    let world = World::new().await;
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = std::sync::Arc::clone(&sent);
    let endless = stream::iter(1u64..).map(move |number| {
        counter.store(number, std::sync::atomic::Ordering::Relaxed);
        Ok::<_, std::io::Error>(Bytes::from(format!(
            "{{\"app\":\"mygame\",\"user\":\"{number}\",\"kind\":\"purchase\"}}\n"
        )))
    });
    let asked = request(Method::POST, "/v1/keys:get", ROOT, Body::from_stream(endless));
    let mut body = world.data.answer(asked).await.into_body();
    for _ in 0..3 {
        body.frame().await.unwrap().unwrap();
    }
    tokio::task::yield_now().await;
    assert!(sent.load(std::sync::atomic::Ordering::Relaxed) <= 4 * 256 + 1, "{sent:?}");
}

#[tokio::test]
async fn a_batch_declares_lines_and_not_pictures() {
    let world = World::new().await;
    for (kind, status) in [("application/x-ndjson", 200), ("application/jsonl; charset=utf-8", 200), ("image/png", 415)]
    {
        let mut asked = request(Method::POST, "/v1/keys:get", ROOT, Body::empty());
        asked.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
        assert_eq!(send(&world.data, asked).await.status, status, "{kind}");
    }
}
