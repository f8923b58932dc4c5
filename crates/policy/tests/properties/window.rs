//! Renewal falls inside the window, whatever the key says of itself, and evenly over identities.

use std::time::Duration;

use proptest::prelude::*;
use storekeeper_model::{KeyId, Lifetime, Timestamp};
use storekeeper_policy::{RenewalPolicy, deadline_at, offset_share, renew_at};

use crate::{any_instant, instant, key_id, span};

/// Policies that pass [`RenewalPolicy::validate`].
fn policy() -> impl Strategy<Value = RenewalPolicy> {
    (2_u64..2_591_000_000)
        .prop_flat_map(|deadline| (Just(deadline), 1..=deadline))
        .prop_flat_map(|(deadline, target)| (Just(deadline), Just(target), 0..target))
        .prop_flat_map(|(deadline, target, spread)| {
            let spread = spread.min(deadline - target);
            (Just(deadline), Just(target), Just(spread), 0..=deadline - target - spread)
        })
        .prop_map(|(deadline, target, spread, budget)| RenewalPolicy {
            target: Duration::from_millis(target),
            spread: Duration::from_millis(spread),
            deadline: Duration::from_millis(deadline),
            outage_budget: Duration::from_millis(budget),
            ..RenewalPolicy::default()
        })
}

/// A key as the Store issues them: valid from an hour before it was issued.
fn issued(at: Timestamp, length: Duration) -> Lifetime {
    Lifetime::new(at, at - Duration::from_secs(3600), at + length)
}

/// `span` shrunk as for a key of `length`, rounded down.
fn shrunk(span: Duration, length: Duration) -> Duration {
    let life = RenewalPolicy::LIFE.as_millis();
    let millis = span.as_millis() * length.as_millis().min(life) / life;
    Duration::from_millis(u64::try_from(millis).expect("shorter than span"))
}

proptest! {
    #[test]
    fn generated_policies_are_valid(policy in policy()) {
        prop_assert_eq!(policy.validate(), Ok(()));
    }

    #[test]
    fn any_key_with_times_is_due_between_iat_and_exp(
        policy in policy(),
        id in key_id(),
        iat in any_instant(),
        nbf in any_instant(),
        exp in any_instant(),
    ) {
        let lifetime = Lifetime::new(iat, nbf, exp);
        match renew_at(&policy, id, &lifetime) {
            None => prop_assert!(!lifetime.is_usable()),
            Some(at) => {
                prop_assert!(lifetime.is_usable());
                prop_assert!(at >= iat && at >= nbf && at < exp, "{at} of {lifetime:?}");
                prop_assert_eq!(renew_at(&policy, id, &lifetime), Some(at), "the same answer twice");
            }
        }
        prop_assert!(deadline_at(&policy, &lifetime).is_none_or(|at| at >= iat && at <= exp));
    }

    #[test]
    fn renewal_stays_within_the_spread_and_the_budget_before_the_deadline(
        policy in policy(),
        id in key_id(),
        iat in instant(),
        length in span(),
    ) {
        let length = length + Duration::from_millis(1);
        let lifetime = issued(iat, length);
        let at = renew_at(&policy, id, &lifetime).expect("the times are usable");
        let age = at.since(iat);
        let slack = Duration::from_millis(1);
        prop_assert!(age + slack >= shrunk(policy.target - policy.spread, length), "{age:?} is early");
        prop_assert!(age <= shrunk(policy.target + policy.spread, length), "{age:?} is late");
        let deadline = deadline_at(&policy, &lifetime).expect("the times are usable");
        prop_assert!(deadline.since(at) >= shrunk(policy.outage_budget, length), "{at} before {deadline}");
    }

    #[test]
    fn a_later_issue_or_a_longer_life_is_never_due_earlier(
        policy in policy(),
        id in key_id(),
        iat in instant(),
        length in span(),
        more in span(),
    ) {
        let length = length + Duration::from_millis(1);
        let at = renew_at(&policy, id, &issued(iat, length));
        prop_assert!(renew_at(&policy, id, &issued(iat + more, length)) >= at);
        prop_assert!(renew_at(&policy, id, &issued(iat, length + more)) >= at);
    }

    #[test]
    fn a_later_place_is_never_due_earlier(policy in policy(), one in key_id(), other in key_id(), iat in instant()) {
        let lifetime = issued(iat, RenewalPolicy::LIFE);
        let (early, late) = if offset_share(one) <= offset_share(other) { (one, other) } else { (other, one) };
        prop_assert!(renew_at(&policy, early, &lifetime) <= renew_at(&policy, late, &lifetime));
    }

    #[test]
    fn an_unchecked_policy_neither_panics_nor_escapes(
        id in key_id(),
        iat in any_instant(),
        exp in any_instant(),
        target in any::<Duration>(),
        spread in any::<Duration>(),
        deadline in any::<Duration>(),
    ) {
        let policy = RenewalPolicy { target, spread, deadline, ..RenewalPolicy::default() };
        let lifetime = Lifetime::new(iat, iat, exp);
        prop_assert!(renew_at(&policy, id, &lifetime).is_none_or(|at| at >= iat && at < exp));
        prop_assert!(deadline_at(&policy, &lifetime).is_none_or(|at| at >= iat && at <= exp));
        let _ = policy.validate().map_err(|error| error.to_string());
    }

    #[test]
    fn a_place_is_never_outside_the_spread(id in key_id()) {
        let share = offset_share(id);
        prop_assert!((-1.0..1.0).contains(&share), "{share}");
    }
}

/// Row ids made as the product makes them.
fn ids(count: usize) -> impl Iterator<Item = KeyId> {
    use storekeeper_model::{AppName, Identity, KeyKind, Slot, UserName};
    let app = AppName::new("mygame").expect("a valid name");
    (0..count).map(move |number| {
        let user = UserName::from_bytes(format!("player-{number:04}").as_bytes()).expect("a valid name");
        Identity { app: app.clone(), user, slot: Slot::default(), kind: KeyKind::Collections }.key_id()
    })
}

/// How far `counts` are from even: Pearson's chi-square.
fn chi_square(counts: &[usize]) -> f64 {
    let expected = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    counts.iter().map(|&count| (count as f64 - expected).powi(2) / expected).sum()
}

#[test]
fn load_is_flat_over_the_window() {
    let mut counts = [0_usize; 16];
    for id in ids(4096) {
        counts[((offset_share(id) + 1.0) * 8.0) as usize] += 1;
    }
    // 15 degrees of freedom: 37.7 is exceeded by one fair draw in a thousand, and this draw is always the same.
    assert!(chi_square(&counts) < 37.7, "{counts:?}");
}

#[test]
fn load_is_flat_within_the_buckets_of_one_node() {
    let mut counts = [0_usize; 16];
    for id in ids(65_536).filter(|id| id.bucket().number() < 256) {
        counts[((offset_share(id) + 1.0) * 8.0) as usize] += 1;
    }
    assert!(counts.iter().sum::<usize>() > 3_500);
    assert!(chi_square(&counts) < 37.7, "{counts:?}");
}

#[test]
fn by_default_every_key_is_renewed_at_an_age_of_7_to_11_days() {
    let day = Duration::from_secs(86_400);
    let lifetime = issued(Timestamp::from_seconds(1_733_526_889), 30 * day);
    for id in ids(4096) {
        let at = renew_at(&RenewalPolicy::default(), id, &lifetime).expect("the times are usable");
        let age = at.since(lifetime.issued_at());
        assert!(age >= 7 * day && age < 11 * day, "{age:?}");
    }
}
