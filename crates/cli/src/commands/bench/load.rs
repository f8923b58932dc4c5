//! The load: some connections that send one request after the other, for a while or until there are no more.
//!
//! Requests are written and answers are found by hand: the load has to be cheaper than the cheapest server it measures.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use storekeeper_clock::{Clock as _, SystemClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

mod shot;

pub(super) use shot::Shots;

use super::http::{Answer, whole_answer};
use super::part::{Awake, Orders};
use super::{failure, report};
use crate::exit::{CommandError, CommandResult};

/// A server that says nothing for this long is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where to send what.
#[derive(Serialize, Deserialize)]
pub(super) struct Load {
    /// A loopback address.
    pub(super) address: SocketAddr,
    /// How many connections, each with one request under way.
    pub(super) connections: usize,
    /// What is sent.
    pub(super) shots: Shots,
    /// Whether it has a core of its own, on which it need not sleep.
    pub(super) awake: bool,
}

/// Send for a while.
#[derive(Serialize, Deserialize)]
pub(super) struct Fire {
    /// For how long at most.
    pub(super) millis: u64,
    /// How many items at most.
    pub(super) items_max: u64,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Fired {
    /// Items that were answered as they should be; a request may hold several.
    pub(super) items: u64,
    /// Until the last answer.
    pub(super) micros: u64,
    /// The length of the last answer's body.
    pub(super) body_bytes: usize,
    /// Half of the requests were answered within this time, 99 of 100 within that.
    pub(super) answered_within: (f64, f64),
}

/// Connected: orders are taken.
#[derive(Serialize, Deserialize)]
pub(super) struct Connected;

impl Load {
    /// Connects, then fires as often as it is told.
    pub(super) async fn run(self, mut orders: Orders) -> CommandResult {
        if !self.address.ip().is_loopback() {
            return Err(failure(format!("{} is not on this machine: a bench talks to loopback only", self.address)));
        }
        let shots = Rc::new(self.shots);
        let mut connections = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            connections.push(Connection::new(self.address).await.map_err(failure)?);
        }
        report(&Connected)?;
        let mut sent = 0;
        while let Some(fire) = orders.next::<Fire>().await? {
            let _awake = match shots.pause() {
                _ if self.awake => Some(Awake::new()),
                pause => pause.map(Awake::every),
            };
            let volley = Rc::new(Volley::new(Rc::clone(&shots), &fire, sent));
            connections = volley.fire(connections).await?;
            sent = volley.next.get();
            report(&volley.fired())?;
        }
        Ok(())
    }
}

/// One order being carried out.
struct Volley {
    shots: Rc<Shots>,
    clock: SystemClock,
    limit: Duration,
    /// The number of the next item, and of the first one past the last.
    next: Cell<u64>,
    end: u64,
    items: Cell<u64>,
    ended: Cell<Duration>,
    body_bytes: Cell<usize>,
    /// How long each request took.
    times: RefCell<Vec<Duration>>,
}

impl Volley {
    fn new(shots: Rc<Shots>, fire: &Fire, first: u64) -> Self {
        Self {
            shots,
            clock: SystemClock::new(),
            limit: Duration::from_millis(fire.millis),
            next: Cell::new(first),
            end: first.saturating_add(fire.items_max),
            items: Cell::new(0),
            ended: Cell::new(Duration::ZERO),
            body_bytes: Cell::new(0),
            times: RefCell::new(Vec::new()),
        }
    }

    async fn fire(self: &Rc<Self>, connections: Vec<Connection>) -> Result<Vec<Connection>, CommandError> {
        let send = |mut connection: Connection| {
            let volley = Rc::clone(self);
            tokio::task::spawn_local(async move { connection.send_all(&volley).await.map(|()| connection) })
        };
        let tasks: Vec<_> = connections.into_iter().map(send).collect();
        let mut connections = Vec::with_capacity(tasks.len());
        for task in tasks {
            #[expect(clippy::disallowed_methods, reason = "a guard against a server that is stuck")]
            let sent = tokio::time::timeout(self.limit + PATIENCE, task).await;
            let sent = sent.map_err(|_| failure("the server gives no answer any more"))?;
            connections.push(sent.map_err(failure)?.map_err(failure)?);
        }
        Ok(connections)
    }

    /// The items that go with the next request, if there is to be one.
    fn take(&self) -> Option<std::ops::Range<u64>> {
        let start = self.next.get();
        if start >= self.end || self.clock.elapsed() >= self.limit {
            return None;
        }
        let end = (start + self.shots.items_per_request()).min(self.end);
        self.next.set(end);
        Some(start..end)
    }

    fn note(&self, items: u64, body_bytes: usize, sent: Duration) {
        self.items.set(self.items.get() + items);
        let now = self.clock.elapsed();
        self.times.borrow_mut().push(now - sent);
        self.ended.set(now);
        self.body_bytes.set(body_bytes);
    }

    fn fired(&self) -> Fired {
        let micros = self.ended.get().as_micros() as u64;
        let mut times = self.times.borrow_mut();
        times.sort_unstable();
        let within = |share: usize| times.get(times.len() * share / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6);
        let answered_within = (within(50), within(99));
        Fired { items: self.items.get(), micros, body_bytes: self.body_bytes.get(), answered_within }
    }
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    arrived: Vec<u8>,
}

impl Connection {
    async fn new(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request: Vec::with_capacity(4096), arrived: Vec::with_capacity(8192) })
    }

    async fn send_all(&mut self, volley: &Volley) -> io::Result<()> {
        while let Some(items) = volley.take() {
            self.request.clear();
            volley.shots.write(items.clone(), &mut self.request);
            let sent = volley.clock.elapsed();
            self.stream.write_all(&self.request).await?;
            let answer = self.receive().await?;
            let body = &self.arrived[answer.body];
            let count = items.end - items.start;
            if !volley.shots.is_answered(count, answer.status, body) {
                let start = String::from_utf8_lossy(&body[..body.len().min(200)]);
                return Err(io::Error::other(format!("the server answered {}: {start}", answer.status)));
            }
            volley.note(count, body.len(), sent);
        }
        Ok(())
    }

    async fn receive(&mut self) -> io::Result<Answer> {
        self.arrived.clear();
        loop {
            if self.stream.read_buf(&mut self.arrived).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
            if let Some(answer) = whole_answer(&self.arrived).map_err(io::Error::other)? {
                return Ok(answer);
            }
        }
    }
}
