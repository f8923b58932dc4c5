//! `MemoryKeyring`: the reference backend. It keeps the trait's promises in the plainest way, but for durability.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use storekeeper_model::{AppName, KeyId, KeyKind, Timestamp, UserName};

use crate::{
    AppRow, Count, Due, DueQuery, Expected, Keyring, KeyringError, Leases, Page, PageQuery, Record, Settled,
    WrappedRoot, Write,
};

mod lease;

use lease::Shared;

/// A keyring that forgets everything when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryKeyring {
    inner: Mutex<Inner>,
    is_shared: bool,
}

#[derive(Debug, Default)]
struct Inner {
    records: BTreeMap<KeyId, Record>,
    due: BTreeSet<(Timestamp, KeyId)>,
    /// The part of `due` that a wrong clock may have put too far away.
    failing: BTreeSet<(Timestamp, KeyId)>,
    apps: BTreeMap<AppName, AppRow>,
    roots: BTreeMap<u16, WrappedRoot>,
    shared: Shared,
    outage: Option<&'static str>,
}

const OUTAGE: &str = "switched off";
const CLOSED: &str = "closed";

impl MemoryKeyring {
    /// An empty one, held by one keeper.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one that several keepers share by its [`Leases`].
    pub fn shared() -> Self {
        Self { is_shared: true, ..Self::default() }
    }

    /// For tests: from now on every call is [`KeyringError::Unavailable`], and changes nothing, until it is switched on
    /// again.
    pub fn set_available(&self, is_available: bool) {
        let mut inner = self.lock();
        if inner.outage != Some(CLOSED) {
            inner.outage = (!is_available).then_some(OUTAGE);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds the lock")
    }

    fn answer<'a, T: Send + 'a>(&'a self, act: impl FnOnce(&mut Inner) -> T) -> BoxFuture<'a, Result<T, KeyringError>> {
        self.try_answer(|inner| Ok(act(inner)))
    }

    /// What is done is done when the future is made: it is ready at once.
    fn try_answer<'a, T: Send + 'a>(
        &'a self,
        act: impl FnOnce(&mut Inner) -> Result<T, KeyringError>,
    ) -> BoxFuture<'a, Result<T, KeyringError>> {
        let mut inner = self.lock();
        let answer = match inner.outage {
            Some(why) => Err(KeyringError::Unavailable(String::from(why))),
            None => act(&mut inner),
        };
        std::future::ready(answer).boxed()
    }
}

impl Inner {
    fn still_stands(&self, id: KeyId, expected: &Expected) -> bool {
        match (self.records.get(&id), expected) {
            (None, Expected::Absent) => true,
            (Some(record), Expected::Row { revision, fingerprint, .. }) => {
                record.revision == *revision && record.key.fingerprint == *fingerprint
            }
            _ => false,
        }
    }

    fn settle(&mut self, write: &Write) -> Settled {
        match write {
            Write::Put { expected, record } if self.still_stands(record.id, expected) => {
                self.put(Record::clone(record));
                Settled::Done(record.revision)
            }
            Write::Forget { id, expected, .. } if self.still_stands(*id, expected) => match self.take(*id) {
                Some(record) => Settled::Done(record.revision),
                None => Settled::Conflict,
            },
            _ => Settled::Conflict,
        }
    }

    fn put(&mut self, mut record: Record) {
        let noted = self.take(record.id).and_then(|former| former.last_used_day);
        record.last_used_day = record.last_used_day.max(noted);
        if let Some(at) = record.next_attempt_at {
            self.due.insert((at, record.id));
            if record.is_failing() {
                self.failing.insert((at, record.id));
            }
        }
        self.records.insert(record.id, record);
    }

    fn take(&mut self, id: KeyId) -> Option<Record> {
        let record = self.records.remove(&id)?;
        if let Some(at) = record.next_attempt_at {
            self.due.remove(&(at, id));
            self.failing.remove(&(at, id));
        }
        Some(record)
    }

    fn due(&self, query: &DueQuery) -> Due {
        let impossible = |(at, _): &&(Timestamp, KeyId)| *at > query.impossible_after;
        let due = self.due.iter().take_while(|(at, _)| *at <= query.until);
        let due = due.chain(self.failing.iter().rev().take_while(impossible)).map(|(_, id)| *id);
        let ids: HashSet<KeyId> = due.filter(|id| query.is_within(*id)).collect();
        let mut records: Vec<&Record> =
            ids.iter().filter(|id| !query.except.contains(id)).map(|id| &self.records[id]).collect();
        records.retain(|record| !query.is_blocked(&record.identity));
        records.sort_by_key(|record| (record.key.lifetime.expires_at(), record.id));
        let later = self.due.iter().skip_while(|(at, _)| *at <= query.until);
        Due {
            more: records.len() > query.limit,
            records: records.into_iter().take(query.limit).cloned().collect(),
            next_due_at: later
                .filter(|(_, id)| query.is_within(*id) && !ids.contains(id))
                .map(|(at, _)| *at)
                .next()
                .filter(|at| *at != Record::HANDED_OVER),
        }
    }

    fn witnesses(&self, app: &AppName, except: KeyId, now: Timestamp, limit: usize) -> Vec<Record> {
        let records = self.due.iter().map(|(_, id)| &self.records[id]);
        let fit = records.filter(|record| record.identity.app == *app && record.id != except && record.is_witness(now));
        fit.take(limit).cloned().collect()
    }

    fn page(&self, query: &PageQuery) -> Page {
        let after = query.after;
        let mut rest = self.records.values().filter(|record| after.is_none_or(|after| record.id > after));
        let mut records: Vec<Record> =
            rest.by_ref().filter(|row| query.matches(row)).take(query.limit).cloned().collect();
        let next = records.last().filter(|_| rest.any(|record| query.matches(record))).map(|record| record.id);
        records.shrink_to_fit();
        Page { records, next }
    }

    fn count(&self, now: Timestamp, overdue_before: &[(AppName, Timestamp)]) -> Vec<Count> {
        let mut counts: BTreeMap<(&AppName, KeyKind), Count> = BTreeMap::new();
        for record in self.records.values() {
            let (app, kind) = (&record.identity.app, record.identity.kind);
            let deadline = overdue_before.iter().find(|(name, _)| name == app).map(|(_, before)| *before);
            counts.entry((app, kind)).or_insert_with(|| Count::none(app.clone(), kind)).add(record, now, deadline);
        }
        counts.into_values().collect()
    }
}

impl Keyring for MemoryKeyring {
    fn find<'a>(&'a self, ids: &'a [KeyId]) -> BoxFuture<'a, Result<Vec<Option<Record>>, KeyringError>> {
        self.answer(|inner| ids.iter().map(|id| inner.records.get(id).cloned()).collect())
    }

    fn of_user<'a>(&'a self, app: &'a AppName, user: &'a UserName) -> BoxFuture<'a, Result<Vec<Record>, KeyringError>> {
        let is_theirs = |record: &&Record| record.identity.app == *app && record.identity.user == *user;
        self.answer(|inner| inner.records.values().filter(is_theirs).cloned().collect())
    }

    fn due(&self, query: DueQuery) -> BoxFuture<'_, Result<Due, KeyringError>> {
        self.answer(|inner| inner.due(&query))
    }

    fn settle(&self, writes: Arc<Vec<Write>>) -> BoxFuture<'_, Result<Vec<Settled>, KeyringError>> {
        self.answer(|inner| writes.iter().map(|write| inner.settle(write)).collect())
    }

    fn witnesses<'a>(
        &'a self,
        app: &'a AppName,
        except: KeyId,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Record>, KeyringError>> {
        self.answer(|inner| inner.witnesses(app, except, now, limit))
    }

    fn page(&self, query: PageQuery) -> BoxFuture<'_, Result<Page, KeyringError>> {
        self.answer(|inner| inner.page(&query))
    }

    fn count<'a>(
        &'a self,
        now: Timestamp,
        overdue_before: &'a [(AppName, Timestamp)],
    ) -> BoxFuture<'a, Result<Vec<Count>, KeyringError>> {
        self.answer(|inner| inner.count(now, overdue_before))
    }

    fn note_used<'a>(&'a self, used: &'a [(KeyId, i64)]) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.answer(|inner| {
            for (id, day) in used {
                if let Some(record) = inner.records.get_mut(id) {
                    record.last_used_day = record.last_used_day.max(Some(*day));
                }
            }
        })
    }

    fn apps(&self) -> BoxFuture<'_, Result<Vec<AppRow>, KeyringError>> {
        self.answer(|inner| inner.apps.values().cloned().collect())
    }

    fn save_app<'a>(&'a self, app: &'a AppRow) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.answer(|inner| {
            inner.apps.insert(app.name.clone(), app.clone());
        })
    }

    fn roots(&self) -> BoxFuture<'_, Result<Vec<WrappedRoot>, KeyringError>> {
        self.answer(|inner| inner.roots.values().cloned().collect())
    }

    fn add_root<'a>(&'a self, root: &'a WrappedRoot) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.try_answer(|inner| {
            if inner.roots.contains_key(&root.generation) {
                return Err(KeyringError::RootExists { generation: root.generation });
            }
            inner.roots.insert(root.generation, root.clone());
            Ok(())
        })
    }

    fn leases(&self) -> Option<&dyn Leases> {
        self.is_shared.then_some(self)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.lock().outage = Some(CLOSED);
        std::future::ready(()).boxed()
    }
}
