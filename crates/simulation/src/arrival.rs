//! `Arrival`: what the loop has to come back to, the earliest first.

use storekeeper_keeper::engine::Event;
use storekeeper_model::Timestamp;

use crate::op::Op;

/// Something that comes back to the engine later.
pub(crate) struct Arrival {
    pub(crate) at: Timestamp,
    pub(crate) order: u64,
    pub(crate) what: Due,
}

/// What comes.
pub(crate) enum Due {
    /// Something for the engine.
    Event(Box<Event>),
    /// The keeper looks at its clock.
    Look,
    /// Something that lasted has ended.
    End(Op),
}

impl PartialEq for Arrival {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Arrival {}
impl PartialOrd for Arrival {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Arrival {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
