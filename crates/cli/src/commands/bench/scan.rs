//! Asks a keyring what is due, time and again, without taking any of it.

use serde::{Deserialize, Serialize};
use storekeeper_clock::{Clock as _, SystemClock};
use storekeeper_keyring::{DueQuery, Keyring};
use storekeeper_model::Timestamp;

use super::failure;
use super::fill::FIRST_DUE;
use super::place::Files;
use crate::exit::CommandError;

/// How often is asked; the first answer finds nothing in memory and is told apart.
const QUESTIONS: usize = 21;

/// What to ask.
#[derive(Serialize, Deserialize)]
pub(super) struct Scan {
    /// The keyring.
    pub(super) files: Files,
    /// By when keys are to be due, in milliseconds.
    pub(super) until: i64,
}

/// What was found.
#[derive(Serialize, Deserialize)]
pub(super) struct Scanned {
    /// How many keys were due.
    pub(super) found: usize,
    /// How long the first answer took.
    pub(super) first_micros: u64,
    /// How long half of the others took at most.
    pub(super) median_micros: u64,
    /// The same where everything that is due is asked for, and as many are answered.
    pub(super) backlog_median_micros: u64,
}

impl Scan {
    /// Asks and closes the keyring.
    pub(super) async fn run(self) -> Result<Scanned, CommandError> {
        let keyring = self.files.open().await?;
        let clock = SystemClock::new();
        let (found, mut micros) = ask(&*keyring, Timestamp::from_millis(self.until), &clock).await?;
        let (_, mut backlog) = ask(&*keyring, clock.now(), &clock).await?;
        keyring.close().await;
        let first_micros = micros.remove(0);
        backlog.remove(0);
        Ok(Scanned { found, first_micros, median_micros: median(micros), backlog_median_micros: median(backlog) })
    }
}

/// How many rows the last answer held, and how long each answer took.
async fn ask(keyring: &dyn Keyring, until: Timestamp, clock: &SystemClock) -> Result<(usize, Vec<u64>), CommandError> {
    let mut micros = Vec::with_capacity(QUESTIONS);
    let mut found = 0;
    for _ in 0..QUESTIONS {
        let (except, blocked) = (Default::default(), Vec::new());
        let query =
            DueQuery { until, impossible_after: Timestamp::MAX, except, blocked, limit: FIRST_DUE, buckets: None };
        let began = clock.elapsed();
        found = keyring.due(query).await.map_err(failure)?.records.len();
        micros.push((clock.elapsed() - began).as_micros() as u64);
    }
    Ok((found, micros))
}

fn median(mut micros: Vec<u64>) -> u64 {
    micros.sort_unstable();
    micros[micros.len() / 2]
}
