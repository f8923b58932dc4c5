//! The measured half of `bench serve`: the emulator, and on the same cores the rate at which RSA can sign at all.

use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use serde::{Deserialize, Serialize};
use storekeeper_clock::{Clock as _, SystemClock, VirtualClock};
use storekeeper_emulator::{EmulatorOptions, MintKey, MintTicket, Running, Server, ServerOptions, Switches};
use storekeeper_model::{Audience, KeyKind};

use super::made_up::player;
use super::part::Orders;
use super::{failure, machine, report};
use crate::exit::{CommandError, CommandResult};

/// As long as the text of a key that is signed.
const MESSAGE_BYTES: usize = 1250;

/// The emulator.
#[derive(Serialize, Deserialize)]
pub(super) struct Emulate {
    /// How many keys to mint.
    pub(super) keys: u64,
    /// On how many cores to sign.
    pub(super) cores: usize,
}

/// What the load needs.
#[derive(Serialize, Deserialize)]
pub(super) struct Minted {
    /// Where the emulated hosts answer.
    pub(super) address: SocketAddr,
    /// A ticket for all of them.
    pub(super) ticket: String,
    /// The keys.
    pub(super) keys: Vec<String>,
}

/// What it may be told.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Tell what it has cost.
    Usage,
    /// Sign for so many milliseconds.
    Sign(u64),
}

/// What came of signing.
#[derive(Serialize, Deserialize)]
pub(super) struct Signed {
    /// How many signatures.
    pub(super) signs: u64,
    /// In which time.
    pub(super) micros: u64,
}

impl Emulate {
    /// Serves and signs as it is told.
    pub(super) async fn run(self, mut orders: Orders) -> CommandResult {
        let switches = Switches { rate_limit: None, ..Switches::default() };
        let options = EmulatorOptions { switches, ..EmulatorOptions::default() };
        let clock = VirtualClock::running_from(SystemClock::new().now(), 1.0);
        let listeners = ServerOptions { https: None, control: None, ..ServerOptions::ephemeral() };
        let running = Server::start(options, clock, listeners).await.map_err(failure)?;
        report(&self.mint(&running)?)?;
        let pair = std::sync::Arc::new(KeyPair::generate(KeySize::Rsa2048).map_err(failure)?);
        while let Some(order) = orders.next().await? {
            match order {
                Order::Usage => report(&machine::usage()?)?,
                Order::Sign(millis) => {
                    let limit = Duration::from_millis(millis);
                    let sign = |_| {
                        let pair = std::sync::Arc::clone(&pair);
                        tokio::task::spawn_blocking(move || sign(&pair, limit))
                    };
                    let signing: Vec<_> = (0..self.cores).map(sign).collect();
                    let mut signed = Signed { signs: 0, micros: 0 };
                    for one in signing {
                        let one = one.await.map_err(failure)??;
                        signed.signs += one.signs;
                        signed.micros = signed.micros.max(one.micros);
                    }
                    report(&signed)?;
                }
            }
        }
        running.shutdown().await.map_err(failure)
    }

    fn mint(&self, running: &Running) -> Result<Minted, CommandError> {
        let (emulator, now) = (running.emulator(), running.clock().now());
        let mint = |number| emulator.mint_key(MintKey::new(KeyKind::Collections, player(number * 2)), now);
        let keys = (0..self.keys).map(|number| mint(number).map(|key| key.expose().clone()));
        let keys = keys.collect::<Result<_, _>>().map_err(failure)?;
        let wish = MintTicket { audience: Audience::Service, client_id: None, claims: serde_json::Map::new() };
        let ticket = emulator.mint_ticket(wish, now).expose().clone();
        let address = running.http().ok_or_else(|| failure("the emulator does not listen"))?;
        Ok(Minted { address, ticket, keys })
    }
}

/// Signs for `limit`, with the key held parsed, as a server would.
fn sign(pair: &KeyPair, limit: Duration) -> Result<Signed, CommandError> {
    let clock = SystemClock::new();
    let random = SystemRandom::new();
    let message = [b'm'; MESSAGE_BYTES];
    let mut signature = vec![0; pair.public_modulus_len()];
    let mut signs = 0;
    while clock.elapsed() < limit {
        pair.sign(&RSA_PKCS1_SHA256, &random, &message, &mut signature).map_err(failure)?;
        signs += 1;
    }
    Ok(Signed { signs, micros: clock.elapsed().as_micros() as u64 })
}
