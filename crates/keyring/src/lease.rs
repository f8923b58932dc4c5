//! `Leases`: what a keyring that several keepers share promises besides: who is at work, and whose each bucket is.

use std::fmt;
use std::str::FromStr;

use futures_util::future::BoxFuture;
use storekeeper_model::Bucket;

use crate::{AppRow, KeyringError};

/// Names one run of one keeper: random, made anew at each start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 16]);

impl NodeId {
    /// From random bytes, or as stored.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// As stored.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for NodeId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten().ok_or(())?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// What a node says of its own clock. No instant travels: a node compares its clock with the Store's, never with another
/// node's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ClockReport {
    /// No response of the Store or Entra ID has shown it since the node's start.
    #[default]
    Unknown,
    /// It agrees with the Store's.
    Agrees,
    /// It and the Store's differ by more than five minutes.
    Skewed,
}

impl ClockReport {
    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Agrees => "agrees",
            Self::Skewed => "skewed",
        }
    }
}

/// What a node says of itself with each beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Which node.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// What its row last said of [`Node::draining`]: a row that has to be made again begins with it.
    pub draining: bool,
    /// It goes away for good. Such a node is draining, whatever else was ordered.
    pub leaving: bool,
    /// How its clock stands to the Store's; each beat says it again.
    pub clock: ClockReport,
}

/// A node as the keyring knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// Moves with each beat. Only that it moves means anything: no clock stands in the tables.
    pub beat: u64,
    /// It gives its leases back and wants no others, until [`Leases::undrain_node`] or its end.
    pub draining: bool,
    /// How its clock stands to the Store's, as it said with its last beat.
    pub clock: ClockReport,
}

/// A bucket's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Of which bucket.
    pub bucket: Bucket,
    /// Whose it is; `None`: anybody's.
    pub owner: Option<NodeId>,
    /// Raised by each change.
    pub term: u64,
}

/// A lease that is to change hands. It does only if owner and term are still what was seen; the term rises by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseChange {
    /// The lease as it was seen.
    pub seen: Lease,
    /// Whose it is to be.
    pub owner: Option<NodeId>,
}

/// Who is at work, and whose each bucket is: the tables by which keepers share one keyring. They hold no time, and no two
/// clocks are compared: whether a beat has stood still for too long, each node judges by its own clock.
pub trait Leases: Send + Sync {
    /// Moves a node's beat, and makes its row where there is none; then tells of all nodes, this one among them.
    fn beat<'a>(&'a self, presence: &'a Presence) -> BoxFuture<'a, Result<Vec<Node>, KeyringError>>;

    /// Every node.
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Node>, KeyringError>>;

    /// Every lease, one for each bucket, in order.
    fn all(&self) -> BoxFuture<'_, Result<Vec<Lease>, KeyringError>>;

    /// Changes leases, each compare-and-set; answers for each, in order, whether it was made. A bucket stands in a group
    /// once. After an error nobody knows what was made; and after a lost connection a change that was made may be
    /// answered as if it were not.
    fn change(&self, changes: Vec<LeaseChange>) -> BoxFuture<'_, Result<Vec<bool>, KeyringError>>;

    /// Tells a node to give its leases back; `false` if there is none of this id.
    fn drain_node(&self, id: NodeId) -> BoxFuture<'_, Result<bool, KeyringError>>;

    /// Lets a node that is not leaving take leases again; `false` if there is none of this id.
    fn undrain_node(&self, id: NodeId) -> BoxFuture<'_, Result<bool, KeyringError>>;

    /// Removes a node's row if its beat has not moved since it was seen so. Its leases stay as they are.
    fn remove_node<'a>(&'a self, seen: &'a Node) -> BoxFuture<'a, Result<bool, KeyringError>>;

    /// Saves what is known of an app, if what is kept of it is still `seen`; `false` if somebody else has saved since.
    fn change_app<'a>(&'a self, seen: &'a AppRow, app: &'a AppRow) -> BoxFuture<'a, Result<bool, KeyringError>>;
}
