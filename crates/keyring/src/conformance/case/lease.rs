//! Keepers share a keyring: beats move, leases change hands compare-and-set, and each bucket's rows are found alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use storekeeper_model::{Bucket, ClientId};

use crate::conformance::Rows;
use crate::conformance::row::{DAY, NOW, enroll};
use crate::{
    AppRow, Buckets, ClockReport, DueQuery, Keyring, Lease, LeaseChange, Leases, Node, NodeId, Paused, Presence, Record,
};

fn leases(keyring: &dyn Keyring) -> &dyn Leases {
    keyring.leases().expect("this keyring can be shared")
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn presence(number: u8) -> Presence {
    Presence {
        id: node(number),
        name: format!("node \u{e9} {number}"),
        draining: false,
        leaving: false,
        clock: ClockReport::Unknown,
    }
}

fn bucket(number: u16) -> Bucket {
    Bucket::new(number).expect("a bucket")
}

fn find(nodes: &[Node], number: u8) -> Option<&Node> {
    nodes.iter().find(|one| one.id == node(number))
}

async fn change(keyring: &dyn Keyring, changes: Vec<LeaseChange>) -> Vec<bool> {
    leases(keyring).change(changes).await.expect("the keyring is available")
}

async fn read(keyring: &dyn Keyring) -> Vec<Lease> {
    leases(keyring).all().await.expect("the keyring is available")
}

/// At first there is no node, and each bucket has a lease that is nobody's.
pub async fn every_bucket_has_a_lease(keyring: &dyn Keyring) {
    let free: Vec<Lease> = Buckets::all().iter().map(|bucket| Lease { bucket, owner: None, term: 0 }).collect();
    let found: Vec<Lease> = read(keyring).await;
    assert_eq!(found.len(), 4096);
    assert!(found.iter().zip(&free).all(|(found, free)| (found.bucket, found.owner) == (free.bucket, None)));
    assert_eq!(leases(keyring).nodes().await.expect("the keyring is available"), []);
}

/// A beat makes the row, moves it, and tells of everybody.
pub async fn a_beat_moves_and_tells_of_all(keyring: &dyn Keyring) {
    let shared = leases(keyring);
    let first = shared.beat(&presence(1)).await.expect("the keyring is available");
    assert_eq!((first.len(), first[0].id, first[0].name.as_str()), (1, node(1), "node \u{e9} 1"));
    let second = shared.beat(&presence(2)).await.expect("the keyring is available");
    assert_eq!((second.len(), find(&second, 1)), (2, Some(&first[0])), "one's beat moves nobody else's");
    let third = shared.beat(&presence(1)).await.expect("the keyring is available");
    assert!(find(&third, 1).expect("it is there").beat != first[0].beat && find(&third, 2) == find(&second, 2));
    assert_eq!(shared.nodes().await.expect("the keyring is available").len(), 2);
}

/// Whoever is told to drain stays told.
pub async fn draining_stays(keyring: &dyn Keyring) {
    let shared = leases(keyring);
    for number in [1, 2] {
        let nodes = shared.beat(&presence(number)).await.expect("the keyring is available");
        assert!(!find(&nodes, number).expect("it is there").draining);
    }
    assert!(!shared.drain_node(node(3)).await.expect("the keyring is available"), "there is no such node");
    assert!(shared.drain_node(node(1)).await.expect("the keyring is available"));
    let leaving = Presence { leaving: true, ..presence(2) };
    shared.beat(&leaving).await.expect("the keyring is available");
    for number in [1, 2] {
        let nodes = shared.beat(&presence(number)).await.expect("the keyring is available");
        assert!(find(&nodes, number).expect("it is there").draining, "{number}");
    }
}

/// A drained node may take leases again once it is allowed to; a leaving one says with each beat that it does not.
pub async fn undraining_ends_a_drain(keyring: &dyn Keyring) {
    let shared = leases(keyring);
    let beat = async |presence: Presence| {
        let nodes = shared.beat(&presence).await.expect("the keyring is available");
        find(&nodes, 1).expect("it is there").draining
    };
    assert!(!shared.undrain_node(node(1)).await.expect("the keyring is available"), "there is no such node");
    assert!(!beat(presence(1)).await);
    assert!(shared.drain_node(node(1)).await.expect("the keyring is available"));
    assert!(beat(presence(1)).await);
    assert!(shared.undrain_node(node(1)).await.expect("the keyring is available"));
    assert!(
        !beat(Presence { draining: true, ..presence(1) }).await,
        "a row that is there outranks what was known of it"
    );
    assert!(beat(Presence { leaving: true, ..presence(1) }).await);
    assert!(shared.undrain_node(node(1)).await.expect("the keyring is available"));
    assert!(beat(Presence { leaving: true, ..presence(1) }).await);
    let seen = shared.nodes().await.expect("the keyring is available").remove(0);
    assert!(shared.remove_node(&seen).await.expect("the keyring is available"));
    assert!(beat(Presence { draining: true, ..presence(1) }).await, "a row that is made again is still drained");
}

/// What a node says of its clock is what it said last, and no other beat changes it.
pub async fn a_beat_says_how_the_clock_is(keyring: &dyn Keyring) {
    let shared = leases(keyring);
    shared.beat(&presence(2)).await.expect("the keyring is available");
    for clock in
        [ClockReport::Unknown, ClockReport::Skewed, ClockReport::Agrees, ClockReport::Skewed, ClockReport::Unknown]
    {
        let nodes = shared.beat(&Presence { clock, ..presence(1) }).await.expect("the keyring is available");
        let said = |number| find(&nodes, number).map(|node| node.clock);
        assert_eq!((said(1), said(2)), (Some(clock), Some(ClockReport::Unknown)));
        assert_eq!(shared.nodes().await.expect("the keyring is available"), nodes);
    }
}

/// Only a row whose beat stands still is removed; who comes back is there again.
pub async fn a_node_that_beats_is_not_removed(keyring: &dyn Keyring) {
    let shared = leases(keyring);
    let seen = shared.beat(&presence(1)).await.expect("the keyring is available").remove(0);
    let now = shared.beat(&presence(1)).await.expect("the keyring is available").remove(0);
    assert!(!shared.remove_node(&seen).await.expect("the keyring is available"));
    assert_eq!(shared.nodes().await.expect("the keyring is available"), std::slice::from_ref(&now));
    assert!(shared.remove_node(&now).await.expect("the keyring is available"));
    assert!(!shared.remove_node(&now).await.expect("the keyring is available"), "it is gone");
    assert_eq!(shared.nodes().await.expect("the keyring is available"), []);
    let back = shared.beat(&presence(1)).await.expect("the keyring is available");
    assert_eq!((back.len(), back[0].id), (1, node(1)));
}

/// A lease changes hands only if owner and term are what was seen, and each time its term rises.
pub async fn a_lease_changes_hands_compare_and_set(keyring: &dyn Keyring) {
    let seen = read(keyring).await;
    let some = [17, 4000, 3].map(|number| seen[number]);
    let take = |seen: Lease, number| LeaseChange { seen, owner: Some(node(number)) };
    assert_eq!(change(keyring, some.iter().map(|seen| take(*seen, 1)).collect()).await, [true; 3]);
    assert_eq!(change(keyring, vec![take(some[0], 2), take(seen[5], 2)]).await, [false, true], "each for itself");
    let now = read(keyring).await;
    assert_eq!(now[17], Lease { owner: Some(node(1)), term: some[0].term + 1, ..some[0] });
    assert_eq!((now[5].owner, now[6]), (Some(node(2)), seen[6]));
    // The same owner and another term, the same term and another owner.
    let stale = [Lease { term: now[17].term + 1, ..now[17] }, Lease { owner: Some(node(2)), ..now[17] }];
    for stale in stale.into_iter().chain([Lease { owner: None, ..now[17] }]) {
        assert_eq!(change(keyring, vec![LeaseChange { seen: stale, owner: None }]).await, [false]);
    }
    // Given back and taken by the same again: the old change is not made by mistake.
    assert_eq!(change(keyring, vec![LeaseChange { seen: now[17], owner: None }]).await, [true]);
    let free = read(keyring).await[17];
    assert_eq!((free.owner, free.term), (None, now[17].term + 1));
    assert_eq!(change(keyring, vec![take(free, 1)]).await, [true]);
    assert_eq!(change(keyring, vec![LeaseChange { seen: now[17], owner: None }]).await, [false]);
    assert_eq!(change(keyring, Vec::new()).await, [false; 0]);
}

/// Of many who take the same leases at once, one gets each.
pub async fn of_many_takers_one_gets_each(keyring: &dyn Keyring) {
    let seen = read(keyring).await;
    let all = |number| seen.iter().map(|seen| LeaseChange { seen: *seen, owner: Some(node(number)) }).collect();
    let made = join_all((1..=4).map(|number| change(keyring, all(number)))).await;
    let owners: BTreeSet<usize> = (0..4).filter(|taker| made[*taker].iter().any(|made| *made)).collect();
    assert!(!owners.is_empty());
    let now = read(keyring).await;
    for (place, lease) in now.iter().enumerate() {
        let takers: Vec<usize> = (0..4).filter(|taker| made[*taker][place]).collect();
        assert_eq!(takers.len(), 1, "{place}");
        let owner = node(u8::try_from(takers[0] + 1).expect("there are four"));
        assert_eq!((lease.owner, lease.term), (Some(owner), seen[place].term + 1));
    }
}

/// Rows of other buckets are not found, nor told of, nor counted as more.
pub async fn only_rows_of_the_buckets_asked_for_are_due(keyring: &dyn Keyring) {
    let mut rows = Rows::new(1);
    let due_in = |mut record: Record, days| {
        record.next_attempt_at = Some(NOW + days * DAY);
        record
    };
    let mut records: Vec<Record> = (0..40).map(|number| due_in(rows.usual(&format!("{number}")), number % 4)).collect();
    records[8].failures = 1;
    records[8].next_attempt_at = Some(NOW + 400 * DAY);
    enroll(keyring, &records).await;
    let query = |buckets: &Buckets, limit| DueQuery {
        until: NOW,
        impossible_after: NOW + 365 * DAY,
        except: Default::default(),
        blocked: Vec::new(),
        buckets: Some(Arc::new(buckets.clone())),
        limit,
    };
    let every: Buckets = records.iter().map(|record| record.id.bucket()).collect();
    let half: Buckets = records.iter().step_by(2).map(|record| record.id.bucket()).collect();
    for buckets in [Buckets::none(), Buckets::all(), every.clone(), half.clone(), every.without(&half)] {
        let ours = |record: &&Record| buckets.contains_row(record.id);
        let is_due = |record: &&Record| record.next_attempt_at <= Some(NOW) || record.failures > 0;
        let expected: BTreeSet<_> = records.iter().filter(ours).filter(is_due).map(|record| record.id).collect();
        let next = records.iter().filter(ours).filter(|record| !is_due(record)).filter_map(|row| row.next_attempt_at);
        let found = keyring.due(query(&buckets, 100)).await.expect("the keyring is available");
        assert_eq!(found.records.iter().map(|record| record.id).collect::<BTreeSet<_>>(), expected, "{buckets:?}");
        assert_eq!((found.next_due_at, found.more), (next.min(), false), "{buckets:?}");
        let some = keyring.due(query(&buckets, 2)).await.expect("the keyring is available");
        assert_eq!((some.records.len(), some.more), (expected.len().min(2), expected.len() > 2), "{buckets:?}");
    }
    let edges: Buckets = [0, 4095].map(bucket).into_iter().collect();
    assert_eq!(edges.len(), 2);
    keyring.due(query(&edges, 1)).await.expect("the first and the last can be asked for");
}

/// What one keeper has changed of an app, another that has not seen it does not undo.
pub async fn an_app_changes_compare_and_set(keyring: &dyn Keyring) {
    let name = Rows::new(1).usual("a").identity.app;
    let (client_id, evidence_since) = (ClientId::new("22222222222242228222222222222222"), NOW);
    let first = AppRow { name, client_id, paused: None, evidence_since, condemned_day: 3, condemned: 4 };
    let shared = leases(keyring);
    assert!(!shared.change_app(&first, &first).await.expect("the keyring is available"), "there is none");
    keyring.save_app(&first).await.expect("the keyring is available");
    let paused = Paused { reason: String::from("operator"), detail: String::from("for \0 a while"), since: NOW };
    let second = AppRow { paused: Some(paused), condemned: 5, ..first.clone() };
    let third = AppRow { condemned: 6, ..first.clone() };
    assert!(shared.change_app(&first, &second).await.expect("the keyring is available"));
    assert!(!shared.change_app(&first, &third).await.expect("the keyring is available"), "it has changed");
    let kept = keyring.apps().await.expect("the keyring is available");
    assert_eq!((kept.len(), kept[0].condemned, kept[0].paused.is_some()), (1, 5, true));
    assert!(shared.change_app(&kept[0], &third).await.expect("the keyring is available"));
    assert_eq!(keyring.apps().await.expect("the keyring is available"), [third]);
}
