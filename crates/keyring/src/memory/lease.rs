//! The tables by which keepers share a keyring, in memory.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use storekeeper_model::Bucket;

use super::MemoryKeyring;
use crate::{AppRow, KeyringError, Lease, LeaseChange, Leases, Node, NodeId, Presence};

/// Nodes, and a lease for each bucket.
#[derive(Debug)]
pub(super) struct Shared {
    nodes: BTreeMap<NodeId, Node>,
    leases: Vec<Lease>,
}

impl Default for Shared {
    fn default() -> Self {
        let free = |bucket| Lease { bucket, owner: None, term: 0 };
        Self { nodes: BTreeMap::new(), leases: (0..Bucket::COUNT).filter_map(Bucket::new).map(free).collect() }
    }
}

impl Shared {
    fn beat(&mut self, presence: &Presence) -> Vec<Node> {
        let Presence { id, name, draining, leaving, clock } = presence.clone();
        let node = self.nodes.entry(id).or_insert(Node { id, name, beat: 0, draining, clock });
        node.beat += 1;
        node.clock = clock;
        node.draining |= leaving;
        self.nodes.values().cloned().collect()
    }

    fn change(&mut self, change: &LeaseChange) -> bool {
        let lease = &mut self.leases[usize::from(change.seen.bucket.number())];
        let stands = *lease == change.seen;
        if stands {
            *lease = Lease { owner: change.owner, term: lease.term + 1, ..*lease };
        }
        stands
    }
}

impl Leases for MemoryKeyring {
    fn beat<'a>(&'a self, presence: &'a Presence) -> BoxFuture<'a, Result<Vec<Node>, KeyringError>> {
        self.answer(|inner| inner.shared.beat(presence))
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Node>, KeyringError>> {
        self.answer(|inner| inner.shared.nodes.values().cloned().collect())
    }

    fn all(&self) -> BoxFuture<'_, Result<Vec<Lease>, KeyringError>> {
        self.answer(|inner| inner.shared.leases.clone())
    }

    fn change(&self, changes: Vec<LeaseChange>) -> BoxFuture<'_, Result<Vec<bool>, KeyringError>> {
        self.answer(|inner| changes.iter().map(|change| inner.shared.change(change)).collect())
    }

    fn drain_node(&self, id: NodeId) -> BoxFuture<'_, Result<bool, KeyringError>> {
        self.answer(|inner| inner.shared.nodes.get_mut(&id).map(|node| node.draining = true).is_some())
    }

    fn undrain_node(&self, id: NodeId) -> BoxFuture<'_, Result<bool, KeyringError>> {
        self.answer(|inner| inner.shared.nodes.get_mut(&id).map(|node| node.draining = false).is_some())
    }

    fn remove_node<'a>(&'a self, seen: &'a Node) -> BoxFuture<'a, Result<bool, KeyringError>> {
        self.answer(|inner| {
            let stands = inner.shared.nodes.get(&seen.id).is_some_and(|node| node.beat == seen.beat);
            stands && inner.shared.nodes.remove(&seen.id).is_some()
        })
    }

    fn change_app<'a>(&'a self, seen: &'a AppRow, app: &'a AppRow) -> BoxFuture<'a, Result<bool, KeyringError>> {
        self.answer(|inner| {
            let stands = inner.apps.get(&app.name) == Some(seen);
            if stands {
                inner.apps.insert(app.name.clone(), app.clone());
            }
            stands
        })
    }
}
