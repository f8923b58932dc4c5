//! The pace is never above its maximum over any window, and no clock jump starves or floods anybody.

use std::time::Duration;

use proptest::prelude::*;
use storekeeper_model::Timestamp;
use storekeeper_policy::Pace;

use crate::{clock_step, moved};

/// What happens to a pace.
#[derive(Debug, Clone, Copy)]
enum Op {
    Take(u8),
    Success,
    Congestion,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![6 => any::<u8>().prop_map(Op::Take), 4 => Just(Op::Success), 1 => Just(Op::Congestion)]
}

fn rates() -> impl Strategy<Value = (f64, f64)> {
    (0.05_f64..1000.0).prop_flat_map(|max| (0.01..=max, Just(max)))
}

const START: Timestamp = Timestamp::from_seconds(1_733_526_889);

proptest! {
    #[test]
    fn never_above_the_maximum_over_any_window(
        (start, max) in rates(),
        ops in prop::collection::vec((0_i64..400, op()), 1..200),
    ) {
        let mut pace = Pace::new(start, max);
        let (mut now, mut grants) = (START, Vec::new());
        for (step, op) in ops {
            now = moved(now, step);
            match op {
                Op::Take(count) => (0..count).for_each(|_| grants.extend(pace.take(now).map(|()| now))),
                Op::Success => pace.on_success(now),
                Op::Congestion => pace.on_congestion(now),
            }
        }
        // The tightest windows begin and end with a grant; runs within one millisecond are looked at as one.
        let mut edges: Vec<(Timestamp, usize)> = Vec::new();
        for (at, grant) in grants.iter().enumerate() {
            if edges.last().is_none_or(|(last, _)| last != grant) {
                edges.push((*grant, at));
            }
        }
        let ends = edges.iter().skip(1).map(|(_, first)| *first).chain([grants.len()]);
        let runs: Vec<_> = edges.iter().zip(ends).map(|(&(at, first), end)| (at, first, end)).collect();
        for (number, &(from, first, _)) in runs.iter().enumerate() {
            for &(to, _, end) in &runs[number..] {
                let granted = (end - first) as f64;
                let allowed = max * (to.since(from).as_secs_f64() + 0.25) + 1.0;
                prop_assert!(granted <= allowed + 1e-6, "{granted} granted, {allowed} allowed");
            }
        }
    }

    #[test]
    fn clock_jumps_leave_it_in_order(
        (start, max) in rates(),
        ops in prop::collection::vec((clock_step(), op()), 1..200),
    ) {
        let mut pace = Pace::new(start, max);
        let mut now = START;
        for (step, op) in ops {
            now = moved(now, step);
            match op {
                Op::Take(count) => {
                    let granted = (0..count).filter(|_| pace.take(now).is_ok()).count();
                    prop_assert!(granted as f64 <= (pace.rate() * 0.25).max(1.0) + 1e-6);
                }
                Op::Success => pace.on_success(now),
                Op::Congestion => pace.on_congestion(now),
            }
            let lowest = start.min(0.1);
            prop_assert!(pace.rate() >= lowest && pace.rate() <= max, "{}", pace.rate());
        }
        // Whatever happened, the next token comes in time, and asking then gets it.
        let mut asked = now;
        while let Err(when) = pace.take(asked) {
            prop_assert!(when > asked);
            prop_assert!(when.since(now).as_secs_f64() <= 1.0 / pace.rate() + 1.002, "{when} from {now}");
            asked = when;
        }
    }

    #[test]
    fn asking_at_the_named_instant_is_enough((start, max) in rates(), takes in 1_usize..200) {
        let mut pace = Pace::new(start, max);
        let mut now = START;
        for _ in 0..takes {
            if let Err(when) = pace.take(now) {
                now = when;
                prop_assert_eq!(pace.take(now), Ok(()));
            }
        }
    }

    #[test]
    fn slows_at_most_once_per_second(
        (start, max) in rates(),
        steps in prop::collection::vec(0_i64..300, 1..200),
    ) {
        let mut pace = Pace::new(start, max);
        let (mut now, mut slowed_at) = (START, None::<Timestamp>);
        for step in steps {
            now = moved(now, step);
            let before = pace.rate();
            pace.on_congestion(now);
            if pace.rate() < before {
                prop_assert!(slowed_at.is_none_or(|at| now.since(at) >= Duration::from_secs(1)));
                slowed_at = Some(now);
            }
        }
    }
}
