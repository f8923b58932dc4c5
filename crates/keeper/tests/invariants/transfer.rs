//! Keys on their way to another keeper: nothing is lost, nothing is renewed by two, and nobody is taken for a stranger.

use std::collections::BTreeMap;

use storekeeper_keeper::{
    Code, EnrollOutcome, ExportQuery, ExportedKey, HandOver, HandOverError, ImportFacts, ImportRequest, Keeper,
    ReadError, RenewError, Standing,
};
use storekeeper_keyring::{Expected, Keyring, Record, Refused, State, Write};
use storekeeper_model::{Fingerprint, Secret};

use crate::support::fleet::Fleet;
use crate::support::store::Mood;
use crate::support::{DAY, HOUR, MINUTE, SECOND, World, identity, mygame, player, request};

pub(crate) async fn exported(keeper: &Keeper, query: ExportQuery) -> Vec<ExportedKey> {
    let mut keys = Vec::new();
    let mut query = ExportQuery { limit: 7, ..query };
    let mut is_first = true;
    loop {
        let page = keeper.export(query.clone()).await.unwrap();
        assert!(page.damaged.is_empty());
        keys.extend(page.keys);
        query.after = page.next;
        if query.after.is_none() {
            let expected = (query.since.is_none() && !query.to_hand_over).then_some(keys.len() as u64);
            assert!(expected.is_none_or(|expected| page.counted == Some(expected)));
            return keys;
        }
        assert_eq!(page.counted.is_some(), is_first, "how many there are is told in the beginning and at the end");
        is_first = false;
    }
}

pub(crate) async fn all(world: &World) -> Vec<ExportedKey> {
    exported(&world.keeper, ExportQuery::default()).await
}

pub(crate) fn mark(key: &ExportedKey) -> HandOver {
    HandOver { identity: key.view.identity.clone(), revision: key.revision }
}

async fn hand_over_all(world: &World) {
    let marks = all(world).await.iter().map(mark).collect();
    for marked in world.keeper.hand_over(marks).await {
        marked.unwrap();
    }
}

pub(crate) fn import(key: &ExportedKey) -> ImportRequest {
    let view = &key.view;
    ImportRequest {
        request: storekeeper_keeper::EnrollRequest {
            kind: Some(view.identity.kind),
            ..request(&view.identity, key.key.expose())
        },
        facts: ImportFacts {
            standing: Some(view.standing),
            proven: view.proven,
            fingerprint: Some(view.fingerprint),
            key_version: Some(view.key_version),
            enrolled: Some(key.enrolled),
            refused: key.refused,
            revoked_at: key.revoked_at,
            last_used_day: key.last_used_day,
            newcomer: key.newcomer.clone(),
            revision: Some(key.revision),
            handing_over: false,
        },
    }
}

async fn imported(world: &World, keys: &[ExportedKey]) -> Vec<EnrollOutcome> {
    let answers = world.keeper.import(keys.iter().map(import).collect()).await;
    answers.into_iter().map(|answer| answer.unwrap().outcome).collect()
}

#[tokio::test]
async fn a_key_that_is_handed_over_is_served_and_not_renewed() {
    let world = World::new().await;
    world.proven(3).await;
    let theirs = world.served(&player(0)).await;
    let keys = all(&world).await;
    let key = keys.iter().find(|key| key.view.identity.user.as_str() == player(0)).unwrap();
    world.keeper.hand_over(vec![mark(key)]).await.remove(0).unwrap();
    let view = world.view(&player(0)).await;
    assert!(view.handed_over && view.renew_at.is_none());
    let counts = world.counts().await;
    assert_eq!((counts.active, counts.handed_over), (2, 1));
    assert!(matches!(world.renew(&player(0)).await, Err(RenewError::Read(ReadError::HandedOver))));
    let refreshed = world.get_with(&player(0), DAY * 15).await.unwrap();
    assert_eq!(refreshed.renewal_failed.is_some(), refreshed.view.expires_at.unwrap() < world.now() + DAY * 15);
    world.advance(DAY * 29).await;
    assert_eq!(world.served(&player(0)).await, theirs, "it is served as it is, however often it is read");
    world.advance(DAY * 3).await;
    let gone = world.get(&player(0)).await.unwrap_err();
    assert_eq!((gone.code(), gone.code().as_str()), (Code::KeyHandedOver, "key_handed_over"));
    let counts = world.counts().await;
    assert_eq!((counts.active, counts.handed_over, counts.lapsed, counts.past_deadline), (2, 1, 0, 0));
}

#[tokio::test]
async fn a_key_that_has_changed_since_it_was_exported_is_not_handed_over() {
    let world = World::new().await;
    world.proven(1).await;
    let before = all(&world).await;
    world.renew(&player(0)).await.unwrap();
    let told = world.keeper.hand_over(vec![mark(&before[0])]).await.remove(0);
    assert!(matches!(told, Err(HandOverError::Changed)), "{told:?}");
    assert!(!world.view(&player(0)).await.handed_over);
    world.keeper.forget(&mygame(), &identity(&player(0)).user, None, None).await.unwrap();
    let told = world.keeper.hand_over(vec![mark(&before[0])]).await.remove(0);
    assert!(matches!(told, Err(HandOverError::NotFound)), "{told:?}");
}

#[tokio::test]
async fn a_renewal_under_way_is_waited_for_and_its_successor_handed_over_instead() {
    let world = World::new().await;
    world.proven(1).await;
    let before = all(&world).await;
    world.store.shut();
    let (keeper, asked) = (world.keeper.clone(), identity(&player(0)));
    let renewal = tokio::spawn(async move { keeper.renew(&asked).await });
    world.until("a renewal is under way", || world.store.renewals() > 0).await;
    let (keeper, marks) = (world.keeper.clone(), vec![mark(&before[0])]);
    let handing_over = tokio::spawn(async move { keeper.hand_over(marks).await });
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert!(world.view(&player(0)).await.handed_over && !handing_over.is_finished(), "it is marked, and waited for");
    world.store.open();
    renewal.await.unwrap().unwrap();
    let told = handing_over.await.unwrap().remove(0);
    assert!(matches!(told, Err(HandOverError::Changed)), "{told:?}");
    let left = exported(&world.keeper, ExportQuery { to_hand_over: true, ..ExportQuery::default() }).await;
    assert_ne!(left[0].view.fingerprint, before[0].view.fingerprint, "the successor is not thrown away");
    world.keeper.hand_over(vec![mark(&left[0])]).await.remove(0).unwrap();
    world.advance(DAY * 15).await;
    assert_eq!(world.served(&player(0)).await, left[0].view.fingerprint);
}

#[tokio::test]
async fn what_waits_to_be_renewed_is_not_sent_once_it_is_handed_over() {
    let world = World::new().await;
    // Only some go out while the Store answers nothing: the others wait on the way.
    world.store.shut();
    for number in 0..40 {
        world.enroll(&player(number), DAY * 12).await;
    }
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    let sent = world.store.renewals();
    assert!((1..=16).contains(&sent), "{sent} are under way");
    let marks: Vec<HandOver> = all(&world).await.iter().map(mark).collect();
    let keeper = world.keeper.clone();
    let handing_over = tokio::spawn(async move { keeper.hand_over(marks).await });
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    world.store.open();
    let told = handing_over.await.unwrap();
    let changed = told.iter().filter(|told| matches!(told, Err(HandOverError::Changed))).count();
    assert_eq!((changed, told.iter().filter(|told| told.is_ok()).count()), (sent, 40 - sent));
    let left = exported(&world.keeper, ExportQuery { to_hand_over: true, ..ExportQuery::default() }).await;
    assert_eq!(left.len(), sent, "what changed is exported again");
    for marked in world.keeper.hand_over(left.iter().map(mark).collect()).await {
        marked.unwrap();
    }
    world.advance(DAY).await;
    assert_eq!(world.store.renewals(), sent, "nothing else was sent");
}

#[tokio::test]
async fn nothing_is_handed_over_while_another_keeper_may_be_renewing_it() {
    let fleet = Fleet::of(2).await;
    fleet.members.iter().for_each(|member| member.hear_late_by(SECOND * 6));
    for number in 0..120 {
        fleet.enroll(number % 2, &player(number), DAY * 12).await;
    }
    fleet.advance(SECOND * 3).await;
    let keeper = fleet.members[0].keeper.clone();
    let hand_over = async |query: ExportQuery| {
        let marks = exported(&keeper, query).await.iter().map(mark).collect();
        let keeper = keeper.clone();
        fleet.answer(async move { keeper.hand_over(marks).await }).await
    };
    assert!(fleet.store.renewals() < 120, "most wait at both");
    for told in hand_over(ExportQuery::default()).await {
        assert!(matches!(told, Err(HandOverError::LeasesElsewhere)), "{told:?}");
    }
    let left = || ExportQuery { to_hand_over: true, ..ExportQuery::default() };
    assert_eq!(exported(&keeper, left()).await.len(), 120, "nothing is marked");

    keeper.drain_node("node-2").await.unwrap();
    fleet.advance(SECOND * 2).await;
    assert!(keeper.may_hand_over().is_err(), "what is under way there is waited for");
    fleet.advance(SECOND * 10).await;
    keeper.may_hand_over().unwrap();
    let told = hand_over(ExportQuery::default()).await;
    assert!(told.iter().any(|told| matches!(told, Err(HandOverError::Changed))), "some are being renewed here");
    for told in hand_over(left()).await {
        told.unwrap();
    }
    let sent = fleet.store.renewals();
    fleet.advance(MINUTE * 2).await;
    assert_eq!((fleet.store.renewals(), exported(&keeper, left()).await.len()), (sent, 0), "nobody renews any of them");
}

#[tokio::test]
async fn a_renewal_that_does_not_end_is_not_waited_for_without_end() {
    let world = World::new().await;
    world.proven(1).await;
    let before = all(&world).await;
    world.store.shut();
    let (keeper, asked) = (world.keeper.clone(), identity(&player(0)));
    let renewal = tokio::spawn(async move { keeper.renew(&asked).await });
    world.until("a renewal is under way", || world.store.renewals() > 0).await;
    let keeper = world.keeper.clone();
    let marks = vec![mark(&before[0])];
    let handing_over = tokio::spawn(async move { keeper.hand_over(marks).await });
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    world.clock.set(world.now() + MINUTE);
    handing_over.await.unwrap().remove(0).unwrap();
    world.store.open();
    drop(renewal.await);
    world.rest().await;
    assert!(!world.view(&player(0)).await.handed_over, "a successor that comes after all is kept, and stays ours");
}

#[tokio::test]
async fn a_newer_key_or_an_order_takes_back_what_was_handed_over() {
    let world = World::new().await;
    world.proven(3).await;
    hand_over_all(&world).await;
    hand_over_all(&world).await;
    assert_eq!(world.counts().await.handed_over, 3, "to repeat it changes nothing");
    world.advance(DAY).await;
    world.enroll(&player(0), MINUTE).await;
    world.advance(HOUR).await;
    let view = world.view(&player(0)).await;
    assert!(!view.handed_over && view.proven && view.renew_at.is_some());
    assert_eq!(world.counts().await.handed_over, 2);
    assert_eq!(world.keeper.reclaim(&mygame()).await.unwrap(), 2);
    assert_eq!(world.keeper.reclaim(&mygame()).await.unwrap(), 0);
    let before: Vec<Fingerprint> = world.everybody().await.iter().map(|view| view.fingerprint).collect();
    world.advance(DAY * 12).await;
    for view in world.everybody().await {
        assert!(!before.contains(&view.fingerprint) && !view.handed_over, "{view:?}");
    }
}

#[tokio::test]
async fn what_is_handed_over_bears_no_witness_and_is_no_probe() {
    let world = World::new().await;
    world.proven(8).await;
    hand_over_all(&world).await;
    world.enroll_dead("nobody", DAY * 11).await;
    world.advance(DAY * 3).await;
    let asked: Vec<String> =
        world.store.take_log().into_iter().map(|exchange| format!("{:?}", exchange.what)).collect();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|what| !what.contains("player-")), "{asked:?}");
    assert_eq!(world.counts().await.handed_over, 8);
}

#[tokio::test]
async fn who_is_imported_is_no_stranger() {
    let (old, new) = (World::new().await, World::new().await);
    old.proven(3).await;
    old.enroll("unproven", DAY).await;
    old.advance(DAY).await;
    old.served(&player(1)).await;
    old.store.shut();
    old.enroll(&player(2), MINUTE).await;
    old.until("the newcomer is tried", || old.store.renewals() > 0).await;
    let keys = all(&old).await;
    assert_eq!((keys.len(), keys.iter().filter(|key| key.newcomer.is_some()).count()), (4, 1));
    new.store.shut();
    new.clock.set(old.now());
    assert_eq!(imported(&new, &keys).await, [EnrollOutcome::New; 4]);
    assert_eq!(imported(&new, &keys).await, [EnrollOutcome::Known; 4], "begun again, nothing is done twice");
    let by_user = |keys: Vec<ExportedKey>| -> BTreeMap<String, ExportedKey> {
        keys.into_iter().map(|key| (key.view.identity.user.as_str().to_owned(), key)).collect()
    };
    let (old, taken) = (by_user(keys), by_user(all(&new).await));
    assert_eq!(taken.len(), 4);
    for (user, key) in taken {
        let former = &old[&user];
        assert_eq!(key.key.expose(), former.key.expose());
        assert_eq!(key.newcomer.as_ref().map(Secret::expose), former.newcomer.as_ref().map(Secret::expose), "{user}");
        assert_eq!((key.enrolled, key.last_used_day), (former.enrolled, former.last_used_day), "{user}");
        assert_eq!((key.view.proven, key.view.key_version), (former.view.proven, former.view.key_version), "{user}");
        assert_eq!(key.view.renew_at, former.view.renew_at, "{user}");
    }
}

#[tokio::test]
async fn dead_keys_are_imported_as_what_they_are() {
    let (old, new) = (World::new().await, World::new().await);
    old.proven(2).await;
    let mut revoked = old.row(&player(0)).await;
    let expected = Expected::of(&revoked);
    let refused = Refused { since: old.now() - DAY, count: 3 };
    revoked.revision = revoked.revision.next();
    revoked.state = State::Revoked { at: old.now(), refused };
    revoked.next_attempt_at = None;
    let write = Write::Put { expected, record: Box::new(revoked) };
    old.keyring.memory.settle(std::sync::Arc::new(vec![write])).await.unwrap();
    old.store.set(|store| store.mood = Mood::Broken);
    old.advance(DAY * 35).await;
    let keys = all(&old).await;
    new.clock.set(old.now());
    // A clock that jumps is doubted until a response agrees with it.
    assert!(new.keeper.import(vec![import(&keys[0])]).await.remove(0).is_err());
    new.advance(MINUTE).await;
    assert_eq!(imported(&new, &keys).await, [EnrollOutcome::New; 2]);
    assert_eq!(imported(&new, &keys).await, [EnrollOutcome::Known; 2]);
    assert!(matches!(new.get(&player(0)).await, Err(ReadError::Revoked)));
    assert!(matches!(new.get(&player(1)).await, Err(ReadError::Lapsed)));
    new.advance(DAY).await;
    assert_eq!(new.store.renewals(), 0, "nothing is asked for the dead");
    // A table of one's own does not tell that it was a keeper's; its dead keys are told apart by their times alone.
    let mut strange = import(&keys[0]);
    strange.facts = ImportFacts::default();
    strange.request.user = identity("stranger").user;
    let told = new.keeper.import(vec![strange]).await.remove(0).unwrap_err();
    assert_eq!(told.code(), Code::KeyExpired);
}

#[tokio::test]
async fn an_import_takes_the_place_of_an_older_key_and_never_of_a_newer_one() {
    let (old, new) = (World::new().await, World::new().await);
    old.proven(1).await;
    let before = all(&old).await;
    assert_eq!(imported(&new, &before).await, [EnrollOutcome::New]);
    old.advance(DAY * 12).await;
    new.clock.set(old.now());
    let after = all(&old).await;
    assert_ne!(before[0].view.fingerprint, after[0].view.fingerprint);
    assert_eq!(imported(&new, &after).await, [EnrollOutcome::Replaced], "the Store made it of the one that is held");
    let told = new.keeper.import(vec![import(&before[0])]).await.remove(0).unwrap_err();
    assert_eq!(told.code(), Code::KeyOlder);
    assert_eq!(new.served(&player(0)).await, after[0].view.fingerprint);
    let mut altered = import(&after[0]);
    altered.facts.fingerprint = Some(before[0].view.fingerprint);
    assert_eq!(new.keeper.import(vec![altered]).await.remove(0).unwrap_err().code(), Code::KeyAltered);
    // What is dead there does not bury what lives here.
    let mut dead = import(&after[0]);
    dead.facts.standing = Some(Standing::Revoked);
    dead.request.key = Secret::new(old.mint(&player(0), MINUTE));
    dead.facts.fingerprint = None;
    assert_eq!(new.keeper.import(vec![dead]).await.remove(0).unwrap_err().code(), Code::KeyRevoked);
    assert_eq!(new.served(&player(0)).await, after[0].view.fingerprint);
}

#[tokio::test]
async fn a_later_export_tells_what_changed() {
    let world = World::new().await;
    world.proven(30).await;
    world.advance(DAY).await;
    let first = world.keeper.export(ExportQuery { limit: 1000, ..ExportQuery::default() }).await.unwrap();
    assert_eq!(first.keys.len(), 30);
    world.advance(HOUR * 2).await;
    let since = || ExportQuery { since: Some(first.cursor), ..ExportQuery::default() };
    assert_eq!(exported(&world.keeper, since()).await.len(), 0);
    world.renew(&player(4)).await.unwrap();
    world.enroll("newcomer", MINUTE).await;
    let mut changed: Vec<String> =
        exported(&world.keeper, since()).await.iter().map(|key| key.view.identity.user.as_str().to_owned()).collect();
    changed.sort_unstable();
    assert_eq!(changed, ["newcomer".to_owned(), player(4)]);
}

#[tokio::test]
async fn a_damaged_row_is_told_and_holds_nothing_up() {
    let world = World::new().await;
    world.proven(3).await;
    let mut row: Record = world.row(&player(1)).await;
    let expected = Expected::of(&row);
    row.revision = row.revision.next();
    row.key.sealed.bytes[20] ^= 1;
    let write = Write::Put { expected, record: Box::new(row) };
    world.keyring.memory.settle(std::sync::Arc::new(vec![write])).await.unwrap();
    let page = world.keeper.export(ExportQuery { limit: 1000, ..ExportQuery::default() }).await.unwrap();
    assert_eq!((page.keys.len(), page.damaged.len(), page.counted), (2, 1, Some(3)));
    assert_eq!(page.damaged[0].identity.user.as_str(), player(1));
}
