//! Invariant 10: nothing is dropped silently.

use storekeeper_keeper::{Code, EnrollError, UserClaim, Visibility};
use storekeeper_model::{AppName, Fingerprint, KeyKind};

use crate::support::mint::Mint;
use crate::support::store::Mood;
use crate::support::{DAY, HOUR, KIND, World, app, config, identity, player, request};

#[tokio::test]
async fn invariant_10_every_key_that_is_not_taken_is_answered_and_nothing_is_stored() {
    let mut config = config();
    config.apps.push(app("strict"));
    config.apps[1].user_claim = UserClaim::Equal;
    let world = World::with(config).await;
    let good = world.mint("ada", DAY);
    let minted = |change: &dyn Fn(&mut Mint)| {
        let mut mint = world.store.mint(KIND, "ada", world.now() - DAY);
        change(&mut mint);
        mint.jwt()
    };
    let ada = identity("ada");
    let strict = storekeeper_model::Identity { app: AppName::new("strict").unwrap(), ..identity("eve") };
    let nowhere = storekeeper_model::Identity { app: AppName::new("nowhere").unwrap(), ..identity("ada") };
    let cases = [
        (request(&nowhere, &good), Code::AppUnknown),
        (request(&ada, ""), Code::KeyEmpty),
        (request(&ada, "three.little.parts"), Code::KeyMalformed),
        (request(&ada, good.rsplit_once('.').unwrap().0), Code::KeyMalformed),
        (request(&ada, &format!("{good}.")), Code::KeyMalformed),
        (request(&ada, &"x".repeat(17 * 1024)), Code::KeyTooLarge),
        (request(&ada, &minted(&|mint| mint.kind = KeyKind::Purchase)), Code::KeyWrongKind),
        (
            request(&ada, &minted(&|mint| mint.client_id = "00000000000000000000000000000000".into())),
            Code::KeyWrongClient,
        ),
        (request(&strict, &minted(&|mint| mint.user = "ada".into())), Code::KeyWrongUser),
        (request(&ada, &minted(&|mint| mint.issued_at = world.now() - DAY * 31)), Code::KeyExpired),
        (request(&ada, &minted(&|mint| mint.issued_at = world.now() + HOUR)), Code::KeyNotYetValid),
    ];
    let answers = world.keeper.enroll(cases.iter().map(|(request, _)| request.clone()).collect()).await;
    assert_eq!(answers.len(), cases.len(), "a batch answers per item");
    for (number, (answer, (_, code))) in answers.iter().zip(&cases).enumerate() {
        assert_eq!(answer.as_ref().map(|_| ()).map_err(EnrollError::code), Err(*code), "case {number}");
    }
    assert!(world.everybody().await.is_empty());

    // A good one among bad ones is taken, and bad ones harm nobody's row but do not touch this one either.
    let mut mixed: Vec<_> = cases.iter().map(|(request, _)| request.clone()).collect();
    mixed.insert(5, request(&ada, &good));
    let answers = world.keeper.enroll(mixed).await;
    assert!(answers[5].is_ok() && answers.iter().filter(|answer| answer.is_ok()).count() == 1);
    assert_eq!(world.served("ada").await, Fingerprint::of(&good));
    let own = minted(&|mint| mint.user = "eve".into());
    assert!(world.keeper.enroll(vec![request(&strict, &own)]).await.remove(0).is_ok(), "the player's own");
}

#[tokio::test]
async fn invariant_10_a_keyring_that_is_down_refuses_every_item_of_a_batch_by_name() {
    let world = World::new().await;
    world.keyring.memory.set_available(false);
    let requests = (0..5).map(|number| request(&identity(&player(number)), &world.mint(&player(number), DAY)));
    let answers = world.keeper.enroll(requests.collect()).await;
    assert_eq!(answers.len(), 5);
    for answer in answers {
        assert_eq!(answer.unwrap_err().code(), Code::KeyringUnavailable);
    }
    assert!(world.keeper.ready().await.is_err());
    world.keyring.memory.set_available(true);
    assert!(world.keeper.ready().await.is_ok());
    assert!(world.everybody().await.is_empty());
}

#[tokio::test]
async fn invariant_10_a_forged_key_harms_no_row_but_its_own() {
    let world = World::new().await;
    world.proven(30).await;
    for number in 100..130 {
        world.enroll_dead(&player(number), DAY * 11).await;
    }
    world.advance(DAY * 4).await;
    let (counts, views) = (world.counts().await, world.everybody().await);
    let proven: Vec<_> = views.iter().filter(|view| view.proven).collect();
    assert_eq!((proven.len(), counts.revoked + counts.refused), (30, 30), "{counts:?}");
    assert!(proven.iter().all(|view| view.refused_since.is_none()));
    assert_eq!(world.paused().await, None);
}

#[tokio::test]
async fn invariant_10_a_key_that_lapses_is_announced_and_counted() {
    let world = World::new().await;
    world.proven(2).await;
    world.store.treat_user(player(0), Mood::Refuse);
    world.store.treat_user(player(1), Mood::Unavailable);
    world.advance(DAY * 34).await;
    let counts = world.counts().await;
    assert_eq!((counts.lapsed, counts.active), (2, 0), "{counts:?}");
    assert_eq!(world.events("key.reenroll_required").await, 2.0);
}

#[tokio::test]
async fn invariant_10_keys_of_an_app_that_is_gone_stop_the_start_and_starve_nobody() {
    let world = World::new().await;
    for number in 0..5_000 {
        world.enroll(&player(number), DAY * 20).await;
        if number == 0 {
            // Nobody renews them from here on.
            world.keeper.pause(&crate::support::mygame()).await.unwrap();
        }
    }
    let mut config = config();
    config.apps = vec![app("other")];
    let (keyring, store) = (std::sync::Arc::clone(&world.keyring), std::sync::Arc::clone(&world.store));
    let refused = storekeeper_keeper::Keeper::start(
        config.clone(),
        std::sync::Arc::clone(&keyring) as _,
        &world.master,
        std::sync::Arc::clone(&store) as _,
        std::sync::Arc::clone(&world.ours) as _,
    );
    let told = refused.await.unwrap_err().to_string();
    assert!(told.contains("5000 keys of app `mygame`") && told.contains("--accept-orphans"), "{told}");

    config.accept_orphans = true;
    let other = world.another(config).await;
    let eve = storekeeper_model::Identity { app: AppName::new("other").unwrap(), ..identity("eve") };
    let key = world.mint("eve", DAY * 10);
    other.enroll(vec![request(&eve, &key)]).await.remove(0).unwrap();
    keyring.take_scans();
    world.advance(DAY * 2).await;
    assert!(other.show(&eve).await.unwrap().proven, "the orphans are in nobody's way");
    let scans = keyring.take_scans();
    assert!(scans < 200, "{scans} scans in two days");
}

#[tokio::test]
async fn invariant_10_a_scheduler_that_cannot_look_for_due_keys_is_told_from_one_that_has_nothing_to_do() {
    const LOOKED: &str = "storekeeper_scheduler_last_success_timestamp_seconds";
    let world = World::new().await;
    world.enroll("ada", DAY).await;
    world.advance(DAY * 3 + HOUR).await;
    let now = world.now().seconds() as f64;
    assert_eq!(world.metric(LOOKED).await, now, "nothing is due before the eighth day");
    world.keyring.memory.set_available(false);
    world.advance(DAY * 12).await;
    let behind = world.now().seconds() as f64 - world.metric(LOOKED).await;
    assert!(behind > 86_400.0, "{behind} s behind");
}

#[tokio::test]
async fn a_survey_tells_certificates_and_how_long_the_store_may_be_away() {
    let world = World::new().await;
    world.proven(3).await;
    world.advance(DAY * 2).await;
    world.enroll("older", DAY * 5).await;
    let by_certificate = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("storekeeper_keys_by_certificate{"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
    };
    assert!((by_certificate(&world.keeper.metrics(&Visibility::All).await) - 4.0).abs() < 0.5);
    let budget = async |until: &str| {
        world.metric(&format!("storekeeper_outage_budget_seconds{{app=\"mygame\",until=\"{until}\"}}")).await
    };
    let days = |seconds: f64| (seconds / 86_400.0).round();
    assert_eq!((days(budget("deadline").await), days(budget("expiry").await)), (9.0, 25.0));
    world.store.set(|store| store.mood = Mood::Broken);
    world.advance(HOUR * 12).await;
    assert_eq!(days(budget("deadline").await * 2.0), 17.0);
    world.advance(DAY * 10).await;
    assert!(budget("deadline").await.abs() < 1.0, "the first is past its deadline");
    let text = world.keeper.metrics(&Visibility::All).await;
    for operation in ["find", "settle", "due", "page", "count"] {
        let line = format!("storekeeper_keyring_operation_duration_seconds_count{{operation=\"{operation}\"}}");
        assert!(text.lines().any(|told| told.starts_with(&line)), "{operation}");
    }
}
