//! Every code of the table is produced by the routers, and says what the table says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use common::keyring::{Mood, TestKeyring};
use common::store::{Entra, Renewal};
use common::{Answer, DAY, KEY, LIMITED, Mint, NOBODY, ROOT, START, World, config, key, request, send};
use http::{Method, header};
use storekeeper_model::KeyKind;
use storekeeper_server::RequestLimits;

/// The codes that were seen.
struct Seen(BTreeSet<String>);

impl Seen {
    fn check(&mut self, answer: &Answer, code: &str) {
        assert_eq!(answer.code(), code, "{answer:?}");
        self.0.insert(code.to_owned());
    }
}

#[tokio::test]
async fn every_code_is_produced() {
    let mut seen = Seen(BTreeSet::new());
    token_codes(&mut seen).await;
    path_codes(&mut seen).await;
    body_codes(&mut seen).await;
    enroll_codes(&mut seen).await;
    read_codes(&mut seen).await;
    transfer_codes(&mut seen).await;
    renewal_codes(&mut seen).await;
    ticket_codes(&mut seen).await;
    keeper_codes(&mut seen).await;
    limit_codes(&mut seen).await;
    let all: BTreeSet<String> = storekeeper_server::code::ALL.iter().map(|row| row.code.to_owned()).collect();
    assert_eq!(seen.0, all);
}

async fn token_codes(seen: &mut Seen) {
    let world = World::new().await;
    let mut bare = request(Method::GET, KEY, ROOT, Body::empty());
    bare.headers_mut().clear();
    let answer = send(&world.data, bare).await;
    assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer realm=\"storekeeper\"");
    seen.check(&answer, "unauthorized");
    seen.check(&world.get_as("no-such-token-0000", KEY).await, "unauthorized");
    seen.check(&world.get_as(NOBODY, KEY).await, "forbidden");
    seen.check(&world.get_as(LIMITED, &KEY.replace("mygame", "other")).await, "forbidden");
    seen.check(&world.get_as(LIMITED, &KEY.replace("mygame", "nonsuch")).await, "forbidden");
    assert!(world.get_as(NOBODY, KEY).await.json()["detail"].as_str().unwrap().contains("key:read"));
}

async fn path_codes(seen: &mut Seen) {
    let world = World::new().await;
    let user = |user: &str| format!("/v1/apps/mygame/users/{user}/keys/collections");
    seen.check(&world.get(&KEY.replace("mygame", "nonsuch")).await, "app_unknown");
    seen.check(&world.get(&KEY.replace("mygame", "%FF")).await, "app_unknown");
    seen.check(&world.get(&KEY.replace("collections", "Collections")).await, "kind_unknown");
    seen.check(&world.get(&user("%FF")).await, "user_not_utf8");
    seen.check(&world.get(&user("%C3")).await, "user_not_utf8");
    seen.check(&world.get(&user(&"a".repeat(257))).await, "user_too_long");
    seen.check(&world.get(&user("")).await, "user_empty");
    seen.check(&world.data(Method::DELETE, "/v1/apps/mygame/users/", Body::empty()).await, "user_empty");
    seen.check(&world.get(&user("a%zz")).await, "path_invalid");
    seen.check(&world.get(&user("a%")).await, "path_invalid");
    seen.check(&world.get(&format!("{KEY}?slot={}", "a".repeat(65))).await, "slot_too_long");
    seen.check(&world.get(&format!("{KEY}?slot=a&slot=a")).await, "query_invalid");
    seen.check(&world.get(&format!("{KEY}?Slot=a")).await, "query_invalid");
    for path in
        ["/", "/v1", "/v1/", "/v1/events", "/v1/forecast", "/v1/outage-budget", "/ui", "/metrics", "/v1/keys/", "//"]
    {
        seen.check(&world.get(path).await, "route_unknown");
    }
    seen.check(&world.post("/v1/apps/mygame/users/a/store/collections/query", "{}").await, "route_unknown");
    seen.check(&world.admin(Method::GET, KEY, "").await, "route_unknown");
    let wrong = world.data(Method::PATCH, KEY, Body::empty()).await;
    let mut allowed: Vec<&str> = wrong.headers[header::ALLOW].to_str().unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["DELETE", "GET", "HEAD", "PUT"]);
    seen.check(&wrong, "method_not_allowed");
    let drain = async |node: &str| world.admin(Method::POST, &format!("/v1/admin/nodes/{node}/drain"), "").await;
    seen.check(&drain("nobody").await, "node_unknown");
    seen.check(&drain("keeper").await, "node_alone");
    seen.check(&world.get("/v1/keys:enroll").await, "method_not_allowed");
}

async fn body_codes(seen: &mut Seen) {
    let world = World::new().await;
    let put = async |body: &str| world.data(Method::PUT, KEY, Body::from(body.to_owned())).await;
    for body in [
        "",
        "{",
        "[]",
        "\"eyJ\"",
        "{\"key\":1}",
        "{\"key\":\"a\",\"kez\":\"b\"}",
        "{\"key\":\"a\",\"key\":\"b\"}",
        "{} {}",
    ] {
        seen.check(&put(body).await, "body_invalid");
    }
    seen.check(&put("{}").await, "key_empty");
    seen.check(&put("{\"key\":\"\"}").await, "key_empty");
    seen.check(&world.put(KEY, &"a".repeat(16 * 1024 + 1)).await, "key_too_large");
    seen.check(&world.put(KEY, &"a".repeat(64 * 1024)).await, "body_too_large");
    let mut asked = request(Method::PUT, KEY, ROOT, Body::from("{}"));
    asked.headers_mut().insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
    seen.check(&send(&world.data, asked).await, "media_type_unsupported");
    let lines = world.post("/v1/keys:get", format!("{{\"app\":\"{}\"}}\n", "a".repeat(64 * 1024))).await.lines();
    assert_eq!((lines[0]["code"].as_str(), lines[0]["status"].as_u64()), (Some("line_too_long"), Some(413)));
    seen.0.insert("line_too_long".into());
}

async fn enroll_codes(seen: &mut Seen) {
    let world = World::new().await;
    seen.check(&world.put(KEY, "no.key").await, "key_malformed");
    seen.check(&world.put(KEY, &key(1).rsplit_once('.').unwrap().0.replace('.', "..")).await, "key_malformed");
    let of_kind = |kind| Mint { kind, ..Mint::default() }.jwt();
    seen.check(&world.put(KEY, &of_kind(KeyKind::Purchase)).await, "key_wrong_kind");
    let foreign = Mint { client_id: "33333333333343338333333333333333", ..Mint::default() }.jwt();
    seen.check(&world.put(KEY, &foreign).await, "key_wrong_client");
    let strict = KEY.replace("mygame", "strict");
    world.enroll(&strict, &key(1)).await;
    seen.check(&world.put(&strict.replace("0001", "0002"), &key(1)).await, "key_wrong_user");
    let expired = Mint { issued_at: START - DAY * 31, ..Mint::default() }.jwt();
    seen.check(&world.put(KEY, &expired).await, "key_expired");
    let ahead = Mint { issued_at: START + Duration::from_secs(301), ..Mint::default() }.jwt();
    seen.check(&world.put(KEY, &ahead).await, "key_not_yet_valid");
    assert_eq!(
        world.get("/v1/keys").await.json()["keys"].as_array().unwrap().len(),
        1,
        "what was refused was not stored"
    );
    world.enroll(KEY, &key(2)).await;
    let older = Mint { issued_at: START - DAY * 2, ..Mint::default() }.jwt();
    seen.check(&world.put(KEY, &older).await, "key_older");
    world.keyring.set_mood(Mood::Contended);
    seen.check(&world.put(&KEY.replace("0001", "0009"), &key(3)).await, "too_busy");
}

async fn read_codes(seen: &mut Seen) {
    let world = World::new().await;
    seen.check(&world.get(KEY).await, "key_not_found");
    seen.check(&world.get(&format!("{KEY}/history")).await, "key_not_found");
    world.store.answer_renewals(Renewal::Status(503));
    world.enroll(KEY, &key(1)).await;
    seen.check(&world.get(&format!("{KEY}?min_ttl=15d1ms")).await, "min_ttl_too_long");
    world.clock.set(START + DAY * 40);
    seen.check(&world.get(KEY).await, "key_lapsed");
    seen.check(&world.put(KEY, &key(1)).await, "key_lapsed");
    revoked_code(seen).await;
    skew_code(seen).await;
}

/// A proven key that the Store refuses for days, while others are renewed, is revoked.
async fn revoked_code(seen: &mut Seen) {
    let world = World::new().await;
    for player in 1..=8 {
        let path = KEY.replace("0001", &format!("{player:04}"));
        world
            .enroll(&path, &Mint { serial: player, user_id: format!("player-{player:04}"), ..Mint::default() }.jwt())
            .await;
        assert_eq!(world.post(&format!("{path}/renew"), "").await.status, 200);
    }
    world.store.refuse_user("player-0001");
    seen.check(&world.post(&format!("{KEY}/renew"), "").await, "renewal_refused");
    world.clock.advance(DAY * 12).await.unwrap();
    seen.check(&world.get(KEY).await, "key_revoked");
    seen.check(&world.post(&format!("{KEY}/renew"), "").await, "key_revoked");
    assert_eq!(world.get(&KEY.replace("0001", "0002")).await.status, 200);
}

/// By our clock the key has expired, by the Store's it has not.
async fn skew_code(seen: &mut Seen) {
    let world = World::new().await;
    world.enroll(KEY, &key(1)).await;
    let other = KEY.replace("0001", "0002");
    let late = Mint { issued_at: START, life: DAY * 60, ..Mint::default() }.jwt();
    world.enroll(&other, &late).await;
    world.store.answer_renewals(Renewal::Refuse);
    world.store.say_date("Thu, 01 Jan 2026 00:00:00 GMT");
    world.clock.set(START + DAY * 40);
    seen.check(&world.post(&format!("{other}/renew"), "").await, "renewal_failed");
    seen.check(&world.get(KEY).await, "clock_skewed");
}

async fn transfer_codes(seen: &mut Seen) {
    let world = World::new().await;
    world.store.answer_renewals(Renewal::Status(503));
    world.enroll(KEY, &key(1)).await;
    let exported = world.admin(Method::GET, "/v1/admin/keys:export", "").await.json();
    let mut line = exported["keys"][0].clone();
    let told = |answer: Answer| answer.lines()[0]["code"].as_str().unwrap_or_default().to_owned();
    line["fingerprint"] = "00112233445566778899aabbccddeeff".into();
    assert_eq!(told(world.admin(Method::POST, "/v1/admin/keys:import", line.to_string()).await), "key_altered");
    let mark = |revision: i64| {
        let line = &exported["keys"][0];
        serde_json::json!({"app": line["app"], "user": line["user"], "kind": line["kind"], "revision": revision})
    };
    let revision = line["revision"].as_i64().unwrap();
    let changed = world.admin(Method::POST, "/v1/admin/keys:handover", mark(revision + 1).to_string()).await;
    assert_eq!(told(changed), "key_changed");
    seen.0.extend(["key_altered", "key_changed"].map(str::to_owned));
    let marked = world.admin(Method::POST, "/v1/admin/keys:handover", mark(revision).to_string()).await;
    assert_eq!(marked.lines()[0]["handed_over"], true);
    seen.check(&world.post(&format!("{KEY}/renew"), "").await, "key_handed_over");
    assert_eq!(world.get(KEY).await.json()["handed_over"], true);
    world.clock.set(START + DAY * 40);
    seen.check(&world.get(KEY).await, "key_handed_over");
    for path in ["?since=yesterday", "?only=all", "?limit=0", "?cursor=x"] {
        let answer = world.admin(Method::GET, &format!("/v1/admin/keys:export{path}"), "").await;
        seen.check(&answer, "query_invalid");
    }
    for bad in ["{", "{\"app\":\"mygame\",\"user\":\"a\",\"key\":\"k\",\"state\":\"expired\"}"] {
        assert_eq!(told(world.admin(Method::POST, "/v1/admin/keys:import", bad).await), "body_invalid");
    }
    let world = World::on(TestKeyring::of_another_node().await, config()).await;
    for body in ["", "{"] {
        seen.check(&world.admin(Method::POST, "/v1/admin/keys:handover", body).await, "leases_elsewhere");
    }
}

async fn renewal_codes(seen: &mut Seen) {
    let world = World::new().await;
    world.enroll(KEY, &key(1)).await;
    world.store.answer_renewals(Renewal::Refuse);
    seen.check(&world.post(&format!("{KEY}/renew"), "").await, "renewal_refused");
    world.store.answer_renewals(Renewal::Status(503));
    let failed = world.post(&format!("{KEY}/renew"), "").await;
    assert!(failed.json()["reason"].is_string());
    seen.check(&failed, "renewal_failed");
    assert_eq!(world.admin(Method::POST, "/v1/admin/apps/mygame/pause", "").await.status, 200);
    let paused = world.post(&format!("{KEY}/renew"), "").await;
    assert_eq!(paused.json()["reason"], "operator");
    seen.check(&paused, "app_paused");
    assert_eq!(world.get(KEY).await.status, 200, "a paused app's keys are served");
}

async fn ticket_codes(seen: &mut Seen) {
    let world = World::new().await;
    seen.check(&world.get("/v1/apps/mygame/tickets/renewal").await, "audience_unknown");
    world.store.answer_tickets(Entra::Unavailable);
    seen.check(&world.get("/v1/apps/mygame/tickets/purchase").await, "ticket_unavailable");
    let world = World::new().await;
    world.store.answer_tickets(Entra::Refuse);
    let refused = world.get("/v1/apps/mygame/tickets/collections").await;
    assert_eq!(refused.json()["reason"], "credential_refused");
    seen.check(&refused, "ticket_refused");
}

async fn keeper_codes(seen: &mut Seen) {
    let world = World::new().await;
    world.enroll(KEY, &key(1)).await;
    world.keyring.memory.set_available(false);
    seen.check(&world.put(KEY, &key(2)).await, "keyring_unavailable");
    let unknown = KEY.replace("0001", "0002");
    seen.check(&world.get(&unknown).await, "keyring_unavailable");
    seen.check(&world.get("/v1/keys").await, "keyring_unavailable");
    world.keyring.memory.set_available(true);
    world.keyring.set_mood(Mood::Buggy);
    let broken = world.get(KEY).await;
    assert!(!broken.text().contains("secret"));
    seen.check(&broken, "internal");
    world.keyring.set_mood(Mood::Calm);
    world.keeper.shutdown().await;
    seen.check(&world.get("/v1/apps/mygame/tickets/service").await, "shutting_down");
    seen.check(&world.admin(Method::GET, "/readyz", "").await, "not_ready");
    assert_eq!(world.admin(Method::GET, "/livez", "").await.text(), "alive\n");
    let guard = world.keeper.supervisor().guard("a core task");
    let died = std::thread::spawn(move || {
        let _guard = guard;
        panic!("a bug");
    });
    assert!(died.join().is_err());
    seen.check(&world.admin(Method::GET, "/livez", "").await, "not_live");
}

async fn limit_codes(seen: &mut Seen) {
    let mut config = config();
    config.limits = RequestLimits { requests_max: 1, batches_max: 1 };
    config.guards.body_timeout = Duration::from_millis(20);
    let world = World::with(config).await;
    let never = || Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let slow = world.data(Method::PUT, KEY, never());
    let (slow, turned_away) = tokio::join!(slow, world.get(KEY));
    seen.check(&slow, "request_timeout");
    seen.check(&turned_away, "too_many_requests");
    let batch = request(Method::POST, "/v1/keys:get", ROOT, never());
    let under_way = world.data.answer(batch).await;
    seen.check(&world.post("/v1/keys:get", "").await, "too_many_requests");
    drop(under_way);
    assert_eq!(world.post("/v1/keys:get", "").await.status, 200);
}
