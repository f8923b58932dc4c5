//! The `Keyring` trait: what a backend promises, in domain verbs.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use storekeeper_model::{ClientId, Identity, KeyKind};
use storekeeper_supervisor::Supervisor;
// Named again for `delegate!`, whose users need not know where they come from.
#[doc(no_inline)]
pub use storekeeper_model::{AppName, KeyId, Timestamp, UserName};

use crate::{Buckets, Count, Expected, KeyringError, Leases, Page, PageQuery, Record, Revision};

/// Rows whose attempt is due.
#[derive(Debug, Clone)]
pub struct DueQuery {
    /// Due at or before this instant.
    pub until: Timestamp,
    /// A row with failures or refusals whose next attempt lies after this instant was written by a wrong clock, and is due too.
    pub impossible_after: Timestamp,
    /// Rows the asker has already.
    pub except: std::collections::HashSet<KeyId>,
    /// Rows of these apps and kinds are not wanted now: paused, or their host is not asked at the moment.
    pub blocked: Vec<(AppName, KeyKind)>,
    /// Only rows of these buckets; `None`: of all. A keyring that has no [`Leases`] is never asked for less than all.
    pub buckets: Option<Arc<Buckets>>,
    /// At most this many.
    pub limit: usize,
}

impl DueQuery {
    /// Whether rows of this id's bucket are wanted.
    pub fn is_within(&self, id: KeyId) -> bool {
        self.buckets.as_ref().is_none_or(|buckets| buckets.contains_row(id))
    }

    /// Whether rows of this app and kind are not wanted now.
    pub fn is_blocked(&self, identity: &Identity) -> bool {
        self.blocked.iter().any(|(app, kind)| *app == identity.app && *kind == identity.kind)
    }
}

/// What is due.
#[derive(Debug, Clone, Default)]
pub struct Due {
    /// In the order of [`Risk`](crate::Risk), at `until`.
    pub records: Vec<Record>,
    /// When the earliest row that is not yet due will be: the first next attempt after `until`. Rows of blocked apps
    /// count here, so that nobody sleeps past them.
    pub next_due_at: Option<Timestamp>,
    /// Whether there are more than `limit`, not counting those excepted or blocked.
    pub more: bool,
}

/// One write. It is made only if what the writer saw still stands.
#[derive(Debug, Clone)]
pub enum Write {
    /// Puts a row in the place of what was expected. `record.revision` is the new one, above the expected one.
    Put {
        /// What must still stand.
        expected: Expected,
        /// The row.
        record: Box<Record>,
    },
    /// Removes a row.
    Forget {
        /// Its id.
        id: KeyId,
        /// Whose it was, for the counts.
        identity: Identity,
        /// What must still stand.
        expected: Expected,
    },
}

impl Write {
    /// Which row it concerns.
    pub fn id(&self) -> KeyId {
        match self {
            Self::Put { record, .. } => record.id,
            Self::Forget { id, .. } => *id,
        }
    }
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Durable, at this revision.
    Done(Revision),
    /// Something else stands there now; nothing was changed.
    Conflict,
}

/// Why an app's keys are not renewed, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    /// A stable word: `operator`, `guard`, `inconsistent_client_id`, `credential`.
    pub reason: String,
    /// One line for a person, without secrets.
    pub detail: String,
    /// Since when.
    pub since: Timestamp,
}

/// What is kept of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRow {
    /// The configured name.
    pub name: AppName,
    /// The client ID its keys were enrolled for.
    pub client_id: ClientId,
    /// Paused, and why.
    pub paused: Option<Paused>,
    /// Refusals before this instant prove nothing: the app was paused since.
    pub evidence_since: Timestamp,
    /// The day (since the epoch) of `condemned`.
    pub condemned_day: i64,
    /// How many keys were condemned on that day; or [`AppRow::CAP_LIFTED`].
    pub condemned: u64,
}

impl AppRow {
    /// In the place of a count: an operator lets any number be condemned on that day. Whoever does not know it condemns no
    /// more.
    pub const CAP_LIFTED: u64 = i64::MAX as u64;

    /// Whether an operator lets any number be condemned on this day.
    pub const fn is_cap_lifted(&self, day: i64) -> bool {
        self.condemned_day == day && self.condemned == Self::CAP_LIFTED
    }
}

/// A root key, wrapped by the master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedRoot {
    /// 1, 2, …; the highest seals, all unseal.
    pub generation: u16,
    /// The wrapped root; opaque to a backend.
    pub wrapped: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What every verb of a [`Keyring`] returns.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, KeyringError>>;
/// What [`Keyring::close`] returns.
pub type Closed<'a> = BoxFuture<'a, ()>;

/// Where enrolled keys are durably kept.
///
/// Every backend passes the suite in `conformance`. Time is always a parameter. A future that resolves to `Ok`
/// means *durable*: what was written survives `kill -9` and a power cut. Dropping a future does not undo its write.
pub trait Keyring: Send + Sync {
    /// Whether other processes may write its rows: what was read a moment ago need not stand any more.
    fn is_shared(&self) -> bool {
        self.leases().is_some()
    }

    /// Reads rows by id, in the order asked for.
    fn find<'a>(&'a self, ids: &'a [KeyId]) -> Answer<'a, Vec<Option<Record>>>;

    /// Reads every row of a player: all kinds, all slots.
    fn of_user<'a>(&'a self, app: &'a AppName, user: &'a UserName) -> Answer<'a, Vec<Record>>;

    /// Finds what is due. Costs what is due, not what is stored.
    fn due(&self, query: DueQuery) -> Answer<'_, Due>;

    /// Writes a group, each compare-and-set, in one durable step; answers per write, in order. Groups of several
    /// callers may share one commit. Two writes of one group to the same row are judged in order.
    ///
    /// The writes are shared, not given away: after a failure the caller still has them and tries again.
    fn settle(&self, writes: Arc<Vec<Write>>) -> Answer<'_, Vec<Settled>>;

    /// Finds up to `limit` live, proven, active rows of an app with nothing held against them, other than `except`:
    /// those whose next attempt comes soonest. May miss some in a large population of other apps.
    fn witnesses<'a>(
        &'a self,
        app: &'a AppName,
        except: KeyId,
        now: Timestamp,
        limit: usize,
    ) -> Answer<'a, Vec<Record>>;

    /// Lists rows.
    fn page(&self, query: PageQuery) -> Answer<'_, Page>;

    /// Counts the population, one entry per app and kind that has rows. `overdue_before` is the `iat` before which a
    /// key is past its deadline, per app. Cost follows what is due, lapsed or past the deadline.
    fn count<'a>(&'a self, now: Timestamp, overdue_before: &'a [(AppName, Timestamp)]) -> Answer<'a, Vec<Count>>;

    /// Notes the day on which keys were last read, unless a later day is noted; unknown ids are passed over. Durable
    /// with the next commit; changes no revision. A later `Put` never takes the day back.
    fn note_used<'a>(&'a self, used: &'a [(KeyId, i64)]) -> Answer<'a, ()>;

    /// Every app that was ever saved.
    fn apps(&self) -> Answer<'_, Vec<AppRow>>;

    /// Saves what is known of an app.
    fn save_app<'a>(&'a self, app: &'a AppRow) -> Answer<'a, ()>;

    /// Every wrapped root.
    fn roots(&self) -> Answer<'_, Vec<WrappedRoot>>;

    /// Adds a wrapped root; an existing generation is [`KeyringError::RootExists`].
    fn add_root<'a>(&'a self, root: &'a WrappedRoot) -> Answer<'a, ()>;

    /// How several keepers share it; `None` where one process alone holds it, and so owns every bucket.
    fn leases(&self) -> Option<&dyn Leases> {
        None
    }

    /// Where the rows are, for logs and operators: a file, or hosts and a database; never a password.
    fn location(&self) -> &str {
        "memory"
    }

    /// What watches the backend's own core tasks; `None` where it has none.
    fn supervisor(&self) -> Option<&Supervisor> {
        None
    }

    /// Finishes what is under way and closes; later calls are `Unavailable`.
    fn close(&self) -> Closed<'_>;
}
