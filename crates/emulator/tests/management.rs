//! Key creation on the v7.0 routes, and what the control port does: snapshots, resets, clients, the signature-less mode.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use storekeeper_emulator::{
    AddClient, ControlError, DEV_TENANT_ID, Emulator, EmulatorOptions, Endpoint, MintKey, Profile, ProfileChange,
    Revocation, Signatures, Snapshot, StoreAnswer, Superseded, Switches, VirtualHost,
};
use storekeeper_model::{Audience, CertificateId, Fingerprint, KeyKind, Secret, StoreIdKey};
use support::*;

const CREATE: [(KeyKind, &str, Audience); 2] = [
    (KeyKind::Collections, "/v7.0/beneficiaries/me/keys", Audience::Collections),
    (KeyKind::Purchase, "/v7.0/users/me/keys", Audience::Purchase),
];

fn create(emulator: &Emulator, kind: KeyKind, path: &str, authorization: Option<&str>, body: &str) -> StoreAnswer {
    let mut asked = request(kind.into(), "POST", path, body);
    asked.authorization = authorization;
    emulator.answer(&asked, NOW)
}

const XBL: Option<&str> = Some("XBL3.0 x=2814639011617876;eyJ");

#[test]
fn a_key_is_created_for_a_ticket_of_its_audience() {
    for (kind, path, audience) in CREATE {
        let ticket = ticket_with(plain(), audience, json!({}));
        let asked = json!({"serviceTicket": ticket, "publisherUserId": "player"}).to_string();
        let answer = create(plain(), kind, path, XBL, &asked);
        assert_eq!((answer.status, answer.note.endpoint), (200, Endpoint::Keys));
        let key = body(&answer)["key"].as_str().unwrap().to_owned();
        assert_eq!(answer.note.successor, Some(Fingerprint::of(&key)));
        for name in ["MS-CorrelationId", "MS-RequestId", "MS-CV"] {
            assert!(answer.header(name).is_some(), "{name}");
        }
        let parsed = StoreIdKey::parse(Secret::new(key.clone())).unwrap();
        assert_eq!((parsed.kind(), parsed.user_id().as_str()), (kind, "player"));
        assert_eq!(renew(plain(), kind, &support::ticket(plain()), &key).status, 200);
        for user in [json!({"serviceTicket": ticket}), json!({"serviceTicket": ticket, "publisherUserId": ""})] {
            let answer = create(plain(), kind, path, XBL, &user.to_string());
            let key = body(&answer)["key"].as_str().unwrap().to_owned();
            assert_eq!(claims(&key)[format!("{NAMES}userId")], "");
        }
    }
}

#[test]
fn each_path_is_unknown_on_the_other_host() {
    for (kind, path, _) in CREATE {
        let other = KINDS.into_iter().find(|other| *other != kind).unwrap();
        assert_eq!(create(plain(), other, path, XBL, "{}").status, 404);
    }
}

const KINDS: [KeyKind; 2] = KeyKind::ALL;

#[test]
fn the_header_is_judged_before_the_body() {
    let (kind, path, _) = CREATE[0];
    let check = |authorization, inner: &str| {
        let mut asked = request(kind.into(), "POST", path, "not json");
        (asked.authorization, asked.content_type) = (authorization, Some("text/plain"));
        let answer = plain().answer(&asked, NOW);
        assert_eq!((answer.status, codes(&answer).1.as_str()), (401, inner));
    };
    check(None, "NoAuthorizationHeaders");
    check(Some("Bearer x"), "NoAuthorizationHeaders");
    check(Some("XBL3.0 x=1"), "InvalidXToken");
    let mut asked = request(kind.into(), "POST", path, "{}");
    (asked.authorization, asked.content_type) = (XBL, Some("text/plain"));
    assert_eq!(plain().answer(&asked, NOW).status, 415);
    assert_eq!(create(plain(), kind, path, XBL, "not json").status, 400);
    assert_eq!(plain().answer(&request(kind.into(), "GET", path, ""), NOW).status, 405);
}

#[test]
fn a_bad_ticket_is_named_in_the_first_line_of_the_data() {
    let (kind, path, audience) = CREATE[1];
    let check = |asked: Value, expected: &str| {
        let answer = create(plain(), kind, path, XBL, &asked.to_string());
        let (code, inner, data) = codes(&answer);
        assert_eq!((answer.status, code.as_str(), inner.as_str()), (401, "Unauthorized", "AuthenticationTokenInvalid"));
        assert!(data.starts_with("serviceTicket : ") && data.contains(expected), "{data}");
    };
    check(json!({}), "missing");
    check(json!({"serviceTicket": "x"}), "IDX12741");
    check(json!({"serviceTicket": ticket(plain())}), "IDX10214");
    check(json!({"serviceTicket": ticket_with(plain(), Audience::Collections, json!({}))}), "IDX10214");
    check(json!({"serviceTicket": ticket_with(plain(), audience, json!({"exp": 0}))}), "IDX10223");
    let null = json!({"serviceTicket": ticket_with(plain(), audience, json!({})), "publisherUserId": null}).to_string();
    assert_eq!(create(plain(), kind, path, XBL, &null).status, 400);
    let asked = json!({"serviceTicket": "x"}).to_string();
    let answer = create(wrapped(), kind, path, XBL, &asked);
    assert_eq!(codes(&answer).1, "AuthenticationFailure");
    assert!(codes(&answer).2.contains("{ : AuthenticationTokenInvalid : "));
}

#[test]
fn what_cannot_be_minted_is_said() {
    let check = |wish: MintKey, expected: ControlError| {
        assert_eq!(plain().mint_key(wish, NOW).map(|_| ()), Err(expected));
    };
    let wish = || MintKey::new(KeyKind::Purchase, "user");
    check(MintKey { payload_length: Some(7), ..wish() }, ControlError::PayloadLength);
    check(MintKey { account: Some("x".repeat(65)), ..wish() }, ControlError::AccountTooLong);
    check(MintKey { certificate: Some("AB".into()), ..wish() }, ControlError::CertificateUnknown("AB".into()));
    check(MintKey::new(KeyKind::Purchase, "x".repeat(20_000)), ControlError::KeyTooLarge);
    assert!(plain().mint_key(MintKey::new(KeyKind::Purchase, "x".repeat(1000)), NOW).is_ok());
    let unknown = Revocation::Certificate(CertificateId::new("AB"));
    assert_eq!(plain().revoke(unknown), Err(ControlError::CertificateUnknown("AB".into())));
}

#[test]
fn a_snapshot_brings_everything_back() {
    let emulator = emulator(Switches::default());
    let ticket = ticket(&emulator);
    let status = |emulator: &Emulator, key: &str| renew(emulator, KeyKind::Purchase, &ticket, key).status;
    let (kept, revoked) = (mint(&emulator, KeyKind::Purchase, DAY), mint(&emulator, KeyKind::Purchase, DAY));
    emulator.revoke(Revocation::Fingerprint(Fingerprint::of(&revoked))).unwrap();
    let client = AddClient {
        tenant_id: "44444444-4444-4444-8444-444444444444".into(),
        client_id: "55555555-5555-4555-8555-555555555555".into(),
        secret: Some(Secret::new(String::from("hush"))),
        secret_expires_at: None,
        certificate: None,
        federated: None,
    };
    emulator.add_client(client).unwrap();
    let change = ProfileChange { superseded: Some(Superseded::Refused), ..ProfileChange::default() };
    emulator.set_profile(change, NOW);
    let superseded = mint(&emulator, KeyKind::Purchase, DAY);
    assert_eq!(status(&emulator, &superseded), 200);
    emulator.rotate(Some(5 * DAY), NOW);

    let snapshot = emulator.snapshot();
    assert_eq!(format!("{snapshot:?}"), "[redacted snapshot]");
    let text = serde_json::to_string(&snapshot).unwrap();
    emulator.reset(NOW);
    assert_eq!(emulator.profile(), Switches::default());
    assert_eq!(status(&emulator, &kept), 401);
    emulator.restore(&serde_json::from_str(&text).unwrap()).unwrap();
    let resumed = Emulator::resume(
        EmulatorOptions { switches: snapshot.switches(), ..EmulatorOptions::default() },
        &serde_json::from_str(&text).unwrap(),
        NOW,
    );
    for emulator in [emulator, resumed.unwrap()] {
        assert_eq!(emulator.profile().superseded, Superseded::Refused);
        assert_eq!(status(&emulator, &kept), 200);
        assert_eq!(status(&emulator, &revoked), 401);
        assert_eq!(status(&emulator, &superseded), 401);
        assert_eq!(emulator.certificates(NOW).len(), 2);
        let form = format!(
            "grant_type=client_credentials&client_id=55555555-5555-4555-8555-555555555555&client_secret=hush&scope={}",
            encode(SCOPE)
        );
        let path = "/44444444-4444-4444-8444-444444444444/oauth2/v2.0/token";
        assert_eq!(emulator.answer(&request(VirtualHost::Login, "POST", path, &form), NOW).status, 200);
    }
}

#[test]
fn keys_minted_after_the_snapshot_are_covered_by_later_revocations() {
    let emulator = emulator(Switches::default());
    let snapshot = emulator.snapshot();
    let key = mint(&emulator, KeyKind::Purchase, DAY);
    emulator.restore(&snapshot).unwrap();
    emulator.revoke(Revocation::UserId(String::from("user"))).unwrap();
    assert_eq!(renew(&emulator, KeyKind::Purchase, &ticket(&emulator), &key).status, 401);
    let fresh = mint(&emulator, KeyKind::Purchase, DAY);
    assert_eq!(renew(&emulator, KeyKind::Purchase, &ticket(&emulator), &fresh).status, 200);
}

#[test]
fn what_is_no_usable_snapshot_changes_nothing() {
    let emulator = emulator(Switches::default());
    let key = mint(&emulator, KeyKind::Purchase, DAY);
    let good = serde_json::to_value(emulator.snapshot()).unwrap();
    let check = |pointer: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        let snapshot: Snapshot = serde_json::from_value(bad).unwrap();
        assert!(matches!(emulator.restore(&snapshot), Err(ControlError::Snapshot(_))), "{pointer}");
    };
    check("/version", json!(2));
    check("/certificates", json!([]));
    check("/certificates/0/private_key", json!("AAAA"));
    check("/entra", json!({"thumbprint": vec![0; 20]}));
    assert_eq!(renew(&emulator, KeyKind::Purchase, &ticket(&emulator), &key).status, 200);
}

#[test]
fn without_signatures_the_verdicts_are_the_same() {
    let switches = Switches { profile: Profile::GameDocs, rate_limit: None, ..Switches::default() };
    let options = EmulatorOptions { switches, signatures: Signatures::Skipped, ..EmulatorOptions::default() };
    let emulator = Emulator::new(options.clone(), NOW);
    let ticket = ticket(&emulator);
    let key = mint(&emulator, KeyKind::Purchase, DAY);
    let status = |key: &str| renew(&emulator, KeyKind::Purchase, &ticket, key).status;
    assert_eq!(status(&key), 200);
    assert_eq!(status(&mint(&emulator, KeyKind::Purchase, 30 * DAY)), 401);
    assert_eq!(status(&mint(&emulator, KeyKind::Purchase, 22 * DAY)), 401);
    assert_eq!(status(&mint(&emulator, KeyKind::Collections, DAY)), 401);
    let real = mint(plain(), KeyKind::Purchase, DAY);
    assert_eq!(key.len(), real.len());
    assert_eq!(status(&real), 401, "its certificate is unknown here");
    emulator.revoke(Revocation::Fingerprint(Fingerprint::of(&key))).unwrap();
    assert_eq!(status(&key), 401);
    let snapshot: Snapshot = serde_json::from_str(&serde_json::to_string(&emulator.snapshot()).unwrap()).unwrap();
    assert!(Emulator::resume(EmulatorOptions::default(), &snapshot, NOW).is_err());
    let resumed = Emulator::resume(options, &snapshot, NOW).unwrap();
    assert_eq!(renew(&resumed, KeyKind::Purchase, &ticket, &key).status, 401);
    let fresh = mint(&resumed, KeyKind::Purchase, DAY);
    assert_eq!(renew(&resumed, KeyKind::Purchase, &ticket, &fresh).status, 200);
}

#[test]
fn a_year_without_signatures_is_reproducible() {
    let run = || {
        let options = EmulatorOptions { signatures: Signatures::Skipped, seed: 3, ..EmulatorOptions::default() };
        let emulator = Emulator::new(options, NOW);
        let mut key = mint(&emulator, KeyKind::Purchase, DAY);
        for week in 1..=52 {
            let now = NOW + 7 * week * DAY;
            let wish = storekeeper_emulator::MintTicket {
                audience: Audience::Service,
                client_id: None,
                claims: serde_json::Map::new(),
            };
            let ticket = emulator.mint_ticket(wish, now);
            let answer = renew_at(&emulator, KeyKind::Purchase, ticket.expose(), &key, now);
            key = body(&answer)["key"].as_str().expect("renewed").to_owned();
        }
        key
    };
    assert_eq!(run(), run());
}

#[test]
fn requests_are_answered_while_the_emulator_is_reset() {
    let emulator = emulator(Switches::default());
    let path = format!("/{DEV_TENANT_ID}/discovery/keys");
    std::thread::scope(|scope| {
        let ask = || emulator.answer(&request(VirtualHost::Login, "GET", &path, ""), NOW).status;
        let asking = scope.spawn(move || (0..2000).all(|_| ask() == 200));
        emulator.reset(NOW);
        assert!(asking.join().unwrap());
    });
}
