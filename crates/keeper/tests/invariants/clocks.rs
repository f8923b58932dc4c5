//! Invariant 11, where a clock is wrong: keys are renewed all the same, nothing is held against any, and the start tells.

use storekeeper_keeper::health::ConditionCode;
use storekeeper_keeper::{Code, Keeper, SignedSpan};
use storekeeper_model::ClientId;

use crate::support::fleet::Fleet;
use crate::support::store::{Entra, Mood};
use crate::support::{DAY, HOUR, MINUTE, SECOND, World, app, config, identity, player, request};

/// What the keeper reports, but for the time that Entra takes: requests without an answer count as slow.
async fn codes(keeper: &Keeper) -> Vec<ConditionCode> {
    let conditions = keeper.health().await.conditions;
    conditions.iter().map(|condition| condition.code).filter(|code| *code != ConditionCode::StoreSlow).collect()
}

#[tokio::test]
async fn invariant_11_renewals_go_on_at_full_pace_while_dates_are_off() {
    for off in [-600, 600, 5 * 3600, -40 * 86_400, 40 * 86_400] {
        let world = World::new().await;
        world.proven(40).await;
        world.advance(DAY * 6).await;
        world.store.set(|store| store.date_off = off);
        world.advance(DAY * 8).await;
        let counts = world.counts().await;
        assert_eq!((counts.active, counts.past_deadline, counts.due_backlog), (40, 0, 0), "{off}: {counts:?}");
        let renewals = world.store.renewals();
        assert!((40..=120).contains(&renewals), "{off}: {renewals}");
        assert_eq!(codes(&world.keeper).await, [ConditionCode::ClockSkewed]);
        assert_eq!((world.paused().await, world.events("clock.skewed").await), (None, 1.0));
    }
}

#[tokio::test]
async fn invariant_11_renewals_go_on_at_full_pace_with_a_wrong_clock() {
    for off in [-600, 600, 5 * 3600, -40 * 86_400, 40 * 86_400] {
        let world = World::new().await;
        world.proven(40).await;
        world.advance(DAY * 6).await;
        world.ours.set_wrong_by(off);
        world.advance(DAY * 8).await;
        for number in 0..40 {
            let row = world.row(&player(number)).await;
            assert!(row.key.lifetime.issued_at() > world.now() - DAY * 9, "{off}: {row:?}");
        }
        let renewals = world.store.renewals();
        assert!((40..=120).contains(&renewals), "no key is renewed again and again: {off}: {renewals}");
        world.ours.set_wrong_by(0);
        world.advance(MINUTE).await;
        assert_eq!(codes(&world.keeper).await, []);
        assert_eq!(world.counts().await.lapsed, 0);
    }
}

#[tokio::test]
async fn invariant_11_forty_keys_take_seconds_while_the_clocks_disagree() {
    let world = World::new().await;
    world.store.set(|store| store.date_off = 600);
    for number in 0..40 {
        world.enroll(&player(number), DAY * 12).await;
    }
    world.advance(SECOND * 20).await;
    assert_eq!(world.counts().await.unproven, 0);
}

#[tokio::test]
async fn invariant_11_refusals_while_the_clocks_disagree_are_held_against_nothing() {
    let world = World::new().await;
    world.proven(30).await;
    world.advance(DAY * 6).await;
    world.ours.set_wrong_by(-1200);
    world.store.set(|store| store.mood = Mood::Refuse);
    world.advance(DAY * 6).await;
    let counts = world.counts().await;
    assert_eq!((counts.active, counts.refused, counts.revoked), (30, 0, 0), "{counts:?}");
    assert_eq!((world.events("app.paused").await, world.events("key.refused").await), (0.0, 0.0));
    let asked = world.store.renewals();
    assert!((60..30 * 2 * 20).contains(&asked), "refused keys wait longer each time: {asked}");
    world.ours.set_wrong_by(0);
    world.store.set(|store| store.mood = Mood::Renew);
    world.advance(MINUTE * 2).await;
    assert_eq!(world.counts().await.due_backlog, 0, "what was set aside is tried at once");
}

#[tokio::test]
async fn invariant_11_a_gateways_page_says_nothing_about_the_time() {
    let world = World::new().await;
    world.proven(20).await;
    world.advance(DAY * 6).await;
    world.store.set(|store| (store.mood, store.date_off) = (Mood::Broken, 7200));
    world.advance(DAY).await;
    assert_eq!(world.events("clock.skewed").await, 0.0);
    assert!(!codes(&world.keeper).await.contains(&ConditionCode::ClockSkewed));
}

/// A keeper starts with a wrong clock, and no response shows the time for a while.
#[tokio::test]
async fn invariant_11_an_unverified_clock_blames_no_caller() {
    for off in [-3 * 3600, 40 * 86_400] {
        let world = World::new().await;
        world.store.set(|store| store.entra = Entra::Silent);
        world.ours.set_wrong_by(off);
        let keeper = world.another(config()).await;
        let enroll = async |user: &str, age| {
            let key = world.mint(user, age);
            keeper.enroll(vec![request(&identity(user), &key)]).await.remove(0)
        };
        assert_eq!(enroll("fresh", SECOND).await.unwrap_err().code(), Code::ClockSkewed, "{off}: nothing has answered");
        assert!(codes(&keeper).await.contains(&ConditionCode::TicketMissing));
        world.store.set(|store| store.entra = Entra::Issue);
        world.advance(MINUTE * 2).await;
        assert_eq!(enroll("fresh", SECOND).await.unwrap_err().code(), Code::ClockSkewed, "{off}: Entra has answered");
        assert_eq!(codes(&keeper).await, [ConditionCode::ClockSkewed]);
        world.ours.set_wrong_by(0);
        assert!(enroll("fresh", SECOND).await.is_ok(), "{off}");
        assert_eq!(enroll("old", DAY * 31).await.unwrap_err().code(), Code::KeyExpired);
        world.advance(MINUTE).await;
        assert_eq!(codes(&keeper).await, []);
    }
}

#[tokio::test]
async fn invariant_11_the_first_answer_to_an_expired_key_is_the_last_word() {
    let world = World::new().await;
    let key = world.mint("ada", DAY * 31);
    let answer = world.try_enroll("ada", &key).await;
    assert_eq!(answer.unwrap_err().code(), Code::KeyExpired, "although no response had shown the time yet");
}

#[tokio::test]
async fn an_idle_keeper_reports_no_skew_that_is_not_there() {
    let world = World::new().await;
    world.rest().await;
    world.advance(MINUTE * 20 + SECOND * 50).await;
    let skew = world.keeper.stats().await.unwrap().clock_skew.unwrap();
    let (SignedSpan::Ahead(span) | SignedSpan::Behind(span)) = skew;
    assert!(span <= SECOND * 2, "{skew:?}");
}

#[tokio::test]
async fn a_refused_credential_shows_at_the_start() {
    let world = World::new().await;
    world.rest().await;
    assert_eq!((world.store.tickets(), codes(&world.keeper).await), (1, vec![]));
    world.store.set(|store| store.entra = Entra::Refuse);
    let keeper = world.another(config()).await;
    world.rest().await;
    assert_eq!(codes(&keeper).await, [ConditionCode::CredentialRefused]);
    let health = keeper.health().await;
    assert!(health.conditions[0].detail.contains("AADSTS7000215"), "{health:?}");
    world.store.set(|store| store.entra = Entra::Issue);
    world.advance(MINUTE * 6).await;
    assert_eq!(codes(&keeper).await, []);
}

#[tokio::test]
async fn an_unreachable_entra_shows_at_the_start_and_is_asked_again() {
    let world = World::new().await;
    world.rest().await;
    world.store.set(|store| store.entra = Entra::Silent);
    let keeper = world.another(config()).await;
    world.rest().await;
    assert_eq!(codes(&keeper).await, [ConditionCode::TicketMissing]);
    world.store.take_log();
    world.advance(HOUR).await;
    let asked = world.store.tickets();
    assert!((55..=70).contains(&asked), "once a minute: {asked}");
    world.store.set(|store| store.entra = Entra::Issue);
    world.advance(MINUTE).await;
    assert_eq!(codes(&keeper).await, []);
}

#[tokio::test]
async fn the_first_tickets_are_fetched_once_for_all_apps_that_share_one() {
    let mut config = config();
    config.apps.extend((0..12).map(|number| {
        let mut app = app(&format!("game-{number}"));
        // Each client ID is that of two apps.
        app.client_id = ClientId::new(&format!("22222222-2222-4222-8222-{:012}", number / 2));
        app
    }));
    let world = World::with(config).await;
    world.rest().await;
    assert_eq!(world.store.tickets(), 7);
}

/// Whose clock is wrong leaves the keys to those whose clock is right, as long as there are any.
#[tokio::test]
async fn a_skewed_keeper_gives_its_leases_to_those_whose_clocks_agree() {
    let fleet = Fleet::of(3).await;
    fleet.members[1].clock.set_wrong_by(-600);
    fleet.advance(SECOND * 10).await;
    assert_eq!(fleet.held().await, [2048.0, 0.0, 2048.0]);
    let (nodes, _) = fleet.members[0].keeper.fleet().await.unwrap();
    assert_eq!(nodes.iter().map(|node| node.clock.as_str()).collect::<Vec<_>>(), ["agrees", "skewed", "agrees"]);
    // The others are gone: a wrong clock is better than none.
    fleet.members[0].link.cut(true);
    fleet.members[2].link.cut(true);
    fleet.advance(SECOND * 20).await;
    assert_eq!(fleet.held().await, [0.0, 4096.0, 0.0]);
    fleet.members[0].link.cut(false);
    fleet.members[1].clock.set_wrong_by(0);
    fleet.advance(SECOND * 30).await;
    assert_eq!(fleet.held().await, [2048.0, 2048.0, 0.0]);
}

/// The Store's `Date` is wrong for all: no clock is better, and each keeps its part.
#[tokio::test]
async fn keepers_keep_their_leases_while_all_clocks_seem_wrong() {
    let fleet = Fleet::of(3).await;
    fleet.store.set(|store| store.date_off = 600);
    for number in 0..90 {
        fleet.enroll(number % 3, &player(number), DAY * 12).await;
    }
    fleet.advance(MINUTE).await;
    assert_eq!(fleet.held().await, [1366.0, 1365.0, 1365.0]);
    for number in 0..90 {
        assert_eq!(fleet.renewed(&player(number)).await, 1);
    }
    for member in &fleet.members {
        assert!(codes(&member.keeper).await.contains(&ConditionCode::ClockSkewed));
        assert_eq!(member.metric("storekeeper_lease_lost_total ").await, 0.0);
    }
}
