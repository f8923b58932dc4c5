//! `FleetTask`: executes what the fleet's state machine decides, and keeps the rest of the keeper told of what is its.

use std::sync::Arc;
use std::time::Duration;

use storekeeper_clock::{Hold, Sleep};
use storekeeper_keyring::{Buckets, Keyring, Leases};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{Fleet, FleetAction, FleetEvent, Share};
use crate::shell::{Message, Postbox, Tools};

/// What the task is called in a report of its death.
const TASK: &str = "the keeper of leases";

/// Speaks to the task.
#[derive(Clone)]
pub(crate) struct FleetPostbox {
    sender: mpsc::UnboundedSender<(FleetEvent, Hold)>,
    tools: Arc<Tools>,
}

impl FleetPostbox {
    fn send(&self, event: FleetEvent) {
        let hold = self.tools.clock.hold("the keeper's leases");
        drop(self.sender.send((event, hold)));
    }

    /// Gives everything back, and ends the task.
    pub(crate) fn leave(&self) {
        self.send(FleetEvent::Leave);
    }
}

/// The task that owns the state machine.
pub(crate) struct FleetTask {
    fleet: Fleet,
    tools: Arc<Tools>,
    engine: Postbox,
    postbox: FleetPostbox,
    inbox: mpsc::UnboundedReceiver<(FleetEvent, Hold)>,
}

impl FleetTask {
    /// Starts the task.
    pub(crate) fn spawn(fleet: Fleet, tools: Arc<Tools>, engine: Postbox) -> (FleetPostbox, JoinHandle<()>) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let postbox = FleetPostbox { sender, tools: Arc::clone(&tools) };
        let task = Self { fleet, tools, engine, postbox: postbox.clone(), inbox };
        postbox.send(FleetEvent::Wake);
        (postbox, tokio::spawn(task.run()))
    }

    async fn run(mut self) {
        let supervisor = self.tools.supervisor.clone();
        let (_guard, heart) = (supervisor.guard(TASK), supervisor.heart(TASK));
        let mut sleep: Option<Sleep> = None;
        let mut held: Option<Hold> = None;
        while !self.fleet.is_gone() {
            if held.is_some() {
                sleep = self.fleet.wake_at().map(|at| self.sleep_until(at));
            }
            // Only now that the next sleep is known to the clock may it go on.
            drop(held.take());
            let event = tokio::select! {
                biased;
                event = self.inbox.recv() => event,
                hold = woken(&mut sleep) => Some((FleetEvent::Wake, hold)),
            };
            let Some((event, hold)) = event else { return };
            held = Some(hold);
            let _busy = heart.busy();
            self.step(event);
        }
    }

    /// Time that never steps is slept by a clock that may: it wakes too early at worst.
    fn sleep_until(&self, at: Duration) -> Sleep {
        let span = at.saturating_sub(self.tools.clock.elapsed());
        // Whole milliseconds, rounded up: else the last sliver would be slept through again and again.
        let span = Duration::from_millis(u64::try_from(span.as_micros().div_ceil(1000)).unwrap_or(u64::MAX));
        self.tools.clock.sleep_until(self.tools.clock.now() + span)
    }

    fn step(&mut self, event: FleetEvent) {
        let (mut actions, lost) = (Vec::new(), self.fleet.lost());
        self.fleet.report_clock(self.tools.clock_report());
        self.fleet.handle(event, self.tools.clock.elapsed(), &mut actions);
        let (held, until) = self.fleet.holding();
        let lost = self.fleet.lost() - lost;
        if lost > 0 {
            tracing::warn!(lost, "leases are lost: nothing is started for their keys until they are taken anew");
        }
        self.tools.metrics.leases(held.len(), lost);
        self.tools.holding.set(held, until);
        self.tools.holding.set_renewing_nodes(self.fleet.sharers());
        for action in actions {
            self.execute(action);
        }
    }

    fn execute(&self, action: FleetAction) {
        match action {
            FleetAction::Beat(presence) => self.ask("a beat", async move |tools| {
                let nodes = leases(&tools).beat(&presence).await;
                nodes.map_or_else(|error| failed(&error, FleetEvent::BeatFailed), FleetEvent::Beaten)
            }),
            FleetAction::Read => self.ask("leases to be read", async move |tools| {
                let table = leases(&tools).all().await;
                table.map_or_else(|error| failed(&error, FleetEvent::ReadFailed), FleetEvent::Read)
            }),
            FleetAction::Change(changes) => self.ask("leases to change hands", async move |tools| {
                let made = leases(&tools).change(changes).await;
                made.map_or_else(|error| failed(&error, FleetEvent::ChangeFailed), FleetEvent::Changed)
            }),
            FleetAction::Remove(node) => self.ask("a node to be removed", async move |tools| {
                let removed = leases(&tools).remove_node(&node).await;
                removed.map_or_else(|error| failed(&error, FleetEvent::Removed(false)), FleetEvent::Removed)
            }),
            FleetAction::Tell(share) => self.tell(share),
        }
    }

    fn tell(&self, share: Share) {
        tracing::debug!(starting = share.starting.len(), held = share.held.len(), "leases");
        let (reply, busy) = oneshot::channel();
        self.engine.send(Message::Leases(share, reply));
        let (postbox, hold) = (self.postbox.clone(), self.tools.clock.hold("the engine to know its leases"));
        tokio::spawn(async move {
            // An engine that is gone has nothing under way.
            postbox.send(FleetEvent::Busy(Box::new(busy.await.unwrap_or(Buckets::none()))));
            drop(hold);
        });
    }

    fn ask<F>(&self, holder: &'static str, question: impl FnOnce(Arc<Tools>) -> F)
    where
        F: Future<Output = FleetEvent> + Send + 'static,
    {
        let (postbox, hold) = (self.postbox.clone(), self.tools.clock.hold(holder));
        let guard = self.tools.supervisor.guard(holder);
        let question = question(Arc::clone(&self.tools));
        tokio::spawn(async move {
            let _guard = guard;
            postbox.send(question.await);
            drop(hold);
        });
    }
}

fn leases(tools: &Tools) -> &dyn Leases {
    tools.keyring.leases().expect("a fleet is made only where the keyring is shared")
}

async fn woken(sleep: &mut Option<Sleep>) -> Hold {
    match sleep {
        Some(asleep) => {
            let hold = asleep.await;
            *sleep = None;
            hold
        }
        None => std::future::pending().await,
    }
}

fn failed(error: &storekeeper_keyring::KeyringError, event: FleetEvent) -> FleetEvent {
    tracing::warn!(%error, "leases cannot be seen to; it is tried again");
    event
}
