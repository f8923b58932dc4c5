//! A breaker lets one probe through at a time, opens only after failures in a row, and never stays shut for good.

use std::time::Duration;

use proptest::prelude::*;
use storekeeper_model::Timestamp;
use storekeeper_policy::Breaker;

use crate::{clock_step, jitter, moved};

/// What happens to a breaker.
#[derive(Debug, Clone, Copy)]
enum Op {
    Ask(u8),
    Success,
    Failure(f64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![5 => (1_u8..20).prop_map(Op::Ask), 1 => Just(Op::Success), 8 => jitter().prop_map(Op::Failure)]
}

const START: Timestamp = Timestamp::from_seconds(1_733_526_889);

proptest! {
    #[test]
    fn lets_one_through_and_names_an_instant_within_reach(
        ops in prop::collection::vec((clock_step(), op()), 1..200),
    ) {
        let mut breaker = Breaker::new();
        let (mut now, mut in_a_row) = (START, 0_u32);
        for (step, op) in ops {
            now = moved(now, step);
            let was_closed = breaker.state() == "closed";
            match op {
                Op::Ask(count) => {
                    let answers: Vec<_> = (0..count).map(|_| breaker.allow(now)).collect();
                    let allowed = answers.iter().filter(|answer| answer.is_ok()).count();
                    let expected = if was_closed { answers.len() } else { allowed.min(1) };
                    prop_assert_eq!(allowed, expected);
                    for when in answers.into_iter().filter_map(Result::err) {
                        prop_assert!(when > now && when <= now + Breaker::OPEN_MAX, "{when} from {now}");
                    }
                }
                Op::Success => {
                    breaker.on_success();
                    in_a_row = 0;
                    prop_assert_eq!(breaker.state(), "closed");
                }
                Op::Failure(jitter) => {
                    breaker.on_failure(now, jitter);
                    in_a_row += 1;
                    prop_assert_eq!(breaker.state() == "closed", in_a_row < Breaker::FAILURES);
                }
            }
        }
        // It opens again for whoever keeps asking when told to, even if no probe is ever heard of.
        let (mut asked, mut asks) = (now, 0);
        while let Err(when) = breaker.allow(asked) {
            asked = when;
            asks += 1;
            prop_assert!(asks < 40, "{}", breaker.state());
        }
        prop_assert!(asked.since(now) <= Breaker::OPEN_MAX.max(2 * Breaker::PROBE_MAX));
    }

    #[test]
    fn the_span_stays_between_its_ends(jitters in prop::collection::vec(jitter(), 1..20)) {
        let (mut breaker, mut now) = (Breaker::new(), START);
        (0..Breaker::FAILURES).for_each(|_| breaker.on_failure(now, jitters[0]));
        for jitter in jitters {
            let when = breaker.allow(now).expect_err("it just opened");
            prop_assert!(when.since(now) >= Breaker::OPEN_MIN && when.since(now) <= Breaker::OPEN_MAX);
            prop_assert_eq!(breaker.allow(moved(when, -1)), Err(when));
            prop_assert_eq!(breaker.allow(when), Ok(()));
            prop_assert!(breaker.allow(when + Duration::from_secs(1)).is_err(), "a second one got through");
            now = when + Duration::from_secs(1);
            breaker.on_failure(now, jitter);
        }
    }
}
