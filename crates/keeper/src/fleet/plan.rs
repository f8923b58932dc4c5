//! `Plan`: which leases a node gives back and which it takes, so that the living share all evenly.

use std::collections::BTreeMap;

use storekeeper_keyring::{Buckets, Lease, LeaseChange, NodeId};
use storekeeper_model::Bucket;

/// What has to change, as the table was last seen.
#[derive(Debug)]
pub(super) struct Plan {
    me: NodeId,
    /// Those of ours that are to be given back.
    pub(super) leaving: Buckets,
    /// To be taken.
    taken: Vec<Lease>,
    /// Ours by the table, but not known to be, and too many: to be let go.
    surplus: Vec<Lease>,
    /// How many more there should be than there are to be had.
    missing: usize,
}

impl Plan {
    pub(super) fn new(
        me: NodeId,
        sharers: &[NodeId],
        table: &[Lease],
        held: &BTreeMap<Bucket, u64>,
        leaving: &Buckets,
        is_dead: impl Fn(NodeId) -> bool,
    ) -> Self {
        let wanted = share(me, sharers);
        let leaving = leave(held, leaving, wanted);
        let mut room = wanted.saturating_sub(held.len() - leaving.len());
        let is_ours = |lease: &&Lease| lease.owner == Some(me) && !held.contains_key(&lease.bucket);
        let is_free = |lease: &&Lease| lease.owner.is_none_or(|owner| owner != me && is_dead(owner));
        // Nobody else takes what the table says is ours.
        let mut taken: Vec<Lease> = table.iter().filter(is_ours).copied().collect();
        let surplus = taken.split_off(room.min(taken.len()));
        room -= taken.len();
        // Each begins at its own place, so that those who come at once seldom want the same.
        let place = sharers.iter().position(|id| *id == me).unwrap_or(0);
        let start = table.len() * place / sharers.len().max(1);
        let (before, after) = table.split_at(start);
        taken.extend(after.iter().chain(before).filter(is_free).take(room));
        let missing = wanted.saturating_sub(held.len() - leaving.len());
        Self { me, leaving, taken, surplus, missing }
    }

    /// Whether the node has fewer than its share.
    pub(super) fn is_wanting(&self) -> bool {
        self.missing > 0
    }

    /// What can be changed now: of what is leaving, that where nothing is under way.
    pub(super) fn changes(&self, held: &BTreeMap<Bucket, u64>, idle: &Buckets) -> Vec<LeaseChange> {
        let given = held.iter().filter(|(bucket, _)| self.leaving.contains(**bucket) && idle.contains(**bucket));
        let given = given.map(|(bucket, term)| Lease { bucket: *bucket, owner: Some(self.me), term: *term });
        let given = given.chain(self.surplus.iter().copied()).map(|seen| LeaseChange { seen, owner: None });
        let taken = self.taken.iter().map(|seen| LeaseChange { seen: *seen, owner: Some(self.me) });
        given.chain(taken).collect()
    }
}

/// How many leases a node should have: none if it is not among those who share.
pub(super) fn share(me: NodeId, sharers: &[NodeId]) -> usize {
    let Some(place) = sharers.iter().position(|id| *id == me) else { return 0 };
    let all = usize::from(Bucket::COUNT);
    all / sharers.len() + usize::from(place < all % sharers.len())
}

/// What of ours has to leave: what leaves already, more of it or less.
fn leave(held: &BTreeMap<Bucket, u64>, leaving: &Buckets, wanted: usize) -> Buckets {
    let mut leaving = leaving.clone();
    let mut staying = held.len() - leaving.len();
    for bucket in held.keys().rev() {
        if staying > wanted && leaving.insert(*bucket) {
            staying -= 1;
        }
    }
    for bucket in held.keys() {
        if staying < wanted && leaving.remove(*bucket) {
            staying += 1;
        }
    }
    leaving
}
