//! The fault plan: which exchanges go wrong and how often; the emulator's clock and seed decide, nothing else.

mod order;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use storekeeper_model::Timestamp;

pub(crate) use self::order::Strike;
pub use self::order::{FaultError, FaultOrder, Truncate, When};
use crate::request::Endpoint;
use crate::sync::lock;

/// How many faults a plan holds, spent ones included.
pub const FAULTS_MAX: usize = 10_000;

/// A planned fault and how it went so far.
#[derive(Debug, Clone, Serialize)]
pub struct Fault {
    /// Its number in the plan.
    pub id: u64,
    /// What was ordered.
    #[serde(flatten)]
    pub order: FaultOrder,
    /// When it was planned, on the emulator's clock.
    pub added_at: Timestamp,
    /// How often it struck.
    pub fired: u64,
    /// Whether it may strike again.
    pub active: bool,
}

/// A plan as a snapshot keeps it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanSnapshot {
    next_id: u64,
    faults: Vec<PlannedSnapshot>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlannedSnapshot {
    id: u64,
    order: FaultOrder,
    added_at: Timestamp,
    met: u64,
    fired: u64,
}

struct Planned {
    id: u64,
    order: FaultOrder,
    strike: Arc<Strike>,
    added_at: Timestamp,
    /// How many exchanges it could have struck.
    met: u64,
    fired: u64,
}

impl Planned {
    fn is_active(&self, now: Timestamp) -> bool {
        let times_left = self.order.count.is_none_or(|count| self.fired < count);
        times_left && self.order.lasts.is_none_or(|lasts| now < self.added_at + lasts.get())
    }

    /// Whether it strikes this time. The draw depends on the seed, the fault and the number of exchanges it met, so
    /// that other faults do not change it and a restored plan goes on as it would have.
    fn strikes(&mut self, seed: u64) -> bool {
        self.met += 1;
        let Some(probability) = self.order.probability else { return true };
        let draw = seed ^ self.id.rotate_left(32) ^ self.met;
        SmallRng::seed_from_u64(draw).random_bool(probability)
    }

    fn shown(&self, now: Timestamp) -> Fault {
        Fault {
            id: self.id,
            order: self.order.clone(),
            added_at: self.added_at,
            fired: self.fired,
            active: self.is_active(now),
        }
    }
}

/// Every fault in the order in which it was planned; the first that strikes an exchange is the only one that does.
pub(crate) struct FaultPlan {
    seed: u64,
    /// Whether there is anything to look at: what an exchange pays when no fault is planned.
    armed: AtomicBool,
    plan: Mutex<Plan>,
}

#[derive(Default)]
struct Plan {
    next_id: u64,
    faults: Vec<Planned>,
}

impl FaultPlan {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, armed: AtomicBool::new(false), plan: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        lock(&self.plan)
    }

    /// Plans a fault from `now` on.
    pub(crate) fn add(&self, order: FaultOrder, now: Timestamp) -> Result<Fault, FaultError> {
        let strike = Arc::new(Strike::prepare(&order)?);
        let mut plan = self.lock();
        if plan.faults.len() >= FAULTS_MAX {
            return Err(FaultError::TooMany);
        }
        plan.next_id += 1;
        let planned = Planned { id: plan.next_id, order, strike, added_at: now, met: 0, fired: 0 };
        let shown = planned.shown(now);
        plan.faults.push(planned);
        self.armed.store(true, Ordering::Release);
        Ok(shown)
    }

    /// Every fault, spent ones included.
    pub(crate) fn list(&self, now: Timestamp) -> Vec<Fault> {
        self.lock().faults.iter().map(|fault| fault.shown(now)).collect()
    }

    /// Takes one fault off the plan; `false` when there is none with that number.
    pub(crate) fn remove(&self, id: u64) -> bool {
        let mut plan = self.lock();
        let before = plan.faults.len();
        plan.faults.retain(|fault| fault.id != id);
        self.armed.store(!plan.faults.is_empty(), Ordering::Release);
        plan.faults.len() < before
    }

    /// Takes every fault off the plan and says how many there were.
    pub(crate) fn clear(&self) -> usize {
        let mut plan = self.lock();
        self.armed.store(false, Ordering::Release);
        std::mem::take(&mut plan.faults).len()
    }

    /// What strikes a call of `endpoint`, if anything does.
    pub(crate) fn strike(&self, endpoint: Endpoint, now: Timestamp) -> Option<Arc<Strike>> {
        if !self.armed.load(Ordering::Acquire) {
            return None;
        }
        let mut plan = self.lock();
        let mut candidates = plan.faults.iter_mut().filter(|fault| fault.order.endpoint == endpoint);
        let struck = candidates.find_map(|fault| {
            let strikes = fault.is_active(now) && fault.strikes(self.seed);
            strikes.then_some(fault)
        })?;
        struck.fired += 1;
        Some(Arc::clone(&struck.strike))
    }

    pub(crate) fn snapshot(&self) -> PlanSnapshot {
        let plan = self.lock();
        let kept = |fault: &Planned| PlannedSnapshot {
            id: fault.id,
            order: fault.order.clone(),
            added_at: fault.added_at,
            met: fault.met,
            fired: fault.fired,
        };
        PlanSnapshot { next_id: plan.next_id, faults: plan.faults.iter().map(kept).collect() }
    }

    /// Checks a snapshot; the result replaces the plan by [`FaultPlan::replace`].
    pub(crate) fn check(snapshot: PlanSnapshot) -> Result<CheckedPlan, FaultError> {
        let planned = |kept: PlannedSnapshot| {
            let strike = Arc::new(Strike::prepare(&kept.order)?);
            let PlannedSnapshot { id, order, added_at, met, fired } = kept;
            Ok(Planned { id, order, strike, added_at, met, fired })
        };
        let faults = snapshot.faults.into_iter().map(planned).collect::<Result<Vec<_>, _>>()?;
        let next_id = faults.iter().map(|fault| fault.id).max().unwrap_or(0).max(snapshot.next_id);
        Ok(CheckedPlan(Plan { next_id, faults }))
    }

    pub(crate) fn replace(&self, checked: CheckedPlan) {
        let mut plan = self.lock();
        *plan = checked.0;
        self.armed.store(!plan.faults.is_empty(), Ordering::Release);
    }
}

/// A plan that can be put in place.
pub(crate) struct CheckedPlan(Plan);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn order(json: &str) -> FaultOrder {
        serde_json::from_str(json).unwrap()
    }

    fn plan(orders: &[&str]) -> FaultPlan {
        let plan = FaultPlan::new(7);
        orders.iter().for_each(|json| drop(plan.add(order(json), NOW).unwrap()));
        plan
    }

    fn statuses(plan: &FaultPlan, calls: usize, now: Timestamp) -> Vec<Option<u16>> {
        let strike =
            |_| plan.strike(Endpoint::Renew, now).and_then(|strike| strike.status.map(|status| status.as_u16()));
        (0..calls).map(strike).collect()
    }

    #[test]
    fn the_first_that_strikes_is_the_only_one() {
        let plan = plan(&[
            r#"{"endpoint":"token","status":500}"#,
            r#"{"endpoint":"renew","status":503,"count":2}"#,
            r#"{"endpoint":"renew","status":429,"count":1}"#,
        ]);
        assert_eq!(statuses(&plan, 4, NOW), [Some(503), Some(503), Some(429), None]);
        let fired: Vec<_> = plan.list(NOW).iter().map(|fault| (fault.id, fault.fired, fault.active)).collect();
        assert_eq!(fired, [(1, 0, true), (2, 2, false), (3, 1, false)]);
    }

    #[test]
    fn a_fault_lasts_its_span_on_the_emulators_clock() {
        let plan = plan(&[r#"{"endpoint":"renew","status":503,"for":"4d"}"#]);
        let day = Duration::from_secs(86_400);
        assert_eq!(statuses(&plan, 1, NOW + day * 4 - Duration::from_millis(1)), [Some(503)]);
        assert_eq!(statuses(&plan, 1, NOW + day * 4), [None]);
    }

    #[test]
    fn a_probability_is_met_and_a_restored_plan_goes_on_alike() {
        let one = plan(&[r#"{"endpoint":"renew","status":401,"probability":0.4}"#]);
        let struck = statuses(&one, 5000, NOW).iter().flatten().count();
        assert!((1850..2150).contains(&struck), "{struck}");
        let text = serde_json::to_string(&one.snapshot()).unwrap();
        let two = FaultPlan::new(7);
        two.replace(FaultPlan::check(serde_json::from_str(&text).unwrap()).unwrap());
        assert_eq!(statuses(&one, 500, NOW), statuses(&two, 500, NOW));
    }

    #[test]
    fn a_removed_fault_strikes_no_more() {
        let plan = plan(&[r#"{"endpoint":"renew","status":503}"#, r#"{"endpoint":"renew","status":500}"#]);
        assert!(plan.remove(1));
        assert!(!plan.remove(1));
        assert_eq!(statuses(&plan, 1, NOW), [Some(500)]);
        assert_eq!(plan.clear(), 1);
        assert_eq!(statuses(&plan, 1, NOW), [None]);
    }
}
