//! `Options`: how many connections the shared keyring may hold, how long it waits, and where passwords come from.

use std::sync::Arc;
use std::time::Duration;

use crate::Passwords;

/// A beat does not wait until another connection is free.
pub const LEASE_CONNECTIONS: usize = 2;
/// A beat that takes longer than this is made anew: a lease does not live much longer.
const LEASE_PATIENCE: Duration = Duration::from_secs(2);
/// How much later than the server we give up.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many connections the shared keyring may hold, how long it waits, and where passwords come from.
#[derive(Debug, Clone)]
pub struct Options {
    /// At most this many connections, one of them for writing; and [`LEASE_CONNECTIONS`] more for beats and leases.
    pub connections: usize,
    /// At most this many writes share one commit, unless one caller brings more.
    pub group_max: usize,
    /// When more is due than is asked for, the order of this many rows is kept from one question to the next.
    pub backlog_rows: usize,
    /// That order is made anew when questions have moved on by this much: other keepers may have written rows.
    pub backlog_fresh: Duration,
    /// A connection that cannot be made within this time is given up; of several hosts each has its part of it. What the
    /// URL says of each host (`connect_timeout`) outranks it.
    pub connect_timeout: Duration,
    /// The server gives up a statement that takes longer, and we give up the server a little later.
    pub statement_timeout: Duration,
    /// A question for rows by their ids is given up after this time, the wait for a connection included: whoever hands out
    /// keys has them from memory, and somebody waits. So may others do, for their turn, as long again.
    pub find_timeout: Duration,
    /// Where the user's password comes from; `None`: from the URL.
    pub passwords: Option<Arc<dyn Passwords>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: 8,
            group_max: 4096,
            backlog_rows: 128 * 1024,
            backlog_fresh: Duration::from_secs(120),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            find_timeout: Duration::from_secs(2),
            passwords: None,
        }
    }
}

impl Options {
    /// The same for the few statements by which nodes share the keyring.
    pub(crate) fn for_leases(&self) -> Self {
        Self {
            connections: LEASE_CONNECTIONS,
            statement_timeout: self.statement_timeout.min(LEASE_PATIENCE),
            ..self.clone()
        }
    }

    /// When we give up a server that does not answer.
    pub(crate) fn answer_within(&self) -> Duration {
        self.statement_timeout + PATIENCE.min(self.statement_timeout)
    }
}
