//! Renewal: rows T11 to T36 and T44 of store.md section 10, under both error shapes, and what a successor keeps.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::HashSet;
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use serde_json::{Value, json};
use storekeeper_emulator::{
    Correlation, Emulator, Endpoint, ErrorShape, FormatV2Tickets, MintKey, Profile, ProfileChange, RateLimit,
    Revocation, StoreAnswer, Superseded, Switches, VirtualHost,
};
use storekeeper_model::{Audience, CertificateId, Fingerprint, KeyKind, Secret, StoreIdKey, Timestamp};
use support::*;

const KINDS: [KeyKind; 2] = KeyKind::ALL;

/// A refusal with its inner code in the plain shape; in the wrapped one, `cause` is what the flattened text says.
fn refused(answer: &StoreAnswer, emulator_is_wrapped: bool, inner: &str, cause: &str) {
    let (code, sent, data) = codes(answer);
    assert_eq!((answer.status, code.as_str()), (401, "Unauthorized"), "{inner} {cause}");
    if emulator_is_wrapped {
        assert_eq!(sent, "AuthenticationFailure");
        assert!(data.contains(&format!(" : {{ : {inner} : ")), "{data}");
        assert!(data.contains(cause), "{cause} in {data}");
    } else {
        assert_eq!((sent.as_str(), data.as_str()), (inner, ""));
    }
    assert_eq!(answer.note.inner_code.as_deref(), Some(sent.as_str()));
}

/// Runs a case against both shapes and demands the same refusal.
fn check_refused(inner: &str, cause: &str, case: impl Fn(&Emulator) -> StoreAnswer) {
    refused(&case(plain()), false, inner, cause);
    refused(&case(wrapped()), true, inner, cause);
}

const ATI: &str = "AuthenticationTokenInvalid";

fn renewed(answer: &StoreAnswer) -> String {
    assert_eq!(answer.status, 200, "{:?}", codes(answer));
    body(answer)["key"].as_str().unwrap().to_owned()
}

/// The public key of the certificate that signed a key, as an independent library reads it.
fn signer(emulator: &Emulator, key: &str) -> DecodingKey {
    let kid = jsonwebtoken::decode_header(key).unwrap().kid.unwrap();
    let snapshot = serde_json::to_value(emulator.snapshot()).unwrap();
    let views = emulator.certificates(NOW);
    let index = views.iter().position(|view| view.certificate.as_str() == kid).unwrap();
    let private_key = snapshot["certificates"][index]["private_key"].as_str().unwrap();
    let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, private_key).unwrap();
    let pair = aws_lc_rs::signature::RsaKeyPair::from_pkcs8(&der).unwrap();
    DecodingKey::from_rsa_der(aws_lc_rs::signature::KeyPair::public_key(&pair).as_ref())
}

#[test]
fn t11_t12_a_key_aged_10_days_is_renewed_on_its_host() {
    for kind in KINDS {
        let key = mint(plain(), kind, 10 * DAY);
        let answer = renew(plain(), kind, &ticket(plain()), &key);
        let successor = renewed(&answer);
        let (old, new) = (claims(&key), verified(&successor, &signer(plain(), &successor)));
        for name in ["userId", "clientId", "refreshUri"] {
            let name = format!("{NAMES}{name}");
            assert_eq!(old[&name], new[&name], "{name}");
        }
        assert_eq!((&new["aud"], &new["iss"]), (&json!(kind.audience()), &json!(kind.audience())));
        assert_eq!(new["iat"], NOW.seconds());
        assert_eq!(new["nbf"], NOW.seconds() - 3600);
        assert_eq!(new["exp"], NOW.seconds() + 2_592_000);
        assert_eq!(new[format!("{NAMES}payload")].as_str().unwrap().len(), 344);
        assert_eq!(new[format!("{NAMES}clientId")], "22222222222242228222222222222222");
        assert_eq!(answer.note.endpoint, Endpoint::Renew);
        assert_eq!(answer.note.fingerprint, Some(Fingerprint::of(&key)));
        assert_eq!(answer.note.successor, Some(Fingerprint::of(&successor)));
        assert_eq!(answer.body, format!("{{\"key\":\"{successor}\"}}"));
    }
}

#[test]
fn the_answers_headers() {
    let key = mint(plain(), KeyKind::Collections, DAY);
    let answer = renew(plain(), KeyKind::Collections, &ticket(plain()), &key);
    for name in ["MS-CorrelationId", "MS-RequestId"] {
        assert_eq!(answer.header(name).map(str::len), Some(36), "{name}");
    }
    assert_ne!(answer.header("MS-CorrelationId"), answer.header("MS-RequestId"));
    assert_eq!(answer.header("MS-ServerId").map(str::len), Some(9));
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("Date"), Some("Mon, 01 Jun 2026 12:00:00 GMT"));
    assert_eq!(answer.header("MS-CV").map(str::len), Some(18));
    let body = renew_body("t", "k");
    let mut asked = request(VirtualHost::Purchase, "POST", RENEW, &body);
    asked.ms_cv = Some("xu2HW6SrSkyfHyFh.3");
    assert_eq!(plain().answer(&asked, NOW).header("MS-CV"), Some("xu2HW6SrSkyfHyFh.3.0"));
    let fresh = changed(ProfileChange { correlation: Some(Correlation::Fresh), ..ProfileChange::default() });
    assert_eq!(fresh.answer(&asked, NOW).header("MS-CV").map(str::len), Some(18));
}

#[test]
fn a_key_and_our_own_reader_agree() {
    let key = mint(plain(), KeyKind::Purchase, 3 * DAY);
    // About 1.7 kB in all (store.md 3.3).
    assert!((1500..1850).contains(&key.len()), "{}", key.len());
    let key = StoreIdKey::parse(Secret::new(key)).unwrap();
    assert_eq!((key.kind(), key.user_id().as_str()), (KeyKind::Purchase, "user"));
    assert_eq!(key.lifetime().length(), Some(30 * DAY));
    assert!(key.refresh_uri_is_known());
    let view = plain().certificates(NOW);
    assert_eq!(*key.certificate(), view[0].certificate);
}

#[test]
fn t13_to_t21_bodies() {
    let (ticket, key) = (ticket(plain()), mint(plain(), KeyKind::Collections, DAY));
    let post = |body: &str, content_type: Option<&str>| {
        let mut asked = request(VirtualHost::Collections, "POST", RENEW, body);
        asked.content_type = content_type;
        plain().answer(&asked, NOW)
    };
    let ok = |body: String| assert_eq!(post(&body, Some(JSON)).status, 200, "{body}");
    ok(json!({"serviceTicket": ticket, "Key": key}).to_string());
    ok(json!({"serviceTicket": ticket, "key": key}).to_string());
    ok(json!({"SERVICETICKET": ticket, "kEY": key, "more": [{"key": 1}]}).to_string());
    let good = renew_body(&ticket, &key);
    assert_eq!(post(&good, Some("application/json; charset=utf-8")).status, 200);
    assert_eq!(post(&good, Some("Application/JSON")).status, 200);
    for other in [Some("text/plain"), Some("application/jsonp"), Some(""), None] {
        let answer = post(&good, other);
        assert_eq!((answer.status, answer.body.len()), (415, 0), "{other:?}");
    }
    let bad = |body: &str, field: &str| {
        let answer = post(body, Some(JSON));
        let (code, inner, _) = codes(&answer);
        assert_eq!((answer.status, code.as_str(), inner.as_str()), (400, "BadRequest", "InvalidParameter"), "{body}");
        let details = support::body(&answer)["innererror"]["details"][0].as_str().unwrap().to_owned();
        assert!(details.starts_with(field), "{details}");
    };
    bad(&format!(r#"{{"serviceTicket":"{ticket}","key":"{key}","Key":"{key}"}}"#), "key");
    bad("not json", "body");
    bad("[]", "body");
    bad("", "body");
    bad(&json!({"serviceTicket": ticket}).to_string(), "key");
    bad(&json!({"serviceTicket": ticket, "key": ""}).to_string(), "key");
    bad(&json!({"serviceTicket": ticket, "key": null}).to_string(), "key");
    bad(&json!({"serviceTicket": ticket, "key": 1}).to_string(), "key");
}

#[test]
fn t18_t19_what_comes_before_the_body() {
    let answer = plain().answer(&request(VirtualHost::Purchase, "GET", RENEW, ""), NOW);
    assert_eq!((answer.status, answer.header("allow"), answer.body.len()), (405, Some("POST"), 0));
    let long = "x".repeat(64 * 1024 + 1);
    assert_eq!(plain().answer(&request(VirtualHost::Purchase, "POST", RENEW, &long), NOW).status, 413);
    let full = format!("{}{}", renew_body("t", "k"), " ".repeat(64 * 1024));
    assert_eq!(plain().answer(&request(VirtualHost::Purchase, "POST", RENEW, &full[..64 * 1024]), NOW).status, 401);
    for path in ["/", "/v6.0/b2b/keys/renew/", "/v6.0/collections/query", "/v8.0/b2b/recurrences/query"] {
        let answer = plain().answer(&request(VirtualHost::Purchase, "POST", path, "{}"), NOW);
        assert_eq!((answer.status, answer.body.len()), (404, 0), "{path}");
        assert!(answer.header("MS-CorrelationId").is_some());
    }
}

#[test]
fn t22_t23_t24_t25_tickets() {
    let key = |emulator: &Emulator| mint(emulator, KeyKind::Collections, DAY);
    let with = |claims: Value| {
        move |emulator: &Emulator| {
            let ticket = ticket_with(emulator, Audience::Service, claims.clone());
            renew(emulator, KeyKind::Collections, &ticket, &key(emulator))
        }
    };
    check_refused(ATI, "serviceTicket", |emulator| {
        let body = json!({"key": key(emulator)}).to_string();
        emulator.answer(&request(VirtualHost::Collections, "POST", RENEW, &body), NOW)
    });
    check_refused(ATI, "AAD token : IDX10223", with(json!({"exp": NOW.seconds()})));
    check_refused(ATI, "AAD token : IDX10222", with(json!({"nbf": NOW.seconds() + 1})));
    check_refused(ATI, "AAD token : IDX10225", with(json!({"exp": null})));
    check_refused(ATI, "AAD token : IDX10205", with(json!({"iss": "https://sts.windows.net/x/"})));
    check_refused(ATI, "AAD token : IDX10214", with(json!({"aud": "https://onestore.microsoft.com/"})));
    check_refused(ATI, "appid", with(json!({"appid": null})));
    check_refused(ATI, "AAD token : IDX10214", |emulator| {
        let ticket = ticket_with(emulator, Audience::Collections, json!({}));
        renew(emulator, KeyKind::Collections, &ticket, &key(emulator))
    });
    let damage = |emulator: &Emulator, change: fn(&str) -> String| {
        renew(emulator, KeyKind::Collections, &change(&ticket(emulator)), &key(emulator))
    };
    check_refused(ATI, "AAD token : IDX10511", |emulator| damage(emulator, |ticket| flip(ticket, ticket.len() - 20)));
    check_refused(ATI, "AAD token : IDX12741", |emulator| damage(emulator, |_| String::from("no ticket")));
    check_refused(ATI, "AAD token : IDX10501", |emulator| {
        // A Store ID key is signed by a certificate that is none of Entra's.
        renew(emulator, KeyKind::Collections, &key(emulator), &key(emulator))
    });
    let v2 = json!({"appid": null, "azp": "22222222-2222-4222-8222-222222222222", "ver": "2.0",
                    "iss": "https://login.microsoftonline.com/11111111-1111-4111-8111-111111111111/v2.0"});
    check_refused(ATI, "appid", with(v2.clone()));
    let lenient = changed(ProfileChange { format_v2_tickets: Some(FormatV2Tickets::Accepted), ..Default::default() });
    assert_eq!(with(v2)(&lenient).status, 200);
}

#[test]
fn a_remembered_ticket_still_expires() {
    let emulator = emulator(Switches::default());
    let (ticket, key) = (ticket(&emulator), mint(&emulator, KeyKind::Purchase, DAY));
    let at = |now| renew_at(&emulator, KeyKind::Purchase, &ticket, &key, now).status;
    assert_eq!(at(NOW + 3600 * SECOND - Duration::from_millis(1)), 200);
    assert_eq!(at(NOW + 3600 * SECOND), 401);
    assert_eq!(at(NOW - 300 * SECOND), 200);
    assert_eq!(at(NOW - 300 * SECOND - Duration::from_millis(1)), 401);
}

/// Replaces one character of a base64url text by another one.
fn flip(text: &str, at: usize) -> String {
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}

fn aged(age: Duration) -> impl Fn(&Emulator) -> StoreAnswer {
    move |emulator: &Emulator| {
        renew(emulator, KeyKind::Collections, &ticket(emulator), &mint(emulator, KeyKind::Collections, age))
    }
}

#[test]
fn t26_t27_t29_the_keys_own_times() {
    let second_before = aged(30 * DAY - SECOND);
    renewed(&second_before(plain()));
    check_refused(ATI, "B2B key : IDX10223", aged(30 * DAY));
    check_refused(ATI, "B2B key : IDX10223", aged(400 * DAY));
    let ahead = |by: Duration| {
        move |emulator: &Emulator| {
            let wish = MintKey { issued_at: Some(NOW + by), ..MintKey::new(KeyKind::Collections, "user") };
            renew(emulator, KeyKind::Collections, &ticket(emulator), &mint_with(emulator, wish))
        }
    };
    renewed(&ahead(3600 * SECOND)(plain()));
    check_refused(ATI, "B2B key : IDX10222", ahead(3601 * SECOND));
    let lenient = changed(ProfileChange { skew_seconds: Some(300), ..ProfileChange::default() });
    renewed(&aged(30 * DAY + 299 * SECOND)(&lenient));
    assert_eq!(aged(30 * DAY + 300 * SECOND)(&lenient).status, 401);
    renewed(&ahead(3900 * SECOND)(&lenient));
}

#[test]
fn t28_the_legacy_era_renews_expired_keys_for_90_days() {
    let legacy = changed(ProfileChange { profile: Some(Profile::Legacy), ..ProfileChange::default() });
    let successor = renewed(&aged(400 * DAY)(&legacy));
    let claims = claims(&successor);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 7_775_999);
}

#[test]
fn t30_a_retired_certificate() {
    for errors in [ErrorShape::Plain, ErrorShape::Wrapped] {
        let emulator = emulator(Switches { errors, ..Switches::default() });
        let key = mint(&emulator, KeyKind::Collections, 14 * DAY);
        let first = emulator.certificates(NOW)[0].certificate.clone();
        let second = emulator.rotate(Some(5 * DAY), NOW);
        let later = NOW + 6 * DAY;
        let ticket = emulator.mint_ticket(
            storekeeper_emulator::MintTicket {
                audience: Audience::Service,
                client_id: None,
                claims: Default::default(),
            },
            later,
        );
        let renew = |key: &str, now| renew_at(&emulator, KeyKind::Collections, ticket.expose(), key, now);
        refused(&renew(&key, later), errors == ErrorShape::Wrapped, ATI, "B2B key : IDX10501");
        // Minted now, but by the retired certificate on request.
        let wish =
            MintKey { certificate: Some(first.as_str().to_owned()), ..MintKey::new(KeyKind::Collections, "user") };
        assert_eq!(renew(emulator.mint_key(wish, later).unwrap().expose(), later).status, 401);
        let fresh = emulator.mint_key(MintKey::new(KeyKind::Collections, "user"), later).unwrap();
        let successor = renewed(&renew(fresh.expose(), later));
        let kid = jsonwebtoken::decode_header(&successor).unwrap().kid.unwrap();
        assert_eq!(kid, second.certificate.as_str());
    }
}

#[test]
fn t30_game_docs_rotates_by_itself() {
    let switches = Switches { profile: Profile::GameDocs, ..Switches::default() };
    let emulator = emulator(switches);
    let key = mint(&emulator, KeyKind::Purchase, Duration::ZERO);
    let after = |days: u32| {
        let now = NOW + days * DAY;
        let wish = storekeeper_emulator::MintTicket {
            audience: Audience::Service,
            client_id: None,
            claims: Default::default(),
        };
        renew_at(&emulator, KeyKind::Purchase, emulator.mint_ticket(wish, now).expose(), &key, now)
    };
    let successor = renewed(&after(15));
    assert_ne!(jsonwebtoken::decode_header(&successor).unwrap().kid, jsonwebtoken::decode_header(&key).unwrap().kid);
    assert_eq!(after(16).status, 401);
    assert_eq!(after(20).status, 401);
    // What was issued 20 days ago was signed by the certificate of that time.
    let old = mint(&emulator, KeyKind::Purchase, 20 * DAY);
    assert_eq!(renew(&emulator, KeyKind::Purchase, &ticket(&emulator), &old).status, 401);
}

#[test]
fn t31_revocations_mean_exactly_the_keys_that_were_there() {
    let other_client = "33333333-3333-4333-8333-333333333333";
    let check = |revoke: fn(&str, &CertificateId) -> Revocation, also_sibling: bool| {
        for errors in [ErrorShape::Plain, ErrorShape::Wrapped] {
            let emulator = emulator(Switches { errors, ..Switches::default() });
            let renew = |key: &str| renew(&emulator, KeyKind::Purchase, &ticket(&emulator), key);
            let key = mint(&emulator, KeyKind::Purchase, DAY);
            let sibling = mint(&emulator, KeyKind::Purchase, 2 * DAY);
            let successor = renewed(&renew(&key));
            let stranger =
                MintKey { client_id: Some(other_client.into()), ..MintKey::new(KeyKind::Purchase, "stranger") };
            let stranger = mint_with(&emulator, stranger);
            emulator.revoke(revoke(&key, &emulator.certificates(NOW)[0].certificate)).unwrap();
            refused(&renew(&key), errors == ErrorShape::Wrapped, ATI, "B2B key : ");
            assert_eq!(renew(&sibling).status, if also_sibling { 401 } else { 200 });
            assert_eq!(renew(&successor).status, if also_sibling { 401 } else { 200 });
            renewed(&renew(&mint(&emulator, KeyKind::Purchase, 9 * DAY)));
            let inner = codes(&renew(&stranger)).1;
            let by_certificate = matches!(revoke(&key, &CertificateId::default()), Revocation::Certificate(_));
            if errors == ErrorShape::Plain {
                assert_eq!(inner, if by_certificate { ATI } else { "InconsistentClientId" });
            }
        }
    };
    check(|key, _| Revocation::Fingerprint(Fingerprint::of(key)), false);
    check(|_, _| Revocation::UserId(String::from("user")), true);
    check(|_, _| Revocation::ClientId(String::from("22222222222242228222222222222222")), true);
    check(|_, certificate| Revocation::Certificate(certificate.clone()), true);
}

#[test]
fn t32_a_damaged_key() {
    let damaged = |at: fn(&str) -> usize| {
        move |emulator: &Emulator| {
            let key = mint(emulator, KeyKind::Purchase, DAY);
            renew(emulator, KeyKind::Purchase, &ticket(emulator), &flip(&key, at(&key)))
        }
    };
    check_refused(ATI, "B2B key : IDX10511: Signature validation failed. Keys tried: ", damaged(|key| key.len() - 20));
    check_refused(ATI, "B2B key : IDX12741", |emulator| {
        renew(emulator, KeyKind::Purchase, &ticket(emulator), "three.bad.parts")
    });
    check_refused(ATI, "B2B key : IDX10209", |emulator| {
        renew(emulator, KeyKind::Purchase, &ticket(emulator), &"x".repeat(16 * 1024 + 1))
    });
    check_refused(ATI, "B2B key : IDX10501", |emulator| {
        // The header of another emulator's certificate.
        let foreign = mint(&support::emulator(Switches::default()), KeyKind::Purchase, DAY);
        renew(emulator, KeyKind::Purchase, &ticket(emulator), &foreign)
    });
    check_refused(ATI, "B2B key : IDX12741", |emulator| {
        let key = mint(emulator, KeyKind::Purchase, DAY);
        let (_, rest) = key.split_once('.').unwrap();
        // {"alg":"none"}
        renew(emulator, KeyKind::Purchase, &ticket(emulator), &format!("eyJhbGciOiJub25lIn0.{rest}"))
    });
}

#[test]
fn a_header_in_other_words_means_the_same_certificate() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let key = mint(plain(), KeyKind::Purchase, DAY);
    let (_, rest) = key.split_once('.').unwrap();
    let view = &plain().certificates(NOW)[0];
    // The certificate is found by either name; the signature then cannot match, for the header is signed too.
    for header in [
        format!(r#"{{"alg":"RS256","x5t":"{}"}}"#, view.x5t),
        format!(r#"{{"kid":"{}","alg":"RS256"}}"#, view.certificate.as_str()),
    ] {
        let key = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
        let answer = renew(wrapped(), KeyKind::Purchase, &ticket(wrapped()), &key);
        refused(&answer, true, ATI, "B2B key : IDX10501");
        refused(&renew(plain(), KeyKind::Purchase, &ticket(plain()), &key), false, ATI, "");
    }
}

#[test]
fn t33_the_other_hosts_key() {
    check_refused(ATI, "B2B key : IDX10214", |emulator| {
        let key = mint(emulator, KeyKind::Purchase, DAY);
        renew(emulator, KeyKind::Collections, &ticket(emulator), &key)
    });
}

#[test]
fn t34_t35_t36_client_ids() {
    let with = |client_id: &'static str, age: Duration| {
        move |emulator: &Emulator| {
            let wish = MintKey {
                client_id: Some(client_id.into()),
                issued_at: Some(NOW - age),
                ..MintKey::new(KeyKind::Collections, "user")
            };
            renew(emulator, KeyKind::Collections, &ticket(emulator), &mint_with(emulator, wish))
        }
    };
    check_refused("InconsistentClientId", "differ", with("33333333-3333-4333-8333-333333333333", DAY));
    renewed(&with("{22222222-2222-4222-8222-222222222222}", DAY)(plain()));
    check_refused(ATI, "B2B key : IDX10223", with("33333333-3333-4333-8333-333333333333", 31 * DAY));
    let emulator = plain();
    let upper = ticket_with(emulator, Audience::Service, json!({"appid": "22222222222242228222222222222222"}));
    renewed(&renew(emulator, KeyKind::Purchase, &upper, &mint(emulator, KeyKind::Purchase, DAY)));
}

#[test]
fn t44_the_201st_call_within_300_seconds() {
    let emulator = emulator(Switches::default());
    let (ticket, key) = (ticket(&emulator), mint(&emulator, KeyKind::Purchase, DAY));
    let at = |seconds: u32| renew_at(&emulator, KeyKind::Purchase, &ticket, &key, NOW + seconds * SECOND);
    for call in 0..200 {
        assert_eq!(at(call).status, 200, "{call}");
    }
    let answer = at(200);
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("100")));
    let (code, inner, _) = codes(&answer);
    assert_eq!((code.as_str(), inner.as_str()), ("Throttled", "Throttled"));
    let text = "The rate limit of 200 operations in 300 seconds has been exceeded for aspect userId; publisherId.";
    assert_eq!(body(&answer)["message"], text);
    assert_eq!(at(299).status, 429);
    assert_eq!(at(300).status, 200);
    let other = mint_with(&emulator, MintKey::new(KeyKind::Purchase, "other"));
    assert_eq!(renew_at(&emulator, KeyKind::Purchase, &ticket, &other, NOW + 200 * SECOND).status, 200);
    let limit = Some(RateLimit { operations: 0, seconds: 300 });
    emulator.set_profile(ProfileChange { rate_limit: limit, ..ProfileChange::default() }, NOW);
    assert!((0..300).all(|_| at(301).status == 200));
}

#[test]
fn t51_a_superseded_key_renews_again_or_never() {
    let emulator = emulator(Switches::default());
    let (ticket, key) = (ticket(&emulator), mint(&emulator, KeyKind::Purchase, DAY));
    let renew = |key: &str| renew(&emulator, KeyKind::Purchase, &ticket, key);
    let twice = (renewed(&renew(&key)), renewed(&renew(&key)));
    assert_ne!(twice.0, twice.1);
    let refuse = ProfileChange { superseded: Some(Superseded::Refused), ..ProfileChange::default() };
    emulator.set_profile(refuse, NOW);
    let successor = renewed(&renew(&key));
    refused(&renew(&key), false, ATI, "");
    renewed(&renew(&successor));
    renewed(&renew(&twice.0));
}

#[test]
fn a_refused_or_throttled_renewal_supersedes_nothing() {
    let limit = Some(RateLimit { operations: 1, seconds: 300 });
    let emulator =
        changed(ProfileChange { superseded: Some(Superseded::Refused), rate_limit: limit, ..Default::default() });
    let (ticket, key) = (ticket(&emulator), mint(&emulator, KeyKind::Purchase, DAY));
    let second = mint(&emulator, KeyKind::Purchase, DAY);
    let at =
        |key: &str, seconds: u32| renew_at(&emulator, KeyKind::Purchase, &ticket, key, NOW + seconds * SECOND).status;
    assert_eq!((at(&key, 0), at(&second, 1), at(&second, 300)), (200, 429, 200));
    assert_eq!(at(&second, 600), 401);
}

#[test]
fn threads_renew_at_once_and_a_key_is_superseded_by_one_of_them() {
    let emulator = changed(ProfileChange { superseded: Some(Superseded::Refused), ..ProfileChange::default() });
    let (ticket, key) = (ticket(&emulator), mint(&emulator, KeyKind::Purchase, DAY));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let renew = || renew(&emulator, KeyKind::Purchase, &ticket, &key).status;
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(renew)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
}

#[test]
fn ids_and_payloads_follow_the_seed_and_rsa_keys_do_not() {
    let run = || {
        let emulator = emulator(Switches::default());
        let (ticket, key) = (ticket(&emulator), mint(&emulator, KeyKind::Purchase, DAY));
        let answer = renew(&emulator, KeyKind::Purchase, &ticket, &key);
        let successor = renewed(&answer);
        let payload = |key: &str| claims(key)[format!("{NAMES}payload")].as_str().unwrap().to_owned();
        let id = answer.header("MS-CorrelationId").unwrap().to_owned();
        (payload(&key), payload(&successor), id, emulator.certificates(NOW)[0].certificate.clone())
    };
    let (one, two) = (run(), run());
    assert_eq!((&one.0, &one.1, &one.2), (&two.0, &two.1, &two.2));
    assert_ne!(one.3, two.3);
    assert_ne!(one.0, one.1);
}

#[test]
fn every_payload_and_id_is_another() {
    let ticket = ticket(plain());
    let mut seen = HashSet::new();
    for number in 0..20 {
        let wish = MintKey::new(KeyKind::Purchase, format!("distinct-{number}"));
        let answer = renew(plain(), KeyKind::Purchase, &ticket, &mint_with(plain(), wish));
        let successor = renewed(&answer);
        assert!(seen.insert(claims(&successor)[format!("{NAMES}payload")].to_string()));
        assert!(seen.insert(answer.header("MS-CorrelationId").unwrap().to_owned()));
    }
}

#[test]
fn a_successor_keeps_length_and_odd_names() {
    for (length, user) in [(684, ""), (116, "zürich \"quoted\" \\ \u{1f511}"), (800, "a@b.example")] {
        let wish = MintKey { payload_length: Some(length), ..MintKey::new(KeyKind::Collections, user) };
        let successor = renewed(&renew(plain(), KeyKind::Collections, &ticket(plain()), &mint_with(plain(), wish)));
        let claims = claims(&successor);
        assert_eq!(claims[format!("{NAMES}payload")].as_str().unwrap().len(), length);
        assert_eq!(claims[format!("{NAMES}userId")], user);
    }
}

#[test]
fn a_planned_fault_without_a_body_speaks_as_the_service_would() {
    let check = |emulator: &Emulator, host, path: &str, status: u16, expected: (u16, &str)| {
        let answer = emulator.fault_answer(&request(host, "POST", path, "{}"), status, NOW);
        let inner = answer.note.inner_code.clone().unwrap_or_default();
        assert_eq!((answer.status, inner.as_str()), expected, "{path} {status}");
    };
    use VirtualHost::{Login, Purchase};
    check(plain(), Purchase, RENEW, 500, (500, "InternalAadAuthenticationError"));
    check(wrapped(), Purchase, RENEW, 500, (401, "AuthenticationFailure"));
    check(plain(), Purchase, RENEW, 401, (401, ATI));
    check(plain(), Purchase, RENEW, 400, (400, "InvalidParameter"));
    check(wrapped(), Purchase, RENEW, 429, (429, "Throttled"));
    check(plain(), Purchase, RENEW, 503, (503, ""));
    let token = "/11111111-1111-4111-8111-111111111111/oauth2/v2.0/token";
    check(plain(), Login, token, 503, (503, "90033"));
    check(plain(), Login, token, 429, (429, "90055"));
    check(plain(), Login, token, 401, (401, "7000215"));
    check(plain(), Login, token, 500, (500, ""));
    // T46: the server fault as it was reported.
    let answer = wrapped().fault_answer(&request(Purchase, "POST", RENEW, "{}"), 500, NOW);
    assert!(codes(&answer).2.contains("StatusCode: InternalServerError, PurchaseFD : InternalServerError : "));
}

#[test]
fn far_away_instants_do_not_break_anything() {
    for at in [0, -62_135_596_800, 253_402_300_799, i64::MAX / 2000] {
        let now = Timestamp::from_seconds(at);
        let key = plain().mint_key(MintKey::new(KeyKind::Purchase, "user"), now).unwrap();
        let wish = storekeeper_emulator::MintTicket {
            audience: Audience::Service,
            client_id: None,
            claims: Default::default(),
        };
        let ticket = plain().mint_ticket(wish, now);
        let answer = renew_at(plain(), KeyKind::Purchase, ticket.expose(), key.expose(), now);
        assert_eq!(answer.status, 200, "{at}");
    }
}
