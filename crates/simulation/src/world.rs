//! The plain loop: time jumps from one thing to the next, the engine decides, everything else is a function call.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use rand::seq::IndexedRandom as _;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storekeeper_client::{Endpoint, EntraVersion};
use storekeeper_emulator::{
    DEV_CLIENT_ID, DEV_CLIENT_SECRET, DEV_TENANT_ID, Emulator, EmulatorOptions, MintKey, Profile, Signatures, Switches,
};
use storekeeper_keeper::attempt::Attempts;
use storekeeper_keeper::engine::{Action, Announcement, Engine, Event, SettleFault};
use storekeeper_keeper::intake::Intake;
use storekeeper_keeper::{AppConfig, EnrollRequest, FixedSecret, KeeperConfig, KeyView, Limits, UserClaim};
use storekeeper_keyring::memory::MemoryKeyring;
use storekeeper_keyring::seal::{MasterKey, Sealer};
use storekeeper_keyring::{Keyring, PageQuery, Record, Settled, Write};
use storekeeper_model::{AppName, ClientId, Identity, KeyId, KeyKind, Secret, Slot, Timestamp, UserName};
use storekeeper_policy::RenewalPolicy;

use crate::arrival::{Arrival, Due};
use crate::check::{self, Broken, Failure, Report};
use crate::clock::WrongClock;
use crate::op::{Op, Scenario};
use crate::store::SimulatedStore;

/// The pace a simulated Store is asked at, small enough that a thousand keys feel it.
const PACE_MAX: f64 = 20.0;
/// What may go out in one second of the Store's time: the pace, a burst, and the second's edges.
const REQUESTS_PER_SECOND_MAX: u32 = 28;
/// A keeper on the system's clock looks at it this often, so a step is noticed.
const CLOCK_LOOK: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(86_400);
/// Where certificates rotate, a key older than this may be past saving (store.md 3.5).
const CERTIFICATE_LIFE: Duration = Duration::from_secs(14 * 86_400);

struct World {
    start: Timestamp,
    now: Timestamp,
    offset: i64,
    profile: Profile,
    clock: Arc<WrongClock>,
    store: Arc<SimulatedStore>,
    keyring: MemoryKeyring,
    sealer: Arc<Sealer>,
    config: Arc<KeeperConfig>,
    apps: BTreeMap<AppName, AppConfig>,
    attempts: Attempts,
    engine: Engine,
    arrivals: BinaryHeap<Reverse<Arrival>>,
    order: u64,
    ids: Vec<KeyId>,
    identities: Vec<Identity>,
    rng: ChaCha8Rng,
    report: Report,
}

/// Plays a scenario.
///
/// # Errors
/// The first promise that was broken.
pub fn run(scenario: &Scenario) -> Result<Report, Failure> {
    let mut world = World::new(scenario);
    let mut steps = scenario.steps.iter().peekable();
    let end = world.start + scenario.span;
    let mut next_day = world.start + DAY;
    let mut idle = 0_u32;
    loop {
        let step_at = steps.peek().map(|step| world.start + step.at);
        let arrival_at = world.arrivals.peek().map(|Reverse(arrival)| arrival.at);
        let wake_at = world.engine.wake_at(world.ours()).map(|at| world.theirs(at));
        let next = [step_at, arrival_at, wake_at, Some(next_day)].into_iter().flatten().min().unwrap_or(end);
        if next >= end {
            break;
        }
        idle = if next > world.now { 0 } else { idle + 1 };
        if idle > 200_000 {
            return Err(world.failure(Broken::Spinning, String::from("200,000 steps at one instant")));
        }
        world.move_to(next.max(world.now));
        if step_at.is_some_and(|at| at <= world.now) {
            let step = *steps.next().expect("just peeked");
            world.perform(step.op)?;
        } else if arrival_at.is_some_and(|at| at <= world.now) {
            world.arrive()?;
        } else if wake_at.is_some_and(|at| at <= world.now) {
            world.tell(Event::Wake)?;
        } else {
            next_day = next_day + DAY;
            world.look_at_everything()?;
        }
    }
    world.look_at_everything()?;
    world.report.conflicts += world.engine.conflicts();
    Ok(world.report)
}

impl World {
    fn new(scenario: &Scenario) -> Self {
        let start = Timestamp::from_seconds(1_790_000_000);
        let options = EmulatorOptions {
            switches: Switches {
                profile: scenario.profile,
                superseded: scenario.superseded,
                rate_limit: None,
                ..Switches::default()
            },
            seed: scenario.seed,
            signatures: Signatures::Skipped,
            ..EmulatorOptions::default()
        };
        let store = SimulatedStore::new(Emulator::new(options, start), scenario.superseded, scenario.seed, start);
        let config = Arc::new(keeper_config(scenario.seed));
        let keyring = MemoryKeyring::new();
        let (sealer, _) = Sealer::load_or_create(&MasterKey::generate(), Vec::new(), start).expect("nothing to unwrap");
        let (sealer, clock) = (Arc::new(sealer), Arc::new(WrongClock::default()));
        clock.set(start);
        let attempts =
            Attempts::new(Arc::clone(&config), Arc::clone(&sealer), Arc::clone(&store) as _, Arc::clone(&clock) as _);
        let mut world = Self {
            start,
            now: start,
            offset: 0,
            profile: scenario.profile,
            engine: Engine::new(&config, &[], &BTreeMap::new(), start),
            apps: config.apps.iter().map(|app| (app.name.clone(), app.clone())).collect(),
            clock,
            store,
            keyring,
            sealer,
            config,
            attempts,
            arrivals: BinaryHeap::new(),
            order: 0,
            ids: Vec::new(),
            identities: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(scenario.seed ^ 0x3017d),
            report: Report::default(),
        };
        world.populate(scenario.keys);
        world
    }

    /// Keys of every age that a healthy population has.
    fn populate(&mut self, keys: usize) {
        for number in 0..keys {
            let kind = KeyKind::ALL[number % 2];
            let user = UserName::from_bytes(format!("player-{number}").as_bytes()).expect("a short name");
            let identity = Identity { app: app_name(), user, slot: Slot::default(), kind };
            let issued_at = self.now - DAY.mul_f64(self.rng.random_range(0.0..9.0));
            self.enroll(&identity, Some(issued_at), false);
            self.ids.push(identity.key_id());
            self.identities.push(identity);
        }
    }

    fn enroll(&mut self, identity: &Identity, issued_at: Option<Timestamp>, forged: bool) {
        let wish = MintKey { issued_at, ..MintKey::new(identity.kind, identity.user.as_str()) };
        let key = self.store.emulator().mint_key(wish, self.now).expect("a plain wish");
        if forged {
            self.store.revoke(storekeeper_model::Fingerprint::of(key.expose()));
        }
        let request = EnrollRequest {
            app: identity.app.clone(),
            user: identity.user.clone(),
            slot: identity.slot.clone(),
            kind: Some(identity.kind),
            key,
        };
        let intake = Intake { apps: &self.apps, keyring: &self.keyring, sealer: &self.sealer };
        let (_, due_at) = intake.enroll(vec![request], self.ours()).now_or_never().expect("nothing waits");
        // A wrong clock or a keyring that is down may have refused it; the player will be back another day.
        if let Some(due_at) = due_at {
            self.arrive_after(Duration::from_millis(1), Due::Event(Box::new(Event::Changed(due_at))));
        }
    }

    fn ours(&self) -> Timestamp {
        Timestamp::from_millis(self.now.millis() + self.offset)
    }

    fn theirs(&self, ours: Timestamp) -> Timestamp {
        Timestamp::from_millis(ours.millis().saturating_sub(self.offset))
    }

    fn move_to(&mut self, now: Timestamp) {
        self.now = now;
        self.store.set_now(now);
        self.clock.set(self.ours());
    }

    fn failure(&self, kind: Broken, detail: String) -> Failure {
        Failure { kind, at: self.now, detail }
    }

    fn arrive_after(&mut self, span: Duration, what: Due) {
        self.order += 1;
        self.arrivals.push(Reverse(Arrival { at: self.now + span, order: self.order, what }));
    }

    fn arrive(&mut self) -> Result<(), Failure> {
        let Some(Reverse(arrival)) = self.arrivals.pop() else { return Ok(()) };
        match arrival.what {
            Due::Event(event) => self.tell(*event),
            Due::Look => self.tell(Event::Wake),
            Due::End(op) => {
                self.end(op);
                self.tell(Event::Wake)
            }
        }
    }

    fn tell(&mut self, event: Event) -> Result<(), Failure> {
        let mut actions = Vec::new();
        self.engine.handle(event, self.ours(), &mut actions);
        for action in actions {
            self.execute(action)?;
        }
        Ok(())
    }

    fn execute(&mut self, action: Action) -> Result<(), Failure> {
        let (after, event) = match action {
            Action::Renew(call) => {
                self.report.attempts += 1;
                self.check_pace()?;
                let finished = self.attempts.renew(*call).now_or_never().expect("nothing waits");
                let millis = if self.rng.random_bool(0.02) { 20_000 } else { self.rng.random_range(20..200) };
                (Duration::from_millis(millis), Event::Finished(Box::new(finished)))
            }
            Action::Settle(writes) => (Duration::from_millis(3), self.settle(writes)?),
            Action::Scan(query) => {
                let due = self.keyring.due(query).now_or_never().expect("nothing waits");
                (Duration::from_millis(2), due.map_or(Event::ScanFailed, Event::Scanned))
            }
            Action::FindProbes(app, from) => {
                let name = &self.config.apps[app.0].name;
                let found = storekeeper_keeper::probes(&self.keyring, name, from, &*self.clock).now_or_never();
                (Duration::from_millis(2), Event::Probes(app, found.expect("nothing waits")))
            }
            Action::FindWitnesses(app, except) => {
                (Duration::from_millis(2), Event::Witnesses(app, self.witnesses(except)))
            }
            Action::Reread(id) => {
                let rows = self.keyring.find(&[id]).now_or_never().expect("nothing waits");
                let event = rows
                    .map_or(Event::RereadFailed(id), |mut rows| Event::Reread(id, rows.pop().flatten().map(Box::new)));
                (Duration::from_millis(2), event)
            }
            Action::FetchTicket { ticket, app, audience, credential } => {
                let app = &self.config.apps[app.0];
                let result = self.attempts.fetch_ticket(app, audience, credential).now_or_never();
                (Duration::from_millis(50), Event::Ticket(ticket, result.expect("nothing waits")))
            }
            Action::SaveApp(app, saving) => {
                match self.keyring.save_app(&saving.row).now_or_never().expect("nothing waits") {
                    Ok(()) => return Ok(()),
                    Err(_) => (Duration::from_millis(2), Event::SaveFailed(app)),
                }
            }
            Action::Announce(announcement) => {
                self.report.pauses += u64::from(matches!(announcement, Announcement::Paused { .. }));
                self.report.skews += u64::from(matches!(announcement, Announcement::ClockSkewed { .. }));
                return Ok(());
            }
            // Nothing outlives a simulation.
            Action::Rescue(_) | Action::EndRescue => return Ok(()),
            Action::Hasten(_) | Action::Reply(..) | Action::ReplyTicket(..) | Action::ReplyOrder(..) => return Ok(()),
        };
        self.arrive_after(after, Due::Event(Box::new(event)));
        Ok(())
    }

    fn witnesses(&self, except: KeyId) -> Vec<Record> {
        let found = self.keyring.witnesses(&self.config.apps[0].name, except, self.ours(), 3).now_or_never();
        found.expect("nothing waits").unwrap_or_default()
    }

    fn settle(&mut self, writes: Arc<Vec<Write>>) -> Result<Event, Failure> {
        let ids: Vec<KeyId> = writes.iter().map(Write::id).collect();
        let Ok(before) = self.keyring.find(&ids).now_or_never().expect("nothing waits") else {
            return Ok(Event::SettleFailed(writes, SettleFault::Keyring));
        };
        let settled = self.keyring.settle(Arc::clone(&writes)).now_or_never().expect("nothing waits");
        let Ok(settled) = settled else { return Ok(Event::SettleFailed(writes, SettleFault::Keyring)) };
        let (profile, now) = (self.profile, self.now);
        for ((write, before), settled) in writes.iter().zip(&before).zip(&settled) {
            if let Settled::Done(_) = settled {
                let excused = |record: &Record| is_excused(record, profile, now);
                check::write(before.as_ref(), write, &self.store, excused, now, &mut self.report)?;
            }
        }
        Ok(Event::Settled(settled))
    }

    fn check_pace(&self) -> Result<(), Failure> {
        let sent = self.store.with_truth(|truth| truth.requests.get(&self.now.seconds()).copied().unwrap_or(0));
        // Two hosts, each with a pace of its own.
        if sent > REQUESTS_PER_SECOND_MAX * 2 {
            return Err(self.failure(Broken::PaceExceeded, format!("{sent} renewals in one second")));
        }
        Ok(())
    }

    fn perform(&mut self, op: Op) -> Result<(), Failure> {
        match op {
            Op::Outage { how, .. } => self.store.change_weather(|weather| weather.outage = Some(how)),
            Op::FalseRefusals { share, .. } => self.store.change_weather(|weather| weather.false_refusals = share),
            Op::LostAnswers { share, .. } => self.store.change_weather(|weather| weather.lost_answers = share),
            Op::NoTickets { refused, .. } => self.store.change_weather(|weather| weather.no_tickets = Some(refused)),
            Op::KeyringDown { .. } => self.keyring.set_available(false),
            Op::ClockJump { offset, .. } => {
                self.offset = offset;
                self.move_to(self.now);
                self.arrive_after(CLOCK_LOOK, Due::Look);
            }
            Op::Revoke { keys } => self.revoke(keys),
            Op::Rotate { accept_previous_for } => {
                self.store.emulator().rotate(Some(accept_previous_for), self.now);
            }
            Op::Restart => return self.restart(),
            Op::Reenroll { keys, forged } => {
                for _ in 0..keys {
                    let identity = self.identities.choose(&mut self.rng).expect("there are keys").clone();
                    self.enroll(&identity, None, forged);
                }
            }
        }
        if let Some(span) = span_of(op) {
            self.arrive_after(span, Due::End(op));
        }
        Ok(())
    }

    fn end(&mut self, op: Op) {
        match op {
            Op::Outage { .. } => self.store.change_weather(|weather| weather.outage = None),
            Op::FalseRefusals { .. } => self.store.change_weather(|weather| weather.false_refusals = 0.0),
            Op::LostAnswers { .. } => self.store.change_weather(|weather| weather.lost_answers = 0.0),
            Op::NoTickets { .. } => self.store.change_weather(|weather| weather.no_tickets = None),
            Op::KeyringDown { .. } => self.keyring.set_available(true),
            Op::ClockJump { .. } => {
                self.offset = 0;
                self.move_to(self.now);
            }
            _ => {}
        }
    }

    fn revoke(&mut self, keys: usize) {
        for _ in 0..keys {
            let id = *self.ids.choose(&mut self.rng).expect("there are keys");
            if let Ok(rows) = self.keyring.find(&[id]).now_or_never().expect("nothing waits") {
                let held = rows.into_iter().flatten().map(|row| row.key.fingerprint);
                held.for_each(|fingerprint| self.store.revoke(fingerprint));
            }
        }
    }

    /// What was under way is gone; what the Store did with it is not.
    fn restart(&mut self) -> Result<(), Failure> {
        let Ok(rows) = self.keyring.apps().now_or_never().expect("nothing waits") else { return Ok(()) };
        self.report.restarts += 1;
        self.report.conflicts += self.engine.conflicts();
        self.arrivals.retain(|Reverse(arrival)| !matches!(arrival.what, Due::Event(_)));
        let populations = BTreeMap::from([(app_name(), self.ids.len() as u64)]);
        self.engine = Engine::new(&self.config, &rows, &populations, self.ours());
        self.tell(Event::Wake)
    }

    /// Every row is there, and no key expired that could have been renewed.
    fn look_at_everything(&mut self) -> Result<(), Failure> {
        let query = PageQuery { limit: usize::MAX, ..PageQuery::default() };
        let Ok(page) = self.keyring.page(query).now_or_never().expect("nothing waits") else { return Ok(()) };
        if page.records.len() != self.ids.len() {
            let detail = format!("{} rows of {}", page.records.len(), self.ids.len());
            return Err(self.failure(Broken::LostKey, detail));
        }
        let mut unavoidable = 0;
        for record in &page.records {
            let expired = record.key.lifetime.expires_at().is_some_and(|at| at <= self.now);
            if !expired || record.state.is_revoked() {
                continue;
            }
            let dead = self.store.with_truth(|truth| truth.dead.contains(&record.key.fingerprint));
            if !dead && !is_excused(record, self.profile, self.now) {
                let detail = format!("{:?}: {:?}", KeyView::of(record, self.now), self.engine.observe(self.now));
                return Err(self.failure(Broken::AvoidableLapse, detail));
            }
            unavoidable += 1;
        }
        self.report.unavoidable = unavoidable;
        Ok(())
    }
}

/// Where certificates rotate, an old key may have been signed by one that is no longer accepted.
fn is_excused(record: &Record, profile: Profile, now: Timestamp) -> bool {
    profile == Profile::GameDocs && record.key.lifetime.issued_at() + CERTIFICATE_LIFE <= now
}

fn span_of(op: Op) -> Option<Duration> {
    match op {
        Op::Outage { span, .. }
        | Op::FalseRefusals { span, .. }
        | Op::LostAnswers { span, .. }
        | Op::NoTickets { span, .. }
        | Op::KeyringDown { span }
        | Op::ClockJump { span, .. } => Some(span),
        Op::Revoke { .. } | Op::Rotate { .. } | Op::Restart | Op::Reenroll { .. } => None,
    }
}

fn app_name() -> AppName {
    AppName::new("mygame").expect("the name is made of letters")
}

fn keeper_config(seed: u64) -> KeeperConfig {
    let endpoint = |host: &str| Endpoint::parse(&format!("https://{host}")).expect("Microsoft's own hosts");
    let app = AppConfig {
        name: app_name(),
        tenant: DEV_TENANT_ID.to_owned(),
        client_id: ClientId::new(DEV_CLIENT_ID),
        credentials: vec![Arc::new(FixedSecret(Secret::new(DEV_CLIENT_SECRET.to_owned())))],
        user_claim: UserClaim::Ignore,
        policy: RenewalPolicy { pace_start: PACE_MAX / 4.0, pace_max: PACE_MAX, ..RenewalPolicy::default() },
    };
    KeeperConfig {
        apps: vec![app],
        collections: endpoint(KeyKind::Collections.host()),
        purchase: endpoint(KeyKind::Purchase.host()),
        entra: endpoint("login.microsoftonline.com"),
        entra_version: EntraVersion::V2,
        concurrency: 32,
        request_timeout: Duration::from_secs(30),
        cache_rows: 0,
        limits: Limits::On,
        seed,
        accept_orphans: false,
        rescue_folder: None,
        node: storekeeper_keeper::NodeConfig::default(),
    }
}
