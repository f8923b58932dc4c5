//! Whatever arrives: no panic, no secret in an error, no key accepted that is not a successor, nothing without a bound.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{KeySpec, answer, now, plain, wrapped};
use http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;
use serde_json::json;
use storekeeper_client::entra::interpret_ticket;
use storekeeper_client::renewal::interpret;
use storekeeper_client::{RawAnswer, RenewalAnswer};
use storekeeper_model::{Audience, ClientId, Timestamp};

fn shown(read: &RenewalAnswer) -> String {
    let error = read.result.as_ref().err();
    let text = error.map(ToString::to_string).unwrap_or_default();
    format!("{text} {:?} {:?}", error, read.correlation)
}

/// Three parts of base64url of some length, with a dot between: what a key, a ticket or an assertion looks like.
fn jwt_shaped() -> impl Strategy<Value = String> {
    "eyJ[A-Za-z0-9_-]{10,60}\\.(eyJ)?[A-Za-z0-9_-]{10,600}\\.[A-Za-z0-9_-]{20,342}"
}

/// Text around a secret, of every kind of character.
fn around() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,40}", "\\PC{0,20}", "[ :{},'\"]{1,5}", Just(String::from("StatusCode: Unauthorized, FD : "))]
}

fn headers(values: [Vec<u8>; 4]) -> HeaderMap {
    let names = ["date", "retry-after", "location", "ms-cv"];
    let pairs = names
        .into_iter()
        .zip(values)
        .filter_map(|(name, value)| Some((http::HeaderName::from_static(name), HeaderValue::from_bytes(&value).ok()?)));
    pairs.collect()
}

fn judge_both(raw: &RawAnswer, now: Timestamp) -> (RenewalAnswer, String) {
    let read = interpret(&KeySpec::default().key(), raw, now);
    let ticket = interpret_ticket(Audience::Service, &ClientId::new(common::CLIENT), raw, now);
    let text = match &ticket {
        Ok(ticket) => format!("{ticket:?}"),
        Err(error) => format!("{error} {error:?} {:?} {}", error.advice(), error.code()),
    };
    (read, text)
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_judged_without_panic(
        status in 100_u16..1000,
        body in prop::collection::vec(any::<u8>(), 0..300),
        values in any::<[Vec<u8>; 4]>(),
        now in any::<i64>(),
    ) {
        let raw = RawAnswer { status: StatusCode::from_u16(status).unwrap(), headers: headers(values), body: body.into() };
        let (read, _) = judge_both(&raw, Timestamp::from_millis(now));
        prop_assert!(read.result.is_err());
        let error = read.result.unwrap_err();
        prop_assert!(storekeeper_client::RenewError::CODES.contains(&error.code()));
        let _ = (error.advice(), error.status(), error.inner_code().map(str::len));
    }

    #[test]
    fn arbitrary_json_is_judged_without_panic(
        status in prop::sample::select(vec![200_u16, 400, 401, 403, 429, 500]),
        code in "\\PC{0,12}",
        inner in prop_oneof![Just(String::from("AuthenticationFailure")), "[A-Za-z]{0,12}"],
        data in prop::collection::vec(around(), 0..4),
        time in prop_oneof![Just(json!(-1)), Just(json!(1e300)), Just(json!("x")), Just(json!(null)), Just(json!([1]))],
    ) {
        let body = json!({
            "code": code, "innererror": {"code": inner, "data": [data.concat()]}, "details": time, "expires_in": time,
            "error": code, "error_description": data.concat(), "error_codes": [time], "access_token": code, "key": code,
        });
        let (read, _) = judge_both(&answer(status, &[], body.to_string()), now());
        prop_assert!(read.result.is_err());
    }

    #[test]
    fn no_secret_reaches_an_error(
        status in prop::sample::select(vec![200_u16, 201, 302, 400, 401, 403, 404, 429, 500, 503]),
        secret in jwt_shaped(),
        place in 0_usize..8,
        before in around(),
        after in around(),
    ) {
        let text = format!("{before}{secret}{after}");
        let body = match place {
            0 => plain(&text, "AuthenticationTokenInvalid", "m"),
            1 => plain("Unauthorized", &text, "m"),
            2 => plain("Unauthorized", "AuthenticationTokenInvalid", &text),
            3 => wrapped(&text),
            4 => wrapped(&format!("StatusCode: Unauthorized, FD : Unauthorized : no : {{ : {text} : no : {{ : {text}")),
            5 => json!({"error": text, "error_description": text, "trace_id": text, "error_codes": [text]}).to_string(),
            6 => json!({"key": text, "access_token": text, "details": {"ticket": text}, "code": "x"}).to_string(),
            _ => text.clone(),
        };
        let location = format!("https://{secret}/{secret}?{secret}");
        let raw = answer(status, &[("location", &location), ("ms-cv", &secret), ("ms-requestid", &secret)], body);
        let (read, ticket) = judge_both(&raw, now());
        let shown = format!("{} {ticket} {raw:?}", shown(&read));
        // Not even a part of it: every part has more characters than any word that may stay.
        for part in secret.split('.').filter(|part| part.len() >= 16) {
            prop_assert!(!shown.contains(&part[..16]), "{shown}");
        }
        prop_assert!(!shown.contains("eyJ"), "{shown}");
        prop_assert!(shown.chars().count() < 8 * 1024, "unbounded");
    }

    #[test]
    fn what_is_accepted_is_a_successor(
        same_kind in any::<bool>(),
        same_client in any::<bool>(),
        same_user in any::<bool>(),
        exp_days in -40_i64..60,
        old_exp_days in -40_i64..60,
        skew_days in prop::option::of(-50_i64..50),
    ) {
        use storekeeper_model::KeyKind;
        let old = KeySpec { exp: common::NOW + old_exp_days * common::DAY, ..KeySpec::default() };
        let new = KeySpec {
            kind: if same_kind { KeyKind::Collections } else { KeyKind::Purchase },
            client_id: if same_client { old.client_id } else { "33333333333343338333333333333333" },
            user_id: if same_user { old.user_id } else { "player-0002" },
            exp: common::NOW + exp_days * common::DAY,
            ..KeySpec::default()
        };
        let (old, new_key) = (old.key(), new.key());
        let store_now = skew_days.map(|days| common::NOW + days * common::DAY);
        let date = store_now.map(http_date).unwrap_or_default();
        let raw = answer(200, &[("date", &date)], json!({"key": new.jwt()}).to_string());
        let read = interpret(&old, &raw, now());
        let earliest = store_now.map_or(common::NOW, |store| store.min(common::NOW));
        let lives = new_key.lifetime().expires_at().is_some_and(|exp| exp > Timestamp::from_seconds(earliest));
        let outlives = match (new_key.lifetime().expires_at(), old.lifetime().expires_at()) {
            (Some(new), Some(old)) => new >= old,
            (new, None) => new.is_some(),
            (None, Some(_)) => false,
        };
        prop_assert_eq!(read.result.is_ok(), same_kind && same_client && same_user && lives && outlives);
        prop_assert_eq!(read.store_date, store_now.map(Timestamp::from_seconds));
    }
}

/// `Thu, 01 Jan 2026 00:00:00 GMT`, with the weekday always Thursday.
fn http_date(seconds: i64) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = Timestamp::from_seconds(seconds).to_string();
    let month = MONTHS[text[5..7].parse::<usize>().unwrap() - 1];
    format!("Thu, {} {month} {} {} GMT", &text[8..10], &text[..4], &text[11..19])
}
