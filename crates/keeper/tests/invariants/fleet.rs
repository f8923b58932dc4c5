//! Several keepers on one keyring: each key is one's own at a time, and whoever dies is followed.

use std::time::Duration;

use storekeeper_clock::Clock;
use storekeeper_keyring::{Keyring, OutcomeResult};
use storekeeper_model::Fingerprint;

use crate::support::fleet::Fleet;
use crate::support::store::{Entra, Mood};
use crate::support::{CLIENT, DAY, HOUR, KIND, MINUTE, SECOND, World, config, identity, mygame, player, request};

#[tokio::test]
async fn a_keeper_that_shares_with_nobody_has_every_bucket() {
    let world = World::new().await;
    assert_eq!(world.metric("storekeeper_lease_held ").await, 4096.0);
    let (nodes, leases) = world.keeper.fleet().await.unwrap();
    assert_eq!((nodes.len(), nodes[0].leases, leases.len()), (1, 4096, 4096));
    assert!(world.keeper.drain_node("keeper").await.is_err(), "there is nobody to take them");
}

#[tokio::test]
async fn three_share_evenly_and_whoever_is_cut_off_is_followed() {
    let fleet = Fleet::of(3).await;
    assert_eq!(fleet.held().await, [1366.0, 1365.0, 1365.0]);
    fleet.members[0].link.cut(true);
    fleet.advance(SECOND * 9).await;
    assert_eq!(fleet.held().await[1..], [1365.0, 1365.0], "not before its time is up");
    fleet.advance(SECOND * 6).await;
    assert_eq!(fleet.held().await, [0.0, 2048.0, 2048.0]);
    assert_eq!(fleet.members[0].metric("storekeeper_lease_lost_total ").await, 1366.0);
    fleet.members[0].link.cut(false);
    fleet.advance(SECOND * 8).await;
    assert_eq!(fleet.held().await, [1366.0, 1365.0, 1365.0]);
}

#[tokio::test]
async fn invariant_5_keepers_that_share_renew_each_key_once() {
    let fleet = Fleet::of(3).await;
    for number in 0..90 {
        fleet.enroll(number % 3, &player(number), DAY * 11).await;
    }
    fleet.advance(SECOND * 20).await;
    let mut shares = Vec::new();
    for member in &fleet.members {
        shares.push(member.metric("storekeeper_renewals_total{").await);
    }
    assert_eq!(shares.iter().sum::<f64>(), 90.0, "{shares:?}");
    assert!(shares.iter().all(|share| *share > 10.0), "each has done its part: {shares:?}");
    for number in 0..90 {
        assert_eq!((fleet.renewed(&player(number)).await, fleet.row(&player(number)).await.key_version), (1, 2));
    }
    assert_eq!(fleet.store.renewals(), 90);
}

#[tokio::test]
async fn invariant_5_a_late_owner_changes_nothing_after_its_lease_was_taken() {
    let fleet = Fleet::of(2).await;
    let owner = fleet.owner("ada").await;
    let (late, other) = (&fleet.members[owner], &fleet.members[1 - owner]);
    late.hear_late_by(SECOND * 40);
    fleet.enroll(1 - owner, "ada", DAY * 11).await;
    fleet.advance(SECOND * 3).await;
    assert_eq!(fleet.store.renewals(), 1, "the owner has asked, and does not hear the answer");
    late.link.cut(true);
    fleet.advance(SECOND * 20).await;
    assert_eq!((fleet.renewed("ada").await, fleet.store.renewals()), (1, 2), "the other has taken over");
    let stands = fleet.row("ada").await;
    late.link.cut(false);
    fleet.advance(SECOND * 40).await;
    assert_eq!(fleet.row("ada").await, stands, "what came too late changes nothing");
    assert_eq!(late.metric("storekeeper_outcomes_overtaken_total ").await, 1.0, "and is counted");
    assert_eq!(other.metric("storekeeper_outcomes_overtaken_total ").await, 0.0);
}

#[tokio::test]
async fn a_successor_that_comes_after_its_lease_is_kept_and_a_refusal_is_not() {
    for (mood, results) in [(Mood::Renew, vec![OutcomeResult::Renewed]), (Mood::BadRequest, Vec::new())] {
        let fleet = Fleet::of(2).await;
        let owner = fleet.owner("ada").await;
        let (late, other) = (&fleet.members[owner], &fleet.members[1 - owner]);
        fleet.store.set(|state| state.mood = mood);
        late.hear_late_by(SECOND * 12);
        fleet.enroll(owner, "ada", DAY * 11).await;
        fleet.advance(SECOND).await;
        // Nobody follows, so that nothing overtakes the answer.
        late.link.cut(true);
        other.link.cut(true);
        fleet.advance(SECOND * 11).await;
        late.link.cut(false);
        // What could not be written is written again after five seconds.
        fleet.advance(SECOND * 8).await;
        let row = fleet.row("ada").await;
        let found = row.history.iter().map(|outcome| outcome.result).filter(|one| *one != OutcomeResult::Enrolled);
        assert_eq!(found.collect::<Vec<_>>(), results, "{mood:?}");
        assert_eq!(row.key_version, 1 + u32::try_from(results.len()).unwrap(), "{mood:?}");
    }
}

#[tokio::test]
async fn invariant_5_a_lease_lost_and_taken_again_proves_nothing() {
    let fleet = Fleet::of(2).await;
    let owner = fleet.owner("ada").await;
    fleet.store.set(|state| state.mood = Mood::BadRequest);
    fleet.members[owner].hear_late_by(SECOND * 25);
    fleet.enroll(owner, "ada", DAY * 11).await;
    fleet.advance(SECOND).await;
    assert_eq!(fleet.store.renewals(), 1, "the owner has asked, and does not know the answer");
    fleet.members.iter().for_each(|member| member.link.cut(true));
    fleet.advance(SECOND * 11).await;
    fleet.store.set(|state| state.mood = Mood::Renew);
    fleet.members.iter().for_each(|member| member.link.cut(false));
    fleet.members[owner].hear_late_by(Duration::ZERO);
    fleet.advance(SECOND * 8).await;
    assert_eq!((fleet.owner("ada").await, fleet.renewed("ada").await), (owner, 0), "its own again, and under way");
    // The answer arrives, and the row is tried again as it stands by now.
    fleet.advance(SECOND * 8).await;
    let row = fleet.row("ada").await;
    let found = row.history.iter().map(|outcome| outcome.result).filter(|one| *one != OutcomeResult::Enrolled);
    assert_eq!(found.collect::<Vec<_>>(), [OutcomeResult::Renewed]);
    assert_eq!(fleet.store.renewals(), 2);
}

#[tokio::test]
async fn a_slow_store_has_the_same_limit_in_a_fleet() {
    let fleet = Fleet::of(2).await;
    let owner = fleet.owner("ada").await;
    // Longer than a lease lives without a beat.
    fleet.members[owner].hear_late_by(SECOND * 25);
    fleet.enroll(owner, "ada", DAY * 11).await;
    fleet.advance(SECOND * 27).await;
    assert_eq!((fleet.renewed("ada").await, fleet.store.renewals()), (1, 1), "beats go on under the attempt");
    let limits = fleet.members[owner].limits();
    assert!(limits.len() >= 2 && limits.iter().all(|limit| *limit == config().request_timeout), "{limits:?}");
}

#[tokio::test]
async fn invariant_5_nothing_is_sent_under_a_lease_that_does_not_outlive_it() {
    let fleet = Fleet::of(1).await;
    fleet.members[0].link.cut(true);
    // Its lease is its own for some seconds more, but not for as long as an attempt may take.
    fleet.advance(SECOND * 5).await;
    fleet.members[0].link.cut(false);
    fleet.store.set(|state| state.entra = Entra::Issue);
    fleet.enroll(0, "ada", DAY * 11).await;
    fleet.members[0].link.cut(true);
    fleet.advance(SECOND / 2).await;
    assert_eq!(fleet.store.renewals(), 0);
    fleet.members[0].link.cut(false);
    fleet.advance(SECOND * 5).await;
    assert_eq!((fleet.store.renewals(), fleet.renewed("ada").await), (1, 1));
}

#[tokio::test]
async fn any_keeper_takes_any_key_and_its_owner_renews_it_within_two_beats() {
    let fleet = Fleet::of(3).await;
    let owner = fleet.owner("ada").await;
    fleet.enroll((owner + 1) % 3, "ada", DAY * 11).await;
    fleet.advance(SECOND * 3).await;
    assert_eq!(fleet.renewed("ada").await, 1);
    let live = fleet.members[(owner + 2) % 3].keeper.get(&identity("ada"), None).await.unwrap();
    assert_eq!(live.view.key_version, 2);
}

#[tokio::test]
async fn a_renewal_may_be_asked_of_any_keeper() {
    let fleet = Fleet::of(3).await;
    fleet.enroll(0, "ada", DAY).await;
    fleet.advance(SECOND * 5).await;
    assert_eq!(fleet.renewed("ada").await, 0, "it is not due");
    for (round, member) in fleet.members.iter().enumerate() {
        let keeper = member.keeper.clone();
        let view = fleet.answer(async move { keeper.renew(&identity("ada")).await }).await.unwrap();
        assert_eq!(usize::try_from(view.key_version).unwrap(), round + 2);
        fleet.advance(MINUTE).await;
    }
    let other = (fleet.owner("ada").await + 1) % 3;
    fleet.store.set(|state| state.mood = Mood::Broken);
    let keeper = fleet.members[other].keeper.clone();
    let failed = fleet.answer(async move { keeper.renew(&identity("ada")).await }).await;
    assert!(failed.is_err(), "the owner's failure is told");
    let live = fleet.members[other].keeper.get(&identity("ada"), None).await;
    assert!(live.is_ok(), "and the key is served");
}

#[tokio::test]
async fn an_order_to_any_keeper_is_followed_by_all() {
    let fleet = Fleet::of(3).await;
    fleet.members[0].keeper.pause(&mygame()).await.unwrap();
    fleet.advance(SECOND * 5).await;
    for number in 0..30 {
        fleet.enroll(1, &player(number), DAY * 11).await;
    }
    fleet.advance(MINUTE).await;
    assert_eq!(fleet.store.renewals(), 0);
    for member in &fleet.members {
        assert_eq!(member.metric("storekeeper_app_paused{app=\"mygame\",reason=\"operator\"}").await, 1.0);
    }
    fleet.members[2].keeper.resume(&mygame(), false).await.unwrap();
    fleet.advance(MINUTE).await;
    assert_eq!(fleet.store.renewals(), 30);
    assert_eq!(fleet.memory.apps().await.unwrap()[0].paused, None);
}

#[tokio::test]
async fn one_word_of_an_operator_lifts_the_cap_for_all() {
    let fleet = Fleet::of(3).await;
    for number in 0..30 {
        fleet.enroll(0, &player(number), DAY * 11).await;
    }
    fleet.advance(MINUTE).await;
    let forged: Vec<_> = (100..1_900)
        .map(|number| (player(number), fleet.store.mint(KIND, &player(number), fleet.clock.now() - DAY * 11).jwt()))
        .collect();
    fleet.store.set(|store| store.dead.extend(forged.iter().map(|(_, key)| Fingerprint::of(key))));
    let requests = forged.iter().map(|(user, key)| request(&identity(user), key)).collect();
    assert!(fleet.members[0].keeper.enroll(requests).await.iter().all(Result::is_ok));
    let waiting = async || {
        let mut waiting = Vec::new();
        for member in &fleet.members {
            waiting.push(member.keeper.stats().await.unwrap().apps[0].awaiting_operator);
        }
        waiting
    };
    // All are refused for the third time within one day of the calendar, at about the same hour for each keeper.
    for _ in 0..60 {
        fleet.advance(HOUR).await;
        if waiting().await.iter().all(|count| *count > 100) {
            break;
        }
    }
    let before = waiting().await;
    assert!(before.iter().all(|count| *count > 100), "{before:?}");
    let told = fleet.members[1].keeper.resume(&mygame(), true).await.unwrap();
    assert_eq!(told, before[1]);
    fleet.advance(HOUR).await;
    assert_eq!(waiting().await, [0, 0, 0], "of {before:?}");
    // Who starts later hears of it as well: nothing waits that comes to be judged on this day.
    assert!(fleet.memory.apps().await.unwrap()[0].is_cap_lifted(fleet.clock.now().day()));
}

#[tokio::test]
async fn a_pause_for_credentials_is_each_keepers_own() {
    let fleet = Fleet::of(2).await;
    fleet.store.set(|state| state.entra = Entra::Refuse);
    // The tickets of the start have expired.
    fleet.advance(HOUR).await;
    let owner = fleet.owner("ada").await;
    fleet.enroll(owner, "ada", DAY * 11).await;
    fleet.advance(SECOND * 5).await;
    let paused = "storekeeper_app_paused{app=\"mygame\",reason=\"credential\"}";
    assert_eq!(fleet.members[owner].metric(paused).await, 1.0);
    fleet.store.set(|state| state.entra = Entra::Issue);
    fleet.advance(SECOND * 10).await;
    assert_eq!(fleet.members[1 - owner].metric(paused).await, 0.0, "who can get tickets goes on");
    assert_eq!(fleet.members[owner].metric(paused).await, 1.0, "who could not tries again in its own time");
    fleet.advance(MINUTE * 6).await;
    assert_eq!(fleet.renewed("ada").await, 1);
    assert_eq!(fleet.memory.apps().await.unwrap()[0].paused, None);
}

#[tokio::test]
async fn an_operators_pause_ends_for_all_though_one_of_them_has_no_ticket() {
    let fleet = Fleet::of(2).await;
    fleet.members[0].keeper.pause(&mygame()).await.unwrap();
    fleet.advance(SECOND * 5).await;
    let owner = fleet.owner("ada").await;
    fleet.enroll(owner, "ada", DAY * 11).await;
    fleet.store.set(|state| state.entra = Entra::Refuse);
    fleet.advance(HOUR).await;
    fleet.members[owner].keeper.resume(&mygame(), false).await.unwrap();
    fleet.advance(SECOND * 10).await;
    let paused = |reason: &str| format!("storekeeper_app_paused{{app=\"mygame\",reason=\"{reason}\"}}");
    for member in &fleet.members {
        assert_eq!(member.metric(&paused("operator")).await, 0.0);
    }
    assert_eq!(fleet.members[owner].metric(&paused("credential")).await, 1.0);
    assert_eq!(fleet.members[1 - owner].metric(&paused("credential")).await, 0.0);
}

#[tokio::test]
async fn the_fleet_keeps_one_pace() {
    let mut fleet = Fleet::of(3).await;
    let paces = async |fleet: &Fleet| {
        let mut sum = 0.0;
        for member in &fleet.members {
            sum += member.metric(&format!("storekeeper_upstream_pace{{host=\"{}\"", KIND.host())).await;
        }
        sum
    };
    let alone = World::new().await;
    let sample = format!("storekeeper_upstream_pace{{host=\"{}\",client_id=\"{CLIENT}\"}}", KIND.host());
    let whole = alone.metric(&sample).await;
    assert!((paces(&fleet).await - whole).abs() < 0.01, "{} of {whole}", paces(&fleet).await);
    fleet.members[1].link.cut(true);
    fleet.advance(SECOND * 15).await;
    let cut_off = fleet.members.remove(1);
    assert!((paces(&fleet).await - whole).abs() < 0.01, "{} of {whole}", paces(&fleet).await);
    drop(cut_off);
}

#[tokio::test]
async fn who_goes_gives_its_leases_back_at_once() {
    let fleet = Fleet::of(3).await;
    let keeper = fleet.members[2].keeper.clone();
    fleet.answer(async move { keeper.shutdown().await }).await;
    fleet.advance(SECOND * 3).await;
    assert_eq!(fleet.held().await[..2], [2048.0, 2048.0]);
    let (nodes, _) = fleet.members[0].keeper.fleet().await.unwrap();
    assert_eq!(nodes.len(), 2);
}

#[tokio::test]
async fn a_node_can_be_drained_by_any_other() {
    let fleet = Fleet::of(3).await;
    let drained = fleet.members[0].keeper.drain_node("node-2").await.unwrap();
    assert!(drained.draining && drained.id == fleet.members[1].id);
    fleet.advance(SECOND * 5).await;
    assert_eq!(fleet.held().await, [2048.0, 0.0, 2048.0]);
    let owner = fleet.owner("ada").await;
    fleet.enroll(1, "ada", DAY * 11).await;
    fleet.advance(SECOND * 3).await;
    assert!(owner != 1 && fleet.renewed("ada").await == 1, "it takes keys and leaves them to others");
    for unknown in ["nobody", "00000000000000000000000000000000"] {
        assert!(fleet.members[0].keeper.drain_node(unknown).await.is_err());
    }
}

#[tokio::test]
async fn an_undrained_fleet_renews_again_within_seconds() {
    let fleet = Fleet::of(2).await;
    for node in ["node-1", "node-2"] {
        fleet.members[0].keeper.drain_node(node).await.unwrap();
    }
    fleet.advance(SECOND * 5).await;
    assert_eq!(fleet.held().await, [0.0, 0.0]);
    fleet.enroll(0, "ada", DAY * 11).await;
    fleet.advance(MINUTE * 5).await;
    assert_eq!(fleet.renewed("ada").await, 0, "every node drains");
    let undrained = fleet.members[0].keeper.undrain_node("node-2").await.unwrap();
    assert!(!undrained.draining && undrained.id == fleet.members[1].id);
    fleet.advance(SECOND * 5).await;
    assert_eq!(fleet.held().await, [0.0, 4096.0]);
    assert_eq!(fleet.renewed("ada").await, 1);
    fleet.members[1].keeper.undrain_node("node-1").await.unwrap();
    fleet.advance(SECOND * 5).await;
    assert_eq!(fleet.held().await, [2048.0, 2048.0]);
}

#[tokio::test]
async fn clocks_that_disagree_by_minutes_change_nothing_about_whose_a_key_is() {
    let fleet = Fleet::of(3).await;
    for (member, seconds) in fleet.members.iter().zip([-180, 0, 200]) {
        member.clock.set_wrong_by(seconds);
    }
    fleet.advance(SECOND * 30).await;
    assert_eq!(fleet.held().await, [1366.0, 1365.0, 1365.0]);
    for number in 0..30 {
        fleet.enroll(number % 3, &player(number), DAY * 11 + HOUR).await;
    }
    fleet.members[0].link.cut(true);
    fleet.advance(SECOND * 15).await;
    assert_eq!(fleet.held().await, [0.0, 2048.0, 2048.0]);
    fleet.advance(SECOND * 30).await;
    for number in 0..30 {
        assert_eq!(fleet.renewed(&player(number)).await, 1, "{number}");
    }
    assert!(fleet.members.iter().all(|member| member.clock.elapsed() == fleet.clock.elapsed()));
}

/// Before its last day a key can spare what a clock that is wrong by less than a day takes from it.
#[tokio::test]
async fn invariant_11_a_clock_hours_ahead_that_hears_nothing_of_the_store_takes_no_key_its_last_day() {
    for (hours_ahead, hours_left) in [(2, 1), (2, 6), (12, 6), (23, 20), (50, 20)] {
        let fleet = Fleet::of(2).await;
        let owner = fleet.owner("ada").await;
        let wrong = &fleet.members[owner];
        fleet.store.set(|store| store.mood = Mood::Silent);
        fleet.enroll(1 - owner, "ada", DAY * 30 - HOUR * hours_left).await;
        wrong.clock.set_wrong_by(i64::from(hours_ahead) * 3600);
        fleet.advance(MINUTE * 30).await;
        let tried = fleet.row("ada").await.failures;
        assert!((2..20).contains(&tried), "it is tried in vain, and not all the time: {tried} times");
        wrong.link.cut(true);
        fleet.store.set(|store| store.mood = Mood::Renew);
        fleet.advance(MINUTE * 10).await;
        assert_eq!(fleet.renewed("ada").await, 1, "{hours_ahead} hours ahead, {hours_left} left");
    }
}
