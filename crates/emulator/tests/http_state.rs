//! What an emulator keeps: across restarts and crashes in its data directory, across anything in a snapshot.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod http_support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use http_support::{Rig, START};
use serde_json::{Value, json};
use storekeeper_clock::{Clock, ClockState, VirtualClock};
use storekeeper_emulator::server::{Running, Server, ServerOptions, StartError};
use storekeeper_emulator::{EmulatorOptions, VirtualHost};
use storekeeper_model::Timestamp;

fn options(dir: &Path) -> ServerOptions {
    ServerOptions { data_dir: Some(dir.to_owned()), ..ServerOptions::ephemeral() }
}

async fn start(dir: &Path, now: Timestamp) -> Result<Rig, StartError> {
    let clock = VirtualClock::frozen_at(now);
    let running: Running = Server::start(EmulatorOptions::default(), clock.clone(), options(dir)).await?;
    Ok(Rig { running, clock })
}

/// Starts once the one before has let go of the directory.
async fn start_again(dir: &Path) -> Rig {
    loop {
        match start(dir, Timestamp::EPOCH).await {
            Ok(rig) => return rig,
            Err(StartError::DataDir(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn renew(rig: &Rig, key: &str) -> u16 {
    let body = rig.renewal(key).await;
    rig.renew(VirtualHost::Purchase, &body).await.unwrap().status
}

#[tokio::test]
async fn a_restart_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let rig = start(dir.path(), START).await.unwrap();
    let (live, gone) = (rig.mint_key("purchase", "live").await, rig.mint_key("purchase", "gone").await);
    rig.grant("POST", "/control/v1/revocations", json!({"user_id": "gone"})).await;
    rig.grant("POST", "/control/v1/certificates/rotate", json!({"accept_previous_for": "20d"})).await;
    rig.grant("POST", "/control/v1/clock", json!({"advance": "10d"})).await;
    let certificates = rig.grant("GET", "/control/v1/certificates", Value::Null).await;
    let authority = std::fs::read(rig.running.ca_file().unwrap()).unwrap();
    rig.running.shutdown().await.unwrap();

    let rig = start(dir.path(), Timestamp::EPOCH).await.unwrap();
    assert_eq!(rig.clock.state(), ClockState { now: START + Duration::from_secs(864_000), rate: 0.0 });
    assert_eq!(rig.grant("GET", "/control/v1/certificates", Value::Null).await, certificates);
    assert_eq!(std::fs::read(rig.running.ca_file().unwrap()).unwrap(), authority);
    assert_eq!((renew(&rig, &live).await, renew(&rig, &gone).await), (200, 401));
}

#[tokio::test]
async fn after_a_crash_no_issued_key_lies_in_the_future() {
    let dir = tempfile::tempdir().unwrap();
    let rig = start(dir.path(), START).await.unwrap();
    rig.grant("POST", "/control/v1/clock", json!({"rate": 1})).await;
    rig.clock.advance(Duration::from_secs(86_400 * 90)).await.unwrap();
    let crashed_at = rig.clock.now();
    drop(rig);

    let rig = start_again(dir.path()).await;
    let resumed_at = rig.clock.now();
    assert!(resumed_at >= crashed_at, "{resumed_at} {crashed_at}");
    assert!(resumed_at.since(crashed_at) <= Duration::from_secs(86_460), "{resumed_at} {crashed_at}");
}

#[tokio::test]
async fn a_certificate_is_durable_before_it_signs() {
    let dir = tempfile::tempdir().unwrap();
    let rig = start(dir.path(), START).await.unwrap();
    rig.grant("POST", "/control/v1/profile", json!({"profile": "game-docs"})).await;
    rig.grant("POST", "/control/v1/clock", json!({"rate": 1})).await;
    rig.clock.advance(Duration::from_secs(86_400 * 30)).await.unwrap();
    let key = rig.mint_key("purchase", "u").await;
    drop(rig);

    let rig = start_again(dir.path()).await;
    assert_eq!(renew(&rig, &key).await, 200);
}

#[tokio::test]
async fn scheduled_certificates_are_made_without_a_request() {
    let rig = Rig::start().await;
    rig.grant("POST", "/control/v1/profile", json!({"profile": "game-docs"})).await;
    rig.clock.advance(Duration::from_secs(86_400 * 30)).await.unwrap();
    let snapshot = rig.running.emulator().snapshot();
    let snapshot = serde_json::to_value(&snapshot).unwrap();
    assert!(snapshot["certificates"].as_array().unwrap().len() >= 5);
}

#[tokio::test]
async fn a_change_is_durable_before_it_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let rig = start(dir.path(), START).await.unwrap();
    let key = rig.mint_key("purchase", "u").await;
    rig.grant("POST", "/control/v1/clock", json!({"set": "2027-02-01T00:00:00Z"})).await;
    rig.grant("POST", "/control/v1/revocations", json!({"user_id": "u"})).await;
    drop(rig);

    let rig = start_again(dir.path()).await;
    assert_eq!(rig.clock.now().to_string(), "2027-02-01T00:00:00Z");
    assert_eq!(renew(&rig, &key).await, 401);
}

#[tokio::test]
async fn a_directory_has_one_owner_and_no_other_reader() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/state");
    let rig = start(&path, START).await.unwrap();
    let second = start(&path, START).await.err().unwrap();
    assert!(second.to_string().contains("another emulator"), "{second}");
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    rig.running.shutdown().await.unwrap();
    start(&path, START).await.unwrap();
}

#[tokio::test]
async fn a_damaged_directory_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (text, reason) in [("{", "EOF"), (r#"{"format":9}"#, "format is 9"), (r#"{"format":1}"#, "missing")] {
        std::fs::write(dir.path().join("state.json"), text).unwrap();
        let error = start(dir.path(), START).await.err().unwrap().to_string();
        assert!(error.contains(reason) && error.contains("state.json"), "{error}");
    }
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let rig = Rig::start().await;
    let options = ServerOptions { http: rig.running.http(), ..ServerOptions::ephemeral() };
    let clock = VirtualClock::frozen_at(START);
    let error = Server::start(EmulatorOptions::default(), clock, options).await.err().unwrap();
    assert!(error.to_string().contains(&rig.http().to_string()), "{error}");
}

#[tokio::test]
async fn a_snapshot_brings_back_clock_faults_and_state() {
    let rig = Rig::start().await;
    let key = rig.mint_key("purchase", "u").await;
    rig.grant("POST", "/control/v1/faults", json!({"endpoint": "token", "status": 503, "body": {"z": 1, "a": 2}}))
        .await;
    let snapshot = rig.grant("POST", "/control/v1/snapshot", Value::Null).await;
    rig.grant("POST", "/control/v1/revocations", json!({"user_id": "u"})).await;
    rig.grant("POST", "/control/v1/clock", json!({"advance": "60d"})).await;
    rig.grant("DELETE", "/control/v1/faults", Value::Null).await;
    assert_eq!(renew(&rig, &key).await, 401);
    rig.grant("POST", "/control/v1/restore", snapshot.clone()).await;
    assert_eq!(rig.clock.now(), START);
    assert_eq!(rig.grant("GET", "/control/v1/faults", Value::Null).await["faults"][0]["status"], 503);
    assert_eq!(renew(&rig, &key).await, 200);

    let elsewhere = Rig::start().await;
    assert_eq!(renew(&elsewhere, &key).await, 401);
    elsewhere.grant("POST", "/control/v1/restore", snapshot).await;
    assert_eq!(renew(&elsewhere, &key).await, 200);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_used_changes_nothing() {
    let rig = Rig::start().await;
    let key = rig.mint_key("purchase", "u").await;
    let good = rig.grant("POST", "/control/v1/snapshot", Value::Null).await;
    rig.grant("POST", "/control/v1/clock", json!({"advance": "1d"})).await;
    let check = async |change: &dyn Fn(&mut Value), reason: &str| {
        let mut bad = good.clone();
        change(&mut bad);
        rig.refuse("POST", "/control/v1/restore", &bad.to_string(), (400, "request_invalid"), reason).await;
        assert_eq!(rig.clock.now(), START + Duration::from_secs(86_400));
    };
    check(&|bad| bad["format"] = json!(2), "format is 2").await;
    check(&|bad| bad["clock"]["rate"] = json!(-1), "rate").await;
    check(&|bad| bad["extra"] = json!(1), "extra").await;
    check(&|bad| bad["emulator"] = json!({}), "").await;
    check(&|bad| bad["faults"]["faults"] = json!([{"id": 1}]), "missing").await;
    assert_eq!(renew(&rig, &key).await, 200);
}

#[tokio::test]
async fn a_reset_starts_afresh_and_leaves_the_clock() {
    let rig = Rig::start().await;
    let key = rig.mint_key("purchase", "u").await;
    rig.grant("POST", "/control/v1/clock", json!({"advance": "1d"})).await;
    rig.grant("POST", "/control/v1/faults", json!({"endpoint": "renew", "status": 503})).await;
    rig.renew(VirtualHost::Purchase, "{}").await.unwrap();
    rig.grant("POST", "/control/v1/reset", Value::Null).await;
    assert_eq!(rig.ledger().await.len(), 0);
    assert_eq!(renew(&rig, &key).await, 401);
    assert_eq!(rig.ledger().await[0]["seq"], 2);
    assert_eq!(rig.clock.now(), START + Duration::from_secs(86_400));
}
