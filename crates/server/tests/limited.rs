//! What a token that is limited to some apps can do: nothing to other apps, and nothing to all of them at once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;

use axum::body::Body;
use common::keyring::TestKeyring;
use common::{Answer, KEY, Mint, World, config, key, request, send};
use http::Method;
use serde_json::{Value, json};
use storekeeper_keyring::Keyring;
use storekeeper_model::{AppName, Secret};
use storekeeper_server::{Caller, Scope, TokenDigest, openapi};

/// What an operation is about.
#[derive(Debug, Clone, Copy, PartialEq)]
enum About {
    /// It answers without a token.
    NoApp,
    /// It answers any token and names no app.
    AnyToken,
    /// The app of its path.
    ItsApp,
    /// The app of each line of its body.
    EachLine,
    /// Every app at once: only for tokens without a limit.
    EveryApp,
    /// The apps of the token, and no others.
    VisibleApps,
}

use About::{AnyToken, EachLine, EveryApp, ItsApp, NoApp, VisibleApps};

/// Every operation. One that is added to the document and not here fails the tests: its author has to decide.
const OPERATIONS: [(&str, About); 28] = [
    ("acquit_app", ItsApp),
    ("drain_node", EveryApp),
    ("enroll_key", ItsApp),
    ("enroll_keys", EachLine),
    ("export_keys", VisibleApps),
    ("forget_key", ItsApp),
    ("forget_player", ItsApp),
    ("get_key", ItsApp),
    ("get_keys", EachLine),
    ("get_ticket", ItsApp),
    ("hand_over_keys", EachLine),
    ("health", VisibleApps),
    ("import_keys", EachLine),
    ("key_history", ItsApp),
    ("list_keys", VisibleApps),
    ("list_leases", EveryApp),
    ("list_nodes", EveryApp),
    ("livez", NoApp),
    ("openapi", AnyToken),
    ("pause_app", ItsApp),
    ("readyz", NoApp),
    ("reclaim_app", ItsApp),
    ("renew_key", ItsApp),
    ("resume_app", ItsApp),
    ("scrape", VisibleApps),
    ("show_key", ItsApp),
    ("stats", VisibleApps),
    ("undrain_node", EveryApp),
];

/// An operation of the document.
struct Operation {
    id: String,
    method: Method,
    path: String,
    is_admin: bool,
}

fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(openapi::openapi()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(),
                path: path.clone(),
                is_admin: operation["tags"] == json!(["admin"]),
            });
        }
    }
    operations
}

fn decided() -> BTreeMap<&'static str, About> {
    OPERATIONS.into_iter().collect()
}

/// Every scope alone and all of them together, limited to `mygame`; and all of them limited to no app.
fn tokens() -> Vec<(String, Caller)> {
    let caller = |name: &str, scopes: &[Scope], apps: &[&str]| {
        let token = format!("limited-token-of-{name}");
        let digest = TokenDigest::of(&Secret::new(token.clone())).unwrap();
        let apps = apps.iter().map(|app| AppName::new(app).unwrap()).collect();
        (token, Caller::new(name, digest, scopes).limited_to(apps))
    };
    let each = Scope::ALL.iter().map(|scope| caller(scope.as_str(), &[*scope], &["mygame"]));
    each.chain([caller("all", &Scope::ALL, &["mygame"]), caller("none", &Scope::ALL, &[])]).collect()
}

/// A key of each app; those that are not `mygame`'s belong to `stranger`.
async fn world() -> (World, Vec<String>) {
    let (tokens, callers): (Vec<String>, Vec<Caller>) = tokens().into_iter().unzip();
    let mut config = config();
    config.callers.extend(callers);
    let world = World::on(TestKeyring::shared(), config).await;
    world.enroll(KEY, &key(1)).await;
    let stranger = |app: &str| format!("/v1/apps/{app}/users/stranger/keys/collections");
    world.enroll(&stranger("other"), &key(2)).await;
    let foreign = Mint { client_id: common::FOREIGN_CLIENT, serial: 3, ..Mint::default() };
    world.enroll(&stranger("foreign"), &foreign.jwt()).await;
    (world, tokens)
}

impl Operation {
    async fn ask(&self, world: &World, token: &str, app: &str) -> Answer {
        let path = self.path.replace("{app}", app).replace("{user}", "stranger").replace("{kind}", "collections");
        let path = path.replace("{audience}", "service").replace("{node}", "keeper");
        let body = match decided()[self.id.as_str()] {
            EachLine => self.line(app),
            _ if self.id == "enroll_key" => json!({ "key": key(9) }),
            _ => Value::Null,
        };
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let router = if self.is_admin { &world.admin } else { &world.data };
        send(router, request(self.method.clone(), &path, token, body)).await
    }

    fn line(&self, app: &str) -> Value {
        let mut line = json!({ "app": app, "user": "stranger", "kind": "collections" });
        match self.id.as_str() {
            "get_keys" => {}
            "hand_over_keys" => line["revision"] = json!(0),
            _ => line["key"] = json!(key(9)),
        }
        line
    }
}

/// What an answer says, whole: two that are the same reveal nothing.
fn said(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.text().to_owned())
}

#[test]
fn every_operation_is_decided_on() {
    let listed: Vec<String> = operations().into_iter().map(|operation| operation.id).collect();
    let mut known: Vec<&str> = decided().into_keys().collect();
    known.sort_unstable();
    let mut listed: Vec<&str> = listed.iter().map(String::as_str).collect();
    listed.sort_unstable();
    assert_eq!(listed, known);
}

#[tokio::test]
async fn a_limited_token_reaches_no_other_app() {
    let (world, tokens) = world().await;
    for operation in operations() {
        for token in &tokens {
            let place = format!("{} as {token}", operation.id);
            let other = operation.ask(&world, token, "other").await;
            let nonsuch = operation.ask(&world, token, "nonsuch").await;
            match decided()[operation.id.as_str()] {
                NoApp | AnyToken => assert!(other.status.is_success(), "{place}"),
                ItsApp | EveryApp => {
                    assert_eq!(other.code(), "forbidden", "{place}");
                    assert_eq!(said(&other), said(&nonsuch), "{place} reveals which apps there are");
                }
                EachLine if other.status.is_success() => {
                    let lines = other.lines();
                    assert_eq!((lines.len(), lines[0]["code"].as_str()), (1, Some("forbidden")), "{place}");
                    assert_eq!(said(&other), said(&nonsuch), "{place} reveals which apps there are");
                }
                // `leases_elsewhere` comes before any line.
                EachLine => assert!(matches!(other.code().as_str(), "forbidden" | "leases_elsewhere"), "{place}"),
                VisibleApps if other.status.is_success() => {
                    for name in ["\"other\"", "\"foreign\"", "stranger", "33333333"] {
                        assert!(!other.text().contains(name), "{place} shows {name}: {}", other.text());
                    }
                }
                VisibleApps => assert_eq!(other.code(), "forbidden", "{place}"),
            }
        }
    }
    for app in ["other", "foreign"] {
        let path = format!("/v1/admin/apps/{app}/users/stranger/keys/collections");
        let view = world.admin(Method::GET, &path, Body::empty()).await.json();
        assert_eq!((view["key_version"].as_u64(), view["handed_over"].as_bool()), (Some(1), None), "{app}");
        assert_eq!(world.get("/v1/stats").await.json()["apps"][app]["paused"], Value::Null);
    }
    let nodes = world.keyring.leases().unwrap().nodes().await.unwrap();
    assert!(nodes.iter().all(|node| !node.draining));
}

#[tokio::test]
async fn a_query_for_another_app_is_refused() {
    let (world, tokens) = world().await;
    for (path, is_admin) in [("/v1/keys", false), ("/v1/admin/keys:export", true)] {
        let router = if is_admin { &world.admin } else { &world.data };
        for token in &tokens {
            let ask = async |app| {
                send(router, request(Method::GET, &format!("{path}?app={app}"), token, Body::empty())).await
            };
            let other = ask("other").await;
            assert_eq!(other.code(), "forbidden", "{path} as {token}");
            assert_eq!(said(&other), said(&ask("nonsuch").await), "{path} as {token}");
        }
    }
}

#[tokio::test]
async fn a_limited_token_sees_its_own_app() {
    let (world, _) = world().await;
    let ask = async |path: &str, is_admin| {
        let router = if is_admin { &world.admin } else { &world.data };
        send(router, request(Method::GET, path, "limited-token-of-all", Body::empty())).await
    };
    assert_eq!(ask("/v1/keys", false).await.json()["keys"].as_array().unwrap().len(), 1);
    assert_eq!(ask("/v1/admin/keys:export", true).await.json()["counted"], 1);
    assert_eq!(ask("/v1/stats", false).await.json()["apps"].as_object().unwrap().len(), 1);
    let metrics = ask("/metrics", true).await;
    for sample in [
        "storekeeper_keys{app=\"mygame\",kind=\"collections\",state=\"active\"} 1",
        "storekeeper_build_info{",
        "storekeeper_http_request_duration_seconds_count{",
    ] {
        assert!(metrics.text().contains(sample), "{sample}");
    }
    assert!(metrics.text().contains(&format!("client_id=\"{}\"", common::CLIENT)), "{}", metrics.text());
    assert!(metrics.text().ends_with("# EOF\n"));
    let everything = world.admin(Method::GET, "/metrics", Body::empty()).await;
    assert!(everything.text().contains("app=\"other\""));
}
