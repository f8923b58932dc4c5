//! `Watch`: who is alive, by how long each beat has stood still on our own clock.

use std::collections::BTreeMap;
use std::time::Duration;

use storekeeper_keyring::{ClockReport, Node, NodeId};

/// A node that has been dead for so many times-to-live is forgotten.
const FORGOTTEN_AFTER: u32 = 6;

/// What is known of one node.
#[derive(Debug)]
struct Watched {
    /// Its row; `None` where only leases speak of it.
    node: Option<Node>,
    /// When the beat that it shows was first here: it was made before that.
    since: Duration,
    /// When the last question was sent that found it so: it had made no other by then.
    until: Duration,
}

impl Watched {
    fn stood_still(&self) -> Duration {
        self.until.saturating_sub(self.since)
    }
}

/// All nodes, by their ids.
#[derive(Debug, Default)]
pub(super) struct Watch(BTreeMap<NodeId, Watched>);

impl Watch {
    /// So the nodes stood at some moment between `sent` and `came`.
    pub(super) fn beaten(&mut self, nodes: Vec<Node>, sent: Duration, came: Duration, time_to_live: Duration) {
        let mut nodes: BTreeMap<NodeId, Node> = nodes.into_iter().map(|node| (node.id, node)).collect();
        for (id, watched) in &mut self.0 {
            let node = nodes.remove(id);
            if watched.node.as_ref().map(|node| node.beat) == node.as_ref().map(|node| node.beat) {
                watched.until = sent;
            } else {
                (watched.since, watched.until) = (came, came);
            }
            watched.node = node;
        }
        // Who has no row, and does not come back, need not be remembered: its leases name it again.
        self.0.retain(|_, watched| watched.node.is_some() || watched.stood_still() < time_to_live * FORGOTTEN_AFTER);
        self.0.extend(nodes.into_iter().map(|(id, node)| (id, Watched { node: Some(node), since: came, until: came })));
    }

    /// These own leases, read at `came`: who is not known otherwise is watched from now on.
    pub(super) fn owners(&mut self, owners: impl Iterator<Item = NodeId>, came: Duration) {
        for owner in owners {
            self.0.entry(owner).or_insert(Watched { node: None, since: came, until: came });
        }
    }

    /// Whether it is known to be dead.
    pub(super) fn is_dead(&self, id: NodeId, time_to_live: Duration) -> bool {
        self.0.get(&id).is_some_and(|watched| watched.stood_still() >= time_to_live)
    }

    /// Who may be alive, whether each is draining, and what it says of its clock.
    pub(super) fn living(&self, time_to_live: Duration) -> Vec<(NodeId, bool, ClockReport)> {
        let living = self.0.iter().filter(|(_, watched)| watched.stood_still() < time_to_live);
        let said =
            |(id, watched): (&NodeId, &Watched)| watched.node.as_ref().map(|node| (*id, node.draining, node.clock));
        living.filter_map(said).collect()
    }

    /// Who shares the buckets, in the order of their ids. A node whose clock is wrong leaves them to those whose clock agrees
    /// with the Store's. Where none does, the Store's `Date` may be what is wrong: then all go on.
    pub(super) fn sharers(&self, time_to_live: Duration) -> Vec<NodeId> {
        let mut sharers = self.living(time_to_live);
        sharers.retain(|(_, draining, _)| !draining);
        if sharers.iter().any(|(_, _, clock)| *clock == ClockReport::Agrees) {
            sharers.retain(|(_, _, clock)| *clock != ClockReport::Skewed);
        }
        sharers.into_iter().map(|(id, ..)| id).collect()
    }

    /// Its row, as last seen.
    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.0.get(&id)?.node.as_ref()
    }

    /// Whose rows may go.
    pub(super) fn long_dead(&self, time_to_live: Duration) -> impl Iterator<Item = &Node> {
        let long_dead = move |watched: &&Watched| watched.stood_still() >= time_to_live * FORGOTTEN_AFTER;
        self.0.values().filter(long_dead).filter_map(|watched| watched.node.as_ref())
    }
}
