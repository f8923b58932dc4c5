//! Several nodes and one table, with answers that are late, lost or never come, in every order that a seed can think of.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use storekeeper_keyring::{Buckets, ClockReport, KeyringError, Leases, MemoryKeyring, NodeId, Presence};

use super::{Fleet, FleetAction, FleetEvent, LeaseTimes, plan};

const SECOND: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(50);

/// How badly things go.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    /// The longest way to the table, and back.
    latency: Duration,
    /// One question in so many is lost on its way, or its answer is; 0: none.
    losses: u32,
}

const CALM: Trouble = Trouble { latency: Duration::from_millis(20), losses: 0 };

/// A question under way: asked of the table at one moment, answered at another.
struct Question {
    action: FleetAction,
    asked_at: Duration,
    answered_at: Duration,
    answer: Option<FleetEvent>,
    is_lost: bool,
}

struct Machine {
    fleet: Fleet,
    /// What its clock shows when the world's shows nothing.
    offset: Duration,
    questions: Vec<Question>,
    /// It does nothing until then, though time passes for others.
    stalled_until: Duration,
    /// It does not reach the table until then, though others do.
    cut_off_until: Duration,
    is_dead: bool,
    busy: Buckets,
}

struct World {
    now: Duration,
    table: MemoryKeyring,
    machines: BTreeMap<u8, Machine>,
    rng: SmallRng,
    trouble: Trouble,
    cut_off_until: Duration,
}

fn id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn ready<T>(answer: impl Future<Output = Result<T, KeyringError>>) -> T {
    answer.now_or_never().expect("memory does not wait").expect("it is there")
}

impl World {
    fn new(seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        let (table, machines) = (MemoryKeyring::shared(), BTreeMap::new());
        Self { now: SECOND * 1000, table, machines, rng, trouble: CALM, cut_off_until: Duration::ZERO }
    }

    fn of(seed: u64, count: u8) -> Self {
        let mut world = Self::new(seed);
        (1..=count).for_each(|number| world.join(number));
        world
    }

    fn join(&mut self, number: u8) {
        let name = format!("node-{number}");
        let fleet = Fleet::new(
            Presence { id: id(number), name, draining: false, leaving: false, clock: ClockReport::Unknown },
            LeaseTimes::default(),
        );
        let offset = Duration::from_millis(self.rng.random_range(0..600_000));
        let machine = Machine {
            fleet,
            offset,
            questions: Vec::new(),
            stalled_until: Duration::ZERO,
            cut_off_until: Duration::ZERO,
            is_dead: false,
            busy: Buckets::none(),
        };
        self.machines.insert(number, machine);
        self.tell(number, FleetEvent::Wake);
    }

    fn machine(&mut self, number: u8) -> &mut Machine {
        self.machines.get_mut(&number).expect("it has joined")
    }

    fn tell(&mut self, number: u8, event: FleetEvent) {
        let (now, latency, losses) = (self.now, self.trouble.latency, self.trouble.losses);
        let mut actions = Vec::new();
        let machine = self.machine(number);
        let elapsed = now + machine.offset;
        machine.fleet.handle(event, elapsed, &mut actions);
        for action in actions {
            let mut some = || Duration::from_micros(self.rng.random_range(0..=latency.as_micros() as u64));
            let asked_at = now + some();
            let answered_at = asked_at + some();
            let is_lost = losses > 0 && self.rng.random_range(0..losses) == 0;
            self.machine(number).questions.push(Question { action, asked_at, answered_at, answer: None, is_lost });
        }
    }

    /// The table's part of whatever has reached it by now.
    fn ask_table(&mut self) {
        let (table, now, is_cut_off) = (&self.table, self.now, self.now < self.cut_off_until);
        for machine in self.machines.values_mut() {
            let is_cut_off = is_cut_off || now < machine.cut_off_until;
            for question in machine.questions.iter_mut().filter(|one| one.answer.is_none() && one.asked_at <= now) {
                let lost_before = question.is_lost && question.asked_at.as_micros() % 2 == 0 || is_cut_off;
                let answer = match &question.action {
                    FleetAction::Tell(_) => FleetEvent::Busy(Box::new(machine.busy.clone())),
                    action if lost_before => failed(action),
                    FleetAction::Beat(presence) => FleetEvent::Beaten(ready(table.beat(presence))),
                    FleetAction::Read => FleetEvent::Read(ready(Leases::all(table))),
                    FleetAction::Change(changes) => FleetEvent::Changed(ready(table.change(changes.clone()))),
                    FleetAction::Remove(node) => FleetEvent::Removed(ready(table.remove_node(node))),
                };
                let is_told = matches!(question.action, FleetAction::Tell(_));
                question.answer = Some(if question.is_lost && !is_told { failed(&question.action) } else { answer });
            }
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        self.ask_table();
        let now = self.now;
        let awake =
            self.machines.iter().filter(|(_, one)| !one.is_dead && one.stalled_until <= now && !one.fleet.is_gone());
        for number in awake.map(|(number, _)| *number).collect::<Vec<_>>() {
            let machine = self.machine(number);
            let is_over = |one: &mut Question| one.answered_at <= now && one.answer.is_some();
            let over: Vec<Question> = machine.questions.extract_if(.., is_over).collect();
            for question in over {
                self.tell(number, question.answer.expect("it is answered"));
            }
            let machine = self.machine(number);
            if machine.fleet.wake_at().is_some_and(|at| at <= now + machine.offset) {
                self.tell(number, FleetEvent::Wake);
            }
        }
        self.check();
    }

    /// No bucket has two owners who believe in it, stalled ones included: they may wake at any moment.
    fn check(&self) {
        let mut owned = Buckets::none();
        for machine in self.machines.values().filter(|machine| !machine.is_dead) {
            let (held, until) = machine.fleet.holding();
            if until > self.now + machine.offset {
                let doubled = held.iter().filter(|bucket| !owned.insert(*bucket)).count();
                assert_eq!(doubled, 0, "buckets with two owners at {:?}", self.now);
            }
        }
    }

    fn run(&mut self, span: Duration) {
        let until = self.now + span;
        while self.now < until {
            self.step();
        }
    }

    /// How many leases each has that is alive, in its own opinion and by the table.
    fn counts(&self) -> Vec<usize> {
        let table = ready(Leases::all(&self.table));
        let alive = self.machines.iter().filter(|(_, machine)| !machine.is_dead && !machine.fleet.is_gone());
        alive
            .map(|(number, machine)| {
                let held = machine.fleet.holding().0;
                let owned: Buckets =
                    table.iter().filter(|lease| lease.owner == Some(id(*number))).map(|lease| lease.bucket).collect();
                assert!(held == owned, "node {number} holds {held:?}, the table says {owned:?}");
                held.len()
            })
            .collect()
    }

    fn until_counts(&mut self, within: Duration, expected: &[usize]) {
        let until = self.now + within;
        while self.now < until {
            self.step();
            let held: Vec<usize> = self
                .machines
                .values()
                .filter(|machine| !machine.is_dead && !machine.fleet.is_gone())
                .map(|machine| machine.fleet.holding().0.len())
                .collect();
            if held == expected {
                self.run(SECOND);
                assert_eq!(self.counts(), expected);
                return;
            }
        }
        panic!("not {expected:?} within {within:?}, but {:?}", self.counts());
    }
}

fn failed(action: &FleetAction) -> FleetEvent {
    match action {
        FleetAction::Beat(_) => FleetEvent::BeatFailed,
        FleetAction::Read => FleetEvent::ReadFailed,
        FleetAction::Change(_) => FleetEvent::ChangeFailed,
        FleetAction::Remove(_) => FleetEvent::Removed(false),
        FleetAction::Tell(_) => FleetEvent::Busy(Box::new(Buckets::none())),
    }
}

#[test]
fn three_that_start_at_once_have_thirds_within_seconds() {
    World::of(1, 3).until_counts(SECOND * 5, &[1366, 1365, 1365]);
}

#[test]
fn one_that_joins_or_leaves_is_shared_with_within_seconds() {
    let mut world = World::of(2, 1);
    world.until_counts(SECOND * 2, &[4096]);
    world.join(9);
    world.until_counts(SECOND * 5, &[2048, 2048]);
    world.join(4);
    world.until_counts(SECOND * 5, &[1366, 1365, 1365]);
    world.tell(1, FleetEvent::Leave);
    world.until_counts(SECOND * 5, &[2048, 2048]);
    assert!(world.machines[&1].fleet.is_gone() && world.machines[&1].fleet.lost() == 0);
    assert_eq!(ready(world.table.nodes()).len(), 2);
}

#[test]
fn who_waits_for_an_answer_does_not_ask_to_be_woken_at_once() {
    let mut world = World::of(10, 2);
    world.until_counts(SECOND * 5, &[2048, 2048]);
    world.trouble = Trouble { latency: SECOND * 3, losses: 0 };
    world.tell(2, FleetEvent::Leave);
    let mut steps = 0;
    while !world.machines[&2].fleet.is_gone() {
        world.step();
        steps += 1;
        assert!(steps < 2000, "it goes");
        let (now, machine) = (world.now, &world.machines[&2]);
        let waits = machine.questions.iter().any(|one| matches!(one.action, FleetAction::Remove(_)));
        let overdue = machine.fleet.wake_at().is_some_and(|at| at <= now + machine.offset);
        assert!(!(waits && overdue && !machine.fleet.is_gone()), "it would be woken again and again");
    }
}

#[test]
fn what_a_crash_leaves_is_taken_within_15_seconds() {
    let mut world = World::of(3, 3);
    world.until_counts(SECOND * 5, &[1366, 1365, 1365]);
    world.machine(2).is_dead = true;
    world.run(SECOND * 8);
    assert_eq!(world.counts(), [1366, 1365], "a beat has not stood still for long enough");
    world.until_counts(SECOND * 5, &[2048, 2048]);
    world.run(SECOND * 60);
    assert_eq!(ready(world.table.nodes()).len(), 2, "the dead one is forgotten");
}

#[test]
fn a_fleet_that_was_killed_as_a_whole_is_followed() {
    let mut world = World::of(4, 3);
    world.until_counts(SECOND * 5, &[1366, 1365, 1365]);
    world.machines.values_mut().for_each(|machine| machine.is_dead = true);
    [11, 12].into_iter().for_each(|number| world.join(number));
    world.until_counts(SECOND * 15, &[2048, 2048]);
}

#[test]
fn one_that_stalls_loses_everything_and_comes_back_as_any_other() {
    let mut world = World::of(5, 3);
    world.until_counts(SECOND * 5, &[1366, 1365, 1365]);
    let until = world.now + SECOND * 30;
    world.machine(1).stalled_until = until;
    world.run(SECOND * 15);
    assert_eq!(world.machines[&2].fleet.holding().0.len(), 2048);
    world.until_counts(SECOND * 25, &[1366, 1365, 1365]);
    assert_eq!(world.machines[&1].fleet.lost(), 1366);
}

#[test]
fn while_the_table_is_away_nobody_holds_anything_and_then_all_is_as_before() {
    let mut world = World::of(6, 3);
    world.until_counts(SECOND * 5, &[1366, 1365, 1365]);
    world.cut_off_until = world.now + SECOND * 60;
    world.run(SECOND * 12);
    assert!(world.machines.values().all(|machine| machine.fleet.holding().0.is_empty()));
    world.run(SECOND * 48);
    world.until_counts(SECOND * 15, &[1366, 1365, 1365]);
}

#[test]
fn a_short_absence_of_the_table_loses_nothing() {
    let mut world = World::of(7, 2);
    world.until_counts(SECOND * 5, &[2048, 2048]);
    world.cut_off_until = world.now + SECOND * 6;
    world.run(SECOND * 20);
    assert_eq!((world.counts(), world.machines[&1].fleet.lost()), (vec![2048, 2048], 0));
}

#[test]
fn a_draining_node_gives_back_what_is_done_with_and_stays_without() {
    let mut world = World::of(8, 2);
    world.until_counts(SECOND * 5, &[2048, 2048]);
    let one = world.machines[&2].fleet.holding().0.iter().next().expect("it has some");
    world.machine(2).busy.insert(one);
    assert!(ready(world.table.drain_node(id(2))));
    world.until_counts(SECOND * 5, &[4095, 1]);
    world.machine(2).busy.remove(one);
    world.until_counts(SECOND * 5, &[4096, 0]);
    world.run(SECOND * 30);
    assert_eq!(world.counts(), [4096, 0]);
}

#[test]
fn a_node_whose_row_was_removed_stays_drained() {
    let mut world = World::of(8, 2);
    world.until_counts(SECOND * 5, &[2048, 2048]);
    assert!(ready(world.table.drain_node(id(2))));
    world.until_counts(SECOND * 5, &[4096, 0]);
    let now = world.now;
    world.machine(2).cut_off_until = now + SECOND * 90;
    world.run(SECOND * 89);
    assert_eq!((ready(world.table.nodes()).len(), world.machines[&1].fleet.sharers()), (1, Some(1)));
    world.run(SECOND * 15);
    assert_eq!((ready(world.table.nodes()).len(), world.counts()), (2, vec![4096, 0]));
}

#[test]
fn a_bucket_that_is_ours_by_the_table_alone_is_nobodys_orphan() {
    let mut world = World::of(9, 2);
    world.trouble = Trouble { latency: SECOND / 10, losses: 2 };
    world.run(SECOND * 60);
    world.trouble = CALM;
    world.until_counts(SECOND * 20, &[2048, 2048]);
}

/// A node by itself, at instants of its own clock.
fn alone(events: Vec<(u64, FleetEvent)>) -> (Fleet, Vec<FleetAction>) {
    let mut fleet = Fleet::new(
        Presence {
            id: id(1),
            name: String::from("alone"),
            draining: false,
            leaving: false,
            clock: ClockReport::Unknown,
        },
        LeaseTimes::default(),
    );
    let mut actions = Vec::new();
    for (millis, event) in events {
        actions.clear();
        fleet.handle(event, Duration::from_millis(millis), &mut actions);
    }
    (fleet, actions)
}

fn beaten(table: &MemoryKeyring) -> FleetEvent {
    FleetEvent::Beaten(ready(table.beat(&Presence {
        id: id(1),
        name: String::from("alone"),
        draining: false,
        leaving: false,
        clock: ClockReport::Unknown,
    })))
}

#[test]
fn a_lease_counts_from_when_the_beat_was_sent() {
    let table = MemoryKeyring::shared();
    let events = vec![(1000, FleetEvent::Wake), (7000, beaten(&table))];
    assert_eq!(alone(events).0.holding().1, Duration::from_millis(10_500), "not from when its answer came");
    let events = vec![(1000, FleetEvent::Wake), (10_500, beaten(&table))];
    let (fleet, actions) = alone(events);
    assert_eq!(fleet.holding().1, Duration::ZERO, "an answer that comes too late brings nothing");
    assert!(matches!(actions[..], [FleetAction::Beat(_), FleetAction::Tell(_)]), "{actions:?}");
}

#[test]
fn what_was_lost_is_taken_anew_and_its_term_rises() {
    let table = MemoryKeyring::shared();
    let read = || FleetEvent::Read(ready(Leases::all(&table)));
    let take = |changes: &[FleetAction]| match changes {
        [FleetAction::Change(changes)] | [FleetAction::Change(changes), _] => changes.clone(),
        other => panic!("{other:?}"),
    };
    let events = || vec![(0, FleetEvent::Wake), (1, beaten(&table)), (2, read())];
    let first = take(&alone(events()).1);
    assert_eq!((first.len(), first[0].seen.term), (4096, 0));
    let made = ready(table.change(first));
    // The time-to-live passes without a beat that is answered; what stands in the table is no lease of ours by itself.
    let mut late = events();
    late.push((3, FleetEvent::Changed(made)));
    late.extend([(1001, FleetEvent::Wake), (11_000, FleetEvent::BeatFailed), (11_001, beaten(&table))]);
    let (fleet, actions) = alone(late);
    assert!(fleet.holding().0.is_empty() && fleet.lost() == 4096, "{:?}", fleet.holding());
    assert!(actions.contains(&FleetAction::Read), "{actions:?}");
    let mut fleet = fleet;
    let mut actions = Vec::new();
    fleet.handle(read(), Duration::from_millis(11_002), &mut actions);
    let again = take(&actions);
    assert_eq!((again.len(), again[0].seen.owner, again[0].seen.term), (4096, Some(id(1)), 1));
    assert!(fleet.holding().0.is_empty(), "not before that is made");
    fleet.handle(FleetEvent::Changed(ready(table.change(again))), Duration::from_millis(11_003), &mut actions);
    assert_eq!((fleet.holding().0.len(), ready(Leases::all(&table))[0].term), (4096, 2));
}

#[test]
fn shares_differ_by_one_at_most() {
    let nodes: Vec<NodeId> = (1..=7).map(id).collect();
    for count in 1..=nodes.len() {
        let shares: Vec<usize> = nodes[..count].iter().map(|me| plan::share(*me, &nodes[..count])).collect();
        assert_eq!(shares.iter().sum::<usize>(), 4096, "{shares:?}");
        assert!(shares[0] - shares[count - 1] <= 1, "{shares:?}");
    }
    assert_eq!(plan::share(id(9), &nodes), 0);
}

/// Something that befalls a fleet.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Join(u8),
    Kill(u8),
    Leave(u8),
    Stall(u8, u8),
    CutOff(u8, u8),
    Busy(u8, u16),
    Trouble(u16, u32),
}

fn blow() -> impl Strategy<Value = (Blow, u8)> {
    let node = 1..6_u8;
    let blow = prop_oneof![
        node.clone().prop_map(Blow::Join),
        node.clone().prop_map(Blow::Kill),
        node.clone().prop_map(Blow::Leave),
        (node.clone(), 1..40_u8).prop_map(|(node, seconds)| Blow::Stall(node, seconds)),
        (0..6_u8, 1..30_u8).prop_map(|(node, seconds)| Blow::CutOff(node, seconds)),
        (node, 0..4096_u16).prop_map(|(node, bucket)| Blow::Busy(node, bucket)),
        (0..6000_u16, 0..20_u32).prop_map(|(latency, losses)| Blow::Trouble(latency, losses)),
    ];
    (blow, 0..15_u8)
}

fn strike(world: &mut World, blow: Blow, next: &mut u8) {
    let now = world.now;
    let is_there = |world: &World, node: u8| world.machines.get(&node).is_some_and(|one| !one.is_dead);
    match blow {
        Blow::Join(node) if !world.machines.contains_key(&node) => world.join(node),
        // A node that starts again has another id.
        Blow::Join(_) => {
            *next += 1;
            world.join(*next);
        }
        Blow::Kill(node) if is_there(world, node) => world.machine(node).is_dead = true,
        Blow::Leave(node) if is_there(world, node) => world.tell(node, FleetEvent::Leave),
        Blow::Stall(node, seconds) if is_there(world, node) => {
            world.machine(node).stalled_until = now + u32::from(seconds) * SECOND;
        }
        Blow::CutOff(node, seconds) if is_there(world, node) => {
            world.machine(node).cut_off_until = now + u32::from(seconds) * SECOND;
        }
        Blow::CutOff(0, seconds) => world.cut_off_until = now + u32::from(seconds) * SECOND,
        Blow::Busy(node, bucket) if is_there(world, node) => {
            world.machine(node).busy.insert(storekeeper_model::Bucket::new(bucket).expect("it is one"));
        }
        Blow::Trouble(latency, losses) => {
            world.trouble = Trouble { latency: Duration::from_millis(latency.into()), losses };
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever happens, no bucket has two owners; and once it is over, the living share all evenly.
    #[test]
    fn no_bucket_has_two_owners_and_none_is_orphaned(seed: u64, blows in prop::collection::vec(blow(), 1..12)) {
        let mut world = World::of(seed, 3);
        let mut next = 100;
        for (blow, seconds) in blows {
            strike(&mut world, blow, &mut next);
            world.run(u32::from(seconds) * SECOND);
        }
        world.trouble = CALM;
        world.machines.values_mut().for_each(|machine| machine.busy = Buckets::none());
        world.run(SECOND * 75);
        world.join(200);
        world.run(SECOND * 15);
        let counts = world.counts();
        prop_assert_eq!(counts.iter().sum::<usize>(), 4096, "{:?}", counts);
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
    }
}
