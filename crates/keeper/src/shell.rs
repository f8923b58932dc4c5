//! The shell: executes what the engine decides (sends, commits, wakes) and decides nothing.

use std::collections::HashMap;
use std::sync::Arc;

use storekeeper_clock::{Clock, Hold, Sleep};
use storekeeper_keyring::{Buckets, Expected, Keyring, KeyringError, Record, Write};
use storekeeper_model::{Audience, KeyId, ServiceTicket, Timestamp};
use storekeeper_supervisor::Supervisor;
use tokio::sync::{mpsc, oneshot};

use crate::attempt::Attempts;
use crate::commits::{reread, settle};
use crate::engine::{
    Action, Answer, AppIndex, Asked, Call, Endangered, Engine, Event, Finished, Observation, Order, TicketFault,
    TicketFetched, Waiter,
};
use crate::events;
use crate::fleet::Share;
use crate::holding::Holding;
use crate::metrics::{Metrics, RenewalLabels};
use crate::rescue::Rescue;
use crate::rescuer::{ToRescue, rescue};
use crate::rows::Rows;
use crate::saver::{ToSave, save};
use crate::search::{name_of, probes, witnesses};
use crate::store_time::StoreTime;

/// After how many beats the rows of apps are read again: another keeper may have paused one.
const LOOK_AFTER_BEATS: u32 = 3;
/// How many messages are taken in before the engine acts on them.
const BATCH: usize = 1024;
/// What the task is called in a report of its death.
const ENGINE: &str = "the engine";

/// What a ticket's asker gets.
pub(crate) type TicketReply = Result<(Arc<ServiceTicket>, Timestamp), TicketFault>;

/// What who gave an order gets: how many keys it concerns, or why it is not durable yet.
pub(crate) type OrderReply = Result<u64, KeyringError>;

/// What others may say to the shell.
pub(crate) enum Message {
    Event(Event),
    Ask(Box<Record>, oneshot::Sender<Asked>),
    AskTicket(AppIndex, Audience, oneshot::Sender<TicketReply>),
    Order(AppIndex, Order, oneshot::Sender<OrderReply>),
    /// What is ours; answered with the buckets in which something is under way.
    Leases(Share, oneshot::Sender<Buckets>),
    Observe(oneshot::Sender<Observation>),
    /// These rows were handed over; answered with those that were under way, once none is any more.
    HandedOver(Vec<KeyId>, oneshot::Sender<Vec<KeyId>>),
    Drain,
    /// End now; answered with every successor that is not durable, and how many renewals are without an answer.
    Surrender(oneshot::Sender<(Vec<Endangered>, usize)>),
}

/// A message, and the hold that keeps a virtual clock from running past it.
struct Envelope {
    message: Message,
    hold: Hold,
}

/// Speaks to a shell.
#[derive(Clone)]
pub(crate) struct Postbox {
    sender: mpsc::UnboundedSender<Envelope>,
    clock: Arc<dyn Clock>,
}

impl Postbox {
    /// Says something; `false` when the shell is gone.
    pub(crate) fn send(&self, message: Message) -> bool {
        let hold = self.clock.hold("the keeper's engine");
        self.sender.send(Envelope { message, hold }).is_ok()
    }

    pub(crate) fn event(&self, event: Event) {
        self.send(Message::Event(event));
    }

    /// Delivers the answer to a renewal. When the engine is gone, its successor is put into the rescue file.
    fn finished(&self, finished: Finished, tools: &Tools) {
        let hold = self.clock.hold("the keeper's engine");
        let message = Message::Event(Event::Finished(Box::new(finished)));
        if let Err(undelivered) = self.sender.send(Envelope { message, hold }) {
            rescue_late([undelivered.0], tools);
        }
    }
}

/// Puts the successors of answers that the engine has not seen into the rescue file.
fn rescue_late(undelivered: impl IntoIterator<Item = Envelope>, tools: &Tools) {
    let successor = |envelope: Envelope| match envelope.message {
        Message::Event(Event::Finished(finished)) => finished.into_successor(),
        _ => None,
    };
    let late: Vec<Endangered> = undelivered.into_iter().filter_map(successor).collect();
    if !late.is_empty()
        && let Err(error) = tools.rescue.write(late)
    {
        tracing::error!(error, "successors that came after the end are lost");
    }
}

/// What the shell works with, shared with its tasks.
pub(crate) struct Tools {
    pub(crate) keyring: Rows,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) attempts: Attempts,
    pub(crate) metrics: Metrics,
    pub(crate) holding: Holding,
    pub(crate) store_time: StoreTime,
    pub(crate) supervisor: Supervisor,
    pub(crate) rescue: Arc<Rescue>,
}

/// Who waits for what.
enum Waiting {
    Renewal(oneshot::Sender<Asked>),
    Ticket(oneshot::Sender<TicketReply>),
    Order(oneshot::Sender<OrderReply>),
}

/// Rows that were handed over while they were under way.
struct Leaving {
    rows: Vec<KeyId>,
    /// Those that still are.
    open: Vec<KeyId>,
    reply: Option<oneshot::Sender<Vec<KeyId>>>,
}

/// The task that owns the engine.
pub(crate) struct Shell {
    engine: Engine,
    tools: Arc<Tools>,
    postbox: Postbox,
    inbox: mpsc::UnboundedReceiver<Envelope>,
    /// Whose rows are saved, and who is told afterwards, one after the other.
    saver: mpsc::UnboundedSender<(ToSave, Hold)>,
    rescuer: mpsc::UnboundedSender<(ToRescue, Hold)>,
    surrender: Option<oneshot::Sender<(Vec<Endangered>, usize)>>,
    /// Who waits to hear where something is under way, and how often somebody was told.
    told: Vec<oneshot::Sender<Buckets>>,
    leaving: Vec<Leaving>,
    beats: u32,
    waiting: HashMap<Waiter, Waiting>,
    next_waiter: u64,
    draining: bool,
    conflicts: u64,
    clocks: Option<(Timestamp, Timestamp)>,
}

impl Shell {
    /// Starts the task.
    pub(crate) fn spawn(engine: Engine, tools: Arc<Tools>) -> (Postbox, tokio::task::JoinHandle<()>) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let postbox = Postbox { sender, clock: Arc::clone(&tools.clock) };
        let (saver, savings) = mpsc::unbounded_channel();
        tokio::spawn(save(Arc::clone(&tools), postbox.clone(), savings));
        let (rescuer, to_rescue) = mpsc::unbounded_channel();
        let rescuing = tokio::spawn(rescue(Arc::clone(&tools), to_rescue));
        let shell = Self {
            engine,
            tools,
            postbox: postbox.clone(),
            inbox,
            saver,
            rescuer,
            surrender: None,
            told: Vec::new(),
            leaving: Vec::new(),
            beats: 0,
            waiting: HashMap::new(),
            next_waiter: 0,
            draining: false,
            conflicts: 0,
            clocks: None,
        };
        postbox.event(Event::Wake);
        let run = async move {
            shell.run().await;
            // What was put into the rescue file is there, and what was to be emptied is empty.
            drop(rescuing.await);
        };
        (postbox, tokio::spawn(run))
    }

    async fn run(mut self) {
        let supervisor = self.tools.supervisor.clone();
        let (_guard, heart) = (supervisor.guard(ENGINE), supervisor.heart(ENGINE));
        let mut inbox = Vec::with_capacity(BATCH);
        let mut sleep: Option<(Timestamp, Sleep)> = None;
        let mut held: Vec<Hold> = Vec::new();
        loop {
            let wake_at = self.engine.wake_at(self.tools.clock.now());
            if sleep.as_ref().map(|(at, _)| *at) != wake_at {
                sleep = wake_at.map(|at| (at, self.tools.clock.sleep_until(at)));
            }
            // Only now that the next sleep is known to the clock may it go on.
            held.clear();
            if self.draining && self.engine.is_idle() {
                return;
            }
            if let Some(reply) = self.surrender.take() {
                let unsettled = self.engine.take_unsettled();
                if let Err((unsettled, _)) = reply.send((unsettled, self.engine.in_flight())) {
                    drop(self.tools.rescue.write(unsettled));
                }
                return;
            }
            tokio::select! {
                biased;
                count = self.inbox.recv_many(&mut inbox, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    let _busy = heart.busy();
                    let events = self.open(&mut inbox, &mut held);
                    self.step(events);
                }
                hold = woken(&mut sleep) => {
                    let _busy = heart.busy();
                    sleep = None;
                    held.push(hold);
                    self.step(vec![Event::Wake]);
                }
            }
        }
    }

    fn open(&mut self, inbox: &mut Vec<Envelope>, held: &mut Vec<Hold>) -> Vec<Event> {
        let mut events = Vec::with_capacity(inbox.len());
        for Envelope { message, hold } in inbox.drain(..) {
            held.push(hold);
            match message {
                Message::Event(event) => events.push(event),
                Message::Ask(record, reply) => events.push(Event::Ask(self.wait(Waiting::Renewal(reply)), record)),
                Message::AskTicket(app, audience, reply) => {
                    events.push(Event::AskTicket(self.wait(Waiting::Ticket(reply)), app, audience));
                }
                Message::Order(app, order, reply) => {
                    events.push(Event::Order(self.wait(Waiting::Order(reply)), app, order));
                }
                Message::Leases(share, reply) => {
                    events.push(Event::Leases(share));
                    self.told.push(reply);
                    if self.beats.is_multiple_of(LOOK_AFTER_BEATS) {
                        self.save(ToSave::Look);
                    }
                    self.beats = self.beats.wrapping_add(1);
                }
                Message::HandedOver(ids, reply) => {
                    events.push(Event::HandedOver(ids.clone()));
                    self.leaving.push(Leaving { rows: Vec::new(), open: ids, reply: Some(reply) });
                }
                // Whoever asked may have gone away.
                Message::Observe(reply) => {
                    // An idle engine has last carried it on when it was last busy.
                    self.engine.carry_store_time(self.tools.store_time.at(self.tools.clock.elapsed()));
                    drop(reply.send(self.engine.observe(self.tools.clock.now())));
                }
                Message::Surrender(reply) => self.surrender = Some(reply),
                Message::Drain => {
                    self.engine.drain();
                    self.draining = true;
                }
            }
        }
        events
    }

    fn wait(&mut self, waiting: Waiting) -> Waiter {
        self.next_waiter += 1;
        let waiter = Waiter(self.next_waiter);
        self.waiting.insert(waiter, waiting);
        waiter
    }

    fn step(&mut self, events: Vec<Event>) {
        let mut actions = Vec::new();
        self.engine.carry_store_time(self.tools.store_time.at(self.tools.clock.elapsed()));
        self.engine.handle_all(events, self.tools.clock.now(), &mut actions);
        let clocks = self.engine.clocks();
        if let Some((_, theirs)) = clocks.filter(|_| clocks != self.clocks) {
            self.clocks = clocks;
            self.tools.store_time.note(theirs, self.tools.clock.elapsed());
        }
        let conflicts = self.engine.conflicts();
        self.tools.metrics.overtaken(conflicts - std::mem::replace(&mut self.conflicts, conflicts));
        for reply in self.told.drain(..) {
            drop(reply.send(self.engine.busy()));
        }
        self.tell_who_left();
        for action in actions {
            self.execute(action);
        }
    }

    /// Answers who waits until nothing is under way of what was handed over.
    fn tell_who_left(&mut self) {
        let engine = &self.engine;
        self.leaving.retain_mut(|leaving| {
            leaving.open.retain(|id| engine.is_trying(*id));
            if leaving.rows.is_empty() {
                leaving.rows.clone_from(&leaving.open);
            }
            if leaving.open.is_empty()
                && let Some(reply) = leaving.reply.take()
            {
                // Whoever asked may have gone away.
                drop(reply.send(std::mem::take(&mut leaving.rows)));
            }
            leaving.reply.is_some()
        });
    }

    fn execute(&mut self, action: Action) {
        let (tools, postbox) = (Arc::clone(&self.tools), self.postbox.clone());
        match action {
            Action::Renew(call) => spawn(tools, "a renewal", async move |tools| {
                let finished = renew(&tools, *call).await;
                postbox.finished(finished, &tools);
            }),
            Action::Settle(writes) => spawn(tools, "a commit", async move |tools| {
                postbox.event(settle(&tools, writes).await);
            }),
            Action::Scan(query) => spawn(tools, "a scan for due keys", async move |tools| {
                let due = tools.keyring.due(query).await;
                postbox.event(due.map_or_else(scan_failed, Event::Scanned));
            }),
            Action::FindProbes(app, from) => spawn(tools, "a search for probes", async move |tools| {
                let found = probes(&tools.keyring, name_of(&tools, app), from, &*tools.clock).await;
                postbox.event(Event::Probes(app, found));
            }),
            Action::FindWitnesses(app, except) => spawn(tools, "a search for witnesses", async move |tools| {
                postbox.event(Event::Witnesses(app, witnesses(&tools, app, except).await));
            }),
            Action::FetchTicket { app, audience, ticket, credential } => {
                spawn(tools, "a request for a ticket", async move |tools| {
                    let fetched = fetch_ticket(&tools, app, audience, credential).await;
                    postbox.event(Event::Ticket(ticket, fetched));
                });
            }
            Action::Hasten(ids) => spawn(tools, "keys made due", async move |tools| {
                hasten(&tools, ids.into_iter().collect(), None).await;
                postbox.event(Event::Changed(tools.clock.now()));
            }),
            Action::Rescue(endangered) => self.rescue(ToRescue::Put(endangered)),
            Action::EndRescue => self.rescue(ToRescue::End),
            Action::Reread(id) => spawn(tools, "a row to be read again", async move |tools| {
                postbox.event(reread(&tools, id).await);
            }),
            Action::SaveApp(app, saving) => self.save(ToSave::App(app, saving)),
            Action::Announce(announcement) => events::announce(&announcement, &tools),
            Action::Reply(..) | Action::ReplyTicket(..) | Action::ReplyOrder(..) => self.reply(action),
        }
    }

    /// Whoever waits may have gone away; that is no failure.
    fn reply(&mut self, action: Action) {
        match action {
            Action::Reply(waiter, asked) => {
                if let Some(Waiting::Renewal(reply)) = self.waiting.remove(&waiter) {
                    drop(reply.send(asked));
                }
            }
            Action::ReplyTicket(waiter, ticket, expires_at) => {
                if let Some(Waiting::Ticket(reply)) = self.waiting.remove(&waiter) {
                    drop(reply.send(ticket.map(|ticket| (ticket, expires_at))));
                }
            }
            Action::ReplyOrder(waiter, concerned) => {
                if let Some(Waiting::Order(reply)) = self.waiting.remove(&waiter) {
                    // Behind the rows it concerns, so that it is durable before it is answered.
                    self.save(ToSave::Tell(reply, concerned));
                }
            }
            _ => {}
        }
    }

    fn rescue(&self, to_rescue: ToRescue) {
        let hold = self.tools.clock.hold("successors to be rescued");
        drop(self.rescuer.send((to_rescue, hold)));
    }

    fn save(&self, saving: ToSave) {
        let hold = self.tools.clock.hold("an app's row to be saved");
        drop(self.saver.send((saving, hold)));
    }
}

impl Drop for Shell {
    /// An engine that panics, or is dropped with its runtime, leaves no successor in memory alone.
    fn drop(&mut self) {
        self.inbox.close();
        rescue_late(std::iter::from_fn(|| self.inbox.try_recv().ok()), &self.tools);
        let take = std::panic::AssertUnwindSafe(|| self.engine.take_unsettled());
        let unsettled = std::panic::catch_unwind(take).unwrap_or_default();
        if !unsettled.is_empty()
            && let Err(error) = self.tools.rescue.write(unsettled)
        {
            tracing::error!(error, "successors are lost with the engine");
        }
    }
}

async fn woken(sleep: &mut Option<(Timestamp, Sleep)>) -> Hold {
    match sleep {
        Some((_, sleep)) => sleep.await,
        None => std::future::pending().await,
    }
}

fn spawn<F>(tools: Arc<Tools>, holder: &'static str, work: impl FnOnce(Arc<Tools>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let hold = tools.clock.hold(holder);
    // The engine waits for the event that comes of it.
    let guard = tools.supervisor.guard(holder);
    let work = work(tools);
    tokio::spawn(async move {
        let _guard = guard;
        work.await;
        drop(hold);
    });
}

fn scan_failed(error: storekeeper_keyring::KeyringError) -> Event {
    tracing::error!(%error, "due keys cannot be looked for");
    Event::ScanFailed
}

async fn renew(tools: &Tools, call: Call) -> Finished {
    let config = &tools.attempts.config;
    let margin = config.node.times.sending_margin().min(config.request_timeout);
    if !tools.holding.outlives(call.record.id, tools.clock.elapsed(), margin) {
        return Finished::unleased(call);
    }
    let began_at = tools.clock.now();
    let due_at = call.record.next_attempt_at.unwrap_or(began_at);
    let issued_at = call.record.key.lifetime.issued_at();
    let finished = tools.attempts.renew(call).await;
    let now = tools.clock.now();
    let identity = &finished.record.identity;
    let outcome = match finished.answer {
        Answer::Renewed(_) => {
            tools.metrics.renewed(now.since(issued_at), now.since(due_at));
            "renewed"
        }
        Answer::Refused => "refused",
        _ => "failed",
    };
    let labels =
        RenewalLabels { app: identity.app.to_string(), kind: identity.kind.into(), outcome, code: finished.code };
    tools.metrics.attempt(&identity.app, labels, identity.kind, finished.status, now.since(began_at).as_secs_f64());
    finished
}

async fn fetch_ticket(tools: &Tools, app: AppIndex, audience: Audience, credential: usize) -> TicketFetched {
    let config = &tools.attempts.config.apps[app.0];
    let fetched = tools.attempts.fetch_ticket(config, audience, credential).await;
    let result = &fetched.result;
    if let Err(fault) = result {
        let (code, detail, app) = (&fault.code, &fault.detail, config.name.as_str());
        tracing::warn!(code, detail, app, credential, "no ticket from Entra ID");
    }
    match (fetched.date, result) {
        (None, Ok(_)) => tools.store_time.note_undated(),
        (None, Err(_)) => tools.store_time.give_up(),
        // The engine compares the clocks.
        (Some(_), _) => {}
    }
    tools.metrics.ticket(result.as_ref().map_or_else(|fault| events::known_code(&fault.code), |_| "ok"));
    fetched
}

/// Makes rows due now, whatever they waited for; if they were used, on this day.
pub(crate) async fn hasten(tools: &Tools, ids: Vec<KeyId>, used_on: Option<i64>) {
    let now = tools.clock.now();
    let rows = tools.keyring.find(&ids).await.unwrap_or_default();
    let writes: Vec<Write> = rows
        .into_iter()
        .flatten()
        .filter(|record| !record.is_handed_over())
        .map(|mut record| {
            let expected = Expected::of(&record);
            record.revision = record.revision.next();
            record.next_attempt_at = Some(record.next_attempt_at.map_or(now, |at| at.min(now)));
            record.last_used_day = record.last_used_day.max(used_on);
            Write::Put { expected, record: Box::new(record) }
        })
        .collect();
    if let Err(error) = tools.keyring.settle(Arc::new(writes)).await {
        tracing::error!(%error, "keys cannot be made due; order it again");
    }
}
