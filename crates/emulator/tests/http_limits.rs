//! Long bodies, slow senders, idle connections and thousands of connections are kept from doing harm.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod http_support;

use std::time::Duration;

use http_support::{JSON, RENEW, Rig, ended, exchange, read_reply, request};
use storekeeper_emulator::server::ServerOptions;
use storekeeper_emulator::{BODY_BYTES_MAX, Limits, VirtualHost};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const HOST: &str = "purchase.mp.microsoft.com";

async fn rig(change: impl FnOnce(&mut Limits)) -> Rig {
    let mut options = ServerOptions::ephemeral();
    change(&mut options.limits);
    Rig::start_with(options).await
}

#[tokio::test]
async fn a_long_body_is_413_before_it_has_come() {
    let rig = Rig::start().await;
    let mut stream = TcpStream::connect(rig.http()).await.unwrap();
    let head = format!("POST {RENEW} HTTP/1.1\r\nHost: {HOST}\r\n{JSON}Content-Length: 1000000000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let reply = read_reply(&mut stream).await.unwrap();
    assert_eq!(reply.status, 413);
    assert_eq!(reply.header("connection"), Some("close"));
}

#[tokio::test]
async fn the_limit_is_exact_and_its_sender_gets_to_see_the_answer() {
    let rig = Rig::start().await;
    let check = async |length, expected| {
        let body = " ".repeat(length);
        let reply = rig.renew(VirtualHost::Purchase, &body).await.unwrap();
        assert_eq!(reply.status, expected, "{length}");
    };
    check(BODY_BYTES_MAX, 400).await;
    check(BODY_BYTES_MAX + 1, 413).await;
    check(500_000, 413).await;
}

#[tokio::test]
async fn a_long_body_in_chunks_is_413_too() {
    let rig = Rig::start().await;
    let mut stream = TcpStream::connect(rig.http()).await.unwrap();
    let head = format!("POST {RENEW} HTTP/1.1\r\nHost: {HOST}\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    for _ in 0..17 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    assert_eq!(read_reply(&mut stream).await.unwrap().status, 413);
}

#[tokio::test]
async fn an_earlier_check_comes_before_the_length() {
    let rig = Rig::start().await;
    let body = " ".repeat(BODY_BYTES_MAX + 1);
    for (method, path, headers, expected) in [
        ("POST", "/nowhere", JSON, 404),
        ("PUT", RENEW, JSON, 405),
        ("POST", RENEW, "Content-Type: text/plain\r\n", 415),
    ] {
        let reply = exchange(rig.http(), &request(method, path, HOST, headers, &body)).await.unwrap();
        assert_eq!(reply.status, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let rig = Rig::start().await;
    let header = format!("X-Filler: {}\r\n", "x".repeat(100_000));
    let reply = exchange(rig.http(), &request("POST", RENEW, HOST, &header, "")).await.unwrap();
    assert_eq!(reply.status, 431);
}

/// Sends a part of a request and waits for the emulator to end the connection.
async fn check_cut_off(rig: &Rig, part: &str) {
    let mut stream = TcpStream::connect(rig.http()).await.unwrap();
    stream.write_all(part.as_bytes()).await.unwrap();
    ended(&mut stream).await;
    assert_eq!(rig.ledger().await.len(), 0, "nothing was answered");
}

#[tokio::test]
async fn slow_senders_are_cut_off() {
    let rig = rig(|limits| limits.transfer_max = Duration::from_millis(100)).await;
    check_cut_off(&rig, "POST /v6.0/b2b/ke").await;
    check_cut_off(&rig, &format!("POST {RENEW} HTTP/1.1\r\nHost: {HOST}\r\n")).await;
    check_cut_off(&rig, &format!("POST {RENEW} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\n{{")).await;
}

#[tokio::test]
async fn a_sender_that_trickles_is_cut_off_all_the_same() {
    let rig = rig(|limits| limits.transfer_max = Duration::from_millis(200)).await;
    let mut stream = TcpStream::connect(rig.http()).await.unwrap();
    stream.write_all(format!("POST {RENEW} HTTP/1.1\r\nHost: {HOST}\r\n").as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let trickle = async {
        while writer.write_all(b"x: y\r\n").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(trickle, ended(&mut reader));
}

#[tokio::test]
async fn idle_connections_are_cut_off_before_and_after_a_request() {
    let rig = rig(|limits| limits.idle_max = Duration::from_millis(100)).await;
    let mut silent = TcpStream::connect(rig.http()).await.unwrap();
    ended(&mut silent).await;
    let mut used = TcpStream::connect(rig.http()).await.unwrap();
    let get = format!("GET {RENEW} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    used.write_all(get.as_bytes()).await.unwrap();
    assert_eq!(read_reply(&mut used).await.unwrap().status, 405);
    ended(&mut used).await;
    let mut tls = TcpStream::connect(rig.running.https().unwrap()).await.unwrap();
    ended(&mut tls).await;
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let rig = Rig::start().await;
    let mut stream = TcpStream::connect(rig.http()).await.unwrap();
    let get = format!("GET {RENEW} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    for _ in 0..3 {
        stream.write_all(get.as_bytes()).await.unwrap();
        assert_eq!(read_reply(&mut stream).await.unwrap().status, 405);
    }
    stream.write_all(get.repeat(3).as_bytes()).await.unwrap();
    while rig.ledger().await.len() < 6 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn when_every_seat_is_taken_the_longest_silent_gives_way() {
    let rig = rig(|limits| limits.connections_max = 3).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(rig.http()).await.unwrap();
        let get = format!("GET {RENEW} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        stream.write_all(get.as_bytes()).await.unwrap();
        assert_eq!(read_reply(&mut stream).await.unwrap().status, 405);
        silent.push(stream);
        #[expect(clippy::disallowed_methods, reason = "how long a socket is silent is real time")]
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(rig.renew(VirtualHost::Purchase, "{}").await.unwrap().status, 401);
    ended(&mut silent[0]).await;
    let get = format!("GET {RENEW} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    silent[2].write_all(get.as_bytes()).await.unwrap();
    assert_eq!(read_reply(&mut silent[2]).await.unwrap().status, 405);
}

#[tokio::test]
async fn when_every_seat_is_taken_by_slow_senders_one_gives_way() {
    let rig = rig(|limits| limits.connections_max = 2).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(rig.http()).await.unwrap();
        stream.write_all(b"POST /v6.0/b2b/ke").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(rig.renew(VirtualHost::Purchase, "{}").await.unwrap().status, 401);
}

#[tokio::test]
async fn newcomers_wait_while_every_seat_is_in_use() {
    let rig = rig(|limits| limits.connections_max = 1).await;
    rig.grant("POST", "/control/v1/faults", serde_json::json!({"endpoint": "renew", "delay": "1h", "count": 1})).await;
    let mut first = TcpStream::connect(rig.http()).await.unwrap();
    first.write_all(&request("POST", RENEW, HOST, JSON, "{}")).await.unwrap();
    while rig.grant("GET", "/control/v1/faults", serde_json::Value::Null).await["faults"][0]["fired"] == 0 {}
    let (second, advanced) = tokio::join!(
        rig.renew(VirtualHost::Collections, "{}"),
        rig.grant("POST", "/control/v1/clock", serde_json::json!({"advance": "1h"})),
    );
    let first = read_reply(&mut first).await;
    assert_eq!((first.unwrap().status, second.unwrap().status), (401, 401));
    assert_eq!(advanced["now"], "2027-01-15T09:00:00Z");
    assert_eq!(rig.ledger().await.len(), 2);
}

#[tokio::test]
async fn a_peer_that_takes_no_answer_is_cut_off() {
    let rig = rig(|limits| limits.transfer_max = Duration::from_millis(300)).await;
    let mut stream = TcpStream::connect(rig.http()).await.unwrap();
    let get = format!("GET {RENEW} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").repeat(100);
    // Nothing is read: once the buffers are full the emulator cannot write on, and ends the connection.
    while stream.write_all(get.as_bytes()).await.is_ok() {}
}

#[tokio::test]
async fn a_thousand_silent_connections_do_not_hurt() {
    let rig = rig(|limits| limits.connections_max = 200).await;
    let mut crowd = Vec::new();
    for _ in 0..1000 {
        crowd.push(TcpStream::connect(rig.http()).await.unwrap());
    }
    let key = rig.mint_key("purchase", "u").await;
    let body = rig.renewal(&key).await;
    assert_eq!(rig.renew(VirtualHost::Purchase, &body).await.unwrap().status, 200);
    ended(&mut crowd[0]).await;
}

#[tokio::test]
async fn a_shutdown_lets_the_answer_under_way_leave_and_ends_the_rest() {
    let rig = Rig::start().await;
    let mut silent = TcpStream::connect(rig.http()).await.unwrap();
    rig.grant("POST", "/control/v1/faults", serde_json::json!({"endpoint": "renew", "delay": "1h"})).await;
    let mut slow = TcpStream::connect(rig.http()).await.unwrap();
    slow.write_all(&request("POST", RENEW, HOST, JSON, "{}")).await.unwrap();
    while rig.grant("GET", "/control/v1/faults", serde_json::Value::Null).await["faults"][0]["fired"] == 0 {}
    let (clock, http) = (rig.clock.clone(), rig.http());
    let shutdown = tokio::spawn(rig.running.shutdown());
    ended(&mut silent).await;
    clock.advance(Duration::from_secs(3600)).await.unwrap();
    assert_eq!(read_reply(&mut slow).await.unwrap().status, 401);
    shutdown.await.unwrap().unwrap();
    assert!(TcpStream::connect(http).await.is_err());
}
