//! `storekeeper bench part`: one process of a bench. The first line on stdin says which; answers go to stdout.

use std::io::BufRead as _;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::{bare, drain, emulate, failure, fill, keep, load, report, scan, stub};
use crate::exit::{CommandError, CommandResult};

/// What a process is to be.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// The Store and Entra, as cheap as can be.
    Stub(stub::Stub),
    /// Puts keys into a keyring.
    Fill(fill::Fill),
    /// Asks what is due.
    Scan(scan::Scan),
    /// A keeper that renews what is due.
    Drain(drain::Drain),
    /// The emulator, and beside it the bare signing rate.
    Emulate(emulate::Emulate),
    /// A keeper with its HTTP API.
    Keep(keep::Keep),
    /// A server that answers every request alike.
    Bare(bare::Bare),
    /// Sends requests.
    Load(load::Load),
}

impl Role {
    /// How to speak of it.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Stub(_) => "stub",
            Self::Fill(_) => "fill",
            Self::Scan(_) => "scan",
            Self::Drain(_) => "drain",
            Self::Emulate(_) => "emulate",
            Self::Keep(_) => "keep",
            Self::Bare(_) => "bare",
            Self::Load(_) => "load",
        }
    }
}

/// Where a part listens.
#[derive(Serialize, Deserialize)]
pub(super) struct Listening {
    /// A loopback address.
    pub(super) address: std::net::SocketAddr,
}

/// Plays the role that stands on stdin.
///
/// # Errors
/// Whatever goes wrong; who leads sees this process end.
pub(super) async fn run() -> CommandResult {
    let mut orders = Orders::from_stdin();
    let Some(role) = orders.next().await? else { return Err(failure("the first line on stdin names the role")) };
    match role {
        Role::Stub(stub) => on_one_thread(|| stub.run(orders)).await,
        Role::Fill(fill) => report(&fill.run().await?),
        Role::Scan(scan) => report(&scan.run().await?),
        Role::Drain(drain) => drain.run(orders).await,
        Role::Emulate(emulate) => emulate.run(orders).await,
        Role::Keep(keep) => keep.run(orders).await,
        Role::Bare(bare) => bare.run(orders).await,
        Role::Load(load) => on_one_thread(|| load.run(orders)).await,
    }
}

/// The lines on stdin after the role, one order each.
pub(super) struct Orders(mpsc::UnboundedReceiver<String>);

impl Orders {
    fn from_stdin() -> Self {
        let (sender, orders) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(orders)
    }

    /// The next order; `None` when there are no more and the part is to end.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CommandError> {
        let Some(line) = self.0.recv().await else { return Ok(None) };
        serde_json::from_str(&line).map(Some).map_err(failure)
    }

    /// Resolves when there are no more.
    pub(super) async fn end(&mut self) {
        while self.0.recv().await.is_some() {}
    }
}

/// Keeps the thread it was made on awake until it is dropped.
///
/// Whoever writes to a socket pays for waking its reader, which on a virtual machine costs as much as the whole request.
/// A stub and a load that never sleep leave what is measured with its own work; a real network has its own readers.
pub(super) struct Awake(tokio::task::JoinHandle<()>);

impl Awake {
    /// Begins.
    pub(super) fn new() -> Self {
        Self(tokio::task::spawn_local(async {
            loop {
                tokio::task::yield_now().await;
            }
        }))
    }

    /// Lets it look at its sockets every so often only. Where it shares the cores of what is measured, each time it wakes
    /// costs both a switch between threads, so it had better find several answers.
    #[expect(clippy::disallowed_methods, reason = "the load of a bench has the time of the operating system")]
    pub(super) fn every(pause: Duration) -> Self {
        Self(tokio::task::spawn_local(async move {
            loop {
                tokio::task::yield_now().await;
                std::thread::sleep(pause);
            }
        }))
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs on a runtime of a single thread, as lean as a server can be.
async fn on_one_thread<F>(work: impl FnOnce() -> F + Send + 'static) -> CommandResult
where
    F: Future<Output = CommandResult>,
{
    let (done, result) = oneshot::channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = runtime.map_err(failure).and_then(|runtime| {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, work())
        });
        drop(done.send(result));
    };
    std::thread::Builder::new().name(String::from("bench")).spawn(run).map_err(failure)?;
    result.await.map_err(failure)?
}
