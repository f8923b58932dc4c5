//! Who may ask what: no route forgets to ask for a token, a scope and an app.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use axum::body::Body;
use common::{KEY, LIMITED, NOBODY, ROOT, World, config, key, request, send};
use http::{Method, header};
use serde_json::Value;
use storekeeper_model::Secret;
use storekeeper_server::{Caller, Scope, TokenDigest, openapi};

/// Every operation of the document: method, path with names filled in, whether it belongs to the admin listener.
fn operations() -> Vec<(Method, String, bool, Value)> {
    let document = serde_json::to_value(openapi::openapi()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let path = path
                .replace("{app}", "mygame")
                .replace("{user}", "player-0001")
                .replace("{kind}", "collections")
                .replace("{audience}", "service");
            let is_admin = operation["tags"] == serde_json::json!(["admin"]);
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            operations.push((method, path, is_admin, operation.clone()));
        }
    }
    assert!(operations.len() >= 18, "{}", operations.len());
    operations
}

#[tokio::test]
async fn every_route_exists_and_demands_a_token_and_a_scope() {
    let world = World::new().await;
    for (method, path, is_admin, operation) in operations() {
        let router = if is_admin { &world.admin } else { &world.data };
        let ask = async |token: &str| {
            let mut asked = request(method.clone(), &path, token, Body::empty());
            if token.is_empty() {
                asked.headers_mut().remove(header::AUTHORIZATION);
            }
            send(router, asked).await
        };
        let is_open = operation["security"] == serde_json::json!([]);
        assert_eq!(is_open, matches!(path.as_str(), "/livez" | "/readyz"), "{path}");
        let anonymous = ask("").await;
        let nobody = ask(NOBODY).await;
        let somebody = ask(ROOT).await;
        if is_open {
            assert_eq!((anonymous.status.as_u16(), nobody.status.as_u16()), (200, 200), "{path}");
        } else {
            assert_eq!(anonymous.code(), "unauthorized", "{method} {path}");
            if path == "/openapi.json" {
                assert_eq!(nobody.json()["openapi"], "3.1.0");
            } else {
                assert_eq!(nobody.code(), "forbidden", "{method} {path}");
                let scope = nobody.json()["detail"].as_str().unwrap().split('`').nth(1).unwrap().to_owned();
                assert!(operation["description"].as_str().unwrap().contains(&scope), "{method} {path} demands {scope}");
            }
        }
        if !somebody.status.is_success() {
            assert!(!matches!(
                somebody.code().as_str(),
                "route_unknown" | "method_not_allowed" | "unauthorized" | "forbidden"
            ));
        }
    }
}

#[tokio::test]
async fn every_answer_is_described() {
    let world = World::new().await;
    world.enroll(KEY, &key(1)).await;
    for (method, path, is_admin, operation) in operations() {
        let router = if is_admin { &world.admin } else { &world.data };
        for token in [ROOT, NOBODY] {
            let answer = send(router, request(method.clone(), &path, token, Body::empty())).await;
            let described = &operation["responses"][answer.status.as_str()];
            assert!(described.is_object(), "{method} {path} answers {}", answer.status);
            let kind =
                answer.headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap().split(';').next().unwrap());
            if let Some(kind) = kind {
                assert!(described["content"][kind].is_object(), "{method} {path} answers {} as {kind}", answer.status);
            }
        }
    }
}

#[tokio::test]
async fn unknown_routes_say_nothing_to_strangers() {
    let world = World::new().await;
    for path in ["/", "/v1/apps/nonsuch/users/a/keys/collections", "/nonsuch", "/livez"] {
        assert_eq!(world.get_as("no-such-token-0000", path).await.code(), "unauthorized", "{path}");
    }
    let stranger = send(&world.admin, request(Method::POST, "/livez", "no-such-token-0000", Body::empty())).await;
    assert_eq!(stranger.code(), "method_not_allowed");
}

#[tokio::test]
async fn one_scope_opens_its_routes_only() {
    let mut config = config();
    let token = |scope: Scope| format!("token-for-{scope}-only");
    config.callers.extend(
        Scope::ALL
            .map(|scope| Caller::new(scope.as_str(), TokenDigest::of(&Secret::new(token(scope))).unwrap(), &[scope])),
    );
    let world = World::with(config).await;
    world.enroll(KEY, &key(1)).await;
    let may = async |scope: Scope, method: Method, path: &str| {
        let router = if path == "/metrics" || path.starts_with("/v1/admin") { &world.admin } else { &world.data };
        send(router, request(method, path, &token(scope), Body::empty())).await.status != 403
    };
    for scope in Scope::ALL {
        assert_eq!(may(scope, Method::GET, KEY).await, scope == Scope::KeyRead);
        assert_eq!(may(scope, Method::PUT, KEY).await, scope == Scope::KeyWrite);
        assert_eq!(may(scope, Method::GET, "/v1/apps/mygame/tickets/service").await, scope == Scope::TicketService);
        assert_eq!(may(scope, Method::GET, "/v1/apps/mygame/tickets/purchase").await, scope == Scope::TicketClient);
        assert_eq!(may(scope, Method::GET, "/metrics").await, scope == Scope::MetricsRead);
        assert_eq!(may(scope, Method::POST, "/v1/admin/apps/mygame/acquit").await, scope == Scope::Admin);
        assert_eq!(may(scope, Method::GET, "/v1/admin/leases").await, scope == Scope::Admin);
        assert_eq!(may(scope, Method::POST, "/v1/admin/nodes/keeper/drain").await, scope == Scope::Admin);
    }
}

#[tokio::test]
async fn other_apps_are_invisible_to_a_limited_caller() {
    let mut config = config();
    let none = Caller::new("none", TokenDigest::of(&Secret::new("token-for-no-app".into())).unwrap(), &Scope::ALL);
    config.callers.push(none.limited_to(Vec::new()));
    let world = World::with(config).await;
    world.enroll(KEY, &key(1)).await;
    world.enroll(&KEY.replace("mygame", "other"), &key(2)).await;
    let apps_listed = async |token: &str| {
        let answer = world.get_as(token, "/v1/keys").await.json();
        let mut apps: Vec<_> =
            answer["keys"].as_array().unwrap().iter().map(|key| key["app"].as_str().unwrap().to_owned()).collect();
        apps.sort();
        apps
    };
    assert_eq!(apps_listed(ROOT).await, ["mygame", "other"]);
    assert_eq!(apps_listed(LIMITED).await, ["mygame"]);
    assert_eq!(apps_listed("token-for-no-app").await, [] as [&str; 0]);
    assert_eq!(world.get_as(LIMITED, "/v1/keys?app=other").await.code(), "forbidden");
    assert_eq!(world.get_as("token-for-no-app", "/v1/keys?app=mygame").await.code(), "forbidden");
    let counted = async |token: &str| world.get_as(token, "/v1/stats").await.json()["apps"].as_object().unwrap().len();
    assert_eq!((counted(ROOT).await, counted(LIMITED).await, counted("token-for-no-app").await), (4, 1, 0));
    let order = |token| request(Method::POST, "/v1/admin/apps/other/pause", token, Body::empty());
    assert_eq!(send(&world.admin, order(LIMITED)).await.code(), "forbidden");
    assert_eq!(world.get("/v1/stats").await.json()["apps"]["other"]["paused"], Value::Null);
}
