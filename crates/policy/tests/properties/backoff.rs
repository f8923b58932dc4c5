//! The next attempt lies ahead, within reach and not past `exp`, whatever was asked for.

use std::time::Duration;

use proptest::prelude::*;
use storekeeper_model::Timestamp;
use storekeeper_policy::{BACKOFF_MAX, after_bad_request, after_failure, after_refusal, is_believable};

use crate::{any_instant, instant, jitter, span};

const WAIT_MIN: Duration = Duration::from_secs(30);

/// All three functions over the same circumstances.
fn all(
    now: Timestamp,
    count: u32,
    asked: Option<Duration>,
    condemn_after: Duration,
    exp: Option<Timestamp>,
    jitter: f64,
) -> [Timestamp; 3] {
    [
        after_failure(now, count, asked, exp, jitter),
        after_refusal(now, count, condemn_after, exp, jitter),
        after_bad_request(now, exp, jitter),
    ]
}

proptest! {
    #[test]
    fn never_in_the_past_never_out_of_reach_never_past_exp(
        now in instant(),
        count in prop_oneof![0_u32..12, any::<u32>()],
        asked in prop::option::of(prop_oneof![span(), any::<Duration>()]),
        condemn_after in prop_oneof![span(), any::<Duration>()],
        remaining in prop::option::of(span()),
        jitter in prop_oneof![4 => jitter(), 1 => any::<f64>()],
    ) {
        let exp = remaining.map(|span| now + span);
        for at in all(now, count, asked, condemn_after, exp, jitter) {
            prop_assert!(at > now, "{at} is not ahead");
            prop_assert!(at <= now + BACKOFF_MAX && is_believable(at, now), "{at} is out of reach");
            if let Some(exp) = exp.filter(|exp| *exp > now) {
                prop_assert!(at <= exp, "{at} is past exp");
                let patience = (exp.since(now) / 4).max(WAIT_MIN);
                prop_assert!(at <= now + patience, "{at} is later than a quarter of what is left");
                prop_assert!(at >= now + WAIT_MIN || at == exp, "{at} is too soon");
            } else {
                prop_assert!(at >= now + WAIT_MIN, "{at} is too soon");
            }
        }
    }

    #[test]
    fn any_instants_at_all_do_not_panic(
        now in any_instant(),
        exp in prop::option::of(any_instant()),
        count in any::<u32>(),
        asked in prop::option::of(any::<Duration>()),
        condemn_after in any::<Duration>(),
        jitter in any::<f64>(),
    ) {
        for at in all(now, count, asked, condemn_after, exp, jitter) {
            prop_assert!(at >= now);
        }
    }

    #[test]
    fn never_earlier_than_retry_after_unless_exp_forces(
        now in instant(),
        failures in 1_u32..40,
        asked in 0_u64..=6 * 3600,
        remaining in prop::option::of(span()),
        jitter in jitter(),
    ) {
        let asked = Duration::from_secs(asked);
        let exp = remaining.map(|span| now + span);
        let at = after_failure(now, failures, Some(asked), exp, jitter);
        let is_forced = exp.is_some_and(|exp| exp > now && exp.since(now) / 4 < asked);
        prop_assert!(is_forced || at >= now + asked, "{at} is earlier than {asked:?} from {now}");
    }

    #[test]
    fn more_failures_never_mean_an_earlier_attempt(now in instant(), failures in 1_u32..40, jitter in jitter()) {
        let at = after_failure(now, failures, None, None, jitter);
        prop_assert!(after_failure(now, failures + 1, None, None, jitter) >= at);
    }

    #[test]
    fn the_third_refusal_can_condemn(
        now in instant(),
        minutes in 60_u64..=28 * 60,
        first in jitter(),
        second in jitter(),
    ) {
        let condemn_after = Duration::from_secs(minutes * 60);
        let again = after_refusal(now, 1, condemn_after, None, first);
        let third = after_refusal(again, 2, condemn_after, None, second);
        prop_assert!(third > now + condemn_after, "{third} is too soon");
        prop_assert!(third <= now + condemn_after * 5 / 4, "{third} is late");
    }

    #[test]
    fn every_chain_of_attempts_ends_on_exp(
        now in instant(),
        remaining in 1_u64..2_592_000_000,
        jitters in prop::collection::vec(jitter(), 50),
    ) {
        let exp = now + Duration::from_millis(remaining);
        let (mut at, mut attempts) = (now, 0_usize);
        while at < exp {
            at = after_failure(at, u32::try_from(attempts).expect("few") + 1, None, Some(exp), jitters[attempts % 50]);
            attempts += 1;
            prop_assert!(attempts < 100_000);
        }
        prop_assert_eq!(at, exp);
    }
}
