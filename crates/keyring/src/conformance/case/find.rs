//! Rows are found by name, and their use is noted.

use storekeeper_model::KeyKind;

use crate::conformance::Rows;
use crate::conformance::row::{NOW, enroll, found, identity, put};
use crate::{Keyring, Record, Settled};

/// One answer per id, also for the same id twice and for one that nobody has.
pub async fn rows_come_in_the_order_asked_for(keyring: &dyn Keyring) {
    let mut rows = Rows::new(1);
    let records: Vec<Record> = (0..300).map(|number| rows.usual(&format!("player-{number}"))).collect();
    enroll(keyring, &records[..299]).await;
    for asked in [vec![], vec![7, 299, 3, 7], (0..300).rev().collect::<Vec<_>>()] {
        let ids: Vec<_> = asked.iter().map(|number| records[*number].id).collect();
        let expected: Vec<_> = asked.iter().map(|number| (*number < 299).then(|| records[*number].clone())).collect();
        assert_eq!(keyring.find(&ids).await.expect("the keyring is available"), expected);
    }
}

/// And nobody else's, however alike the names are.
pub async fn a_player_has_all_kinds_and_slots(keyring: &dyn Keyring) {
    let mut rows = Rows::new(2);
    let theirs = [("", KeyKind::Collections), ("", KeyKind::Purchase), ("alt", KeyKind::Collections)];
    let mut records = Vec::new();
    for (app, user) in [("mygame", "ann"), ("mygame", "anna"), ("mygame", "Ann"), ("other", "ann")] {
        for (slot, kind) in theirs {
            let mut record = rows.row(app, user, kind);
            record.identity = identity(app, user, slot, kind);
            record.id = record.identity.key_id();
            records.push(record);
        }
    }
    enroll(keyring, &records).await;
    for player in records.chunks(3) {
        let (app, user) = (&player[0].identity.app, &player[0].identity.user);
        let mut found = keyring.of_user(app, user).await.expect("the keyring is available");
        found.sort_by(|one, other| one.identity.cmp(&other.identity));
        let mut expected = player.to_vec();
        expected.sort_by(|one, other| one.identity.cmp(&other.identity));
        assert_eq!(found, expected);
    }
    let nobody = identity("nogame", "ann", "", KeyKind::Purchase);
    assert_eq!(keyring.of_user(&nobody.app, &nobody.user).await.expect("the keyring is available"), []);
}

/// The latest day stands, through writes that do not know of it.
pub async fn noting_use_changes_no_revision_and_is_never_taken_back(keyring: &dyn Keyring) {
    let mut rows = Rows::new(3);
    let (read, unread) = (rows.usual("a"), rows.usual("b"));
    let nobody = rows.usual("nobody");
    enroll(keyring, &[read.clone(), unread.clone()]).await;
    for (day, latest) in [(20_000, 20_000), (20_002, 20_002), (20_001, 20_002)] {
        keyring.note_used(&[(nobody.id, day), (read.id, day)]).await.expect("the keyring is available");
        assert_eq!(found(keyring, &read).await, Some(Record { last_used_day: Some(latest), ..read.clone() }));
    }
    // Written by somebody who read the row before its use was noted.
    let renewed = rows.renewed(&read, NOW);
    assert_eq!(put(keyring, &read, &renewed).await, Settled::Done(renewed.revision));
    assert_eq!(found(keyring, &read).await, Some(Record { last_used_day: Some(20_002), ..renewed.clone() }));
    let later = Record { last_used_day: Some(20_003), ..rows.renewed(&renewed, NOW) };
    assert_eq!(put(keyring, &renewed, &later).await, Settled::Done(later.revision));
    assert_eq!(found(keyring, &read).await, Some(later));
    assert_eq!(found(keyring, &unread).await, Some(unread));
    assert_eq!(found(keyring, &nobody).await, None);
}
