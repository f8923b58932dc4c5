//! Invariant 1, where the keyring takes no writes: a successor is put into the rescue file, and taken up from there.
//!
//! Drains are limited in the operating system's time, which passes at once here.

use std::fs;
use std::path::{Path, PathBuf};

use storekeeper_keeper::{Keeper, KeeperConfig, Limits};
use storekeeper_keyring::NodeId;
use storekeeper_model::Fingerprint;
use tempfile::TempDir;

use crate::support::{DAY, MINUTE, SECOND, World, config, identity, player};

fn with_folder(folder: &TempDir) -> KeeperConfig {
    KeeperConfig { rescue_folder: Some(folder.path().to_owned()), limits: Limits::Off, ..config() }
}

/// The files in a folder that end so.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// A world in which `count` keys are renewed while the keyring takes no writes; the Store refuses superseded keys.
async fn renewed_in_an_outage(folder: &TempDir, count: usize) -> World {
    let world = World::with(with_folder(folder)).await;
    world.store.set(|store| store.refuses_superseded = true);
    world.store.shut();
    for number in 0..count {
        world.enroll(&player(number), DAY * 11).await;
    }
    world.until("renewals are under way", || world.store.renewals() == count).await;
    world.keyring.memory.set_available(false);
    world.store.open();
    world.advance(SECOND).await;
    world
}

async fn started_again(world: &World, folder: &TempDir) -> Keeper {
    let mut config = with_folder(folder);
    config.node.id = NodeId::from_bytes([9; 16]);
    world.another(config).await
}

#[tokio::test(start_paused = true)]
async fn invariant_1_a_successor_that_cannot_be_committed_is_rescued_and_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let world = renewed_in_an_outage(&folder, 12).await;
    assert_eq!(world.keeper.rescue().held, 12, "they are on disk although the keeper does not end");
    let drained = world.keeper.shutdown().await;
    assert_eq!((drained.rescued, drained.lost, drained.unanswered), (12, 0, 0), "{drained}");
    let file = drained.rescue_file.clone().unwrap();
    assert_eq!(files(folder.path(), "rescue"), std::slice::from_ref(&file));
    assert!(drained.to_string().contains("12 successors not written to the keyring"), "{drained}");
    world.keyring.memory.set_available(true);

    let keeper = started_again(&world, &folder).await;
    assert!(!file.exists(), "what is committed is not kept");
    for number in 0..12 {
        let view = keeper.show(&identity(&player(number))).await.unwrap();
        assert_eq!((view.key_version, view.proven), (2, true));
        let live = keeper.get(&identity(&player(number)), None).await.unwrap();
        assert_eq!(Fingerprint::of(live.key.expose()), view.fingerprint, "it opens");
    }
    world.advance(DAY * 40).await;
    let counts = keeper.stats().await.unwrap().apps.remove(0).kinds;
    let active: u64 = counts.iter().map(|(_, kind)| kind.active).sum();
    assert_eq!(active, 12, "each is renewed again");
    assert!(keeper.shutdown().await.is_clean());
    assert!(files(folder.path(), "rescue").is_empty() && files(folder.path(), "reserve").is_empty());
}

#[tokio::test(start_paused = true)]
async fn invariant_1_a_rescue_file_is_emptied_when_the_keyring_has_taken_all() {
    let folder = tempfile::tempdir().unwrap();
    let world = renewed_in_an_outage(&folder, 12).await;
    assert_eq!(files(folder.path(), "rescue").len(), 1);
    world.keyring.memory.set_available(true);
    world.advance(MINUTE).await;
    assert_eq!(world.keeper.rescue().held, 0);
    assert!(files(folder.path(), "rescue").is_empty());
    assert_eq!(files(folder.path(), "reserve").len(), 1, "its space stays reserved");
    assert_eq!(world.counts().await.unproven, 0);
    assert!(world.keeper.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn invariant_1_one_row_that_cannot_be_written_stops_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::with(with_folder(&folder)).await;
    world.store.set(|store| store.refuses_superseded = true);
    world.store.shut();
    for number in 0..16 {
        world.enroll(&player(number), DAY * 11).await;
    }
    world.until("renewals are under way", || world.store.renewals() == 16).await;
    for number in [3, 11] {
        world.keyring.refuse(identity(&player(number)).key_id());
    }
    world.store.open();
    world.advance(MINUTE).await;
    assert_eq!(world.counts().await.unproven, 2, "the others are written");
    assert_eq!(world.keeper.rescue().held, 2, "the two are on disk all the same");
    world.enroll("late", DAY * 11).await;
    world.advance(MINUTE * 10).await;
    assert_eq!(world.counts().await.unproven, 2, "renewals go on");

    let drained = world.keeper.shutdown().await;
    assert_eq!((drained.rescued, drained.lost), (2, 0), "{drained}");
    world.keyring.accept_all();
    let keeper = started_again(&world, &folder).await;
    for number in [3, 11] {
        assert_eq!(keeper.show(&identity(&player(number))).await.unwrap().key_version, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn invariant_1_a_row_that_is_written_again_later_needs_no_restart() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::with(with_folder(&folder)).await;
    world.store.set(|store| store.refuses_superseded = true);
    world.store.shut();
    world.enroll("ada", DAY * 11).await;
    world.until("a renewal is under way", || world.store.renewals() == 1).await;
    world.keyring.refuse(identity("ada").key_id());
    world.store.open();
    world.advance(MINUTE).await;
    assert_eq!(world.view("ada").await.key_version, 1);
    world.keyring.accept_all();
    world.advance(MINUTE * 10).await;
    assert_eq!(world.view("ada").await.key_version, 2);
    assert_eq!(world.store.renewals(), 1, "the Store was asked once");
    assert!(world.keeper.shutdown().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_rescue_file_that_is_there_twice_or_half_taken_up_changes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let world = renewed_in_an_outage(&folder, 5).await;
    let drained = world.keeper.shutdown().await;
    let file = drained.rescue_file.unwrap();
    let again = file.with_file_name("storekeeper-again.rescue");
    fs::copy(&file, &again).unwrap();
    world.keyring.memory.set_available(true);
    let keeper = started_again(&world, &folder).await;
    assert!(files(folder.path(), "rescue").is_empty(), "both are done with");
    assert_eq!(keeper.show(&identity(&player(0))).await.unwrap().key_version, 2);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_rescue_file_gives_what_is_whole_and_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let world = renewed_in_an_outage(&folder, 5).await;
    let file = world.keeper.shutdown().await.rescue_file.unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[200] ^= 1;
    fs::write(&file, bytes).unwrap();
    world.keyring.memory.set_available(true);
    let keeper = started_again(&world, &folder).await;
    let mut versions = Vec::new();
    for number in 0..5 {
        versions.push(keeper.show(&identity(&player(number))).await.unwrap().key_version);
    }
    versions.sort_unstable();
    assert_eq!(versions, [1, 2, 2, 2, 2]);
    assert_eq!(keeper.rescue().unusable, files(folder.path(), "damaged"));
    assert_eq!(keeper.rescue().unusable.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rescue_file_of_another_keyring_is_left_alone_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let world = renewed_in_an_outage(&folder, 5).await;
    let file = world.keeper.shutdown().await.rescue_file.unwrap();
    let before = fs::read(&file).unwrap();
    let other = World::with(with_folder(&folder)).await;
    assert_eq!(other.keeper.rescue().unusable, std::slice::from_ref(&file));
    assert!(other.keeper.shutdown().await.is_clean());
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[tokio::test(start_paused = true)]
async fn a_rescue_file_of_a_keeper_that_lives_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let world = renewed_in_an_outage(&folder, 3).await;
    let before = fs::read(&files(folder.path(), "rescue")[0]).unwrap();
    // Its supervisor starts the next one while it drains still.
    world.keyring.memory.set_available(true);
    let next = started_again(&world, &folder).await;
    assert_eq!((next.rescue().waiting, next.rescue().unusable.len()), (0, 0));
    assert_eq!(fs::read(&files(folder.path(), "rescue")[0]).unwrap(), before);
    assert_eq!(next.show(&identity(&player(0))).await.unwrap().key_version, 1);
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "rescue files are looked for in the operating system's time")]
async fn a_rescue_file_waits_until_the_keyring_takes_writes() {
    let folder = tempfile::tempdir().unwrap();
    let world = renewed_in_an_outage(&folder, 3).await;
    world.keeper.shutdown().await;
    world.keyring.memory.set_available(true);
    for number in 0..3 {
        world.keyring.refuse(identity(&player(number)).key_id());
    }
    let next = started_again(&world, &folder).await;
    assert_eq!(next.rescue().waiting, 1);
    assert_eq!(files(folder.path(), "rescue").len(), 1);
    world.keyring.accept_all();
    for _ in 0..1000 {
        if next.rescue().waiting == 0 {
            break;
        }
        tokio::time::sleep(SECOND).await;
    }
    assert!(files(folder.path(), "rescue").is_empty(), "it needs no restart");
    assert_eq!(next.show(&identity(&player(0))).await.unwrap().key_version, 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_folder_the_number_that_is_lost_is_said() {
    let world = World::new().await;
    world.store.shut();
    world.enroll("ada", DAY * 11).await;
    world.until("a renewal is under way", || world.store.renewals() == 1).await;
    world.keyring.memory.set_available(false);
    world.store.open();
    world.advance(SECOND).await;
    let drained = world.keeper.shutdown().await;
    assert_eq!((drained.rescued, drained.lost), (0, 1));
    assert!(drained.to_string().contains("1 successor lost"), "{drained}");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_without_an_answer_is_said_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::with(with_folder(&folder)).await;
    world.store.shut();
    world.enroll("ada", DAY * 11).await;
    world.until("a renewal is under way", || world.store.renewals() == 1).await;
    let drained = world.keeper.shutdown().await;
    assert_eq!((drained.rescued, drained.lost, drained.unanswered), (0, 0, 1));
    assert!(drained.to_string().contains("1 renewal under way without an answer"), "{drained}");
}
