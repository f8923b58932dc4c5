//! Keys that are handed over in any direction, any number of times: exactly one keeper renews each.

use std::collections::BTreeMap;

use proptest::prelude::*;
use storekeeper_keeper::{EnrollOutcome, Enrolled, ExportQuery, ExportedKey, ImportFacts, ImportRequest, Standing};
use storekeeper_keyring::{Expected, Keyring, Refused, State, Write};

use crate::support::{DAY, HOUR, MINUTE, World, player};
use crate::transfer::{all, exported, import, mark};

/// The line of an export that hands its key over.
fn given_up(key: &ExportedKey) -> ImportRequest {
    let line = import(key);
    ImportRequest { facts: ImportFacts { handing_over: true, ..line.facts }, ..line }
}

async fn take(world: &World, lines: Vec<ImportRequest>) -> Vec<Enrolled> {
    world.keeper.import(lines).await.into_iter().map(Result::unwrap).collect()
}

/// Marks every key of an export, and returns its lines.
async fn give_up(world: &World) -> Vec<ImportRequest> {
    let keys = all(world).await;
    for marked in world.keeper.hand_over(keys.iter().map(mark).collect()).await {
        marked.unwrap();
    }
    keys.iter().map(given_up).collect()
}

async fn hand_over(from: &World, to: &World) -> Vec<Enrolled> {
    let lines = give_up(from).await;
    take(to, lines).await
}

/// Two keepers whose clocks show the same, the first with some keys.
async fn pair(keys: usize) -> [World; 2] {
    let worlds = [World::new().await, World::new().await];
    worlds[0].proven(keys).await;
    worlds[1].clock.set(worlds[0].now());
    worlds
}

#[tokio::test]
async fn what_comes_back_is_renewed_again() {
    let [old, new] = pair(3).await;
    hand_over(&old, &new).await;
    assert_eq!((old.counts().await.handed_over, new.counts().await.active), (3, 3));
    let back = hand_over(&new, &old).await;
    assert!(back.iter().all(|key| key.outcome == EnrollOutcome::Known && !key.view.handed_over), "{back:?}");
    assert_eq!((old.counts().await.active, new.counts().await.handed_over), (3, 3));
    for _ in 0..3 {
        hand_over(&old, &new).await;
        hand_over(&new, &old).await;
    }
    old.advance(DAY * 12).await;
    assert_eq!((old.store.renewals(), new.store.renewals()), (3, 0), "one of them renews each key");
}

#[tokio::test]
async fn a_plain_export_takes_no_mark_away() {
    let [old, new] = pair(2).await;
    hand_over(&old, &new).await;
    let known = take(&old, all(&new).await.iter().map(import).collect()).await;
    assert!(known.iter().all(|key| key.outcome == EnrollOutcome::Known && key.view.handed_over), "{known:?}");
    new.advance(DAY * 12).await;
    old.clock.set(new.now());
    let newer = take(&old, all(&new).await.iter().map(import).collect()).await;
    assert!(newer.iter().all(|key| key.outcome == EnrollOutcome::Replaced && key.view.handed_over), "{newer:?}");
    assert_eq!(old.served(&player(0)).await, new.served(&player(0)).await, "it is served all the same");
    hand_over(&new, &old).await;
    assert_eq!((old.counts().await.active, new.counts().await.handed_over), (2, 2));
}

#[tokio::test]
async fn a_line_that_was_overtaken_takes_no_mark_away() {
    let [old, new] = pair(2).await;
    let there = give_up(&old).await;
    take(&old, there.clone()).await;
    assert_eq!(old.counts().await.handed_over, 2, "the lines are out: who has them is not known");
    take(&new, there.clone()).await;
    let back = give_up(&new).await;
    take(&new, there.clone()).await;
    assert_eq!(new.counts().await.handed_over, 2, "handed on since");
    take(&old, back.clone()).await;
    take(&new, there).await;
    take(&new, back).await;
    assert_eq!((old.counts().await.active, new.counts().await.handed_over), (2, 2));
    // Without a revision nothing speaks against the line: the caller knows.
    let mut by_hand = given_up(&all(&new).await[0]);
    by_hand.facts = ImportFacts { handing_over: true, ..ImportFacts::default() };
    assert!(!take(&new, vec![by_hand]).await[0].view.handed_over);
}

#[tokio::test]
async fn a_keeper_that_held_the_key_all_along_can_hand_it_over_later() {
    let [old, new] = pair(0).await;
    // Enrolled with both, and first with the other: the revision there is lower.
    old.enroll(&player(0), HOUR).await;
    new.clock.set(old.now() - MINUTE);
    let line = import(&all(&old).await[0]);
    take(&new, vec![ImportRequest { facts: ImportFacts::default(), ..line }]).await;
    new.clock.set(old.now());
    assert_eq!(hand_over(&old, &new).await[0].outcome, EnrollOutcome::Known);
    hand_over(&new, &old).await;
    assert_eq!((old.counts().await.active, new.counts().await.handed_over), (1, 1));
}

#[tokio::test]
async fn a_newcomer_travels_with_its_key() {
    let [old, new] = pair(1).await;
    let before = all(&old).await;
    take(&new, before.iter().map(given_up).collect()).await;
    // The export broke off before its marks, and the player has a new key since.
    old.store.shut();
    old.advance(HOUR).await;
    new.store.shut();
    new.clock.set(old.now());
    let key = old.enroll(&player(0), MINUTE).await;
    let lines: Vec<ImportRequest> = all(&old).await.iter().map(given_up).collect();
    assert_eq!(take(&new, lines).await[0].outcome, EnrollOutcome::Known);
    let there = all(&new).await.remove(0);
    assert_eq!(there.newcomer.as_ref().map(|newcomer| newcomer.expose().as_str()), Some(key.as_str()));
    // Back again with its newcomer, into a row that was marked without it.
    let other = World::new().await;
    other.store.shut();
    other.clock.set(old.now());
    take(&other, before.iter().map(import).collect()).await;
    give_up(&other).await;
    let mut line = given_up(&there);
    line.facts.revision = None;
    assert!(!take(&other, vec![line]).await[0].view.handed_over);
    assert!(all(&other).await[0].newcomer.is_some());
}

#[tokio::test]
async fn what_died_elsewhere_is_dead_when_it_comes_back() {
    let [old, new] = pair(1).await;
    hand_over(&old, &new).await;
    let mut row = new.row(&player(0)).await;
    let expected = Expected::of(&row);
    row.revision = row.revision.next();
    row.state = State::Revoked { at: new.now(), refused: Refused { since: new.now() - DAY, count: 3 } };
    row.next_attempt_at = None;
    let write = Write::Put { expected, record: Box::new(row) };
    new.keyring.memory.settle(std::sync::Arc::new(vec![write])).await.unwrap();
    hand_over(&new, &old).await;
    assert_eq!(old.view(&player(0)).await.standing, Standing::Revoked, "the player has to mint a new one");
}

#[tokio::test]
async fn a_row_with_a_successor_stays_handed_over() {
    let [old, new] = pair(1).await;
    let first = all(&old).await;
    old.advance(DAY * 12).await;
    new.clock.set(old.now());
    let third = World::new().await;
    third.clock.set(old.now());
    hand_over(&old, &third).await;
    // An older key from elsewhere, whatever its revision.
    let mut line = given_up(&first[0]);
    line.facts.revision = None;
    drop(old.keeper.import(vec![line]).await);
    assert!(old.view(&player(0)).await.handed_over, "its successor is renewed by the third");
}

#[tokio::test]
async fn reads_of_keys_that_are_handed_over_are_counted() {
    let [old, new] = pair(1).await;
    old.served(&player(0)).await;
    hand_over(&old, &new).await;
    assert_eq!(old.app().await.handed_over_read_at, None);
    let expires_at = old.view(&player(0)).await.expires_at;
    let until = |stats: storekeeper_keeper::AppStats| stats.kinds.iter().find_map(|(_, kind)| kind.handed_over_until);
    assert_eq!(until(old.app().await), expires_at);
    old.served(&player(0)).await;
    assert_eq!(old.app().await.handed_over_read_at, Some(old.now()));
    old.advance(DAY * 31).await;
    old.get(&player(0)).await.unwrap_err();
    assert_eq!(old.app().await.handed_over_read_at, Some(old.now()), "also a read of a key that has expired");
    assert_eq!((until(old.app().await), old.counts().await.handed_over), (None, 1));
    assert!((old.metric("storekeeper_handed_over_reads_total{app=\"mygame\"}").await - 2.0).abs() < 0.5);
}

/// How a move goes.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    /// The export breaks off when so many keys have been written to its pipe, all of them marked.
    Pipe(usize),
    /// The export to a file breaks off when so many keys are marked, and the file is not complete.
    File(usize),
    /// The import breaks off after so many lines.
    Import(usize),
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// All keys go from one to the other. What breaks off is begun again.
    Move { back: bool, fault: Fault },
    /// Time goes by.
    Hours(u32),
    /// Lines of an earlier move are imported once more, wherever.
    Repeat { line: usize, into: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let fault = prop_oneof![
        Just(Fault::None),
        (0..5_usize).prop_map(Fault::Pipe),
        (0..5_usize).prop_map(Fault::File),
        (0..5_usize).prop_map(Fault::Import),
    ];
    prop_oneof![
        3 => (any::<bool>(), fault).prop_map(|(back, fault)| Step::Move { back, fault }),
        1 => (1..300_u32).prop_map(Step::Hours),
        2 => (any::<usize>(), 0..2_usize).prop_map(|(line, into)| Step::Repeat { line, into }),
    ]
}

/// How many keepers renew each player's key.
async fn renewers(worlds: &[World; 2]) -> BTreeMap<String, usize> {
    let mut renewers = BTreeMap::new();
    for world in worlds {
        for view in world.everybody().await {
            let renews = view.standing == Standing::Active && !view.handed_over;
            *renewers.entry(view.identity.user.as_str().to_owned()).or_default() += usize::from(renews);
        }
    }
    renewers
}

async fn moved(from: &World, to: &World, fault: Fault, written: &mut Vec<ImportRequest>) {
    let keys = all(from).await;
    let (lines, is_whole) = match fault {
        Fault::None => (give_up(from).await, true),
        Fault::Import(count) => (give_up(from).await.into_iter().take(count).collect(), false),
        Fault::Pipe(count) => {
            let some = &keys[..count.min(keys.len())];
            from.keeper.hand_over(some.iter().map(mark).collect()).await;
            (some.iter().skip(1).map(given_up).collect(), false)
        }
        Fault::File(count) => {
            from.keeper.hand_over(keys.iter().take(count).map(mark).collect()).await;
            (Vec::new(), false)
        }
    };
    written.extend(lines.iter().cloned());
    // A line may be refused: what is held here is newer.
    drop(to.keeper.import(lines).await);
    if !is_whole {
        let lines = give_up(from).await;
        written.extend(lines.iter().cloned());
        drop(to.keeper.import(lines).await);
    }
}

async fn check(steps: &[Step]) -> Result<(), TestCaseError> {
    let worlds = pair(4).await;
    let mut written = Vec::new();
    for (place, step) in steps.iter().enumerate() {
        match *step {
            Step::Move { back, fault } => {
                let (from, to) = if back { (&worlds[1], &worlds[0]) } else { (&worlds[0], &worlds[1]) };
                let gives = exported(&from.keeper, ExportQuery { to_hand_over: true, ..ExportQuery::default() }).await;
                moved(from, to, fault, &mut written).await;
                for key in gives {
                    let there = to.view(key.view.identity.user.as_str()).await;
                    prop_assert!(!there.handed_over, "step {place}: {there:?}");
                }
            }
            Step::Hours(hours) => {
                for world in &worlds {
                    world.advance(HOUR * hours).await;
                }
            }
            Step::Repeat { line, into } if !written.is_empty() => {
                let line = written[line % written.len()].clone();
                drop(worlds[into].keeper.import(vec![line]).await);
            }
            Step::Repeat { .. } => {}
        }
        for (user, count) in renewers(&worlds).await {
            prop_assert_eq!(count, 1, "step {}: {} keepers renew the key of {}", place, count, user);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exactly_one_keeper_renews_each_key(steps in prop::collection::vec(step(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(check(&steps))?;
    }
}
