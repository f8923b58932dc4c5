//! Transfer: keys leave a keeper with all that is known of them, are handed over to another one, and are taken back.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use storekeeper_keyring::seal::Role;
use storekeeper_keyring::{
    Expected, Keyring as _, KeyringError, PageQuery, Record, Refused, Revision, Settled, State, Write,
};
use storekeeper_model::{AppName, Fingerprint, Identity, KeyId, Secret, Timestamp};
use storekeeper_policy::{RenewalPolicy, Standing};
use tokio::sync::oneshot;

use crate::engine::Event;
use crate::error::{HandOverError, OrderError, ReadError};
use crate::intake::NEWCOMER_VERSION;
use crate::keeper::Keeper;
use crate::shell::Message;
use crate::view::{KeyView, Visibility};

/// How many rows are read or written at a time when a whole population is walked.
const PAGE: usize = 1000;
/// A page of an export looks at this many pages of rows at most before it answers with what it has.
const PAGES_MAX: usize = 8;
/// A row that many callers write at once is tried this often.
const ROUNDS_MAX: usize = 8;
/// The hand-over of a key that is being renewed waits so long for that to end. An answer of the Store takes less.
const UNDER_WAY_MAX: Duration = Duration::from_secs(45);
/// What changed this long before a cursor was made is told again: keepers' clocks may differ, and be set.
const OVERLAP: Duration = Duration::from_secs(60 * 60);

/// Where a later export goes on: what changed since it was made is told by the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportCursor(Timestamp);

impl ExportCursor {
    /// Made at `now`, before the first row is read.
    pub const fn made_at(now: Timestamp) -> Self {
        Self(now)
    }

    /// Whether a row may have changed since. Says yes too often rather than too seldom.
    fn is_before(self, record: &Record) -> bool {
        let from = self.0 - OVERLAP;
        let was_issued_since = record.key.lifetime.issued_at() >= from;
        was_issued_since || record.history.last().is_none_or(|outcome| outcome.at >= from)
    }
}

impl fmt::Display for ExportCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0.millis())
    }
}

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is what a former export printed, such as `c1790000000000`")]
pub struct UnknownCursor;

impl FromStr for ExportCursor {
    type Err = UnknownCursor;
    fn from_str(text: &str) -> Result<Self, UnknownCursor> {
        let millis = text.strip_prefix('c').and_then(|digits| digits.parse().ok()).ok_or(UnknownCursor)?;
        Ok(Self(Timestamp::from_millis(millis)))
    }
}

/// Which keys to export, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct ExportQuery {
    /// Only this app's.
    pub app: Option<AppName>,
    /// Only keys of apps that the caller may see.
    pub visible: Visibility,
    /// Only what changed since.
    pub since: Option<ExportCursor>,
    /// Only what can still be handed over: neither handed over nor revoked nor lapsed.
    pub to_hand_over: bool,
    /// Where the last page ended.
    pub after: Option<KeyId>,
    /// At most this many.
    pub limit: usize,
}

/// A page of an export.
#[derive(Debug)]
pub struct ExportPage {
    /// Where an export goes on that is made later, if this is the first page.
    pub cursor: ExportCursor,
    /// In the order of their ids; may be shorter than the limit although there are more.
    pub keys: Vec<ExportedKey>,
    /// Rows whose text cannot be unsealed: damaged, or sealed under a root that is not there.
    pub damaged: Vec<KeyView>,
    /// Ask for keys after this one; `None` at the end.
    pub next: Option<KeyId>,
    /// With the first page and the last: how many keys there are of the apps asked for, counted after the page was read.
    pub counted: Option<u64>,
}

/// A key with all that another keeper needs to take it up as it was.
#[derive(Debug)]
pub struct ExportedKey {
    /// Its text.
    pub key: Secret<String>,
    /// The text of a key that waits beside it.
    pub newcomer: Option<Secret<String>>,
    /// What is known of it.
    pub view: KeyView,
    /// The row's write counter: what a hand-over has to find unchanged.
    pub revision: Revision,
    /// The key last handed in.
    pub enrolled: Fingerprint,
    /// What is held against it.
    pub refused: Option<Refused>,
    /// When it was condemned.
    pub revoked_at: Option<Timestamp>,
    /// The last day (since the epoch) on which somebody read it.
    pub last_used_day: Option<i64>,
}

/// A key whose renewals become another keeper's, as it was exported.
#[derive(Debug, Clone)]
pub struct HandOver {
    /// Whose it is.
    pub identity: Identity,
    /// The row's write counter in the export.
    pub revision: Revision,
}

impl Keeper {
    /// Reads keys with their texts. No use is noted.
    ///
    /// # Errors
    /// [`ReadError::Keyring`].
    pub async fn export(&self, query: ExportQuery) -> Result<ExportPage, ReadError> {
        let now = self.clock().now();
        let mut page = ExportPage {
            cursor: ExportCursor::made_at(now),
            keys: Vec::new(),
            damaged: Vec::new(),
            next: query.after,
            counted: None,
        };
        let app = query.app.as_ref().or(query.visible.only_app()).cloned();
        let mut asked = PageQuery { app, after: query.after, ..PageQuery::default() };
        for _ in 0..PAGES_MAX {
            asked.limit = query.limit - page.keys.len();
            let rows = self.inner.tools.keyring.page(asked.clone()).await?;
            for record in rows.records.iter().filter(|record| is_asked_for(record, &query, now)) {
                match self.exported(record, now) {
                    Some(key) => page.keys.push(key),
                    None => page.damaged.push(KeyView::of(record, now)),
                }
            }
            (asked.after, page.next) = (rows.next, rows.next);
            if asked.after.is_none() || page.keys.len() >= query.limit {
                break;
            }
        }
        if page.next.is_none() || query.after.is_none() {
            page.counted = Some(self.count_for(&query, now).await?);
        }
        Ok(page)
    }

    fn exported(&self, record: &Record, now: Timestamp) -> Option<ExportedKey> {
        let unseal = |role, version, sealed| {
            let unsealed = self.inner.sealer.unseal(&record.identity, record.id, role, version, sealed);
            unsealed.map_err(|error| tracing::error!(key = %record.key.fingerprint, %error, "a row is damaged")).ok()
        };
        let newcomer = match &record.newcomer {
            None => None,
            Some(newcomer) => Some(unseal(Role::Newcomer, NEWCOMER_VERSION, &newcomer.key.sealed)?),
        };
        Some(ExportedKey {
            key: unseal(Role::Held, record.key_version, &record.key.sealed)?,
            newcomer,
            view: KeyView::of(record, now),
            revision: record.revision,
            enrolled: record.enrolled,
            refused: record.state.refused(),
            revoked_at: match record.state {
                State::Active { .. } => None,
                State::Revoked { at, .. } => Some(at),
            },
            last_used_day: record.last_used_day,
        })
    }

    async fn count_for(&self, query: &ExportQuery, now: Timestamp) -> Result<u64, ReadError> {
        let counts = self.inner.tools.keyring.count(now, &[]).await?;
        let is_asked_for =
            |app: &AppName| query.app.as_ref().is_none_or(|name| name == app) && query.visible.sees(app.as_str());
        let counts = counts.iter().filter(|count| is_asked_for(&count.app));
        Ok(counts.map(|count| count.active + count.revoked + count.lapsed + count.handed_over).sum())
    }

    /// Whether keys may be handed over here: a mark stops nobody but this keeper, so no other one may have a lease.
    ///
    /// # Errors
    /// [`HandOverError::LeasesElsewhere`].
    pub fn may_hand_over(&self) -> Result<(), HandOverError> {
        let is_ours = self.inner.tools.holding.is_everything(self.clock().elapsed());
        if is_ours { Ok(()) } else { Err(HandOverError::LeasesElsewhere) }
    }

    /// Marks keys as handed over: they are served until they expire and not renewed. Each only if its row is as it was
    /// exported; answers for each, in order, once durable. What is revoked or lapsed needs no mark, and is no failure. What is
    /// being renewed here is waited for, so that its successor is exported and not left behind; nothing is marked while
    /// another keeper may be renewing.
    pub async fn hand_over(&self, items: Vec<HandOver>) -> Vec<Result<(), HandOverError>> {
        if self.may_hand_over().is_err() {
            return items.iter().map(|_| Err(HandOverError::LeasesElsewhere)).collect();
        }
        let mut answers: Vec<Option<Result<(), HandOverError>>> = items.iter().map(|_| None).collect();
        let ids: Vec<KeyId> = items.iter().map(|item| item.identity.key_id()).collect();
        for _ in 0..ROUNDS_MAX {
            let open: Vec<usize> = (0..items.len()).filter(|place| answers[*place].is_none()).collect();
            if open.is_empty() {
                break;
            }
            if let Err(error) = self.hand_over_once(&items, &ids, &open, &mut answers).await {
                let text = error.to_string();
                for answer in answers.iter_mut().filter(|answer| answer.is_none()) {
                    *answer = Some(Err(KeyringError::Unavailable(text.clone()).into()));
                }
            }
        }
        let marked: Vec<usize> = (0..items.len()).filter(|place| matches!(answers[*place], Some(Ok(())))).collect();
        // Who has come meanwhile may have found rows due before they were marked.
        if self.may_hand_over().is_err() {
            marked.iter().for_each(|place| answers[*place] = Some(Err(HandOverError::LeasesElsewhere)));
        }
        self.end_what_is_under_way(&ids, &marked, &mut answers).await;
        answers.into_iter().map(|answer| answer.unwrap_or(Err(HandOverError::Changed))).collect()
    }

    /// Starts nothing with rows that were marked, and waits for what is under way with them: whose successor came has lost its
    /// mark to it, and has changed.
    async fn end_what_is_under_way(
        &self,
        ids: &[KeyId],
        marked: &[usize],
        answers: &mut [Option<Result<(), HandOverError>>],
    ) {
        let until = self.clock().now() + UNDER_WAY_MAX;
        let (reply, ended) = oneshot::channel();
        self.inner.postbox.send(Message::HandedOver(marked.iter().map(|place| ids[*place]).collect(), reply));
        let ended = tokio::select! {
            ended = ended => ended.ok(),
            // It goes on, and the row tells what came of it.
            _ = self.clock().sleep_until(until) => None,
        };
        let ended = ended.map(HashSet::<KeyId>::from_iter);
        let places = marked.iter().filter(|place| ended.as_ref().is_none_or(|ended| ended.contains(&ids[**place])));
        let places: Vec<usize> = places.copied().collect();
        if places.is_empty() {
            return;
        }
        let asked: Vec<KeyId> = places.iter().map(|place| ids[*place]).collect();
        let rows = match self.inner.tools.keyring.find(&asked).await {
            Ok(rows) => rows,
            Err(error) => {
                let text = error.to_string();
                let unknown = || Some(Err(KeyringError::Unavailable(text.clone()).into()));
                return places.iter().for_each(|place| answers[*place] = unknown());
            }
        };
        let now = self.clock().now();
        for (place, row) in places.into_iter().zip(rows) {
            let is_ours = row.is_some_and(|row| !row.is_handed_over() && standing(&row, now) == Standing::Active);
            if is_ours {
                answers[place] = Some(Err(HandOverError::Changed));
            }
        }
    }

    async fn hand_over_once(
        &self,
        items: &[HandOver],
        ids: &[KeyId],
        open: &[usize],
        answers: &mut [Option<Result<(), HandOverError>>],
    ) -> Result<(), KeyringError> {
        let now = self.clock().now();
        let asked: Vec<KeyId> = open.iter().map(|place| ids[*place]).collect();
        let rows = self.inner.tools.keyring.find(&asked).await?;
        let mut places = Vec::new();
        let mut writes = Vec::new();
        for (place, row) in open.iter().zip(rows) {
            match mark(row, items[*place].revision, now) {
                Ok(Some(write)) => {
                    places.push(*place);
                    writes.push(write);
                }
                Ok(None) => answers[*place] = Some(Ok(())),
                Err(error) => answers[*place] = Some(Err(error)),
            }
        }
        for (place, settled) in places.into_iter().zip(self.inner.tools.keyring.settle(Arc::new(writes)).await?) {
            if let Settled::Done(_) = settled {
                answers[place] = Some(Ok(()));
            }
        }
        Ok(())
    }

    /// Takes an app's keys back that were handed over: each is due at its own moment again. Returns how many there were.
    ///
    /// # Errors
    /// See [`OrderError`]; what was taken back before an error stays so.
    pub async fn reclaim(&self, app: &AppName) -> Result<u64, OrderError> {
        let index = *self.inner.index.get(app).ok_or(OrderError::AppUnknown)?;
        let policy = self.inner.config.apps[index.0].policy;
        let now = self.clock().now();
        let mut query = PageQuery { app: Some(app.clone()), revoked: Some(false), limit: PAGE, ..PageQuery::default() };
        let mut reclaimed = 0;
        loop {
            let page = self.inner.tools.keyring.page(query.clone()).await?;
            let theirs = page.records.into_iter().filter(Record::is_handed_over);
            let writes = theirs.map(|record| taken_back(record, &policy, now)).collect();
            let settled = self.inner.tools.keyring.settle(Arc::new(writes)).await?;
            reclaimed += settled.iter().filter(|settled| matches!(settled, Settled::Done(_))).count() as u64;
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        self.inner.postbox.send(Message::Event(Event::Changed(now)));
        tracing::info!(%app, keys = reclaimed, "keys taken back");
        Ok(reclaimed)
    }
}

fn is_asked_for(record: &Record, query: &ExportQuery, now: Timestamp) -> bool {
    query.visible.sees(record.identity.app.as_str())
        && query.since.is_none_or(|since| since.is_before(record))
        && (!query.to_hand_over || (!record.is_handed_over() && standing(record, now) == Standing::Active))
}

fn standing(record: &Record, now: Timestamp) -> Standing {
    storekeeper_policy::standing(record.state.is_revoked(), record.key.lifetime.expires_at(), now)
}

/// The write that marks a row; `None` where there is nothing to do.
fn mark(row: Option<Record>, exported: Revision, now: Timestamp) -> Result<Option<Write>, HandOverError> {
    let mut record = row.ok_or(HandOverError::NotFound)?;
    if record.is_handed_over() || standing(&record, now) != Standing::Active {
        return Ok(None);
    }
    if record.revision != exported {
        return Err(HandOverError::Changed);
    }
    let expected = Expected::of(&record);
    record.revision = record.revision.next();
    record.next_attempt_at = Some(Record::HANDED_OVER);
    Ok(Some(Write::Put { expected, record: Box::new(record) }))
}

fn taken_back(mut record: Record, policy: &RenewalPolicy, now: Timestamp) -> Write {
    let expected = Expected::of(&record);
    let moment = storekeeper_policy::renew_at(policy, record.id, &record.key.lifetime);
    record.revision = record.revision.next();
    record.next_attempt_at = Some(moment.unwrap_or(now));
    Write::Put { expected, record: Box::new(record) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_printed() {
        let cursor = ExportCursor::made_at(Timestamp::from_millis(1_790_000_000_123));
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in ["", "c", "1790000000000", "cx", "c1.5"] {
            assert_eq!(bad.parse::<ExportCursor>(), Err(UnknownCursor), "{bad}");
        }
    }
}
