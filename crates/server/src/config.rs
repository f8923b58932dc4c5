//! What is configured of the HTTP API: where it listens, who may ask, and what guards the sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::caller::Caller;

/// Everything that is configured.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where the data listener listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the admin listener listens; port 0 takes a free one.
    pub admin_listen: SocketAddr,
    /// Whether a listener that others can reach may speak plain HTTP.
    pub plaintext: Plaintext,
    /// Who may ask. No two share a token.
    pub callers: Vec<Caller>,
    /// How much may be under way at once.
    pub limits: RequestLimits,
    /// What guards the sockets.
    pub guards: SocketGuards,
}

impl ServerConfig {
    /// The default addresses and limits, for these callers.
    pub fn new(callers: Vec<Caller>) -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8433).into(),
            admin_listen: (Ipv4Addr::LOCALHOST, 8434).into(),
            plaintext: Plaintext::LoopbackOnly,
            callers,
            limits: RequestLimits::default(),
            guards: SocketGuards::default(),
        }
    }
}

/// Where plain HTTP is spoken. This version speaks nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Plaintext {
    /// On loopback addresses only.
    #[default]
    LoopbackOnly,
    /// Anywhere: the operator says that a proxy in front speaks TLS with everybody else.
    BehindProxy,
}

/// How much may be under way at once on each listener. What is above is told to wait (`too_many_requests`).
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Requests that wait for their answer to begin.
    pub requests_max: usize,
    /// Batches. Each holds up to about 8 MiB while it lasts.
    pub batches_max: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { requests_max: 1024, batches_max: 16 }
    }
}

/// Guards against slow and idle sockets, in the operating system's time.
#[derive(Debug, Clone, Copy)]
pub struct SocketGuards {
    /// Connections to the data listener. Above that the one that has been idle longest is closed in favour of a new one.
    pub connections_max: usize,
    /// The same for the admin listener.
    pub admin_connections_max: usize,
    /// The longest a connection may be idle, and the longest a request's head may take to arrive.
    pub head_timeout: Duration,
    /// The longest the body of a single request may take to arrive.
    pub body_timeout: Duration,
    /// The longest the next line of a batch may take to arrive while the keeper waits for it.
    pub line_timeout: Duration,
    /// The longest a client may take nothing of its answer.
    pub write_timeout: Duration,
    /// How long a closed connection is still read, so that the client finds the answer to what it was sending.
    pub linger: Duration,
    /// How long [`Running::shutdown`](crate::Running::shutdown) waits for what is under way on the data listener.
    pub drain_timeout: Duration,
}

impl SocketGuards {
    /// Fewer connections where the process may open few descriptors: an eighth of them is for the admin listener, and a
    /// third for what the keeper itself opens (the Store, Entra, the database, files).
    #[must_use]
    pub fn within_descriptors(self, descriptors: usize) -> Self {
        let admin = (descriptors / 8).clamp(4, 256);
        let reserve = (descriptors / 3).clamp(16, 1024);
        let data = descriptors.saturating_sub(admin + reserve).max(4);
        Self {
            connections_max: self.connections_max.min(data),
            admin_connections_max: self.admin_connections_max.min(admin),
            ..self
        }
    }
}

impl Default for SocketGuards {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            admin_connections_max: 256,
            head_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            line_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_left_for_the_keeper_itself() {
        let shares = |descriptors| {
            let guards = SocketGuards::default().within_descriptors(descriptors);
            (guards.connections_max, guards.admin_connections_max)
        };
        assert_eq!(shares(1_048_576), (4096, 256));
        assert_eq!(shares(1024), (555, 128));
        assert_eq!(shares(256), (139, 32));
        assert_eq!(shares(0), (4, 4));
    }
}
