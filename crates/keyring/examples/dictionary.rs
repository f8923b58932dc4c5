//! Makes the packing dictionary again, out of the skeletons of made-up keys:
//! `cargo run --release -p storekeeper-keyring --features conformance --example dictionary -- NEW_FILE`
//!
//! Without a file it reports how well the embedded dictionary does. Rows name their format and every format its
//! dictionary, so a new dictionary is a new format beside the old one, never a replacement.

#![expect(clippy::print_stdout, reason = "it is a program that prints what it measured")]

use std::hint::black_box;

use rand::{Rng, SeedableRng};
use storekeeper_keyring::conformance::Shape;
use storekeeper_keyring::fold::Folded;
use storekeeper_keyring::pack::{DICTIONARY_1, pack, unpack};
use storekeeper_keyring::{MasterKey, Role, Sealer};
use storekeeper_model::{AppName, Identity, KeyKind, Slot, Timestamp, UserName};

const SEED: u64 = 1;

fn main() {
    if let Some(file) = std::env::args().nth(1) {
        let dictionary = dictionary();
        std::fs::write(&file, &dictionary).expect("the file can be written");
        println!("{file}: {} bytes, the embedded one again: {}", dictionary.len(), dictionary == DICTIONARY_1);
        return;
    }
    report("of every shape", &keys(SEED + 1, 2000));
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(SEED);
    let usual = Shape::usual(KeyKind::Collections, Timestamp::from_seconds(1_800_000_000));
    let same: Vec<String> = (0..2000).map(|_| usual.jwt(&mut rng)).collect();
    report("usual", &same);
    seal_report(&same);
}

/// The skeletons of keys as they are known to be written, each part once.
fn dictionary() -> Vec<u8> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(SEED);
    let (mut headers, mut claims) = (Vec::new(), Vec::new());
    for kind in KeyKind::ALL {
        for order in 0..Shape::ORDERS {
            let usual = Shape::usual(kind, Timestamp::from_seconds(1_800_000_000));
            let skeleton = skeleton(&Shape { order, ..usual }.jwt(&mut rng));
            let end = skeleton.iter().position(|byte| *byte == 0).expect("a skeleton tells its header's end") + 1;
            let (header, rest) = skeleton.split_at(end);
            for (parts, part) in [(&mut headers, header), (&mut claims, rest)] {
                if !parts.iter().any(|known: &Vec<u8>| known == part) {
                    parts.push(part.to_vec());
                }
            }
        }
    }
    headers.into_iter().chain(claims).flatten().collect()
}

fn skeleton(key: &str) -> Vec<u8> {
    let mut folded = Folded::default();
    folded.fold(key).expect("a made-up key folds");
    folded.skeleton.clone()
}

fn keys(seed: u64, count: usize) -> Vec<String> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| shape(&mut rng).jwt(&mut rng)).collect()
}

fn shape(rng: &mut impl Rng) -> Shape {
    let kind = KeyKind::ALL[rng.random_range(0..2)];
    let hex: String = (0..32).map(|_| char::from(b"0123456789abcdef"[rng.random_range(0..16)])).collect();
    let user_id = match rng.random_range(0..4) {
        0 => format!("player-{:04}", rng.random_range(0..10_000)),
        1 => format!("user{}@example.com", rng.random_range(0..100_000)),
        2 => hex.clone(),
        _ => String::from("NoUserIdProvided"),
    };
    Shape {
        lifetime: if rng.random_bool(0.9) { 2_592_000 } else { 7_775_999 },
        client_id: if rng.random_bool(0.9) {
            hex
        } else {
            format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
        },
        user_id,
        certificate: rng.random(),
        payload_length: if rng.random_bool(0.7) { 256 } else { 512 },
        order: rng.random_range(0..Shape::ORDERS),
        ..Shape::usual(kind, Timestamp::from_seconds(rng.random_range(1_700_000_000..2_000_000_000)))
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures the machine's own time")]
fn timed(count: usize, act: impl FnOnce()) -> f64 {
    let began = std::time::Instant::now();
    act();
    began.elapsed().as_secs_f64() * 1e6 / count as f64
}

fn report(what: &str, keys: &[String]) {
    let mut packed: Vec<(u8, Vec<u8>)> = Vec::new();
    let text: usize = keys.iter().map(String::len).sum();
    let pack_us = timed(keys.len(), || {
        packed.extend(keys.iter().map(|key| pack(key, |format, packed| (format, packed.to_vec()))));
    });
    let unpack_us =
        timed(keys.len(), || packed.iter().for_each(|(format, bytes)| drop(black_box(unpack(*format, bytes)))));
    let bytes: usize = packed.iter().map(|(_, bytes)| bytes.len()).sum();
    let count = keys.len();
    println!(
        "{what}: {} bytes -> {} bytes, pack {pack_us:.1} us, unpack {unpack_us:.1} us",
        text / count,
        bytes / count
    );
}

fn seal_report(keys: &[String]) {
    let now = Timestamp::from_seconds(1_800_000_000);
    let sealer =
        Sealer::load_or_create(&MasterKey::generate(), Vec::new(), now).expect("an empty keyring has no roots").0;
    let identity = Identity {
        app: AppName::new("mygame").expect("a valid name"),
        user: UserName::from_bytes(b"player-0001").expect("a valid name"),
        slot: Slot::default(),
        kind: KeyKind::Collections,
    };
    let id = identity.key_id();
    let keys: Vec<_> = keys.iter().map(|key| storekeeper_model::Secret::new(key.clone())).collect();
    let mut sealed = Vec::new();
    let seal_us = timed(keys.len(), || {
        sealed.extend(keys.iter().map(|key| sealer.seal(&identity, id, Role::Held, 1, key)));
    });
    let unseal_us = timed(keys.len(), || {
        sealed.iter().for_each(|sealed| drop(black_box(sealer.unseal(&identity, id, Role::Held, 1, sealed))));
    });
    println!("sealed: {} bytes, seal {seal_us:.1} us, unseal {unseal_us:.1} us", sealed[0].bytes.len());
}
