//! Several keepers through hours of generated trouble: cut off from the database or from the Store, in one direction or both,
//! hearing late, with clocks that drift, jump and are days off, killed, ended and replaced, towards a Store that fails. After
//! every step: no key is lost or late beyond saving, nobody renews in another's bucket, each successor is recorded once, and
//! the counts are those of the rows.

use std::collections::HashMap;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use storekeeper_clock::Clock as _;
use storekeeper_keyring::{Keyring as _, NodeId};
use storekeeper_model::{Fingerprint, Timestamp};

use crate::support::fleet::{Fleet, Member, Way};
use crate::support::store::{Entra, Mood, What};
use crate::support::{MINUTE, SECOND, identity, player};

/// Keys live for hours here, and are renewed when three tenths of that are over.
const LIFE: Duration = Duration::from_secs(3 * 60 * 60);
const SPAN: Duration = Duration::from_secs(3 * 60 * 60);
/// No trouble lasts longer.
const TROUBLE_MAX: Duration = Duration::from_secs(8 * 60);
/// In each of these, trouble comes for the first part and ends in time for the rest: what leaves nobody ten minutes in which
/// everything works, no policy survives. Whoever waits by then waits for a quarter of its key's life at most.
const TURN: Duration = Duration::from_secs(30 * 60);
const TROUBLED: Duration = Duration::from_secs(20 * 60);
const CLOCK_OFF_MAX: i64 = 240;
/// For a while a clock may be wrong by minutes, hours or days.
const FAR_OFF: [std::ops::Range<i64>; 3] = [300..3600, 3600..86_400, 86_400..40 * 86_400];
/// Two clocks that differ by twice this in speed still leave the margin of a lease.
const DRIFT_MAX: f64 = 0.02;
const KEYS_MAX: usize = 120;

/// Something that passes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    CutOff(NodeId),
    UnheardByItself(NodeId),
    StoreCutOff(NodeId),
    StoreUnheard(NodeId),
    HearsLate(NodeId),
    /// By so many seconds.
    ClockFarOff(NodeId, i64),
    StoreIsSilent,
    StoreIsBusy,
    StoreLies,
    EntraIsDown,
}

impl Trouble {
    /// Whom it is about, if not all.
    const fn node(&self) -> Option<NodeId> {
        match self {
            Self::CutOff(node) | Self::UnheardByItself(node) | Self::StoreCutOff(node) => Some(*node),
            Self::StoreUnheard(node) | Self::HearsLate(node) | Self::ClockFarOff(node, _) => Some(*node),
            Self::StoreIsSilent | Self::StoreIsBusy | Self::StoreLies | Self::EntraIsDown => None,
        }
    }

    /// Whether its node can be handed a key.
    const fn lets_enroll(&self) -> bool {
        !matches!(self, Self::CutOff(_) | Self::UnheardByItself(_) | Self::ClockFarOff(..))
    }
}

/// The key that a player's row held when it was looked at last.
struct Known {
    key: Fingerprint,
    version: u32,
}

struct Hours {
    seed: u64,
    random: SmallRng,
    fleet: Fleet,
    /// Killed: they reach nobody any more, and nobody reaches them.
    dead: Vec<Member>,
    next_member: u8,
    troubles: Vec<(Timestamp, Trouble)>,
    /// By how many seconds each clock is set wrong, for good.
    skews: HashMap<NodeId, i64>,
    /// Each player's key.
    known: Vec<Known>,
    /// What the Store has made of what.
    made_from: HashMap<Fingerprint, Fingerprint>,
    recorded: usize,
}

impl Hours {
    async fn new(seed: u64) -> Self {
        let fleet = Fleet::of(0).await;
        fleet.store.set(|store| store.life = LIFE);
        let random = SmallRng::seed_from_u64(seed);
        let mut hours = Self {
            seed,
            random,
            fleet,
            dead: Vec::new(),
            next_member: 1,
            troubles: Vec::new(),
            skews: HashMap::new(),
            known: Vec::new(),
            made_from: HashMap::new(),
            recorded: 0,
        };
        for _ in 0..3 {
            hours.join().await;
        }
        hours.fleet.advance(SECOND * 8).await;
        hours
    }

    /// One more, whose clock has a speed of its own.
    async fn join(&mut self) {
        let drift = self.random.random_range(-DRIFT_MAX..=DRIFT_MAX);
        self.fleet.join_drifting(self.next_member, drift).await;
        self.next_member += 1;
    }

    async fn pass(&mut self) {
        let began = self.fleet.clock.now();
        while self.fleet.clock.now() < began + SPAN {
            self.enroll().await;
            let turn = self.fleet.clock.now().since(began).as_secs() % TURN.as_secs();
            if turn < TROUBLED.as_secs() {
                self.happen().await;
            } else {
                self.troubles.clear();
                self.apply();
            }
            let span = SECOND * self.random.random_range(2..60);
            self.fleet.advance(span).await;
            self.end_what_is_over();
            self.check().await;
        }
    }

    /// Any keeper that reaches the database takes any key, of any age at which it is still worth keeping.
    async fn enroll(&mut self) {
        let takes =
            |member: &Member| self.troubles.iter().all(|(_, one)| one.lets_enroll() || one.node() != Some(member.id));
        let members = self.fleet.members.iter().enumerate();
        let takers: Vec<usize> = members.filter(|(_, member)| takes(member)).map(|(at, _)| at).collect();
        if takers.is_empty() || self.known.len() >= KEYS_MAX {
            return;
        }
        let taker = takers[self.random.random_range(0..takers.len())];
        let age = MINUTE * self.random.random_range(0..80);
        let key = self.fleet.enroll(taker, &player(self.known.len()), age).await;
        self.known.push(Known { key: Fingerprint::of(&key), version: 1 });
    }

    async fn happen(&mut self) {
        let member = self.random.random_range(0..self.fleet.members.len());
        let node = self.fleet.members[member].id;
        let trouble = match self.random.random_range(0..60) {
            0..6 => Trouble::CutOff(node),
            6..8 => Trouble::UnheardByItself(node),
            8..12 => Trouble::StoreCutOff(node),
            12..14 => Trouble::StoreUnheard(node),
            14..18 => Trouble::HearsLate(node),
            18..20 => Trouble::ClockFarOff(node, self.far_off()),
            20..22 => Trouble::StoreIsSilent,
            22..24 => Trouble::StoreIsBusy,
            24 => Trouble::StoreLies,
            25 => Trouble::EntraIsDown,
            26..30 => {
                self.skews.insert(node, self.random.random_range(-CLOCK_OFF_MAX..=CLOCK_OFF_MAX));
                return self.apply();
            }
            30..32 => return self.kill(member).await,
            32 => return self.end(member).await,
            _ => return,
        };
        let until = self.fleet.clock.now() + TROUBLE_MAX.mul_f64(self.random.random_range(0.01..1.0));
        self.troubles.push((until, trouble));
        self.apply();
    }

    fn far_off(&mut self) -> i64 {
        let range = FAR_OFF[self.random.random_range(0..FAR_OFF.len())].clone();
        let seconds = self.random.random_range(range);
        if self.random.random() { seconds } else { -seconds }
    }

    /// One dies in the midst of whatever it does, and another one comes.
    async fn kill(&mut self, member: usize) {
        let gone = self.fleet.members.remove(member);
        gone.link.cut(true);
        gone.reach_store(Way::Cut);
        self.dead.push(gone);
        self.join().await;
    }

    /// One ends in good order, and another one comes.
    async fn end(&mut self, member: usize) {
        if !self.troubles.is_empty() {
            return;
        }
        let gone = self.fleet.members.remove(member);
        let keeper = gone.keeper.clone();
        self.fleet.answer(async move { keeper.shutdown().await }).await;
        self.join().await;
    }

    fn end_what_is_over(&mut self) {
        let now = self.fleet.clock.now();
        self.troubles.retain(|(until, _)| *until > now);
        self.apply();
    }

    /// Lets everything be as the troubles of the moment say.
    fn apply(&self) {
        let is = |trouble: Trouble| self.troubles.iter().any(|(_, one)| *one == trouble);
        for member in &self.fleet.members {
            let node = member.id;
            member.link.cut(is(Trouble::CutOff(node)));
            member.link.lose_answers(is(Trouble::UnheardByItself(node)));
            member.reach_store(match (is(Trouble::StoreCutOff(node)), is(Trouble::StoreUnheard(node))) {
                (true, _) => Way::Cut,
                (false, true) => Way::LosesAnswers,
                (false, false) => Way::Open,
            });
            member.hear_late_by(if is(Trouble::HearsLate(node)) { SECOND * 25 } else { Duration::ZERO });
            let far_off = self.troubles.iter().find_map(|(_, one)| match one {
                Trouble::ClockFarOff(off, seconds) if *off == node => Some(*seconds),
                _ => None,
            });
            let skew = self.skews.get(&node).copied().unwrap_or(0);
            member.clock.set_wrong_by(skew + far_off.unwrap_or(0));
        }
        self.fleet.store.set(|store| {
            store.mood = if is(Trouble::StoreIsSilent) {
                Mood::Silent
            } else if is(Trouble::StoreIsBusy) {
                Mood::Throttle(5)
            } else {
                Mood::Renew
            };
            store.false_refusals = if is(Trouble::StoreLies) { 0.4 } else { 0.0 };
            store.entra = if is(Trouble::EntraIsDown) { Entra::Unavailable } else { Entra::Issue };
        });
    }

    async fn check(&mut self) {
        let seed = self.seed;
        let held: f64 = self.fleet.held().await.iter().sum();
        assert!(held <= 4096.0, "seed {seed}: a bucket has two owners, {held} are held");
        assert_eq!(self.fleet.trespasses(), Vec::<String>::new(), "seed {seed}");
        for exchange in self.fleet.store.take_log() {
            if let What::Renewal { key, successor: Some(successor), .. } = exchange.what {
                self.made_from.insert(successor, key);
            }
        }
        let now = self.fleet.clock.now();
        let mut unproven = 0;
        for (number, known) in self.known.iter_mut().enumerate() {
            let row = self.fleet.row(&player(number)).await;
            let expires_at = row.key.lifetime.expires_at().unwrap();
            assert!(expires_at > now, "seed {seed}: {} lapsed: {row:#?}", player(number));
            assert!(!row.state.is_revoked(), "seed {seed}: {} was condemned", player(number));
            // From what was held to what is held, one step for each that is recorded.
            let (mut key, mut steps) = (row.key.fingerprint, 0_u32);
            while key != known.key {
                key = *self
                    .made_from
                    .get(&key)
                    .unwrap_or_else(|| panic!("seed {seed}: {} was displaced", player(number)));
                steps += 1;
            }
            assert_eq!(row.key_version, known.version + steps, "seed {seed}: {}", player(number));
            self.recorded += usize::try_from(steps).unwrap();
            unproven += u64::from(!row.proven);
            *known = Known { key: row.key.fingerprint, version: row.key_version };
        }
        let counts = self.fleet.memory.count(now, &[]).await.unwrap();
        let counted = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.active, sum.1 + count.unproven));
        assert_eq!(counted, (self.known.len() as u64, unproven), "seed {seed}: the counts are not those of the rows");
    }

    /// Everything heals, and what waited is done.
    async fn heal(&mut self) {
        self.troubles.clear();
        self.skews.clear();
        self.apply();
        self.fleet.advance(MINUTE * 20).await;
        assert_eq!(self.fleet.held().await.iter().sum::<f64>(), 4096.0, "seed {}: leases without an owner", self.seed);
        self.check().await;
        for (number, known) in self.known.iter().enumerate() {
            let live = self.fleet.members[0].keeper.get(&identity(&player(number)), None).await.unwrap();
            assert_eq!(live.view.fingerprint, known.key, "seed {}", self.seed);
        }
    }
}

/// Plays a seed; returns how many keepers were killed.
#[expect(clippy::print_stdout, reason = "a test tells what it did")]
async fn hours_pass(seed: u64) -> usize {
    let mut hours = Hours::new(seed).await;
    hours.pass().await;
    hours.heal().await;
    let (recorded, asked) = (hours.recorded, hours.made_from.len());
    assert!(
        hours.known.len() > 100 && recorded >= 2 * hours.known.len(),
        "seed {seed}: hours in which nothing is renewed prove nothing"
    );
    // Whoever hears an answer too late, or never, has asked in vain; that is harmless and counted.
    let besides = asked - recorded;
    println!("seed {seed}: {recorded} renewals recorded, {besides} besides, {} killed", hours.dead.len());
    assert!(besides < recorded / 2, "seed {seed}: {besides} renewals beside {recorded} that were recorded");
    hours.dead.len()
}

/// Every third seed from this one: one, or `STOREKEEPER_TEST_TIMES` of them.
#[expect(clippy::disallowed_methods, reason = "a test has nothing but its environment to be told by")]
async fn all_pass(first: u64) {
    let times = std::env::var("STOREKEEPER_TEST_TIMES").map_or(1, |times| times.parse().expect("it is a number"));
    let mut killed = 0;
    for time in 0..times {
        killed += hours_pass(first + 3 * time).await;
    }
    assert!(killed > 0, "nobody was killed");
}

#[tokio::test]
async fn invariant_5_generated_trouble_of_a_fleet_seed_1() {
    all_pass(1).await;
}

#[tokio::test]
async fn invariant_5_generated_trouble_of_a_fleet_seed_2() {
    all_pass(2).await;
}

#[tokio::test]
async fn invariant_5_generated_trouble_of_a_fleet_seed_3() {
    all_pass(3).await;
}
