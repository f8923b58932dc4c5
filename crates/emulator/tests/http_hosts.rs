//! The emulated hosts are reached by `Host`, by path prefix and by SNI, in plain text and over TLS.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod http_support;

use std::sync::Arc;

use http_support::{JSON, RENEW, Rig, converse, exchange, request};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use storekeeper_emulator::VirtualHost;
use storekeeper_model::Fingerprint;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

async fn connect(rig: &Rig, name: &'static str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(rig.running.ca_file().unwrap()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(rig.running.https().unwrap()).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).unwrap(), tcp).await
}

/// Renews a key of the host by a request that names the host in its own way, and checks that it arrived there.
async fn check(rig: &Rig, host: VirtualHost, path: &str, host_header: &str) {
    let key = rig.mint_key(host.kind().unwrap().as_str(), "u").await;
    let body = rig.renewal(&key).await;
    let reply = exchange(rig.http(), &request("POST", path, host_header, JSON, &body)).await.unwrap();
    assert_eq!(reply.status, 200, "{path} {host_header}: {}", String::from_utf8_lossy(&reply.body));
    let successor = reply.json()["key"].as_str().unwrap().to_owned();
    let last = rig.ledger().await.pop().unwrap();
    assert_eq!(last["host"], host.name());
    assert_eq!(last["endpoint"], "renew");
    assert_eq!(last["fingerprint"], Fingerprint::of(&key).to_string());
    assert_eq!(last["successor"], Fingerprint::of(&successor).to_string());
    assert_eq!(last["began_at"], "2027-01-15T08:00:00Z");
}

#[tokio::test]
async fn a_host_is_named_by_header_or_by_prefix() {
    let rig = Rig::start().await;
    check(&rig, VirtualHost::Collections, RENEW, "collections.mp.microsoft.com").await;
    check(&rig, VirtualHost::Purchase, RENEW, "PURCHASE.mp.microsoft.com:8440").await;
    let prefixed = format!("/collections.mp.microsoft.com{RENEW}");
    check(&rig, VirtualHost::Collections, &prefixed, "127.0.0.1:8440").await;
    check(&rig, VirtualHost::Purchase, &format!("http://purchase.mp.microsoft.com{RENEW}"), "localhost").await;
}

#[tokio::test]
async fn an_unknown_host_is_404_and_written_down() {
    let rig = Rig::start().await;
    let reply = exchange(rig.http(), &request("POST", RENEW, "store.example", JSON, "{}")).await.unwrap();
    assert_eq!((reply.status, reply.body.len()), (404, 0));
    let entry = rig.ledger().await.pop().unwrap();
    assert_eq!((&entry["host"], &entry["endpoint"], &entry["status"]), (&Value::Null, &json!("unknown"), &json!(404)));
}

#[tokio::test]
async fn the_date_is_the_emulators() {
    let rig = Rig::start().await;
    let reply = rig.renew(VirtualHost::Purchase, "{}").await.unwrap();
    assert_eq!(reply.header("date"), Some("Fri, 15 Jan 2027 08:00:00 GMT"));
}

#[tokio::test]
async fn tls_names_the_host_and_is_trusted_by_its_own_authority() {
    let rig = Rig::start().await;
    let key = rig.mint_key("purchase", "u").await;
    let body = rig.renewal(&key).await;
    for (name, path, host_header) in [
        ("purchase.mp.microsoft.com", RENEW.to_owned(), "purchase.mp.microsoft.com"),
        ("purchase.mp.microsoft.com", RENEW.to_owned(), "127.0.0.1"),
        ("localhost", format!("/purchase.mp.microsoft.com{RENEW}"), "localhost"),
        ("127.0.0.1", RENEW.to_owned(), "purchase.mp.microsoft.com"),
    ] {
        let stream = connect(&rig, name).await.unwrap();
        let reply = converse(stream, &request("POST", &path, host_header, JSON, &body)).await.unwrap();
        assert_eq!(reply.status, 200, "{name} {path} {host_header}");
    }
    for name in ["collections.mp.microsoft.com", "login.microsoftonline.com"] {
        connect(&rig, name).await.unwrap();
    }
}

#[tokio::test]
async fn tls_refuses_a_foreign_name() {
    let rig = Rig::start().await;
    let error = connect(&rig, "onestore.microsoft.com").await.unwrap_err();
    assert!(error.to_string().contains("alert"), "{error}");
}

#[tokio::test]
async fn plain_text_on_the_tls_port_is_no_harm() {
    let rig = Rig::start().await;
    let address = rig.running.https().unwrap();
    let refused = exchange(address, &request("GET", "/", "localhost", "", "")).await;
    assert!(refused.is_err());
    connect(&rig, "localhost").await.unwrap();
}
