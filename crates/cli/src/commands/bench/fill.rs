//! Fills a keyring with keys as months of keeping would have left them: proven, sealed, with a history.

use std::borrow::Cow;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use storekeeper_clock::{Clock as _, SystemClock};
use storekeeper_emulator::DEV_CLIENT_ID;
use storekeeper_keyring::seal::{Role, Sealer};
use storekeeper_keyring::{
    AppRow, Expected, History, Keyring, Outcome, OutcomeResult, Record, Revision, SealedKey, Settled, State, Write,
};
use storekeeper_model::{AppName, ClientId, Secret, StoreIdKey, Timestamp};
use storekeeper_policy::{RenewalPolicy, renew_at};

use super::failure;
use super::made_up::{APP, Maker, identity};
use super::place::Files;
use crate::exit::CommandError;

/// How many rows are written in one go.
const CHUNK: u64 = 4096;
/// The version of the key that is held: three were held before it.
const KEY_VERSION: u32 = 4;
/// So many of the first due keys are told apart.
pub(super) const FIRST_DUE: usize = 1024;
/// With the usual target and spread all keys of this age, in days, are due.
const DUE_AGE: std::ops::Range<u32> = 11..13;
/// And none of this age is.
const YOUNG_AGE: std::ops::Range<u32> = 1..3;
const DAY: Duration = Duration::from_secs(86_400);

/// What to fill.
#[derive(Serialize, Deserialize)]
pub(super) struct Fill {
    /// Where.
    pub(super) files: Files,
    /// With how many keys, each issued at an instant of its own, so that what is due together does not lie together.
    pub(super) keys: u64,
    /// How many of them are due; they lie evenly among the others.
    pub(super) due: u64,
}

/// What was filled.
#[derive(Serialize, Deserialize)]
pub(super) struct Filled {
    /// How many of the keys are due.
    pub(super) due: u64,
    /// The instant, in milliseconds, by which the first [`FIRST_DUE`] of them are due; the last one's where there are fewer.
    pub(super) first_due_by: i64,
}

impl Fill {
    /// Fills, and closes the keyring so that another process may open it.
    pub(super) async fn run(self) -> Result<Filled, CommandError> {
        let keyring = self.files.open().await?;
        let now = SystemClock::new().now();
        let roots = keyring.roots().await.map_err(failure)?;
        let (sealer, first) = Sealer::load_or_create(&self.files.master()?, roots, now).map_err(failure)?;
        if let Some(root) = first {
            keyring.add_root(&root).await.map_err(failure)?;
        }
        keyring.save_app(&app()).await.map_err(failure)?;
        let mut maker = Maker::new(0xf111);
        let (mut due, mut first_due) = (0, BinaryHeap::with_capacity(FIRST_DUE + 1));
        for start in (0..self.keys).step_by(CHUNK as usize) {
            let numbers = start..(start + CHUNK).min(self.keys);
            let records = numbers.map(|number| self.record(number, &mut maker, &sealer, now));
            let records = records.collect::<Result<Vec<_>, _>>()?;
            for at in records.iter().filter_map(|record| record.next_attempt_at).filter(|at| *at <= now) {
                due += 1;
                first_due.push(at.millis());
                if first_due.len() > FIRST_DUE {
                    first_due.pop();
                }
            }
            put(&*keyring, records).await?;
        }
        keyring.close().await;
        Ok(Filled { due, first_due_by: first_due.peek().copied().unwrap_or_default() })
    }

    fn is_due(&self, number: u64) -> bool {
        let before = |number: u64| u128::from(number) * u128::from(self.due) / u128::from(self.keys);
        before(number + 1) > before(number)
    }

    fn record(&self, number: u64, maker: &mut Maker, sealer: &Sealer, now: Timestamp) -> Result<Record, CommandError> {
        let identity = identity(number);
        let id = identity.key_id();
        let age = if self.is_due(number) { DUE_AGE } else { YOUNG_AGE };
        let issued_at = now - maker.span(DAY * age.start..DAY * age.end);
        let key = StoreIdKey::parse(Secret::new(maker.key(number, issued_at))).map_err(failure)?;
        let sealed = sealer.seal(&identity, id, Role::Held, KEY_VERSION, key.jwt());
        Ok(Record {
            id,
            identity,
            revision: Revision::first(issued_at),
            key_version: KEY_VERSION,
            enrolled: another_fingerprint(&key),
            state: State::ACTIVE,
            proven: true,
            failures: 0,
            next_attempt_at: renew_at(&RenewalPolicy::default(), id, key.lifetime()),
            history: history(issued_at, maker),
            last_used_day: Some(now.day()),
            newcomer: None,
            key: SealedKey::new(&key, sealed),
        })
    }
}

/// The key last handed in was another: it has been renewed since.
fn another_fingerprint(key: &StoreIdKey) -> storekeeper_model::Fingerprint {
    storekeeper_model::Fingerprint::of(&key.fingerprint().to_string())
}

/// Three renewals, nine days apart.
fn history(issued_at: Timestamp, maker: &mut Maker) -> History {
    let renewed = |ago: u32| Outcome {
        at: issued_at - DAY * (9 * ago),
        result: OutcomeResult::Renewed,
        status: Some(200),
        code: Cow::Borrowed("renewed"),
        correlation_id: Some(maker.correlation_id()),
    };
    [2, 1, 0].map(renewed).into_iter().collect()
}

fn app() -> AppRow {
    AppRow {
        name: AppName::new(APP).expect("the name is made of letters"),
        client_id: ClientId::new(DEV_CLIENT_ID),
        paused: None,
        evidence_since: Timestamp::EPOCH,
        condemned_day: 0,
        condemned: 0,
    }
}

async fn put(keyring: &dyn Keyring, records: Vec<Record>) -> Result<(), CommandError> {
    let put = |record| Write::Put { expected: Expected::Absent, record: Box::new(record) };
    let settled = keyring.settle(Arc::new(records.into_iter().map(put).collect())).await.map_err(failure)?;
    if settled.iter().all(|settled| matches!(settled, Settled::Done(_))) {
        Ok(())
    } else {
        Err(failure("a made-up key was there already"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::Place;
    use super::*;

    #[tokio::test]
    async fn as_many_keys_are_due_as_were_asked_for() {
        for due in [6, 0, 4] {
            let place = Place::prepare(None).await.unwrap();
            let filled = Fill { files: place.files.clone(), keys: 6, due }.run().await.unwrap();
            assert_eq!(filled.due, due);
            let keyring = place.files.open().await.unwrap();
            let now = SystemClock::new().now();
            let count = keyring.count(now, &[]).await.unwrap();
            assert_eq!(count.iter().map(|count| count.active).sum::<u64>(), 6);
            keyring.close().await;
        }
    }
}
