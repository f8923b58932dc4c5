//! Real listeners: who is slow or idle is cut off, who sends too much still reads the answer, and the end is orderly.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use common::{KEY, ROOT, World, config, key};
use serde_json::{Value, json};
use storekeeper_model::Secret;
use storekeeper_server::{Caller, Plaintext, Running, Server, ServerConfig, SocketGuards, StartError, TokenDigest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Long enough for a machine under load; a guard that does not work fails here.
const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(60);

fn local(guards: SocketGuards) -> ServerConfig {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    ServerConfig { listen: any, admin_listen: any, guards, ..config() }
}

async fn start(guards: SocketGuards) -> (World, Running) {
    let world = World::new().await;
    let running = Server::start(world.keeper.clone(), local(guards)).await.unwrap();
    (world, running)
}

fn head(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: keeper\r\nauthorization: Bearer {ROOT}\r\n{more}\r\n")
}

/// What does not come in time has failed.
#[expect(clippy::disallowed_methods, reason = "the guards under test use the operating system's time")]
async fn within<T>(span: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(span, work).await.ok()
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = within(PATIENCE, stream.read_to_end(&mut bytes)).await;
    read.expect("the connection is closed in time").expect("the connection is closed, not reset");
    String::from_utf8(bytes).unwrap()
}

async fn converse(address: SocketAddr, sent: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await
}

/// Reads until the text has arrived.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let mut bytes = [0; 4096];
        let read = within(PATIENCE, stream.read(&mut bytes)).await.expect("more arrives in time").unwrap();
        assert!(read > 0, "the connection ended after {seen}");
        seen.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    seen
}

#[tokio::test]
async fn both_listeners_answer_over_real_sockets() {
    let (world, running) = start(SocketGuards::default()).await;
    let body = json!({"key": key(1)}).to_string();
    let close = format!("connection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", body.len());
    let answer = converse(running.listen, &(head("PUT", KEY, &close) + &body)).await;
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    let two = head("GET", KEY, "") + &head("GET", KEY, "connection: close\r\n");
    let answer = converse(running.listen, &two).await;
    assert_eq!(
        answer.matches("HTTP/1.1 200 OK\r\n").count(),
        2,
        "a connection is kept, and requests may be sent ahead"
    );
    assert_eq!(answer.matches(&key(1)).count(), 2);
    let answer = converse(running.listen, &head("HEAD", KEY, "connection: close\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    let answer = converse(running.admin_listen, "GET /livez HTTP/1.1\r\nhost: k\r\nconnection: close\r\n\r\n").await;
    assert!(answer.ends_with("alive\n"), "{answer}");
    assert!(converse(running.listen, "no http\r\n\r\n").await.starts_with("HTTP/1.1 400 Bad Request\r\n"));
    running.shutdown().await;
    world.keeper.shutdown().await;
}

#[tokio::test]
async fn who_is_idle_or_slow_is_cut_off() {
    let guards = SocketGuards { head_timeout: SHORT, body_timeout: SHORT, ..SocketGuards::default() };
    let (_world, running) = start(guards).await;
    assert_eq!(converse(running.listen, "").await, "", "nothing sent");
    let half_a_head = converse(running.listen, "GET /v1/stats HTTP/1.1\r\nhost: k\r\n").await;
    assert!(!half_a_head.contains("200 OK"), "{half_a_head}");
    let idle = converse(running.listen, &head("GET", "/v1/stats", "")).await;
    assert!(idle.starts_with("HTTP/1.1 200 OK\r\n"), "{idle}");
    let half_a_body = converse(running.listen, &(head("PUT", KEY, "content-length: 100\r\n") + "{\"key\"")).await;
    assert!(half_a_body.contains("\"code\":\"request_timeout\""), "{half_a_body}");
    running.shutdown().await;
}

#[tokio::test]
async fn who_sends_too_much_still_reads_why_it_was_refused() {
    let (_world, running) = start(SocketGuards::default()).await;
    let much = "x".repeat(3_000_000);
    let declared = head("PUT", KEY, &format!("content-length: {}\r\n", much.len())) + &much;
    assert!(converse(running.listen, &declared).await.contains("\"code\":\"body_too_large\""));
    let chunked =
        head("PUT", KEY, "transfer-encoding: chunked\r\n") + &format!("{:x}\r\n{much}\r\n0\r\n\r\n", much.len());
    assert!(converse(running.listen, &chunked).await.contains("\"code\":\"body_too_large\""));
    let stranger = declared.replace(ROOT, "no-such-token-0000");
    assert!(converse(running.listen, &stranger).await.contains("\"code\":\"unauthorized\""));
    running.shutdown().await;
}

#[tokio::test]
async fn who_takes_nothing_of_its_answer_is_cut_off() {
    let guards = SocketGuards { write_timeout: SHORT, linger: SHORT, ..SocketGuards::default() };
    let mut config = local(guards);
    config.limits.batches_max = 1;
    let world = World::new().await;
    let running = Server::start(world.keeper.clone(), config).await.unwrap();
    world.enroll(KEY, &key(1)).await;
    let line = json!({"app": "mygame", "user": "player-0001", "kind": "collections"}).to_string() + "\n";
    let chunk = line.repeat(500);
    let chunk = format!("{:x}\r\n{chunk}\r\n", chunk.len());
    let mut stream = TcpStream::connect(running.listen).await.unwrap();
    stream.write_all(head("POST", "/v1/keys:get", "transfer-encoding: chunked\r\n").as_bytes()).await.unwrap();
    // The keeper stops reading once nobody takes its answers, and then gives up.
    let sending = async { while stream.write_all(chunk.as_bytes()).await.is_ok() {} };
    within(PATIENCE, sending).await.expect("the connection is cut off");
    let again =
        converse(running.listen, &head("POST", "/v1/keys:get", "content-length: 0\r\nconnection: close\r\n")).await;
    assert!(again.starts_with("HTTP/1.1 200 OK\r\n"), "the place of the batch is free again: {again}");
    running.shutdown().await;
}

#[tokio::test]
async fn above_the_cap_an_idle_connection_is_closed_and_a_busy_one_waited_for() {
    let guards = SocketGuards { connections_max: 1, linger: SHORT, ..SocketGuards::default() };
    let (_world, running) = start(guards).await;
    let mut idle = TcpStream::connect(running.listen).await.unwrap();
    idle.write_all(head("GET", "/v1/stats", "").as_bytes()).await.unwrap();
    read_until(&mut idle, "mygame").await;
    let mut busy = TcpStream::connect(running.listen).await.unwrap();
    busy.write_all(head("PUT", KEY, "content-length: 10\r\nexpect: 100-continue\r\n").as_bytes()).await.unwrap();
    read_until(&mut busy, "100 Continue").await;
    assert_eq!(read_to_end(&mut idle).await, "", "closed in favour of the second");
    let mut third = TcpStream::connect(running.listen).await.unwrap();
    third.write_all(head("GET", "/v1/stats", "connection: close\r\n").as_bytes()).await.unwrap();
    let mut byte = [0];
    assert!(within(SHORT, third.read(&mut byte)).await.is_none(), "the place has a request under way");
    busy.write_all(b"{\"a\":1234}").await.unwrap();
    assert!(read_until(&mut busy, "body_invalid").await.contains("body_invalid"));
    assert!(read_to_end(&mut third).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let metrics = converse(running.admin_listen, &head("GET", "/metrics", "connection: close\r\n")).await;
    assert!(metrics.contains("storekeeper_connections_evicted_total{listener=\"data\"} 2"), "{metrics}");
    running.shutdown().await;
}

#[tokio::test]
async fn the_end_is_orderly() {
    let (world, running) = start(SocketGuards { linger: SHORT, ..SocketGuards::default() }).await;
    let (listen, admin_listen) = (running.listen, running.admin_listen);
    let mut idle = TcpStream::connect(listen).await.unwrap();
    idle.write_all(head("GET", "/v1/stats", "").as_bytes()).await.unwrap();
    read_until(&mut idle, "mygame").await;
    let mut batch = TcpStream::connect(listen).await.unwrap();
    let line = json!({"app": "mygame", "user": "player-0001", "key": key(1)}).to_string() + "\n";
    let begun =
        head("POST", "/v1/keys:enroll", "transfer-encoding: chunked\r\n") + &format!("{:x}\r\n{line}\r\n", line.len());
    batch.write_all(begun.as_bytes()).await.unwrap();
    read_until(&mut batch, "\"outcome\":\"new\"").await;
    let ended =
        within(PATIENCE, async { tokio::join!(running.shutdown(), read_to_end(&mut idle), read_to_end(&mut batch)).2 });
    let rest = ended.await.expect("a shutdown does not wait for clients");
    let last = rest.lines().find(|line| line.starts_with('{')).unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(
        (last["line"].as_u64(), last["status"].as_u64(), last["code"].as_str()),
        (Some(2), Some(503), Some("shutting_down"))
    );
    assert!(rest.ends_with("0\r\n\r\n"), "the answer is complete: {rest}");
    for address in [listen, admin_listen] {
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    }
    assert_eq!(world.get(KEY).await.json()["key"], key(1));
}

#[tokio::test]
async fn the_admin_listener_goes_last_and_says_why() {
    let (_world, running) =
        start(SocketGuards { drain_timeout: PATIENCE, linger: SHORT, ..SocketGuards::default() }).await;
    let admin_listen = running.admin_listen;
    let mut slow = TcpStream::connect(running.listen).await.unwrap();
    // The keeper asks for the body once it has read the head.
    slow.write_all(head("PUT", KEY, "content-length: 10\r\nexpect: 100-continue\r\n").as_bytes()).await.unwrap();
    read_until(&mut slow, "100 Continue").await;
    let asking = async {
        loop {
            let answer = converse(admin_listen, "GET /readyz HTTP/1.1\r\nhost: k\r\nconnection: close\r\n\r\n").await;
            if answer.contains("\"code\":\"shutting_down\"") {
                break;
            }
        }
        slow.write_all(b"{\"a\":1234}").await.unwrap();
        read_to_end(&mut slow).await
    };
    let (_, answer) = tokio::join!(running.shutdown(), asking);
    assert!(answer.contains("\"code\":\"body_invalid\""), "what was under way was answered: {answer}");
}

#[tokio::test]
async fn what_cannot_start_says_what_to_do() {
    let world = World::new().await;
    let told = async |config: ServerConfig| match Server::start(world.keeper.clone(), config).await {
        Ok(running) => {
            running.shutdown().await;
            None
        }
        Err(error) => Some(error),
    };
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let exposed = ServerConfig { admin_listen: everywhere, ..local(SocketGuards::default()) };
    assert!(
        matches!(told(exposed.clone()).await, Some(StartError::PlaintextExposed { address }) if address == everywhere)
    );
    assert!(told(ServerConfig { plaintext: Plaintext::BehindProxy, ..exposed }).await.is_none());

    let mut shared = local(SocketGuards::default());
    shared.callers.push(Caller::new("twin", TokenDigest::of(&Secret::new(ROOT.into())).unwrap(), &[]));
    let error = told(shared).await.unwrap();
    assert_eq!(error.to_string(), "the callers `root` and `twin` have the same token: give each its own");

    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let busy = ServerConfig { listen: taken.local_addr().unwrap(), ..local(SocketGuards::default()) };
    assert!(matches!(told(busy).await, Some(StartError::Bind { .. })));
}
