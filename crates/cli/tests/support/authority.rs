//! Entra as a database that trusts it sees it: the emulator's token endpoint, and every token that it gives becomes the
//! password of a role before anybody has it, in the place of the one before.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::cluster::{Cluster, SUPERUSER, psql};

/// Listens until the test is over.
pub(crate) struct Authority {
    /// Where it listens.
    pub(crate) address: String,
    given: Arc<AtomicUsize>,
}

impl Authority {
    /// In front of the emulator at this address; a token lives so many seconds.
    pub(crate) fn before(emulator: &str, role: &'static str, lifetime: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, given) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicUsize::new(0)));
        let (emulator, counted) = (emulator.to_owned(), Arc::clone(&given));
        std::thread::spawn(move || {
            for caller in listener.incoming() {
                serve(caller.unwrap(), &emulator, role, lifetime, &counted);
            }
        });
        Self { address, given }
    }

    /// How many tokens the database was given.
    pub(crate) fn given(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }
}

/// One exchange. Callers that break off are none of its concern.
fn serve(mut caller: TcpStream, emulator: &str, role: &str, lifetime: u64, given: &AtomicUsize) {
    let Some((request, form)) = message(&caller) else { return };
    let mut entra = TcpStream::connect(emulator).unwrap();
    entra.write_all(&[request.as_bytes(), form.as_slice()].concat()).unwrap();
    let (head, mut body) = message(&entra).unwrap();
    if head.starts_with("HTTP/1.1 200") && String::from_utf8_lossy(&form).contains("ossrdbms") {
        let mut granted: Value = serde_json::from_slice(&body).unwrap();
        let token = granted["access_token"].as_str().unwrap();
        psql(&Cluster::shared().url(SUPERUSER, "postgres"), &format!("ALTER ROLE \"{role}\" PASSWORD '{token}'"));
        granted["expires_in"] = lifetime.into();
        body = granted.to_string().into_bytes();
        given.fetch_add(1, Ordering::Relaxed);
    }
    let status = head.lines().next().unwrap();
    let head = format!(
        "{status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    drop(caller.write_all(&[head.as_bytes(), body.as_slice()].concat()));
}

/// The head and the body of a message whose length is told.
fn message(socket: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}
