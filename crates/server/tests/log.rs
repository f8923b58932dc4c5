//! A failed request is one line in the log, with its code and without names, keys and tokens.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use common::keyring::Mood;
use common::{KEY, ROOT, World, key, request, send};
use http::Method;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps what the server logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("storekeeper")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn a_failed_request_is_one_line_without_names_keys_and_tokens() {
    let world = World::new().await;
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let path = KEY.replace("player-0001", "hidden-name");
    world.enroll(&path, &key(1)).await;
    assert_eq!(world.get(&path).await.status, 200);
    world.get(&KEY.replace("player-0001", "hidden-nobody")).await;
    world.put(&path, "hidden.bad.key").await;
    world.get("/hidden-route?hidden=1").await;
    world.get_as("hidden-token-00000", &path).await;
    send(&world.data, request(Method::GET, &format!("{path}?hidden=eyJ"), ROOT, Body::empty())).await;
    world.keyring.memory.set_available(false);
    world.put(&path, &key(2)).await;
    world.keyring.memory.set_available(true);
    world.keyring.set_mood(Mood::Buggy);
    world.get(&KEY.replace("player-0001", "hidden-nobody")).await;
    let lines = log.0.lock().unwrap().clone();
    let failed: Vec<&String> = lines.iter().filter(|line| line.contains("request failed")).collect();
    let codes = [
        "key_not_found",
        "key_malformed",
        "route_unknown",
        "unauthorized",
        "query_invalid",
        "keyring_unavailable",
        "internal",
    ];
    assert_eq!(failed.len(), codes.len(), "{failed:#?}");
    for (line, code) in failed.iter().zip(codes) {
        assert!(line.contains(&format!(" code=\"{code}\"")) && line.contains(" listener=\"data\""), "{line}");
    }
    assert!(failed[0].starts_with("DEBUG") && failed[0].contains("caller=\"root\""), "{}", failed[0]);
    assert!(failed[0].contains("route=\"/v1/apps/{app}/users/{user}/keys/{kind}\""), "{}", failed[0]);
    assert!(failed[5].starts_with("WARN") && failed[5].contains("switched off"), "{}", failed[5]);
    for line in &lines {
        assert!(!line.contains("hidden") && !line.contains("eyJ") && !line.contains(ROOT), "{line}");
    }
}
