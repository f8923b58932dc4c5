//! Whatever happens in whatever order, the engine keeps its promises, and once all is well again it forgets no row and
//! owes nobody an answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
use storekeeper_keeper::engine::{
    Action, Answer, AppIndex, Call, Engine, Event, Finished, Order, SettleFault, Silence, Subject, TicketFault,
    TicketFetched, TicketIndex, Waiter,
};
use storekeeper_keeper::{KeeperConfig, Limits};
use storekeeper_keyring::{
    DueQuery, Expected, History, Keyring, MemoryKeyring, Newcomer, PageQuery, Record, Revision, Sealed, SealedKey,
    State, Write,
};
use storekeeper_model::{Audience, CertificateId, Fingerprint, KeyId, Lifetime, Secret, ServiceTicket, Timestamp};

use crate::support::mint::ticket;
use crate::support::{DAY, HOUR, MINUTE, START, config, identity, player};

/// Few, so that no other row's moment makes the engine look at one that it has forgotten.
const ROWS_MAX: usize = 6;
const CONCURRENCY: usize = 3;
/// Shorter than what it takes to condemn, so that in these runs nobody is.
const TROUBLE: Duration = Duration::from_secs(20 * 3600);

/// One thing that happens; which of several outstanding things it concerns is told by a number.
#[derive(Debug, Clone)]
enum Op {
    /// Time passes, until the engine wants to be woken or for at most so long.
    Pass(u32),
    /// Our clock is set, wrong by so many hours.
    SetClock(i16),
    /// The Store answers.
    Renewal(u8, Reply),
    /// Entra answers; `None` is a success.
    Ticket(u8, Option<bool>),
    /// The keyring answers a scan, a write, a search.
    Scan(bool),
    Settle(bool),
    Found(u8, bool),
    /// Somebody asks for a renewal.
    Ask(u8),
    /// A player hands in a new key.
    Enroll(u8),
    Order(u8),
    /// The keeper is killed and started again: what was under way is gone.
    Restart,
}

#[derive(Debug, Clone, Copy)]
enum Reply {
    Renewed,
    Refused,
    WrongClient,
    BadRequest,
    Throttled,
    Silent,
}

fn op() -> impl Strategy<Value = Op> {
    let reply = prop_oneof![
        6 => Just(Reply::Renewed),
        4 => Just(Reply::Refused),
        1 => Just(Reply::WrongClient),
        1 => Just(Reply::BadRequest),
        2 => Just(Reply::Throttled),
        2 => Just(Reply::Silent),
    ];
    prop_oneof![
        6 => (1_u32..7200).prop_map(Op::Pass),
        1 => (-960_i16..960).prop_map(Op::SetClock),
        1 => Just(Op::SetClock(0)),
        8 => (any::<u8>(), reply).prop_map(|(which, reply)| Op::Renewal(which, reply)),
        3 => (any::<u8>(), prop_oneof![3 => Just(None), 1 => any::<bool>().prop_map(Some)])
            .prop_map(|(which, fault)| Op::Ticket(which, fault)),
        5 => prop::bool::weighted(0.8).prop_map(Op::Scan),
        5 => prop::bool::weighted(0.8).prop_map(Op::Settle),
        3 => (any::<u8>(), prop::bool::weighted(0.8)).prop_map(|(which, well)| Op::Found(which, well)),
        2 => any::<u8>().prop_map(Op::Ask),
        2 => any::<u8>().prop_map(Op::Enroll),
        1 => any::<u8>().prop_map(Op::Order),
        1 => Just(Op::Restart),
    ]
}

/// What the keyring was asked for besides scans and writes.
enum Search {
    Probes(AppIndex, KeyId),
    Witnesses(AppIndex, KeyId),
    Reread(KeyId),
    Save(AppIndex, Box<storekeeper_keyring::AppRow>),
    Hasten,
}

struct Walk {
    rows: usize,
    engine: Engine,
    keyring: MemoryKeyring,
    /// The Store's time.
    truth: Timestamp,
    /// What our clock is wrong by, in milliseconds.
    wrong_by: i64,
    #[expect(clippy::vec_box, reason = "kept as the engine hands them out")]
    calls: Vec<Box<Call>>,
    tickets: Vec<(TicketIndex, Audience)>,
    scans: Vec<DueQuery>,
    settles: Vec<Arc<Vec<Write>>>,
    searches: Vec<Search>,
    waiting: BTreeSet<u64>,
    next: u64,
    /// Who came out of whom, and which keys players handed in.
    predecessor: HashMap<Fingerprint, Fingerprint>,
    roots: BTreeSet<Fingerprint>,
}

impl Walk {
    fn new(rows: usize) -> Self {
        let mut walk = Self {
            rows,
            engine: Engine::new(&settings(), &[], &BTreeMap::new(), START),
            keyring: MemoryKeyring::new(),
            truth: START,
            wrong_by: 0,
            calls: Vec::new(),
            tickets: Vec::new(),
            scans: Vec::new(),
            settles: Vec::new(),
            searches: Vec::new(),
            waiting: BTreeSet::new(),
            next: 0,
            predecessor: HashMap::new(),
            roots: BTreeSet::new(),
        };
        for number in 0..rows {
            // Due now, soon, tomorrow.
            let key = walk.key(START - DAY * 10 + HOUR * 4 * u32::try_from(number).unwrap());
            walk.roots.insert(key.fingerprint);
            let record = row(number, key, number % 4 != 3);
            walk.write(Write::Put { expected: Expected::Absent, record: Box::new(record) });
        }
        walk.tell(Event::Wake);
        walk
    }

    fn ours(&self) -> Timestamp {
        Timestamp::from_millis(self.truth.millis() + self.wrong_by)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn key(&mut self, issued_at: Timestamp) -> SealedKey {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.number().to_be_bytes());
        SealedKey {
            fingerprint: Fingerprint::from_bytes(bytes),
            certificate: CertificateId::new("36D101AF67A9F61B8017FB96F91EDD4B22F05804"),
            lifetime: Lifetime::new(issued_at, issued_at, issued_at + DAY * 30),
            sealed: Sealed { root_generation: 1, format: 0, bytes: vec![0; 4] },
        }
    }

    fn write(&self, write: Write) {
        drop(self.keyring.settle(Arc::new(vec![write])).now_or_never().unwrap().unwrap());
    }

    fn find(&self, id: KeyId) -> Record {
        self.keyring.find(&[id]).now_or_never().unwrap().unwrap().remove(0).unwrap()
    }

    fn all(&self) -> Vec<Record> {
        let query = PageQuery { limit: 1000, ..PageQuery::default() };
        self.keyring.page(query).now_or_never().unwrap().unwrap().records
    }

    fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.engine.handle(event, self.ours(), &mut actions);
        for action in actions {
            self.note(action);
        }
        let ids: BTreeSet<KeyId> = self.calls.iter().map(|call| call.record.id).collect();
        assert_eq!(ids.len(), self.calls.len(), "a row is tried twice at once");
        assert!(self.calls.len() <= CONCURRENCY);
        assert!(self.settles.len() <= 1 && self.scans.len() <= 1, "one group and one scan at a time");
        assert!(self.engine.wake_at(self.ours()).is_none_or(|at| at > self.ours()));
    }

    fn note(&mut self, action: Action) {
        match action {
            Action::Renew(call) => self.calls.push(call),
            Action::FetchTicket { ticket, audience, .. } => {
                assert!(self.tickets.iter().all(|(known, _)| *known != ticket), "one fetch at a time");
                self.tickets.push((ticket, audience));
            }
            Action::Scan(query) => self.scans.push(query),
            Action::Settle(writes) => self.settles.push(writes),
            Action::FindProbes(app, from) => self.searches.push(Search::Probes(app, from)),
            Action::FindWitnesses(app, except) => self.searches.push(Search::Witnesses(app, except)),
            Action::Reread(id) => self.searches.push(Search::Reread(id)),
            Action::SaveApp(app, saving) => self.searches.push(Search::Save(app, Box::new(saving.row))),
            Action::Hasten(_) => self.searches.push(Search::Hasten),
            Action::Reply(Waiter(number), asked) => {
                assert!(self.waiting.remove(&number), "answered twice: {asked:?}");
            }
            Action::ReplyOrder(Waiter(number), _) => assert!(self.waiting.remove(&number), "answered twice"),
            Action::ReplyTicket(..) | Action::Announce(_) | Action::Rescue(_) | Action::EndRescue => {}
        }
    }

    fn perform(&mut self, op: &Op) {
        match *op {
            Op::Pass(seconds) => self.pass(Duration::from_secs(seconds.into())),
            Op::SetClock(hours) => {
                self.wrong_by = i64::from(hours) * 3_600_000;
                self.tell(Event::Wake);
            }
            Op::Renewal(which, reply) => self.renewal(which.into(), reply),
            Op::Ticket(which, fault) => self.ticket(which.into(), fault),
            Op::Scan(well) => self.scan(well),
            Op::Settle(well) => self.settle(well),
            Op::Found(which, well) => self.found(which.into(), well),
            Op::Ask(which) => {
                let record = self.find(identity(&player(usize::from(which) % self.rows)).key_id());
                let number = self.number();
                self.waiting.insert(number);
                self.tell(Event::Ask(Waiter(number), Box::new(record)));
            }
            Op::Enroll(which) => self.enroll(usize::from(which) % self.rows),
            Op::Order(which) => {
                let order =
                    [Order::Pause, Order::Resume { condemn: false }, Order::VoidEvidence][usize::from(which) % 3];
                let number = self.number();
                self.waiting.insert(number);
                self.tell(Event::Order(Waiter(number), AppIndex(0), order));
            }
            Op::Restart => self.restart(),
        }
    }

    fn restart(&mut self) {
        let rows = self.keyring.apps().now_or_never().unwrap().unwrap();
        self.engine = Engine::new(&settings(), &rows, &BTreeMap::new(), self.ours());
        (self.calls, self.tickets, self.scans) = (Vec::new(), Vec::new(), Vec::new());
        (self.settles, self.searches, self.waiting) = (Vec::new(), Vec::new(), BTreeSet::new());
        self.tell(Event::Wake);
    }

    fn pass(&mut self, longest: Duration) {
        let until = self.ours() + longest;
        let at = self.engine.wake_at(self.ours()).map_or(until, |at| at.min(until));
        self.truth = self.truth + at.since(self.ours());
        self.tell(Event::Wake);
    }

    fn renewal(&mut self, which: usize, reply: Reply) {
        if self.calls.is_empty() {
            return;
        }
        let index = which % self.calls.len();
        let call = *self.calls.swap_remove(index);
        let tried = match (call.subject, &call.record.newcomer) {
            (Subject::Newcomer, Some(newcomer)) => newcomer.key.fingerprint,
            _ => call.record.key.fingerprint,
        };
        let silent = |congested, broken, retry_after| Answer::Silent(Silence { congested, broken, retry_after });
        let answer = match reply {
            Reply::Renewed => {
                let key = self.key(self.truth);
                self.predecessor.insert(key.fingerprint, tried);
                Answer::Renewed(key)
            }
            Reply::Refused => Answer::Refused,
            Reply::WrongClient => Answer::WrongClient,
            Reply::BadRequest => Answer::BadRequest,
            Reply::Throttled => silent(true, false, Some(MINUTE * 7)),
            Reply::Silent => silent(true, true, None),
        };
        let finished = Finished {
            record: call.record,
            subject: call.subject,
            answer,
            status: None,
            code: "refused",
            correlation_id: None,
            store_date: (!matches!(reply, Reply::Silent)).then_some(self.truth),
            took: None,
        };
        self.tell(Event::Finished(Box::new(finished)));
    }

    fn ticket(&mut self, which: usize, fault: Option<bool>) {
        if self.tickets.is_empty() {
            return;
        }
        let index = which % self.tickets.len();
        let (place, audience) = self.tickets.swap_remove(index);
        let result = match fault {
            None => {
                let text = ticket(audience, self.truth, self.number());
                Ok(Arc::new(ServiceTicket::parse(Secret::new(text)).unwrap()))
            }
            Some(refused) => {
                let (code, detail) = (String::from("invalid_client"), String::from("no"));
                Err(TicketFault { code, detail, refused, retry_after: None })
            }
        };
        self.tell(Event::Ticket(place, TicketFetched { result, date: fault.is_none().then_some(self.truth) }));
    }

    fn scan(&mut self, well: bool) {
        let Some(query) = self.scans.pop() else { return };
        let due = self.keyring.due(query).now_or_never().unwrap().unwrap();
        self.tell(if well { Event::Scanned(due) } else { Event::ScanFailed });
    }

    fn settle(&mut self, well: bool) {
        let Some(writes) = self.settles.pop() else { return };
        if !well {
            return self.tell(Event::SettleFailed(writes, SettleFault::Keyring));
        }
        let settled = self.keyring.settle(writes).now_or_never().unwrap().unwrap();
        self.tell(Event::Settled(settled));
        self.check_lines();
    }

    fn found(&mut self, which: usize, well: bool) {
        if self.searches.is_empty() {
            return;
        }
        let index = which % self.searches.len();
        let live = |walk: &Self| walk.all().into_iter().filter(|row| !row.state.is_revoked()).take(3).collect();
        let event = match self.searches.swap_remove(index) {
            Search::Probes(app, from) => {
                let mut rows: Vec<Record> = live(self);
                let places = usize::from(from.as_bytes()[0]) % rows.len().max(1);
                rows.rotate_left(places);
                Event::Probes(app, if well { rows } else { Vec::new() })
            }
            Search::Witnesses(app, except) => {
                let rows: Vec<Record> = live(self);
                Event::Witnesses(app, rows.into_iter().filter(|row| row.id != except && row.proven).collect())
            }
            Search::Reread(id) if well => Event::Reread(id, Some(Box::new(self.find(id)))),
            Search::Reread(id) => Event::RereadFailed(id),
            Search::Save(_, row) if well => {
                drop(self.keyring.save_app(&row).now_or_never().unwrap());
                return;
            }
            Search::Save(app, _) => Event::SaveFailed(app),
            Search::Hasten => Event::Changed(self.ours()),
        };
        self.tell(event);
    }

    /// As intake does for a newcomer.
    fn enroll(&mut self, number: usize) {
        let key = self.key(self.truth);
        self.roots.insert(key.fingerprint);
        let mut record = self.find(identity(&player(number)).key_id());
        let expected = Expected::of(&record);
        record.revision = record.revision.next();
        record.enrolled = key.fingerprint;
        let moment = record.key.lifetime.issued_at() + DAY * 9;
        if record.proven {
            record.newcomer = Some(Newcomer { key, refused: None });
            record.next_attempt_at = Some(self.ours().min(moment));
        } else {
            record.next_attempt_at = Some(key.lifetime.issued_at() + DAY * 9);
            (record.key, record.key_version, record.state) = (key, record.key_version + 1, State::ACTIVE);
        }
        let due_at = record.next_attempt_at.unwrap();
        self.write(Write::Put { expected, record: Box::new(record) });
        self.tell(Event::Changed(due_at));
    }

    /// Every held key was handed in, or came out of one that was; and nobody is condemned.
    fn check_lines(&self) {
        let rows = self.all();
        assert_eq!(rows.len(), self.rows, "no row is lost");
        for row in rows {
            let mut key = row.key.fingerprint;
            while let Some(older) = self.predecessor.get(&key) {
                key = *older;
            }
            assert!(self.roots.contains(&key), "a key from nowhere: {row:?}");
            assert!(!row.state.is_revoked(), "condemned within hours: {row:?}");
        }
    }

    /// Whatever is outstanding is answered well.
    fn answer_everything(&mut self) {
        loop {
            if !self.calls.is_empty() {
                self.renewal(0, Reply::Renewed);
            } else if !self.tickets.is_empty() {
                self.ticket(0, None);
            } else if !self.scans.is_empty() {
                self.scan(true);
            } else if !self.settles.is_empty() {
                self.settle(true);
            } else if !self.searches.is_empty() {
                self.found(0, true);
            } else {
                return;
            }
        }
    }

    /// All is well again for so long.
    fn heal(&mut self, span: Duration) {
        if self.wrong_by != 0 {
            self.wrong_by = 0;
            self.tell(Event::Wake);
        }
        let number = self.number();
        self.waiting.insert(number);
        self.tell(Event::Order(Waiter(number), AppIndex(0), Order::Resume { condemn: false }));
        let end = self.truth + span;
        let mut wakes = 0;
        while self.truth < end {
            self.answer_everything();
            self.pass(end.since(self.truth));
            wakes += 1;
            assert!(wakes < 20_000, "it works without end");
        }
        self.answer_everything();
    }
}

fn settings() -> KeeperConfig {
    KeeperConfig { concurrency: CONCURRENCY, limits: Limits::On, ..config() }
}

fn row(number: usize, key: SealedKey, proven: bool) -> Record {
    let identity = identity(&player(number));
    let id = identity.key_id();
    Record {
        id,
        identity,
        revision: Revision::first(START),
        key_version: 1,
        enrolled: key.fingerprint,
        next_attempt_at: storekeeper_policy::renew_at(&config().apps[0].policy, id, &key.lifetime),
        key,
        state: State::ACTIVE,
        proven,
        failures: 0,
        history: History::default(),
        last_used_day: None,
        newcomer: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_row_is_forgotten_and_nobody_waits_in_vain(
        rows in 1..=ROWS_MAX,
        ops in prop::collection::vec(op(), 1..150),
    ) {
        let mut walk = Walk::new(rows);
        for op in &ops {
            if walk.truth.since(START) < TROUBLE {
                walk.perform(op);
            }
        }
        let healed_at = walk.truth;
        walk.heal(DAY * 13);
        prop_assert!(walk.waiting.is_empty(), "waiting in vain: {:?}", walk.waiting);
        for row in walk.all() {
            prop_assert!(row.key.lifetime.issued_at() >= healed_at, "forgotten: {row:#?}");
            prop_assert!(row.next_attempt_at.is_some_and(|at| at > walk.truth - MINUTE * 2), "overdue: {row:#?}");
            prop_assert!(row.newcomer.is_none() && row.state == State::ACTIVE && row.proven, "{row:#?}");
        }
        prop_assert!(walk.engine.is_idle());
        prop_assert_eq!(walk.engine.observe(walk.truth).rows, 0);
    }
}
