//! Names and digests against `fixtures/keys/`: row ids, buckets, fingerprints and the spellings of a client ID.

mod support;

use proptest::prelude::*;
use serde_json::Value;
use storekeeper_model::{
    AppName, Bucket, CertificateId, ClientId, Fingerprint, Identity, IdentityError, KeyId, KeyKind, Slot, UserName,
};
use support::{golden, list, text};

fn identity(app: &str, user: &str, slot: &str, kind: KeyKind) -> Identity {
    Identity {
        app: AppName::new(app).expect("a valid name"),
        user: UserName::from_bytes(user.as_bytes()).expect("a valid name"),
        slot: Slot::new(slot).expect("a valid slot"),
        kind,
    }
}

#[test]
fn golden_identities_give_their_row_id_and_bucket() {
    for case in list(&golden("identity.json"), "cases") {
        let why = text(case, "why");
        let kind = text(case, "kind").parse().unwrap();
        let id = identity(text(case, "app"), text(case, "user"), text(case, "slot"), kind).key_id();
        assert_eq!(id.to_string(), text(case, "key_id"), "{why}");
        assert_eq!(Some(u64::from(id.bucket().number())), case["bucket"].as_u64(), "{why}");
        assert_eq!(text(case, "key_id").parse(), Ok(id), "{why}");
    }
}

#[test]
fn golden_identities_are_all_different() {
    let golden = golden("identity.json");
    let mut ids: Vec<&str> = list(&golden, "cases").iter().map(|case| text(case, "key_id")).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[test]
fn golden_fingerprints() {
    for case in list(&golden("fingerprint.json"), "cases") {
        let fingerprint = Fingerprint::of(text(case, "jwt"));
        assert_eq!(fingerprint.to_string(), text(case, "fingerprint"), "{}", text(case, "why"));
        assert_eq!(serde_json::to_value(fingerprint).unwrap(), case["fingerprint"]);
        assert_eq!(serde_json::from_value::<Fingerprint>(case["fingerprint"].clone()).unwrap(), fingerprint);
    }
}

#[test]
fn spellings_of_one_client_id_are_equal_and_others_are_not() {
    let golden = golden("client_id.json");
    let client = |case: &Value| {
        let id = ClientId::new(text(case, "text"));
        assert_eq!(id.compact(), text(case, "compact"), "{}", text(case, "why"));
        assert_eq!(id.to_string(), text(case, "shown"), "{}", text(case, "why"));
        id
    };
    let one = client(&list(&golden, "same")[0]);
    assert!(one.is_guid());
    for case in list(&golden, "same") {
        assert_eq!(client(case), one, "{}", text(case, "why"));
    }
    for case in list(&golden, "different") {
        assert_ne!(client(case), one, "{}", text(case, "why"));
    }
}

#[test]
fn names_keep_their_bounds() {
    let user = |bytes: &[u8]| UserName::from_bytes(bytes);
    assert_eq!(user(b""), Err(IdentityError::UserEmpty));
    assert_eq!(user(&[b'u'; 257]), Err(IdentityError::UserTooLong));
    assert_eq!(user(&[0xff]), Err(IdentityError::UserNotUtf8));
    assert!(user(&[b'u'; 256]).is_ok());
    assert_eq!(Slot::new(&"s".repeat(65)), Err(IdentityError::SlotTooLong));
    assert_eq!(Slot::new(&"s".repeat(64)).unwrap().as_str().len(), 64);
    assert_eq!(Slot::default().as_str(), "");
    for name in ["", "a b", "a/b", "ä", &"a".repeat(65)] {
        assert_eq!(AppName::new(name), Err(IdentityError::AppName), "`{name}`");
    }
    for name in ["a", "My-Game_2.beta", &"a".repeat(64)] {
        assert_eq!(AppName::new(name).unwrap().as_str(), name);
    }
}

#[test]
fn buckets_are_4096() {
    assert_eq!(Bucket::new(4095).map(Bucket::number), Some(4095));
    assert_eq!(Bucket::new(4096), None);
    assert_eq!(KeyId::from_bytes([0xff; 16]).bucket().number(), Bucket::COUNT - 1);
    assert_eq!(KeyId::from_bytes([0; 16]).bucket().number(), 0);
}

#[test]
fn identities_spread_over_the_buckets() {
    // 40,960 players over 4,096 buckets: with a good digest every bucket holds some and none holds five times its share.
    let mut population = vec![0_u32; usize::from(Bucket::COUNT)];
    for number in 0..40_960 {
        let id = identity("mygame", &format!("player-{number:05}"), "", KeyKind::Purchase).key_id();
        population[usize::from(id.bucket().number())] += 1;
    }
    let empty = population.iter().filter(|count| **count == 0).count();
    assert!(empty < 10, "{empty} buckets are empty");
    assert!(population.iter().all(|count| *count < 50));
}

#[test]
fn kinds_have_their_names_and_addresses() {
    for (kind, name) in [(KeyKind::Collections, "collections"), (KeyKind::Purchase, "purchase")] {
        assert_eq!(kind.to_string(), name);
        assert_eq!(name.parse(), Ok(kind));
        assert_eq!(kind.host(), format!("{name}.mp.microsoft.com"));
        assert_eq!(kind.audience(), format!("https://{name}.mp.microsoft.com/v6.0/keys"));
        assert_eq!(kind.refresh_uri(), format!("https://{name}.mp.microsoft.com/v6.0/b2b/keys/renew"));
    }
    assert!("Collections".parse::<KeyKind>().is_err() && "".parse::<KeyKind>().is_err());
}

#[test]
fn a_sign_is_no_hexadecimal_digit() {
    for text in ["+f".repeat(16), "-0".repeat(16), " f".repeat(16), "0x".repeat(16)] {
        assert!(text.parse::<Fingerprint>().is_err() && text.parse::<KeyId>().is_err(), "`{text}`");
    }
}

proptest! {
    #[test]
    fn a_digest_prints_and_parses_back(bytes in any::<[u8; 16]>()) {
        prop_assert_eq!(Fingerprint::from_bytes(bytes).to_string().parse(), Ok(Fingerprint::from_bytes(bytes)));
        prop_assert_eq!(KeyId::from_bytes(bytes).to_string().parse(), Ok(KeyId::from_bytes(bytes)));
    }

    #[test]
    fn a_digest_of_any_text_never_panics(text in any::<String>()) {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        prop_assert_eq!(text.parse::<Fingerprint>().is_ok(), digits);
    }

    #[test]
    fn only_hexadecimal_digits_make_a_digest(text in "[0-9a-fA-F+ -]{32}") {
        let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
        prop_assert_eq!(text.parse::<Fingerprint>().is_ok(), digits);
    }

    #[test]
    fn moving_a_letter_between_user_and_slot_makes_another_row(user in "[a-z]{2,20}", slot in "[a-z]{0,20}") {
        let (head, tail) = user.split_at(user.len() - 1);
        let one = identity("mygame", &user, &slot, KeyKind::Collections).key_id();
        let other = identity("mygame", head, &format!("{tail}{slot}"), KeyKind::Collections).key_id();
        prop_assert_ne!(one, other);
    }

    #[test]
    fn a_guid_in_any_form_is_one_client(bytes in any::<[u8; 16]>()) {
        let bare = Fingerprint::from_bytes(bytes).to_string();
        let dashed = ClientId::new(&bare).to_string();
        prop_assert_eq!(dashed.len(), 36);
        for form in [dashed.clone(), dashed.to_uppercase(), format!("{{{dashed}}}"), bare.to_uppercase()] {
            prop_assert_eq!(ClientId::new(&form), ClientId::new(&bare));
        }
    }

    #[test]
    fn any_text_is_a_client_id_equal_to_itself_in_any_case(text in "[ -~]{0,60}") {
        prop_assert_eq!(ClientId::new(&text), ClientId::new(&text.to_ascii_uppercase()));
        prop_assert_eq!(ClientId::new(&text).is_guid(), ClientId::new(&text).to_string().len() == 36
            && ClientId::new(&text).compact().len() == 32);
    }

    #[test]
    fn a_certificate_id_is_short_and_visible(text in any::<String>()) {
        let id = CertificateId::new(&text);
        prop_assert!(id.as_str().len() <= 64 && id.as_str().bytes().all(|b| b.is_ascii_graphic()));
    }
}
