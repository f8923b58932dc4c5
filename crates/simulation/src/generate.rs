//! Scenarios from seeds.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storekeeper_emulator::{Profile, Superseded};

use crate::op::{Op, Outage, Scenario, Step};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Draws an operation.
type Make = fn(&mut ChaCha8Rng) -> Op;

/// What kind of year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// How many keys.
    pub keys: usize,
    /// How many days.
    pub days: u32,
    /// Which era of the Store; with game-docs certificates rotate every week.
    pub profile: Profile,
    /// The open question whether a superseded key still renews.
    pub superseded: Superseded,
}

/// A scenario for this seed.
///
/// Outages last up to four days, up to the outage budget of three where certificates rotate, and leave the keeper ten
/// days in between: what is worse than that, no policy survives.
pub fn generate(seed: u64, plan: Plan) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let span = DAY * plan.days;
    let mut steps = outages(&mut rng, span, plan.profile);
    let many: [(u32, Make); 8] = [
        (12, false_refusals),
        (10, lost_answers),
        (8, no_tickets),
        (10, keyring_down),
        (10, clock_jump),
        (12, |rng| Op::Revoke { keys: rng.random_range(1..=8) }),
        (40, |_| Op::Restart),
        (40, |rng| Op::Reenroll { keys: rng.random_range(1..=5), forged: rng.random_bool(0.25) }),
    ];
    for (per_year, make) in many {
        for _ in 0..(per_year * plan.days).div_ceil(365) {
            let at = span.mul_f64(rng.random());
            steps.push(Step { at, op: make(&mut rng) });
        }
    }
    if plan.profile == Profile::Documented {
        for _ in 0..(6 * plan.days).div_ceil(365) {
            let accept_previous_for = DAY * rng.random_range(20..=30);
            steps.push(Step { at: span.mul_f64(rng.random()), op: Op::Rotate { accept_previous_for } });
        }
    }
    steps.sort_by_key(|step| step.at);
    Scenario { seed, keys: plan.keys, span, profile: plan.profile, superseded: plan.superseded, steps }
}

fn outages(rng: &mut ChaCha8Rng, span: Duration, profile: Profile) -> Vec<Step> {
    let longest = if profile == Profile::GameDocs { 72.0 } else { 96.0 };
    let mut steps = Vec::new();
    let mut at = DAY * rng.random_range(1..10);
    while at + DAY * 15 < span {
        let how = match rng.random_range(0..5) {
            0 => Outage::Unavailable,
            1 => Outage::Silent,
            2 => Outage::Broken,
            3 => Outage::Throttling,
            _ => Outage::WrappedFault,
        };
        // Half of them are short, so that the long ones do not set the tone.
        let hours = if rng.random_bool(0.5) { rng.random_range(0.1..2.0) } else { rng.random_range(2.0..longest) };
        let length = HOUR.mul_f64(hours);
        steps.push(Step { at, op: Op::Outage { span: length, how } });
        at += length + DAY * rng.random_range(10..25);
    }
    steps
}

fn false_refusals(rng: &mut ChaCha8Rng) -> Op {
    let share = [0.05, 0.2, 0.4, 0.9][rng.random_range(0..4)];
    Op::FalseRefusals { span: HOUR * rng.random_range(1..=12), share }
}

fn lost_answers(rng: &mut ChaCha8Rng) -> Op {
    Op::LostAnswers { span: HOUR.mul_f64(rng.random_range(0.2..6.0)), share: rng.random_range(0.01..0.3) }
}

fn no_tickets(rng: &mut ChaCha8Rng) -> Op {
    Op::NoTickets { span: HOUR.mul_f64(rng.random_range(0.1..24.0)), refused: rng.random_bool(0.5) }
}

fn keyring_down(rng: &mut ChaCha8Rng) -> Op {
    Op::KeyringDown { span: Duration::from_secs(rng.random_range(1..7200)) }
}

fn clock_jump(rng: &mut ChaCha8Rng) -> Op {
    let millis = (HOUR.mul_f64(rng.random_range(0.2..960.0))).as_millis() as i64;
    let offset = if rng.random_bool(0.5) { millis } else { -millis };
    Op::ClockJump { span: HOUR.mul_f64(rng.random_range(0.05..1.0)), offset }
}
