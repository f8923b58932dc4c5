//! Rescue files: what is written comes back; what is damaged is noticed, and costs nothing but itself.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::time::Duration;

use storekeeper_keyring::conformance::Rows;
use storekeeper_keyring::rescue_file::{self, Contents, HEADER, read};
use storekeeper_keyring::{Expected, KeyringId, NodeId, Record, State, Write, successor};
use storekeeper_model::{Fingerprint, Lifetime, Timestamp};

const OURS: KeyringId = KeyringId::from_bytes([7; 16]);
const OTHER: KeyringId = KeyringId::from_bytes([8; 16]);
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// A row as it stands, and as its renewal leaves it.
fn renewed(rows: &mut Rows, user: &str) -> (Record, Record) {
    let row = rows.usual(user);
    let mut successor = row.clone();
    successor.key = rows.key(NOW + Duration::from_secs(9 * 86_400));
    successor.key_version += 1;
    successor.revision = successor.revision.next();
    (row, successor)
}

fn file(keyring: KeyringId, successors: &[(Record, Record)]) -> Vec<u8> {
    let mut bytes = rescue_file::header(keyring, NodeId::from_bytes([1; 16]), NOW).to_vec();
    for (row, successor) in successors {
        rescue_file::put_record(&mut bytes, keyring, &successor::pack(row.key.fingerprint, successor));
    }
    rescue_file::put_end(&mut bytes, keyring, successors.len() as u64);
    bytes
}

fn some(count: usize) -> Vec<(Record, Record)> {
    let mut rows = Rows::new(11);
    (0..count).map(|number| renewed(&mut rows, &format!("player-{number}"))).collect()
}

fn ids(contents: &Contents) -> Vec<Fingerprint> {
    contents.successors.iter().map(|successor| successor.key.fingerprint).collect()
}

#[test]
fn what_is_written_comes_back() {
    let successors = some(3);
    let mut bytes = file(OURS, &successors);
    for reserved in [0, 1, 4096] {
        bytes.resize(bytes.len() + reserved, 0);
        let contents = read(&bytes, OURS);
        assert_eq!((contents.keyring, contents.damaged, contents.successors.len()), (Some(OURS), 0, 3));
        for (found, (row, successor)) in contents.successors.iter().zip(&successors) {
            assert!(found.fits(row) && !found.fits(successor));
            let Write::Put { expected, record } = found.put_into(row.clone(), NOW) else { panic!("it puts a row") };
            assert_eq!(expected, Expected::of(row));
            assert_eq!(*record, *successor);
        }
    }
    assert_eq!(read(&file(OURS, &[]), OURS).damaged, 0);
}

#[test]
fn a_successor_with_unusable_times_and_a_newcomer_comes_back() {
    let mut rows = Rows::new(3);
    let (mut row, mut successor) = renewed(&mut rows, "ada");
    row.newcomer = Some(storekeeper_keyring::Newcomer { key: rows.key(NOW), refused: None });
    successor.newcomer.clone_from(&row.newcomer);
    successor.key.lifetime = Lifetime::new(NOW, NOW, NOW - Duration::from_secs(5));
    successor.next_attempt_at = None;
    let found = successor::unpack(&successor::pack(row.key.fingerprint, &successor)).unwrap();
    assert_eq!((&found.key, &found.newcomer, found.next_attempt_at), (&successor.key, &successor.newcomer, None));
    let Write::Put { record, .. } = found.put_into(row, NOW) else { panic!("it puts a row") };
    assert_eq!(record.next_attempt_at, Some(NOW), "the newcomer is due");
}

#[test]
fn a_row_keeps_what_a_successor_does_not_bring() {
    let (mut row, successor) = some(1).remove(0);
    let found = successor::unpack(&successor::pack(row.key.fingerprint, &successor)).unwrap();
    row.next_attempt_at = Some(Record::HANDED_OVER);
    row.last_used_day = Some(9);
    let Write::Put { record, .. } = found.put_into(row.clone(), NOW) else { panic!("it puts a row") };
    assert!(record.is_handed_over());
    assert_eq!((record.last_used_day, record.state, record.revision), (Some(9), State::ACTIVE, row.revision.next()));
    row.key_version += 1;
    assert!(!found.fits(&row), "it is sealed for another version");
}

#[test]
fn neither_user_nor_app_is_named() {
    let successors = vec![renewed(&mut Rows::new(5), "a-rather-long-user-name")];
    let bytes = file(OURS, &successors);
    for name in ["a-rather-long-user-name", "mygame"] {
        assert!(!bytes.windows(name.len()).any(|window| window == name.as_bytes()), "{name}");
    }
}

#[test]
fn a_file_cut_short_anywhere_is_noticed_and_gives_what_is_whole() {
    let successors = some(3);
    let bytes = file(OURS, &successors);
    let all = ids(&read(&bytes, OURS));
    for length in 0..bytes.len() {
        let contents = read(&bytes[..length], OURS);
        assert!(contents.damaged > 0, "cut at {length}");
        assert!(all.starts_with(&ids(&contents)), "cut at {length}");
        let mut reserved = bytes[..length].to_vec();
        reserved.resize(bytes.len() + 100, 0);
        let contents = read(&reserved, OURS);
        // A cut off zero reads as what it was.
        assert!(contents.damaged > 0 || bytes[length..].iter().all(|byte| *byte == 0), "cut at {length}, zeros behind");
    }
}

#[test]
fn one_flipped_byte_costs_one_record_at_most() {
    let successors = some(4);
    let bytes = file(OURS, &successors);
    let all = ids(&read(&bytes, OURS));
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let contents = read(&damaged, OURS);
            assert!(contents.damaged > 0, "byte {at}");
            let found = ids(&contents);
            assert!(found.iter().all(|one| all.contains(one)), "byte {at}");
            let lost = all.len() - found.len();
            assert!(lost <= usize::from(at >= HEADER), "byte {at} cost {lost}");
        }
    }
}

#[test]
fn any_bytes_are_read() {
    proptest::proptest!(|(bytes: Vec<u8>)| {
        let whole = file(OURS, &some(1));
        let _ = read(&bytes, OURS);
        let contents = read(&[&whole[..], &bytes].concat(), OURS);
        assert_eq!(contents.successors.len(), 1);
    });
}

#[test]
fn a_file_of_another_keyring_gives_nothing() {
    let bytes = file(OTHER, &some(2));
    let contents = read(&bytes, OURS);
    assert_eq!((contents.keyring, contents.successors.len()), (Some(OTHER), 0));
    // Even under our header: its checksums are not ours.
    let mut forged = file(OURS, &[]);
    forged.truncate(HEADER);
    forged.extend_from_slice(&bytes[HEADER..]);
    let contents = read(&forged, OURS);
    assert!(contents.successors.is_empty() && contents.damaged > 0);
}
