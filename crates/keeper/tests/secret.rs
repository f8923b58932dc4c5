//! Invariant 7: secrets stay secret, in whatever is logged, told or kept for reading. A process of its own, since what is
//! logged depends on who listens anywhere in it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "invariants/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};

use storekeeper_keeper::Visibility;
use storekeeper_keyring::Keyring;
use storekeeper_model::Audience;
use tracing_subscriber::fmt::MakeWriter;

use support::mint::ticket;
use support::store::{Entra, Mood};
use support::{DAY, HOUR, MINUTE, SECRET, World, identity, mygame, player, request};

/// Everything that was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Whatever goes wrong, goes wrong once; what anybody is told of it is written down.
async fn noisy_run(world: &World, seen: &mut String) {
    let bad = request(&identity("eve"), "eyJhbGciOiJSUzI1NiJ9.eyJhIjoxfQ.c2VjcmV0LXNpZ25hdHVyZQ");
    let expired = request(&identity("eve"), &world.mint("eve", DAY * 40));
    let ahead = request(&identity("eve"), &world.store.mint(support::KIND, "eve", world.now() + DAY).jwt());
    for answer in world.keeper.enroll(vec![bad.clone(), expired, ahead]).await {
        writeln!(seen, "{answer:?} {}", answer.as_ref().map_or_else(ToString::to_string, |_| String::new())).unwrap();
    }
    writeln!(seen, "{bad:?} {:?} {:?}", world.keeper, world.master).unwrap();
    for mood in [
        Mood::Refuse,
        Mood::WrongClient,
        Mood::BadRequest,
        Mood::Broken,
        Mood::WrappedFault,
        Mood::Empty,
        Mood::SameKey,
        Mood::Redirect,
        Mood::Silent,
        Mood::Renew,
    ] {
        world.store.set(|store| store.mood = mood);
        for number in 0..3 {
            let renewed = world.renew(&player(number)).await;
            writeln!(seen, "{renewed:?} {}", renewed.as_ref().map_or_else(ToString::to_string, |_| String::new()))
                .unwrap();
            let live = world.get_with(&player(number), DAY * 15).await;
            writeln!(seen, "{live:?}").unwrap();
        }
        drop(world.keeper.resume(&mygame(), false).await);
        world.advance(MINUTE * 2).await;
    }
    for entra in [Entra::Refuse, Entra::Unavailable] {
        world.store.set(|store| store.entra = entra);
        world.advance(HOUR * 2).await;
        let keeper = world.keeper.clone();
        let told = world.answer(async move { keeper.ticket(&mygame(), Audience::Collections).await }).await;
        writeln!(seen, "{told:?}").unwrap();
    }
    world.store.set(|store| store.entra = Entra::Issue);
    world.advance(HOUR).await;
    writeln!(seen, "{:?}", world.keeper.ticket(&mygame(), Audience::Purchase).await).unwrap();
    // A keyring that holds what nobody can read.
    world.keyring.memory.set_available(false);
    writeln!(seen, "{:?}", world.get("nobody").await).unwrap();
    world.advance(MINUTE).await;
    world.keyring.memory.set_available(true);
    world.store.set(|store| store.date_off = 7200);
    world.advance(DAY * 12).await;
    world.store.set(|store| store.date_off = 0);
    world.advance(DAY).await;
}

#[tokio::test]
async fn invariant_7_nothing_printed_or_kept_for_reading_shows_a_secret() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::new().await;
    let mut keys = Vec::new();
    for number in 0..12 {
        keys.push(world.enroll(&player(number), DAY * 11).await);
    }
    // The Store gossips: its errors repeat a ticket and a key.
    let gossip = format!("of {} and {}", ticket(Audience::Service, world.now(), 3), keys[0]);
    world.store.set(|store| store.gossip = Some(gossip));
    world.rest().await;
    let mut seen = String::new();
    noisy_run(&world, &mut seen).await;
    for number in 0..12 {
        for outcome in world.keeper.history(&identity(&player(number))).await.unwrap() {
            writeln!(seen, "{outcome:?}").unwrap();
        }
    }
    writeln!(seen, "{:?} {:?}", world.keeper.stats().await, world.keyring.memory.apps().await).unwrap();
    seen.push_str(&world.keeper.metrics(&Visibility::All).await);
    let log = String::from_utf8(std::mem::take(&mut *log.0.lock().unwrap())).unwrap();
    assert!(log.lines().count() > 50 && log.contains("DEBUG"), "it was a noisy run:\n{log}");
    assert!(log.contains("app.paused") && log.contains("AADSTS7000215") && log.contains("no successor"), "{log}");
    for (what, text) in [("the log", &log), ("what callers are told", &seen)] {
        for secret in ["eyJ", SECRET, "c2VjcmV0", "[redacted, 0"] {
            assert!(!text.contains(secret), "{what} shows {secret}:\n{text}");
        }
    }
    // Only a key's view names the player, for who asked for this player's key.
    assert!(!log.contains("player-"), "the log names a player:\n{log}");
    assert!(!world.keeper.metrics(&Visibility::All).await.contains("player-"));
}
