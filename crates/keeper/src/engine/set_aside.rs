//! `SetAside`: rows that were refused or missed while the clocks disagreed. Nothing is written of that, since no instant
//! of ours is right; this keeper alone leaves them alone for a while, longer each time.

use std::collections::HashMap;

use storekeeper_keyring::Record;
use storekeeper_model::{KeyId, Timestamp};

use super::Engine;
use super::event::{Action, Answer, AppIndex, Asked, Subject};
use super::outcome::tried;

/// At most this many rows are remembered; more are tried again at the next regular scan.
const ROWS_MAX: usize = 100_000;

/// Until when each row waits, and how often it was tried.
#[derive(Debug, Default)]
pub(super) struct SetAside(HashMap<KeyId, (Timestamp, u32)>);

impl SetAside {
    /// How often a row was tried while the clocks disagreed.
    fn times(&self, id: KeyId) -> u32 {
        self.0.get(&id).map_or(0, |(_, times)| *times)
    }

    fn add(&mut self, id: KeyId, until: Timestamp, times: u32) {
        if self.0.len() < ROWS_MAX || self.0.contains_key(&id) {
            self.0.insert(id, (until, times));
        }
    }

    pub(super) fn remove(&mut self, id: KeyId) {
        self.0.remove(&id);
    }

    pub(super) fn clear(&mut self) {
        self.0 = HashMap::new();
    }

    /// What is not to be fetched at `now`.
    pub(super) fn waiting(&self, now: Timestamp) -> impl Iterator<Item = KeyId> + '_ {
        self.0.iter().filter(move |(_, (until, _))| *until > now).map(|(id, _)| *id)
    }
}

impl Engine {
    /// An attempt brought no successor while the clocks disagree. Refusals are not believed then, and neither are the
    /// instants that a back-off would write.
    #[expect(clippy::too_many_arguments, reason = "an outcome concerns the app, the row, the key and the moment")]
    pub(super) fn disbelieve(
        &mut self,
        app: AppIndex,
        record: &Record,
        subject: Subject,
        answer: &Answer,
        code: &'static str,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let (times, jitter) = (self.set_aside.times(record.id).saturating_add(1), self.jitter());
        let expires_at = tried(record, subject).lifetime.expires_at();
        let condemn_after = self.apps[app.0].policy.condemn_after;
        let (until, asked) = match answer {
            Answer::Silent(silence) => (
                storekeeper_policy::after_failure(now, times, silence.retry_after, expires_at, jitter),
                Asked::Failed(code, silence.retry_after),
            ),
            Answer::BadRequest | Answer::Unsealable => {
                (storekeeper_policy::after_bad_request(now, expires_at, jitter), Asked::Failed(code, None))
            }
            _ => (
                storekeeper_policy::after_refusal(now, times, condemn_after, expires_at, jitter),
                Asked::Failed("clock_skewed", None),
            ),
        };
        self.set_aside.add(record.id, until, times);
        self.release(record.id, &asked, actions);
    }
}
