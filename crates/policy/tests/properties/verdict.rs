//! Nothing condemns a key while anything else could explain its refusals.

use std::time::Duration;

use proptest::prelude::*;
use storekeeper_model::Timestamp;
use storekeeper_policy::{Evidence, Reason, Refusals, RenewalPolicy, Verdict, count_refusal, judge};

use crate::{any_instant, instant, moved};

const DAYS_3: i64 = 3 * 86_400_000;

/// Evidence close enough to the edges that every verdict is reached.
fn case() -> impl Strategy<Value = (Evidence, Timestamp)> {
    let offset = || prop_oneof![-DAYS_3..0, -3_i64..3];
    let flag = || prop::bool::weighted(0.1);
    (instant(), 0_u32..6, -DAYS_3..1000, prop::option::weighted(0.8, offset()), offset(), flag(), flag()).prop_map(
        |(now, refusals, refused, witness, voided, skewed, guarded)| {
            let evidence = Evidence {
                refusals,
                refused_since: moved(now, refused),
                witness_at: witness.map(|millis| moved(now, millis)),
                evidence_since: moved(now, voided - DAYS_3 / 2),
                skewed,
                guarded,
            };
            (evidence, now)
        },
    )
}

fn policy() -> impl Strategy<Value = RenewalPolicy> {
    (1_u32..6, 1_u64..48).prop_map(|(condemn_refusals, hours)| RenewalPolicy {
        condemn_refusals,
        condemn_after: Duration::from_secs(hours * 3600),
        ..RenewalPolicy::default()
    })
}

proptest! {
    #[test]
    fn a_condemned_key_had_no_excuse(policy in policy(), (evidence, now) in case()) {
        let (verdict, reason) = judge(&policy, &evidence, now);
        let excused = evidence.guarded
            || evidence.skewed
            || evidence.refusals < policy.condemn_refusals
            || now.millis() - evidence.refused_since.millis() < policy.condemn_after.as_millis() as i64
            || evidence.refused_since < evidence.evidence_since;
        let witnessed = evidence.witness_at.is_some_and(|at| at > evidence.refused_since && at <= now);
        let expected = match (excused, witnessed) {
            (true, _) => Verdict::Wait,
            (false, false) => Verdict::SeekWitness,
            (false, true) => Verdict::Condemn,
        };
        prop_assert_eq!(verdict, expected, "{}", reason);
    }

    #[test]
    fn guard_and_skew_save_everybody(policy in policy(), (evidence, now) in case()) {
        let guarded = Evidence { guarded: true, ..evidence };
        prop_assert_eq!(judge(&policy, &guarded, now), (Verdict::Wait, Reason::Guarded));
        let skewed = Evidence { skewed: true, guarded: false, ..evidence };
        prop_assert_eq!(judge(&policy, &skewed, now), (Verdict::Wait, Reason::Skewed));
    }

    #[test]
    fn no_witness_no_condemnation(policy in policy(), (evidence, now) in case()) {
        let alone = Evidence { witness_at: None, ..evidence };
        prop_assert_ne!(judge(&policy, &alone, now).0, Verdict::Condemn);
    }

    #[test]
    fn a_clock_set_back_condemns_nobody(policy in policy(), (evidence, now) in case(), back in 0_i64..DAYS_3) {
        let earlier = moved(now, -back);
        let condemned_now = judge(&policy, &evidence, now).0 == Verdict::Condemn;
        let condemned_earlier = judge(&policy, &evidence, earlier).0 == Verdict::Condemn;
        prop_assert!(condemned_now || !condemned_earlier || evidence.witness_at.is_some_and(|at| at > now));
    }

    #[test]
    fn any_instants_at_all_do_not_panic(
        refused_since in any_instant(),
        witness_at in prop::option::of(any_instant()),
        evidence_since in any_instant(),
        now in any_instant(),
        refusals in any::<u32>(),
    ) {
        let evidence =
            Evidence { refusals, refused_since, witness_at, evidence_since, skewed: false, guarded: false };
        let (verdict, _) = judge(&RenewalPolicy::default(), &evidence, now);
        prop_assert!(verdict != Verdict::Condemn || (witness_at.is_some() && refused_since < now));
    }

    #[test]
    fn counted_refusals_never_reach_into_void_or_future(
        count in 0_u32..9,
        since in any_instant(),
        void in any_instant(),
        now in any_instant(),
    ) {
        let counted = count_refusal(Some(Refusals { count, since }), void, now);
        prop_assert!(counted.count >= 1 && counted.count <= count + 1);
        prop_assert!(counted.since <= now);
        prop_assert!(counted.count == 1 || counted.since >= void);
    }
}

/// The cases above would prove little if they never condemned.
#[test]
fn every_reason_is_reached() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut reached = [0_usize; Reason::ALL.len()];
    for _ in 0..4000 {
        let (policy, (evidence, now)) = (policy(), case()).new_tree(&mut runner).expect("no filter").current();
        let (_, reason) = judge(&policy, &evidence, now);
        reached[Reason::ALL.iter().position(|known| *known == reason).expect("all are listed")] += 1;
    }
    assert!(reached.iter().all(|count| *count > 20), "{reached:?}");
}
