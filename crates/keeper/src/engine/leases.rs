//! Which rows may be tried: those of the buckets whose leases are ours, or all where nobody shares the keyring; and none that
//! was handed over.

use std::collections::HashSet;
use std::sync::Arc;

use rand::Rng;
use storekeeper_keyring::Buckets;
use storekeeper_model::{Bucket, KeyId, Timestamp};

use super::Engine;
use super::event::{Action, Asked};
use crate::fleet::Share;

impl Engine {
    /// The keyring is shared: nothing is ours until we are told.
    pub fn join_fleet(&mut self) {
        self.share = Some(Share::nothing());
    }

    /// Buckets in which rows are being tried or on their way to the disk.
    pub fn busy(&self) -> Buckets {
        self.attempts.keys().map(KeyId::bucket).collect()
    }

    /// Whether an attempt may be started with this row.
    pub(super) fn may_try(&self, id: KeyId) -> bool {
        self.share.as_ref().is_none_or(|share| share.starting.contains_row(id))
    }

    /// Whether what is learnt of this row may be held against it.
    pub(super) fn holds(&self, id: KeyId) -> bool {
        self.share.as_ref().is_none_or(|share| share.held.contains_row(id))
    }

    /// The buckets to look for due rows in; `None` for all.
    pub(super) fn starting(&self) -> Option<Arc<Buckets>> {
        let starting = self.share.as_ref().map(|share| &share.starting)?;
        (starting.len() < usize::from(Bucket::COUNT)).then(|| Arc::clone(starting))
    }

    /// Whether there is nothing to look for.
    pub(super) fn has_nothing(&self) -> bool {
        self.share.as_ref().is_some_and(|share| share.starting.is_empty())
    }

    /// An id to begin a search for probes at.
    pub(super) fn any_id(&mut self) -> KeyId {
        let mut bytes: [u8; 16] = self.rng.random();
        let ours =
            self.share.as_ref().filter(|share| !share.starting.is_empty()).map(|share| Arc::clone(&share.starting));
        if let Some(ours) = ours {
            let place = self.rng.random_range(0..ours.len());
            let bucket = ours.iter().nth(place).map_or(0, Bucket::number);
            let [first, second] = (bucket << 4).to_be_bytes();
            (bytes[0], bytes[1]) = (first, second | bytes[1] & 15);
        }
        KeyId::from_bytes(bytes)
    }

    /// A beat was answered, or leases came or went. What waits for another's lease is given back; what is under way is
    /// ended. Others may have made rows of ours due, so each beat looks for them.
    pub(super) fn shared(&mut self, share: Share, now: Timestamp, actions: &mut Vec<Action>) {
        let before = self.share.replace(share.clone()).unwrap_or_else(Share::nothing);
        if !share.lost.is_empty() {
            self.lose(&share.lost, actions);
        }
        if before.starting != share.starting {
            self.give_back(actions);
            let part = share.part();
            for line in &mut self.lines {
                if let Some(pace) = &mut line.pace {
                    pace.set_part(part, now);
                }
                line.held_until = None;
            }
            self.apps.iter_mut().for_each(|app| app.share_cap(part, now));
        }
        if share.starting.without(&before.starting).is_empty() {
            self.look_for_what_others_wrote();
        } else {
            self.scanning.at = Some(now);
        }
    }

    /// Rows of these buckets may have been written by another keeper since they were read. What waits is given back, as it
    /// would be sent as it was; of what is under way only a successor counts.
    fn lose(&mut self, lost: &Buckets, actions: &mut Vec<Action>) {
        for id in self.drop_waiting(|id| !lost.contains_row(id)) {
            self.leave_to_owner(id, actions);
        }
        let late = self.attempts.iter_mut().filter(|(id, _)| lost.contains_row(**id));
        late.for_each(|(_, attempt)| attempt.lost_lease = true);
    }

    fn give_back(&mut self, actions: &mut Vec<Action>) {
        let starting = self.share.as_ref().map(|share| Arc::clone(&share.starting));
        for id in self.drop_waiting(|id| starting.as_ref().is_none_or(|starting| starting.contains_row(id))) {
            self.leave_to_owner(id, actions);
        }
    }

    /// What waits of these rows is given up; what is under way is ended.
    pub(super) fn handed_over(&mut self, ids: &[KeyId], actions: &mut Vec<Action>) {
        let theirs: HashSet<KeyId> = ids.iter().copied().collect();
        for id in self.drop_waiting(|id| !theirs.contains(&id)) {
            let Some(attempt) = self.attempts.remove(&id) else { continue };
            actions.extend(attempt.waiters.into_iter().map(|waiter| Action::Reply(waiter, Asked::Overtaken)));
        }
        if self.scanning.under_way {
            self.scanning.handed_over.extend(theirs);
        }
    }

    /// Whether a row is being tried or on its way to the disk.
    pub fn is_trying(&self, id: KeyId) -> bool {
        self.attempts.contains_key(&id)
    }

    /// Takes what waits and does not stay out of every queue; returns which rows that were.
    fn drop_waiting(&mut self, stays: impl Fn(KeyId) -> bool) -> HashSet<KeyId> {
        let mut gone = HashSet::new();
        let mut stays = |id: KeyId| {
            let stays = stays(id);
            if !stays {
                gone.insert(id);
            }
            stays
        };
        self.lines.iter_mut().for_each(|line| line.queue.retain(|waiting| stays(waiting.record.id)));
        self.fresh_waiting.values_mut().for_each(|all| all.retain(|waiting| stays(waiting.record.id)));
        self.backing_off.retain(|(_, id), _| stays(*id));
        self.fresh_waiting.retain(|_, waiting| !waiting.is_empty());
        gone
    }

    /// Ends an attempt with a row that is another keeper's by now: it is as it was.
    pub(super) fn leave_to_owner(&mut self, id: KeyId, actions: &mut Vec<Action>) {
        let Some(attempt) = self.attempts.remove(&id) else { return };
        for waiter in attempt.waiters {
            actions.push(Action::Reply(waiter, Asked::Elsewhere));
        }
    }
}
