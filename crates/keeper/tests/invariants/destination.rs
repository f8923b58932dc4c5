//! Invariant 3: a ticket goes only where configuration says.

use std::collections::BTreeSet;

use storekeeper_client::Endpoint;
use storekeeper_model::{Audience, Fingerprint, KeyKind};

use crate::support::mint::Mint;
use crate::support::store::Mood;
use crate::support::{DAY, HOUR, World, config, identity, mygame, request};

#[tokio::test]
async fn invariant_3_a_ticket_goes_only_where_configuration_says() {
    let mut config = config();
    config.collections = Endpoint::parse("https://gateway.example:8443/collections").unwrap();
    config.purchase = Endpoint::parse("https://purchase.example").unwrap();
    config.entra = Endpoint::parse("http://127.0.0.1:9/entra").unwrap();
    let world = World::with(config).await;
    let mut requests = Vec::new();
    for (number, kind) in KeyKind::ALL.into_iter().cycle().take(10).enumerate() {
        let user = format!("player-{number}");
        let mint = Mint {
            refresh_uri: String::from("https://elsewhere.example/v6.0/b2b/keys/renew"),
            ..world.store.mint(kind, &user, world.now() - DAY * 11)
        };
        let identity = storekeeper_model::Identity { kind, ..identity(&user) };
        requests.push(request(&identity, &mint.jwt()));
    }
    assert!(world.keeper.enroll(requests).await.iter().all(Result::is_ok));
    world.advance(DAY).await;
    for audience in Audience::ALL {
        world.keeper.ticket(&mygame(), audience).await.unwrap();
    }
    let log = world.store.take_log();
    let asked: BTreeSet<(&str, &str)> = log.iter().map(|one| (one.host.as_str(), one.path.as_str())).collect();
    let expected = BTreeSet::from([
        ("gateway.example", "/collections/v6.0/b2b/keys/renew"),
        ("purchase.example", "/v6.0/b2b/keys/renew"),
        ("127.0.0.1", "/entra/11111111-1111-4111-8111-111111111111/oauth2/v2.0/token"),
    ]);
    assert_eq!(asked, expected);
    assert_eq!(world.counts().await.unproven, 0, "every one was renewed");
}

#[tokio::test]
async fn invariant_3_a_redirect_is_not_followed() {
    let world = World::new().await;
    world.store.set(|store| store.mood = Mood::Redirect);
    let key = world.enroll("ada", DAY * 11).await;
    world.advance(HOUR * 6).await;
    let log = world.store.take_log();
    assert!(log.len() > 2 && log.iter().all(|one| one.host != "elsewhere.example"), "{log:?}");
    assert_eq!(world.served("ada").await, Fingerprint::of(&key));
}

#[test]
fn invariant_3_plain_http_is_for_loopback_alone() {
    for refused in ["http://store.example", "http://10.0.0.1", "http://127.0.0.1.example", "http://localhost.example"] {
        assert!(Endpoint::parse(refused).is_err(), "{refused}");
    }
    for allowed in ["http://127.0.0.1:8440/collections.mp.microsoft.com", "http://[::1]:1", "https://store.example"] {
        assert!(Endpoint::parse(allowed).is_ok(), "{allowed}");
    }
}
