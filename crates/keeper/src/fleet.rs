//! `Fleet`: which buckets are this node's. A state machine `(event, elapsed) -> actions`, where `elapsed` is this node's own
//! clock that never steps; the rules and why they are safe stand in docs/decisions/0009-leases.md.

mod app_row;
mod plan;
mod task;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use storekeeper_keyring::{Buckets, ClockReport, Lease, LeaseChange, Node, NodeId, Presence};
use storekeeper_model::Bucket;

pub(crate) use app_row::merge;
use plan::Plan;
pub(crate) use task::{FleetPostbox, FleetTask};
use watch::Watch;

/// How leases live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    /// A beat that stands still for so long means that its node is dead.
    pub time_to_live: Duration,
    /// So much sooner its own node gives it up.
    pub margin: Duration,
    /// From one beat to the next.
    pub beat_pause: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            time_to_live: Duration::from_secs(10),
            margin: Duration::from_millis(500),
            beat_pause: Duration::from_secs(1),
        }
    }
}

impl LeaseTimes {
    /// How much longer a lease has to be ours for an attempt to be sent under it: two beats may be late before attempts have
    /// to wait. An attempt that takes longer goes on while beats are answered.
    pub fn sending_margin(&self) -> Duration {
        let spent = self.margin + self.beat_pause * 5 / 2;
        self.time_to_live.saturating_sub(spent).max(Duration::from_millis(1))
    }
}

/// Leases are read again after this many beats, though nobody came or went.
const READ_AFTER_BEATS: u32 = 10;

/// Something happened.
#[derive(Debug)]
pub(crate) enum FleetEvent {
    /// Time has passed.
    Wake,
    /// The beat was made; so the nodes stand.
    Beaten(Vec<Node>),
    /// Nobody knows whether it was.
    BeatFailed,
    /// So the leases stood at some moment since they were asked for.
    Read(Vec<Lease>),
    /// They could not be read.
    ReadFailed,
    /// Whether each change was made.
    Changed(Vec<bool>),
    /// Nobody knows which were.
    ChangeFailed,
    /// The engine knows its share; in these buckets something is still under way.
    Busy(Box<Buckets>),
    /// A node's row was removed, or had moved.
    Removed(bool),
    /// This node goes away for good.
    Leave,
}

/// Something has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FleetAction {
    /// Move the beat. At most one is under way.
    Beat(Presence),
    /// Read the leases. At most one read or change is under way.
    Read,
    /// Change leases.
    Change(Vec<LeaseChange>),
    /// Tell the engine what is its; answered with [`FleetEvent::Busy`]. At most one is under way.
    Tell(Share),
    /// Remove a node's row. At most one is under way.
    Remove(Node),
}

/// What of the population is this node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Attempts may be started here.
    pub starting: Arc<Buckets>,
    /// What was begun here may be ended; these hold those.
    pub held: Arc<Buckets>,
    /// Lost since the last share, though they may be held again: another keeper may have renewed what was begun here.
    pub lost: Arc<Buckets>,
}

impl Share {
    /// Nothing.
    pub fn nothing() -> Self {
        let none = Arc::new(Buckets::none());
        Self { starting: Arc::clone(&none), held: Arc::clone(&none), lost: none }
    }

    /// Which part of all.
    pub fn part(&self) -> f64 {
        self.starting.len() as f64 / f64::from(Bucket::COUNT)
    }
}

/// What was asked of the table of leases, and is not answered yet.
#[derive(Debug)]
enum Work {
    Reading,
    /// `epoch`: of its own leases; what a node learns of an earlier one is void.
    Changing {
        changes: Vec<LeaseChange>,
        epoch: u64,
    },
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Fleet {
    me: Presence,
    times: LeaseTimes,
    watch: Watch,
    /// The leases as last read or changed, by bucket; empty until then.
    table: Vec<Lease>,
    /// Our own and their terms.
    held: BTreeMap<Bucket, u64>,
    /// Those of them that are to be given back: nothing is started there.
    leaving: Buckets,
    /// Those of `leaving` where nothing is under way any more.
    idle: Buckets,
    /// Until when our leases are ours; `None` after that, until a beat is answered.
    until: Option<Duration>,
    epoch: u64,
    /// When the beat under way was sent, and when the next one is.
    beating: Option<Duration>,
    beat_at: Duration,
    beats: u32,
    work: Option<Work>,
    must_read: bool,
    /// Something was not done as it was meant: nothing more is tried before the next beat is answered.
    waits_for_beat: bool,
    /// What was leaving when the engine was told last, while it has not answered.
    telling: Option<Buckets>,
    must_tell: bool,
    removing: Option<NodeId>,
    is_leaving: bool,
    is_gone: bool,
    lost: u64,
    /// What was lost and the engine does not know of.
    untold: Buckets,
}

impl Fleet {
    pub(crate) fn new(me: Presence, times: LeaseTimes) -> Self {
        Self {
            me,
            times,
            watch: Watch::default(),
            table: Vec::new(),
            held: BTreeMap::new(),
            leaving: Buckets::none(),
            idle: Buckets::none(),
            until: None,
            epoch: 0,
            beating: None,
            beat_at: Duration::ZERO,
            beats: 0,
            work: None,
            must_read: true,
            waits_for_beat: false,
            telling: None,
            must_tell: false,
            removing: None,
            is_leaving: false,
            is_gone: false,
            lost: 0,
            untold: Buckets::none(),
        }
    }

    /// Takes over what is known of this node's own clock: the next beat says it.
    pub(crate) fn report_clock(&mut self, clock: ClockReport) {
        self.me.clock = clock;
    }

    /// Takes an event in and decides.
    pub(crate) fn handle(&mut self, event: FleetEvent, elapsed: Duration, actions: &mut Vec<FleetAction>) {
        self.expire(elapsed);
        match event {
            FleetEvent::Wake => {}
            FleetEvent::Beaten(nodes) => self.beaten(nodes, elapsed),
            FleetEvent::BeatFailed => self.beating = None,
            FleetEvent::Read(leases) => self.read(leases, elapsed),
            FleetEvent::Changed(made) => self.changed(&made),
            FleetEvent::ReadFailed | FleetEvent::ChangeFailed => {
                self.work = None;
                (self.must_read, self.waits_for_beat) = (true, true);
            }
            FleetEvent::Busy(busy) => {
                let told = self.telling.take().unwrap_or_else(Buckets::none);
                self.idle = told.iter().filter(|one| self.leaving.contains(*one) && !busy.contains(*one)).collect();
            }
            FleetEvent::Removed(removed) => {
                let whose = self.removing.take();
                self.is_gone |= removed && whose == Some(self.me.id);
                self.waits_for_beat |= !removed;
            }
            FleetEvent::Leave => {
                (self.is_leaving, self.me.leaving, self.me.draining) = (true, true, true);
                self.beat_at = elapsed;
            }
        }
        self.beat(elapsed, actions);
        self.remove(actions);
        self.go_on(actions);
        self.tell(actions);
    }

    /// When [`FleetEvent::Wake`] is wanted although nothing happened.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        let beats = self.beating.is_none() && self.removing != Some(self.me.id);
        let beat = beats.then_some(self.beat_at);
        [beat, self.until].into_iter().flatten().min()
    }

    /// What is ours, and until when.
    pub(crate) fn holding(&self) -> (Buckets, Duration) {
        (self.held.keys().copied().collect(), self.until.unwrap_or(Duration::ZERO))
    }

    /// How many living nodes share the buckets: those that are not draining. `None` until a beat was answered.
    pub(crate) fn sharers(&self) -> Option<usize> {
        (self.beats > 0 || !self.table.is_empty()).then(|| self.watch.sharers(self.times.time_to_live).len())
    }

    /// How many leases ended before they were given back.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether everything was given back and the node's row is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Past the time-to-live others may take our leases: from here on none is ours.
    fn expire(&mut self, elapsed: Duration) {
        if self.until.is_none_or(|until| elapsed < until) {
            return;
        }
        self.until = None;
        self.epoch += 1;
        self.lose(&self.held.keys().copied().collect());
        self.must_read = true;
    }

    fn lose(&mut self, lost: &Buckets) {
        if lost.is_empty() {
            return;
        }
        self.lost += lost.len() as u64;
        self.untold.extend(lost.iter());
        self.held.retain(|bucket, _| !lost.contains(*bucket));
        self.leaving = self.leaving.without(lost);
        self.idle = self.idle.without(lost);
        self.must_tell = true;
    }

    fn beaten(&mut self, nodes: Vec<Node>, elapsed: Duration) {
        let Some(sent) = self.beating.take() else { return };
        self.waits_for_beat = false;
        let until = (sent + self.times.time_to_live).saturating_sub(self.times.margin);
        // What was lost meanwhile is taken anew: somebody may have seen the old terms, and be about to take them.
        self.until = (elapsed < until).then_some(until);
        let is_drained = nodes.iter().any(|node| node.id == self.me.id && node.draining);
        self.me.draining = self.is_leaving || is_drained;
        let before = self.watch.living(self.times.time_to_live);
        self.watch.beaten(nodes, sent, elapsed, self.times.time_to_live);
        self.beats += 1;
        let is_other = before != self.watch.living(self.times.time_to_live);
        if is_other || self.beats >= READ_AFTER_BEATS || self.plan().is_wanting() {
            self.must_read = true;
        }
        self.must_tell = true;
    }

    fn beat(&mut self, elapsed: Duration, actions: &mut Vec<FleetAction>) {
        let is_over = self.is_gone || self.removing == Some(self.me.id);
        if self.beating.is_none() && self.beat_at <= elapsed && !is_over {
            self.beating = Some(elapsed);
            self.beat_at = elapsed + self.times.beat_pause;
            actions.push(FleetAction::Beat(self.me.clone()));
        }
    }

    fn read(&mut self, leases: Vec<Lease>, elapsed: Duration) {
        self.work = None;
        self.beats = 0;
        self.table = leases;
        self.watch.owners(self.table.iter().filter_map(|lease| lease.owner), elapsed);
        let stands = |bucket: &Bucket, term: &u64| {
            let lease = self.table.get(usize::from(bucket.number()));
            lease.is_some_and(|lease| lease.owner == Some(self.me.id) && lease.term == *term)
        };
        self.lose(
            &self.held.iter().filter(|(bucket, term)| !stands(bucket, term)).map(|(bucket, _)| *bucket).collect(),
        );
    }

    fn changed(&mut self, made: &[bool]) {
        let Some(Work::Changing { changes, epoch }) = self.work.take() else { return };
        for (change, made) in changes.iter().zip(made) {
            if !made {
                (self.must_read, self.waits_for_beat) = (true, true);
                continue;
            }
            let LeaseChange { seen, owner } = *change;
            let (bucket, term) = (seen.bucket, seen.term + 1);
            if let Some(lease) = self.table.get_mut(usize::from(bucket.number())) {
                *lease = Lease { bucket, owner, term };
            }
            if owner == Some(self.me.id) && epoch == self.epoch && self.until.is_some() {
                self.held.insert(bucket, term);
                self.must_tell = true;
            }
        }
    }

    /// Reads the leases, or changes those that have to change hands.
    fn go_on(&mut self, actions: &mut Vec<FleetAction>) {
        if self.until.is_none() || self.work.is_some() || self.waits_for_beat || self.is_gone {
            return;
        }
        if self.must_read || self.table.is_empty() {
            self.must_read = false;
            self.work = Some(Work::Reading);
            actions.push(FleetAction::Read);
            return;
        }
        let plan = self.plan();
        if plan.leaving != self.leaving {
            self.idle = self.idle.iter().filter(|bucket| plan.leaving.contains(*bucket)).collect();
            self.leaving = plan.leaving.clone();
            self.must_tell = true;
        }
        let changes = plan.changes(&self.held, &self.idle);
        if changes.is_empty() {
            return;
        }
        // What is given back is not ours from here on, whatever comes of it.
        for change in changes.iter().filter(|change| change.owner.is_none()) {
            self.held.remove(&change.seen.bucket);
            self.leaving.remove(change.seen.bucket);
            self.idle.remove(change.seen.bucket);
        }
        actions.push(FleetAction::Change(changes.clone()));
        self.work = Some(Work::Changing { changes, epoch: self.epoch });
    }

    fn plan(&self) -> Plan {
        let sharers = self.watch.sharers(self.times.time_to_live);
        let is_dead = |owner| self.watch.is_dead(owner, self.times.time_to_live);
        let sharers =
            if self.me.draining { sharers.into_iter().filter(|id| *id != self.me.id).collect() } else { sharers };
        Plan::new(self.me.id, &sharers, &self.table, &self.held, &self.leaving, is_dead)
    }

    /// Tells the engine after each beat, and whenever something has changed.
    fn tell(&mut self, actions: &mut Vec<FleetAction>) {
        if !self.must_tell || self.telling.is_some() {
            return;
        }
        self.must_tell = false;
        self.telling = Some(self.leaving.clone());
        let held: Buckets = self.held.keys().copied().collect();
        let starting = held.without(&self.leaving);
        let lost = Arc::new(std::mem::replace(&mut self.untold, Buckets::none()));
        actions.push(FleetAction::Tell(Share { starting: Arc::new(starting), held: Arc::new(held), lost }));
    }

    /// Removes the row of a node that is long dead and has nothing; or our own when we have given everything back.
    fn remove(&mut self, actions: &mut Vec<FleetAction>) {
        if self.removing.is_some() || self.table.is_empty() || self.waits_for_beat || self.is_gone {
            return;
        }
        let owns = |id: NodeId| self.table.iter().any(|lease| lease.owner == Some(id));
        let is_done = self.is_leaving && self.held.is_empty() && self.work.is_none() && self.beating.is_none();
        let node = match is_done && !self.must_read && !owns(self.me.id) {
            true => self.watch.node(self.me.id),
            false => self.watch.long_dead(self.times.time_to_live).find(|node| !owns(node.id)),
        };
        if let Some(node) = node.cloned() {
            self.removing = Some(node.id);
            actions.push(FleetAction::Remove(node));
        }
    }
}
