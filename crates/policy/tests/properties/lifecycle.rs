//! An enrollment never displaces a proven live key, and repeating oneself is harmless.

use proptest::prelude::*;
use storekeeper_model::{Fingerprint, Lifetime, Timestamp};
use storekeeper_policy::{Enrollment, HeldKey, NewKey, Newcomer, SKEW_MAX, Standing, enroll, standing};

use crate::{instant, moved};

const DAYS_40: i64 = 40 * 86_400_000;

fn fingerprint() -> impl Strategy<Value = Fingerprint> {
    (0_u8..5).prop_map(|name| Fingerprint::from_bytes([name; 16]))
}

fn case() -> impl Strategy<Value = (HeldKey, NewKey, Timestamp)> {
    let offset = || prop_oneof![-DAYS_40..DAYS_40, -2_i64..2];
    let held = (fingerprint(), fingerprint(), offset(), prop::option::of(offset()), any::<bool>(), any::<bool>());
    let waiting = prop::option::of((fingerprint(), offset()));
    let newcomer = (fingerprint(), offset(), offset(), offset());
    (instant(), held, waiting, newcomer).prop_map(|(now, held, waiting, newcomer)| {
        let (fingerprint, enrolled_fingerprint, issued, expires, proven, revoked) = held;
        let held = HeldKey {
            fingerprint,
            enrolled_fingerprint,
            issued_at: moved(now, issued),
            expires_at: expires.map(|millis| moved(now, millis)),
            proven,
            revoked,
            newcomer: waiting.map(|(fingerprint, issued)| Newcomer { fingerprint, issued_at: moved(now, issued) }),
        };
        let (fingerprint, iat, nbf, exp) = newcomer;
        let newcomer = NewKey::new(fingerprint, &Lifetime::new(moved(now, iat), moved(now, nbf), moved(now, exp)));
        (held, newcomer, now)
    })
}

proptest! {
    #[test]
    fn a_proven_live_key_is_never_replaced((held, newcomer, now) in case()) {
        let is_live = standing(held.revoked, held.expires_at, now) == Standing::Active;
        let outcome = enroll(Some(&held), &newcomer, now);
        prop_assert_ne!(outcome, Enrollment::New);
        prop_assert!(outcome != Enrollment::Replace || !held.proven || !is_live);
        prop_assert!(outcome != Enrollment::AwaitProof || (held.proven && is_live));
        prop_assert!(outcome != Enrollment::Known || is_live);
    }

    #[test]
    fn what_is_taken_is_valid_and_not_older((held, newcomer, now) in case()) {
        let outcome = enroll(Some(&held), &newcomer, now);
        if matches!(outcome, Enrollment::Replace | Enrollment::AwaitProof) {
            prop_assert!(newcomer.issued_at >= held.issued_at);
            prop_assert!(held.newcomer.is_none_or(|waiting| newcomer.issued_at >= waiting.issued_at));
            prop_assert!(newcomer.issued_at <= now + SKEW_MAX);
            prop_assert!(newcomer.expires_at.is_none_or(|at| at > now));
        }
    }

    #[test]
    fn the_same_key_again_is_known_once_it_was_taken((held, newcomer, now) in case()) {
        let NewKey { fingerprint, issued_at, expires_at, .. } = newcomer;
        let after = match enroll(Some(&held), &newcomer, now) {
            Enrollment::Replace => HeldKey {
                fingerprint,
                enrolled_fingerprint: fingerprint,
                issued_at,
                expires_at,
                proven: false,
                revoked: false,
                newcomer: None,
            },
            Enrollment::AwaitProof => HeldKey {
                enrolled_fingerprint: fingerprint,
                newcomer: Some(Newcomer { fingerprint, issued_at }),
                ..held
            },
            _ => return Ok(()),
        };
        prop_assert_eq!(enroll(Some(&after), &newcomer, now), Enrollment::Known);
    }

    #[test]
    fn an_empty_row_takes_what_lives((_, newcomer, now) in case()) {
        let outcome = enroll(None, &newcomer, now);
        let starts_at = newcomer.not_before.map_or(newcomer.issued_at, |at| at.max(newcomer.issued_at));
        let expected = if starts_at > now + SKEW_MAX {
            Enrollment::NotYetValid
        } else if newcomer.expires_at.is_some_and(|at| at <= now) {
            Enrollment::Expired
        } else {
            Enrollment::New
        };
        prop_assert_eq!(outcome, expected);
    }
}
