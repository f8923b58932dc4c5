//! What a renewal costs besides its two RSA operations: `cargo bench -p storekeeper-emulator`. Prints one line of JSON.

use std::time::{Duration, Instant};

use serde_json::json;
use storekeeper_emulator::{
    Emulator, EmulatorOptions, MintKey, MintTicket, Signatures, StoreRequest, Switches, VirtualHost,
};
use storekeeper_model::{Audience, KeyKind, Timestamp};

const NOW: Timestamp = Timestamp::from_seconds(1_780_315_200);
const KEYS: usize = 2000;

fn main() {
    let skipped = renewal_micros(Signatures::Skipped, Duration::from_secs(2));
    let real = renewal_micros(Signatures::Real, Duration::from_secs(3));
    let rsa = rsa_micros(Duration::from_secs(3));
    let line = json!({
        "renewal_us": real,
        "rsa_sign_and_verify_us": rsa,
        "renewal_without_rsa_us": skipped,
        "share_of_rsa": rsa / real,
    });
    #[expect(clippy::print_stdout, reason = "a bench reports on stdout")]
    {
        println!("{line}");
    }
}

/// Renewals of 2,000 distinct keys with one ticket, one after the other.
fn renewal_micros(signatures: Signatures, span: Duration) -> f64 {
    let switches = Switches { rate_limit: None, ..Switches::default() };
    let emulator = Emulator::new(EmulatorOptions { switches, signatures, ..EmulatorOptions::default() }, NOW);
    let wish = MintTicket { audience: Audience::Service, client_id: None, claims: serde_json::Map::new() };
    let ticket = emulator.mint_ticket(wish, NOW);
    let body = |number| {
        let key = emulator.mint_key(MintKey::new(KeyKind::Purchase, format!("player-{number:04}")), NOW);
        json!({"serviceTicket": ticket.expose(), "key": key.expect("the wish is sound").expose()}).to_string()
    };
    let bodies: Vec<String> = (0..KEYS).map(body).collect();
    let mut bodies = bodies.iter().cycle();
    micros(span, || {
        let body = bodies.next().expect("a cycle does not end").as_bytes();
        let request = StoreRequest {
            host: VirtualHost::Purchase,
            method: "POST",
            path: "/v6.0/b2b/keys/renew",
            query: None,
            content_type: Some("application/json; charset=utf-8"),
            authorization: None,
            ms_cv: None,
            body,
        };
        assert_eq!(emulator.answer(&request, NOW).status, 200);
    })
}

/// One signature and one verification over a message as long as a key's.
fn rsa_micros(span: Duration) -> f64 {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair};
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("the operating system has randomness");
    let public = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref()).expect("a fresh key");
    let (message, mut signature) = ([b'x'; 1300], [0; 256]);
    micros(span, || {
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &message, &mut signature).expect("a fresh key signs");
        public.verify_sig(&message, &signature).expect("it was signed a moment ago");
    })
}

/// Microseconds per call, the best of five turns: what disturbs only ever adds.
#[expect(clippy::disallowed_methods, reason = "a bench measures the operating system's time")]
fn micros(span: Duration, mut call: impl FnMut()) -> f64 {
    (0..200).for_each(|_| call());
    let turn = |call: &mut dyn FnMut()| {
        let (start, mut calls) = (Instant::now(), 0_u32);
        while start.elapsed() < span / 5 {
            (0..20).for_each(|_| call());
            calls += 20;
        }
        start.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
    };
    (0..5).map(|_| turn(&mut call)).fold(f64::INFINITY, f64::min)
}
