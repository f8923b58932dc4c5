//! What stands between a keyring and its server, and does harm when told to.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PASS: u8 = 0;
/// The server commits; its answer is lost.
pub(crate) const LOSE_ANSWER: u8 = 1;
/// The server never hears of the commit.
pub(crate) const LOSE_COMMIT: u8 = 2;
/// The connection is cut before the transaction has come so far.
pub(crate) const CUT_BEFORE: u8 = 3;
/// The server commits; nothing more is heard of it.
pub(crate) const WITHHOLD_ANSWER: u8 = 4;

/// Passes on what is said, but for one harm at a time.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    harm: AtomicU8,
    is_away: AtomicBool,
    is_silent: AtomicBool,
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<State>::default();
        let theirs = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !theirs.is_away.load(Ordering::SeqCst) {
                    tokio::spawn(pass(client, server, Arc::clone(&theirs)));
                }
            }
        });
        Self { address, state }
    }

    pub(crate) const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Does this once.
    pub(crate) fn harm(&self, harm: u8) {
        self.state.harm.store(harm, Ordering::SeqCst);
    }

    /// Whether it was done.
    pub(crate) fn is_harmless(&self) -> bool {
        self.state.harm.load(Ordering::SeqCst) == PASS
    }

    /// From now on connections are closed: new ones as they are made, others at their next word once the harm is done. Or
    /// not any more.
    pub(crate) fn turn_away(&self, is_away: bool) {
        self.state.is_away.store(is_away, Ordering::SeqCst);
    }

    /// From now on nothing is said on any connection, and none is closed.
    pub(crate) fn fall_silent(&self) {
        self.state.is_silent.store(true, Ordering::SeqCst);
    }
}

impl State {
    /// Does not return once it is silent.
    async fn speak(&self) {
        if self.is_silent.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
    }
}

async fn pass(mut client: TcpStream, server: u16, state: Arc<State>) {
    state.speak().await;
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                state.speak().await;
                let commits = asked[..length].windows(7).any(|bytes| bytes == b"COMMIT\0");
                let begins = asked[..length].windows(5).any(|bytes| bytes == b"START" || bytes == b"BEGIN");
                let planned = state.harm.load(Ordering::SeqCst);
                if planned == PASS && state.is_away.load(Ordering::SeqCst) {
                    return;
                }
                if planned == CUT_BEFORE && begins {
                    state.harm.store(PASS, Ordering::SeqCst);
                    return;
                }
                if commits && [LOSE_ANSWER, LOSE_COMMIT, WITHHOLD_ANSWER].contains(&planned) {
                    state.harm.store(PASS, Ordering::SeqCst);
                    if planned != LOSE_COMMIT {
                        server.write_all(&asked[..length]).await.unwrap();
                        assert!(server.read(&mut answered).await.unwrap() > 0, "the server has committed");
                    }
                    if planned == WITHHOLD_ANSWER {
                        pending::<()>().await;
                    }
                    return;
                }
                server.write_all(&asked[..length]).await.unwrap();
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                state.speak().await;
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
