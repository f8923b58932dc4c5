//! Store ID keys against `fixtures/keys/`: what is read from a key, which texts are none, and that no input panics.

mod support;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};
use storekeeper_model::{ClientId, Fingerprint, KeyKind, ParseKeyError, Secret, StoreIdKey, Timestamp};
use support::{golden, list, text};

const CLAIM: &str = "http://schemas.microsoft.com/marketplace/2015/08/claims/key/";

fn parse(jwt: &str) -> Result<StoreIdKey, ParseKeyError> {
    StoreIdKey::parse(Secret::new(jwt.to_owned()))
}

fn instant(value: &Value) -> Option<Timestamp> {
    value.as_str().map(|at| at.parse().expect("golden instants are RFC 3339"))
}

fn check_key(case: &Value) {
    let (id, jwt, expect) = (text(case, "id"), text(case, "jwt"), &case["expect"]);
    let key = parse(jwt).unwrap_or_else(|error| panic!("{id}: {error}"));
    assert_eq!(key.jwt().expose(), jwt, "{id}: the text is kept as it came");
    assert_eq!(key.fingerprint().to_string(), text(case, "fingerprint"), "{id}");
    assert_eq!(key.kind().as_str(), text(expect, "kind"), "{id}");
    assert_eq!(key.client_id().to_string(), text(expect, "client_id"), "{id}");
    assert_eq!(key.user_id().as_str(), text(expect, "user_id"), "{id}");
    assert_eq!(key.certificate().as_str(), text(expect, "certificate"), "{id}");
    let lifetime = key.lifetime();
    assert_eq!(Some(lifetime.issued_at()), instant(&expect["issued_at"]), "{id}");
    assert_eq!(lifetime.not_before(), instant(&expect["not_before"]), "{id}");
    assert_eq!(lifetime.expires_at(), instant(&expect["expires_at"]), "{id}");
    assert_eq!(lifetime.length().map(|span| span.as_secs()), expect["lifetime_seconds"].as_u64(), "{id}");
    assert_eq!(lifetime.is_usable(), expect["expires_at"].is_string(), "{id}");
    assert_eq!(Some(key.refresh_uri_is_known()), expect["refresh_uri_is_known"].as_bool(), "{id}");
}

#[test]
fn golden_keys_are_read() {
    list(&golden("key.json"), "keys").iter().for_each(check_key);
}

#[test]
fn golden_keys_are_what_they_claim_to_be() {
    for case in list(&golden("key.json"), "keys") {
        let mut parts = text(case, "jwt").split('.');
        for part in ["header", "claims"] {
            let bytes = URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap();
            let decoded: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(decoded, case[part], "{}: {part}", text(case, "id"));
        }
        assert!(matches!(text(case, "basis"), "documented" | "observed" | "our choice"));
        assert!(!text(case, "source").is_empty());
    }
}

#[test]
fn malformed_keys_are_named() {
    for case in list(&golden("malformed.json"), "cases") {
        let jwt = match &case["repeat"] {
            Value::Null => text(case, "jwt").to_owned(),
            repeat => text(repeat, "text").repeat(usize::try_from(repeat["times"].as_u64().unwrap()).unwrap()),
        };
        match parse(&jwt) {
            Ok(_) => panic!("`{}` was taken for a key", text(case, "name")),
            Err(error) => assert_eq!(format!("{error:?}"), text(case, "error"), "`{}`", text(case, "name")),
        }
    }
}

#[test]
fn every_parse_error_has_a_golden_case() {
    let golden = golden("malformed.json");
    for error in [
        ParseKeyError::Empty,
        ParseKeyError::TooLarge,
        ParseKeyError::Parts,
        ParseKeyError::Header,
        ParseKeyError::Claims,
        ParseKeyError::Audience,
    ] {
        let name = format!("{error:?}");
        assert!(list(&golden, "cases").iter().any(|case| text(case, "error") == name), "no golden case for {name}");
    }
}

#[test]
fn a_key_of_exactly_16_kib_is_read_and_one_byte_more_is_not() {
    let golden = golden("key.json");
    let jwt = text(&list(&golden, "keys")[0], "jwt");
    let (body, _) = jwt.rsplit_once('.').unwrap();
    let mut room = StoreIdKey::BYTES_MAX - body.len() - 1;
    assert_ne!(room % 4, 1, "a signature of this length would be none");
    assert!(parse(&format!("{body}.{}", "A".repeat(room))).is_ok());
    room += 1;
    assert_eq!(parse(&format!("{body}.{}", "A".repeat(room))).unwrap_err(), ParseKeyError::TooLarge);
}

#[test]
fn an_absent_user_claim_reads_as_the_empty_text() {
    // `publisherUserId` is optional at creation (store.md 3.6); whether the claim then stands empty or is left out
    // is not known, so both are read alike.
    let mut claims = plain_claims();
    claims.as_object_mut().expect("an object").remove(&format!("{CLAIM}userId"));
    assert_eq!(parse(&compact(&json!({"alg": "RS256"}), &claims)).unwrap().user_id().as_str(), "");
}

#[test]
fn debug_output_tells_no_key() {
    let golden = golden("key.json");
    for case in list(&golden, "keys") {
        let jwt = text(case, "jwt");
        let shown = format!("{:?}", parse(jwt).unwrap());
        assert!(!shown.contains("eyJ") && jwt.split('.').all(|part| !shown.contains(part)), "{}", text(case, "id"));
        assert!(shown.contains(text(case, "fingerprint")), "a key is spoken of by its fingerprint");
    }
}

fn plain_claims() -> Value {
    let kind = KeyKind::Collections;
    let mut claims = json!({
        "iat": 1_733_526_889, "nbf": 1_733_523_289, "exp": 1_736_118_889, "iss": kind.audience(), "aud": kind.audience(),
    });
    for (name, value) in [("clientId", "1d5773695a3b44928227393bfef1e13d"), ("payload", "AAAA"), ("userId", "u")] {
        claims[format!("{CLAIM}{name}")] = value.into();
    }
    claims[format!("{CLAIM}refreshUri")] = kind.refresh_uri().into();
    claims
}

fn compact(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2lnbmF0dXJl", part(header), part(claims))
}

fn json_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        Just(json!([1, "a"])),
        Just(json!({"a": {}})),
    ]
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused_without_panic(text in any::<String>()) {
        prop_assert!(parse(&text).is_err());
    }

    #[test]
    fn anything_with_the_look_of_a_jwt_is_refused_without_panic(
        text in "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_=+/-]{0,40}){0,4}",
    ) {
        prop_assert!(parse(&text).is_err());
    }

    #[test]
    fn any_bytes_as_header_and_claims_are_refused_without_panic(
        header in proptest::collection::vec(any::<u8>(), 0..60),
        claims in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let text = format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        prop_assert!(parse(&text).is_err());
    }

    #[test]
    fn a_claim_of_any_value_never_panics(
        name in prop_oneof![
            Just("iat".to_owned()), Just("nbf".to_owned()), Just("exp".to_owned()), Just("aud".to_owned()),
            Just(format!("{CLAIM}clientId")), Just(format!("{CLAIM}userId")), Just(format!("{CLAIM}refreshUri")),
        ],
        value in json_value(),
    ) {
        let mut claims = plain_claims();
        claims[&name] = value;
        if let Ok(key) = parse(&compact(&json!({"alg": "RS256"}), &claims)) {
            // Whatever was read can be printed and computed with.
            let _ = format!("{key:?} {:?}", key.lifetime().length());
        }
    }

    #[test]
    fn what_was_written_is_read(
        iat in any::<i32>(), nbf in any::<i32>(), exp in any::<i32>(), user in ".{0,300}", client in ".{0,60}",
        purchase in any::<bool>(),
    ) {
        let kind = if purchase { KeyKind::Purchase } else { KeyKind::Collections };
        let mut claims = plain_claims();
        claims["iat"] = iat.into();
        claims["nbf"] = nbf.into();
        claims["exp"] = exp.into();
        claims["aud"] = kind.audience().into();
        claims[format!("{CLAIM}userId")] = user.clone().into();
        claims[format!("{CLAIM}clientId")] = client.clone().into();
        let jwt = compact(&json!({"alg": "RS256", "kid": "AB"}), &claims);
        let key = parse(&jwt).unwrap();
        prop_assert_eq!(key.kind(), kind);
        prop_assert_eq!(key.user_id().as_str(), user);
        prop_assert_eq!(key.client_id(), &ClientId::new(&client));
        prop_assert_eq!(key.fingerprint(), Fingerprint::of(&jwt));
        prop_assert_eq!(key.lifetime().issued_at().seconds(), i64::from(iat));
        let usable = exp > nbf && exp > iat;
        prop_assert_eq!(key.lifetime().expires_at(), usable.then(|| Timestamp::from_seconds(exp.into())));
        prop_assert_eq!(key.lifetime().not_before(), usable.then(|| Timestamp::from_seconds(nbf.into())));
    }
}
