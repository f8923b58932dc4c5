//! A keeper at the usual limit of 1,024 file descriptors, and many more connections than that which send nothing: renewals,
//! reads and health checks go on.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

#[path = "support/scene.rs"]
mod scene;
mod support;

use std::net::TcpStream;
use std::time::Duration;

use scene::{SERVE, Scene, exchange};
use serde_json::{Value, json};

const DESCRIPTORS: u32 = 1024;
const IDLE: usize = 1200;
const DAY: Duration = Duration::from_secs(86_400);

/// Connections that send nothing.
fn idle(address: &str) -> Vec<TcpStream> {
    (0..IDLE).map(|_| TcpStream::connect(address).unwrap()).collect()
}

#[test]
fn idle_connections_stop_neither_renewals_nor_health_checks() {
    storekeeper::descriptors::raise();
    let scene = Scene::new();
    let _keeper = scene.place.serve_within(DESCRIPTORS, &SERVE);
    let ready: Value = serde_json::from_slice(&std::fs::read(scene.place.path().join("keeper.json")).unwrap()).unwrap();
    let [listen, admin] = ["listen", "admin_listen"].map(|name| ready[name].as_str().unwrap());
    let held = [idle(listen), idle(admin)];

    for path in ["/livez", "/readyz"] {
        let answer = exchange(admin, &format!("GET {path}"), "", "").unwrap();
        assert_eq!(answer.status, 200, "{path}");
    }
    let key = scene.mint("collections", "ada", scene.now() - DAY * 12);
    let path = "/v1/apps/mygame/users/ada/keys/collections";
    let put = scene.ask(listen, &format!("PUT {path}"), &json!({ "key": key }).to_string());
    assert_eq!(put.unwrap().status, 201);
    let renewed = || {
        let view = scene.ask(listen, &format!("GET {path}"), "").unwrap().json(200);
        view["key"].as_str().is_some_and(|served| served != key)
    };
    support::until(Duration::from_secs(30), renewed).expect("the key is renewed, and its successor served");
    drop(held);
}
