//! What is sent: the text of requests, and which answers are right.

use std::cell::RefCell;
use std::io::Write as _;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use storekeeper_clock::{Clock as _, SystemClock};

use super::super::made_up::{APP, Maker, kind, player};

/// A step through keys that visits them in no order a cache could like.
const STRIDE: u64 = 2_654_435_761;

/// What is sent, in the order of its numbers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Shots {
    /// `GET` of one of this many keys.
    Read {
        /// Whose key it is to read them.
        token: String,
        /// How many there are.
        keys: u64,
    },
    /// Renewals of these keys, over and over.
    Renew {
        /// A service ticket.
        ticket: String,
        /// The keys.
        keys: Vec<String>,
    },
    /// Enrollment of new keys, so many with each request; of one with `PUT`.
    Enroll {
        /// Whose key it is to enroll them.
        token: String,
        /// How many go with a request.
        per_request: u64,
        #[serde(skip, default)]
        maker: MakerCell,
    },
}

/// Makes up the keys to enroll.
pub(in super::super) struct MakerCell(RefCell<Maker>, SystemClock);

impl Default for MakerCell {
    fn default() -> Self {
        Self(RefCell::new(Maker::new(0xe11)), SystemClock::new())
    }
}

impl MakerCell {
    fn key(&self, number: u64) -> String {
        self.0.borrow_mut().key(number, self.1.now())
    }
}

impl Shots {
    /// How many items a request holds.
    pub(super) fn items_per_request(&self) -> u64 {
        match self {
            Self::Read { .. } | Self::Renew { .. } => 1,
            Self::Enroll { per_request, .. } => *per_request,
        }
    }

    /// How long answers may be left alone where looking for them disturbs the server: while 32 connections wait for a
    /// signature each, it has enough to do for twice as long on two cores.
    pub(super) fn pause(&self) -> Option<Duration> {
        matches!(self, Self::Renew { .. }).then_some(Duration::from_millis(2))
    }

    /// Writes the request for these items.
    pub(super) fn write(&self, items: Range<u64>, request: &mut Vec<u8>) {
        match self {
            Self::Read { token, keys } => {
                let number = items.start.wrapping_mul(STRIDE) % keys;
                put(request, &format!("GET {}", path(number)), token, None);
            }
            Self::Renew { ticket, keys } => {
                let key = &keys[(items.start % keys.len() as u64) as usize];
                renewal(request, ticket, key);
            }
            Self::Enroll { token, per_request: 1, maker } => {
                let body = format!(r#"{{"key":"{}"}}"#, maker.key(items.start));
                put(request, &format!("PUT {}", path(items.start)), token, Some(("application/json", body.as_bytes())));
            }
            Self::Enroll { token, maker, .. } => {
                let mut body = Vec::with_capacity(2048 * (items.end - items.start) as usize);
                for number in items {
                    let (user, key) = (player(number), maker.key(number));
                    let line = writeln!(body, r#"{{"app":"{APP}","user":"{user}","key":"{key}"}}"#);
                    line.expect("writing to memory cannot fail");
                }
                put(request, "POST /v1/keys:enroll", token, Some(("application/x-ndjson", &body)));
            }
        }
    }

    /// Whether all `items` were answered as they should be.
    pub(super) fn is_answered(&self, items: u64, status: u16, body: &[u8]) -> bool {
        match self {
            Self::Read { .. } => status == 200 && !body.is_empty(),
            Self::Renew { .. } => status == 200 && body.starts_with(br#"{"key":""#),
            Self::Enroll { per_request: 1, .. } => status == 201,
            Self::Enroll { .. } => status == 200 && created(body) == items,
        }
    }
}

/// How many lines say 201.
fn created(body: &[u8]) -> u64 {
    let mark = br#""status":201"#;
    body.split(|byte| *byte == b'\n').filter(|line| line.windows(mark.len()).any(|window| window == mark)).count()
        as u64
}

fn path(number: u64) -> String {
    format!("/v1/apps/{APP}/users/{}/keys/{}", player(number), kind(number))
}

/// A request to the keeper.
fn put(request: &mut Vec<u8>, method_and_path: &str, token: &str, body: Option<(&str, &[u8])>) {
    let head = write!(request, "{method_and_path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n");
    let rest = match body {
        Some((kind, body)) => {
            let lines = write!(request, "Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
            request.extend_from_slice(body);
            lines
        }
        None => write!(request, "\r\n"),
    };
    head.and(rest).expect("writing to memory cannot fail");
}

/// A request to the Store.
fn renewal(request: &mut Vec<u8>, ticket: &str, key: &str) {
    let body = format!(r#"{{"serviceTicket":"{ticket}","key":"{key}"}}"#);
    let written = write!(
        request,
        "POST /v6.0/b2b/keys/renew HTTP/1.1\r\nHost: collections.mp.microsoft.com\r\n\
         Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    written.expect("writing to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(shots: &Shots, items: Range<u64>) -> String {
        let mut request = Vec::new();
        shots.write(items, &mut request);
        String::from_utf8(request).unwrap()
    }

    #[test]
    fn a_batch_holds_a_line_for_each_item() {
        let shots = Shots::Enroll { token: String::from("t"), per_request: 3, maker: MakerCell::default() };
        let request = text(&shots, 4..7);
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /v1/keys:enroll HTTP/1.1\r\n"));
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
        assert_eq!(body.lines().count(), 3);
        assert!(body.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
        let answer = b"{\"line\":1,\"status\":201}\n{\"line\":2,\"status\":409}\n{\"line\":3,\"status\":201}\n";
        assert!(shots.is_answered(2, 200, answer));
        assert!(!shots.is_answered(3, 200, answer));
    }

    #[test]
    fn reads_visit_every_key() {
        let shots = Shots::Read { token: String::from("t"), keys: 10 };
        let paths: std::collections::BTreeSet<String> =
            (0..10).map(|n| text(&shots, n..n + 1).lines().next().unwrap().to_owned()).collect();
        assert_eq!(paths.len(), 10);
        assert!(paths.contains("GET /v1/apps/bench/users/player-0000004/keys/purchase HTTP/1.1"));
    }

    #[test]
    fn a_renewal_is_right_only_with_a_key() {
        let shots = Shots::Renew { ticket: String::from("t"), keys: vec![String::from("k")] };
        assert!(text(&shots, 5..6).ends_with("\r\n\r\n{\"serviceTicket\":\"t\",\"key\":\"k\"}"));
        assert!(shots.is_answered(1, 200, b"{\"key\":\"n\"}"));
        assert!(!shots.is_answered(1, 200, b"{}"));
        assert!(!shots.is_answered(1, 401, b"{\"key\":\"n\"}"));
    }
}
