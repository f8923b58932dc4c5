//! Callers that hand keys to whichever keeper answers until each is acknowledged, and what the Store and the keepers say of
//! these keys in the end.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use storekeeper_model::Fingerprint;

use crate::fleet::Fleet;
use crate::support::until;

/// How many keys are handed in at once.
const BATCH: usize = 25;
/// How long callers look for a keeper that answers.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Callers, and what they were told.
pub(crate) struct Callers<'a> {
    fleet: &'a Fleet,
    keepers: &'a [&'a str],
    keys: usize,
    /// How many keys somebody has begun to hand in.
    begun: AtomicUsize,
    /// How many keys may be handed in by now: there has to be somebody to interrupt.
    allowed: AtomicUsize,
    /// How many batches are on their way to each keeper.
    calling: Vec<AtomicUsize>,
    /// Each key that was acknowledged, by its user.
    told: Mutex<BTreeMap<String, Fingerprint>>,
    /// How many batches broke off before they were acknowledged whole.
    interrupted: AtomicUsize,
}

/// A key and the line that enrolls it.
struct Wish {
    user: String,
    fingerprint: Fingerprint,
    line: String,
}

impl Wish {
    fn new(line: String) -> Self {
        let asked: Value = serde_json::from_str(&line).unwrap();
        let fingerprint = Fingerprint::of(asked["key"].as_str().unwrap());
        Self { user: asked["user"].as_str().unwrap().to_owned(), fingerprint, line }
    }
}

impl<'a> Callers<'a> {
    /// So many keys for these keepers.
    pub(crate) fn new(fleet: &'a Fleet, keepers: &'a [&'a str], keys: usize) -> Self {
        let (begun, told, interrupted) = (AtomicUsize::new(0), Mutex::default(), AtomicUsize::new(0));
        let calling = keepers.iter().map(|_| AtomicUsize::new(0)).collect();
        Self { fleet, keepers, keys, begun, allowed: AtomicUsize::new(0), calling, told, interrupted }
    }

    /// Lets them hand in so many keys in all.
    pub(crate) fn allow(&self, keys: usize) {
        self.allowed.fetch_max(keys, Ordering::Relaxed);
    }

    /// Waits until a batch is on its way to this keeper, or all keys are. While nobody calls anybody, because all that were
    /// allowed are handed in, one more batch is allowed.
    #[expect(clippy::disallowed_methods, reason = "callers are not told when to call")]
    pub(crate) fn until_called(&self, keeper: &str) {
        let place = self.keepers.iter().position(|one| *one == keeper).unwrap();
        let calling = |place: usize| self.calling[place].load(Ordering::Relaxed) > 0;
        let began = std::time::Instant::now();
        while !calling(place) && self.begun.load(Ordering::Relaxed) < self.keys {
            assert!(began.elapsed() < SILENCE_MAX, "nobody calls {keeper} for {SILENCE_MAX:?}");
            if !(0..self.keepers.len()).any(calling) {
                self.allowed.fetch_add(BATCH, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// One of them: mints keys and hands them in, with the others, until there are no more.
    pub(crate) fn hand_in(&self, seed: u64) {
        let mut random = SmallRng::seed_from_u64(seed);
        loop {
            let first = self.begun.fetch_add(BATCH, Ordering::Relaxed);
            if first >= self.keys {
                return;
            }
            let are_allowed = until(SILENCE_MAX, || first < self.allowed.load(Ordering::Relaxed));
            assert!(are_allowed.is_some(), "nobody lets callers go on for {SILENCE_MAX:?}");
            let lines = self.fleet.lines(first..self.keys.min(first + BATCH));
            let wishes = Mutex::new(lines.into_iter().map(Wish::new).collect::<Vec<_>>());
            let random = Mutex::new(&mut random);
            let are_taken = until(SILENCE_MAX, || {
                let place = random.lock().unwrap().random_range(0..self.keepers.len());
                let mut wishes = wishes.lock().unwrap();
                self.calling[place].fetch_add(1, Ordering::Relaxed);
                self.try_hand_in(self.keepers[place], &mut wishes);
                self.calling[place].fetch_sub(1, Ordering::Relaxed);
                wishes.is_empty()
            });
            assert!(are_taken.is_some(), "nobody takes keys for {SILENCE_MAX:?}");
        }
    }

    /// Leaves of these keys what was not acknowledged.
    fn try_hand_in(&self, keeper: &str, wishes: &mut Vec<Wish>) {
        let batch: String = wishes.iter().map(|wish| wish.line.as_str()).collect();
        let heard = self.fleet.try_hand_in(keeper, &batch);
        if heard.len() < wishes.len() {
            self.interrupted.fetch_add(1, Ordering::Relaxed);
        }
        let mut told = self.told.lock().unwrap();
        for (wish, answer) in wishes.drain(..heard.len()).zip(heard) {
            assert!(matches!(answer["status"].as_u64(), Some(200 | 201)), "{answer}");
            assert_eq!(answer["fingerprint"], wish.fingerprint.to_string());
            assert!(told.insert(wish.user, wish.fingerprint).is_none(), "it was acknowledged before");
        }
    }

    /// How many batches broke off.
    pub(crate) fn interrupted(&self) -> usize {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Holds what was acknowledged, what the keepers have recorded and what the Store has done against each other. Says which
    /// users' keys the Store was asked to renew more than once, and how often besides the first.
    pub(crate) fn compare(&self, listed: &[Value], ledger: &Ledger) -> BTreeMap<String, usize> {
        let told = self.told.lock().unwrap();
        assert_eq!(told.len(), self.keys);
        let kept: HashMap<&str, &Value> = listed.iter().map(|key| (key["user"].as_str().unwrap(), key)).collect();
        assert_eq!((kept.len(), listed.len()), (self.keys, self.keys), "as many keys are kept as were handed in");
        let duplicates = told.iter().map(|(user, enrolled)| {
            let key =
                kept.get(user.as_str()).unwrap_or_else(|| panic!("the key of {user} was acknowledged and is lost"));
            (user.clone(), renewed_once(key, ledger.successors(*enrolled)).unwrap_or_else(|why| panic!("{why}: {key}")))
        });
        let duplicates: BTreeMap<String, usize> = duplicates.filter(|(_, besides)| *besides > 0).collect();
        let calls = self.keys + duplicates.values().sum::<usize>();
        assert_eq!(ledger.renewals(), calls, "the Store has renewed keys that nobody enrolled, or a successor");
        duplicates
    }
}

/// How often a key was renewed besides the one time that is recorded, to these successors; or what is wrong with the record.
fn renewed_once(key: &Value, successors: &[Fingerprint]) -> Result<usize, String> {
    let held: Fingerprint = key["fingerprint"].as_str().unwrap().parse().unwrap();
    if !successors.contains(&held) {
        return Err(format!("what is held is none of the successors {successors:?}"));
    }
    match (key["state"].as_str(), key["key_version"].as_u64()) {
        (Some("active"), Some(2)) => Ok(successors.len() - 1),
        _ => Err(String::from("it was recorded more than once")),
    }
}

/// What the Store has renewed, read on from time to time.
#[derive(Default)]
pub(crate) struct Ledger {
    successors: HashMap<Fingerprint, Vec<Fingerprint>>,
    renewals: usize,
    read: u64,
}

impl Ledger {
    /// Reads what is new. The emulator gives up old exchanges some day: none may be missing.
    pub(crate) fn read_on(&mut self, fleet: &Fleet) {
        fleet.exchanges(self.read, |exchange| {
            assert_eq!(exchange["seq"], self.read + 1, "exchanges are missing");
            self.read += 1;
            let key = |name: &str| exchange[name].as_str().map(|text| text.parse().unwrap());
            if let (Some(old), Some(new)) = (key("fingerprint"), key("successor")) {
                self.successors.entry(old).or_default().push(new);
                self.renewals += 1;
            }
        });
    }

    /// How many keys it has made of others.
    pub(crate) const fn renewals(&self) -> usize {
        self.renewals
    }

    fn successors(&self, key: Fingerprint) -> &[Fingerprint] {
        self.successors.get(&key).map_or(&[], Vec::as_slice)
    }
}

#[test]
fn a_record_that_does_not_fit_what_the_store_did_is_noticed() {
    let [enrolled, first, second] = ["1", "2", "2'"].map(Fingerprint::of);
    let key = |held: Fingerprint, version: u64, state: &str| serde_json::json!({ "fingerprint": held.to_string(), "key_version": version, "state": state });
    assert_eq!(renewed_once(&key(first, 2, "active"), &[first]), Ok(0));
    assert_eq!(renewed_once(&key(first, 2, "active"), &[first, second]), Ok(1));
    assert!(renewed_once(&key(second, 3, "active"), &[first, second]).is_err());
    assert!(renewed_once(&key(first, 2, "lapsed"), &[first]).is_err());
    assert!(renewed_once(&key(enrolled, 1, "active"), &[first]).is_err());
    assert!(renewed_once(&key(enrolled, 1, "active"), &[]).is_err());
}
