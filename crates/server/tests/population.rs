//! Many keys at a glance, tickets, orders, health and metrics.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;

use axum::body::Body;
use common::store::Renewal;
use common::{DAY, KEY, LIMITED, Mint, START, World, key, request, send};
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use storekeeper_model::KeyKind;

fn users(page: &Value) -> BTreeSet<String> {
    page["keys"].as_array().unwrap().iter().map(|key| key["user"].as_str().unwrap().to_owned()).collect()
}

async fn filled(count: u64) -> World {
    let world = World::new().await;
    for serial in 1..=count {
        world.enroll(&KEY.replace("0001", &format!("{serial:04}")), &key(serial)).await;
    }
    world
}

#[tokio::test]
async fn a_list_is_read_page_by_page_and_holds_every_key_once() {
    let world = filled(25).await;
    let mut seen = Vec::new();
    let mut path = String::from("/v1/keys?limit=10");
    loop {
        let page = world.get(&path).await.json();
        assert!(page["keys"].as_array().unwrap().len() <= 10);
        seen.extend(users(&page));
        match page["next"].as_str() {
            Some(cursor) => path = format!("/v1/keys?limit=10&cursor={cursor}"),
            None => break,
        }
    }
    seen.sort();
    assert_eq!(seen, (1..=25).map(|serial| format!("player-{serial:04}")).collect::<Vec<_>>());
    let all = world.get("/v1/keys?limit=999999").await;
    assert_eq!((users(&all.json()).len(), all.json()["next"].is_null()), (25, true));
    assert!(!all.text().contains("eyJ"));
    let mut first =
        all.json()["keys"].as_array().unwrap().iter().find(|key| key["user"] == "player-0001").unwrap().clone();
    first["key"] = key(1).into();
    assert_eq!(first, world.get(KEY).await.json());
}

#[tokio::test]
async fn a_list_is_narrowed_by_app_state_and_due_time() {
    let world = filled(2).await;
    world.enroll(&KEY.replace("mygame", "other"), &key(9)).await;
    let count = async |query: &str| users(&world.get(&format!("/v1/keys?{query}")).await.json()).len();
    assert_eq!((count("app=mygame").await, count("app=other").await, count("app=strict").await), (2, 1, 0));
    assert_eq!((count("state=active").await, count("state=lapsed").await, count("state=revoked").await), (2, 0, 0));
    assert_eq!(
        (count("due_before=2026-01-02T00:00:00Z").await, count("due_before=2026-02-01T00:00:00%2B01:00").await),
        (0, 2)
    );
    world.store.answer_renewals(Renewal::Status(503));
    world.clock.set(START + DAY * 40);
    assert_eq!((count("state=active").await, count("state=lapsed").await), (0, 2));
    for bad in [
        "state=dead",
        "state=",
        "due_before=tomorrow",
        "limit=0",
        "limit=-1",
        "limit=x",
        "cursor=zz",
        "app=",
        "order=asc",
    ] {
        let code = world.get(&format!("/v1/keys?{bad}")).await.code();
        assert_eq!(code, if bad == "app=" { "app_unknown" } else { "query_invalid" }, "{bad}");
    }
    assert_eq!(world.get("/v1/keys?app=nonsuch").await.code(), "app_unknown");
}

#[tokio::test]
async fn statistics_have_the_members_of_the_contract() {
    let world = filled(3).await;
    world
        .enroll(&KEY.replace("collections", "purchase"), &Mint { kind: KeyKind::Purchase, ..Mint::default() }.jwt())
        .await;
    world.post(&format!("{KEY}/renew"), "").await;
    world.store.answer_renewals(Renewal::Status(503));
    world.post(&format!("{KEY}/renew"), "").await;
    world.admin(Method::POST, "/v1/admin/apps/mygame/pause", "").await;
    let stats = world.get("/v1/stats").await.json();
    assert_eq!(stats["now"], "2026-01-01T00:00:00Z");
    assert_eq!(stats["clock_skew_seconds"], Value::Null);
    let app = &stats["apps"]["mygame"];
    assert_eq!(app["keys"], json!({"active": 4, "revoked": 0, "lapsed": 0}));
    assert_eq!((&app["refused"], &app["unproven"], &app["due_backlog"]), (&json!(0), &json!(3), &json!(0)));
    assert_eq!((&app["paused"], &app["paused_since"]), (&json!("operator"), &json!("2026-01-01T00:00:00Z")));
    assert_eq!(app["renewals"], json!({"renewed": 1, "failed": 1}));
    assert_eq!(app["kinds"]["purchase"]["keys"]["active"], 1);
    assert_eq!(stats["apps"]["other"]["paused"], Value::Null);
    let text = world.get("/v1/stats").await.text().to_owned();
    let place = |app: &str| text.find(&format!("\"{app}\":{{")).unwrap();
    assert!(place("mygame") < place("other") && place("other") < place("strict"), "in the order of configuration");
}

#[tokio::test]
async fn a_ticket_is_for_what_was_asked() {
    let world = World::new().await;
    for (audience, resource) in [
        ("service", "https://onestore.microsoft.com"),
        ("collections", "https://onestore.microsoft.com/b2b/keys/create/collections"),
        ("purchase", "https://onestore.microsoft.com/b2b/keys/create/purchase"),
    ] {
        let ticket = world.get(&format!("/v1/apps/mygame/tickets/{audience}")).await.json();
        let token = storekeeper_model::ServiceTicket::parse(ticket["access_token"].as_str().unwrap().to_owned().into())
            .unwrap();
        assert_eq!(token.audience().resource(), resource);
        assert_eq!(ticket["expires_at"], "2026-01-01T00:59:59Z");
    }
}

#[tokio::test]
async fn operators_pause_resume_and_acquit() {
    let world = filled(1).await;
    let order = async |order: &str, body: &str| {
        let answer = world.admin(Method::POST, &format!("/v1/admin/apps/mygame/{order}"), body.to_owned()).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.json()
    };
    assert_eq!(order("pause", "").await, json!({"app": "mygame", "paused": "operator"}));
    assert_eq!(order("resume", "").await, json!({"app": "mygame", "paused": null, "condemned": 0}));
    assert_eq!(order("resume", "{\"condemn\":true}").await, json!({"app": "mygame", "paused": null, "condemned": 0}));
    assert_eq!(order("acquit", "").await, json!({"app": "mygame", "acquitted": 0}));
    assert_eq!(world.post(&format!("{KEY}/renew"), "").await.status, StatusCode::OK);
    let bad = world.admin(Method::POST, "/v1/admin/apps/mygame/resume", "{\"condemned\":true}").await;
    assert_eq!(bad.code(), "body_invalid");
    assert_eq!(world.admin(Method::POST, "/v1/admin/apps/nonsuch/pause", "").await.code(), "app_unknown");
}

#[tokio::test]
async fn a_keeper_that_shares_with_nobody_is_the_one_node() {
    let world = World::new().await;
    let me = json!({"id": "0".repeat(32), "name": "keeper", "leases": 4096, "draining": false, "clock": "unknown", "answering": true});
    let nodes = world.admin(Method::GET, "/v1/admin/nodes", "").await.json();
    assert_eq!(nodes, json!({"nodes": [me], "free": 0}));
    let leases = world.admin(Method::GET, "/v1/admin/leases", "").await.json();
    assert_eq!((&leases["nodes"], &leases["free"]), (&nodes["nodes"], &nodes["free"]));
    assert_eq!(leases["leases"].as_array().unwrap().len(), 4096);
    assert_eq!(leases["leases"][17], json!({"bucket": 17, "node": "0".repeat(32), "term": 0}));
}

#[tokio::test]
async fn health_tells_when_nothing_can_be_served() {
    let world = World::new().await;
    let ready = async || {
        let mut asked = request(Method::GET, "/readyz", "", Body::empty());
        asked.headers_mut().remove(header::AUTHORIZATION);
        send(&world.admin, asked).await
    };
    assert_eq!((ready().await.status, ready().await.text()), (StatusCode::OK, "ready\n"));
    world.keyring.memory.set_available(false);
    let down = ready().await;
    assert_eq!(down.code(), "not_ready");
    assert!(!down.text().contains("switched off"), "a stranger does not learn why");
}

#[tokio::test]
async fn a_keyring_that_fails_is_a_condition_of_health_and_metrics() {
    let world = World::new().await;
    world.enroll(KEY, &key(1)).await;
    // What is read once is remembered.
    world.get(KEY).await;
    let sound = json!({"conditions": []});
    assert_eq!(world.get("/v1/health").await.json(), sound);
    world.keyring.memory.set_available(false);
    let health = world.get("/v1/health").await.json();
    let codes: Vec<&str> =
        health["conditions"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["keyring_reads_fail", "keyring_writes_fail"]);
    let scraped = world.admin(Method::GET, "/metrics", "").await;
    let metrics = scraped.text();
    for line in [
        "storekeeper_condition{code=\"keyring_reads_fail\",app=\"\"} 1",
        "storekeeper_condition{code=\"clock_skewed\",app=\"\"} 0",
        "storekeeper_keyring_up{side=\"writes\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert_eq!(world.admin(Method::GET, "/livez", "").await.status, StatusCode::OK, "an outage restarts nothing");
    assert_eq!(world.admin(Method::GET, "/readyz", "").await.status, StatusCode::OK, "what is remembered is served");
    world.keyring.memory.set_available(true);
    world.put(KEY, &key(2)).await;
    assert_eq!(world.get("/v1/health").await.json(), sound);
}

#[tokio::test]
async fn conditions_of_other_apps_are_not_shown() {
    let world = World::new().await;
    for app in ["mygame", "other"] {
        assert_eq!(world.admin(Method::POST, &format!("/v1/admin/apps/{app}/pause"), "").await.status, StatusCode::OK);
    }
    let apps = |health: serde_json::Value| -> Vec<String> {
        let conditions = health["conditions"].as_array().unwrap().clone();
        conditions.iter().map(|one| one["app"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(apps(world.get("/v1/health").await.json()), ["mygame", "other"]);
    assert_eq!(apps(world.get_as(LIMITED, "/v1/health").await.json()), ["mygame"]);
}

#[tokio::test]
async fn metrics_are_one_exposition_in_which_every_family_is_documented() {
    let world = filled(2).await;
    world.post(&format!("{KEY}/renew"), "").await;
    world.get("/v1/apps/mygame/tickets/purchase").await;
    world.get("/v1/apps/mygame/users/secret-name/keys/collections").await;
    world.get("/nonsuch/secret-name").await;
    let answer = world.admin(Method::GET, "/metrics", "").await;
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = answer.text();
    assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1);
    assert!(!text.contains("secret-name"));
    let counted = "storekeeper_http_request_duration_seconds_count{listener=\"data\",route=\"/v1/apps/{app}/users/{user}/keys/{kind}\",method=\"GET\",status=\"404\"} 1";
    assert!(text.contains(counted), "{text}");
    assert!(text.contains("storekeeper_keys{app=\"mygame\",kind=\"collections\",state=\"active\"} 2"), "{text}");
    let page = include_str!("../../../docs/reference/metrics.md");
    let mut families = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (family, kind) = line.split_once(' ').unwrap();
        assert!(families.insert(family), "{family} is exposed twice");
        let name = if kind == "counter" { format!("{family}_total") } else { family.to_owned() };
        let row = page.lines().find(|row| row.starts_with(&format!("| `{name}` | {kind} |")));
        let row = row.unwrap_or_else(|| panic!("`{name}` ({kind}) is not documented"));
        // Another family's name may begin with this one's.
        let is_sample = |line: &&str| {
            let rest = line.strip_prefix(family).unwrap_or("none");
            ["{", "_total{", "_bucket{", "_sum{", "_count{"].iter().any(|start| rest.starts_with(start))
        };
        for label in text.lines().filter(is_sample).flat_map(labels) {
            assert!(row.contains(&format!("`{label}`")), "the label `{label}` of {name} is not documented");
        }
    }
    assert!(families.len() > 8, "{families:?}");
}

/// The names of a sample's labels.
fn labels(sample: &str) -> Vec<&str> {
    let Some((_, rest)) = sample.split_once('{') else { return Vec::new() };
    let names = rest.split("=\"").map(|part| part.rsplit(['"', ',', '{']).next().unwrap());
    names
        .filter(|name| !name.is_empty() && *name != "le" && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .collect()
}
