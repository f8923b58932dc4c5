//! `SqliteKeyring`: opens the file, and leads each call to the thread that answers it.

use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use storekeeper_keyring::{
    AppRow, Count, Due, DueQuery, Keyring, KeyringError, Page, PageQuery, Record, Settled, WrappedRoot, Write,
};
use storekeeper_model::{AppName, KeyId, Timestamp, UserName};
use storekeeper_supervisor::Supervisor;

use crate::backlog::Backlog;
use crate::lock::FileLock;
use crate::names::Names;
use crate::reader::{Finders, Readers};
use crate::shared::Shared;
use crate::whereabouts::Whereabouts;
use crate::writer::{AfterCommit, Writer};
use crate::{Options, apps, count, due, find, page, schema, witness};

/// More ids than this are found on a thread for reading, so that nobody's thread is held up for long.
const FIND_HERE_MAX: usize = 64;

/// The embedded keyring: one SQLite file with its write-ahead log, held by one process at a time.
///
/// A write is durable (`fsync`) before it is answered. Finding up to 64 rows happens on the calling thread and takes
/// some microseconds each; everything else is done by threads of its own, so that no async runtime is needed.
#[derive(Debug)]
pub struct SqliteKeyring {
    location: String,
    supervisor: Supervisor,
    finders: Arc<Finders>,
    backlog: Arc<Backlog>,
    readers: Readers,
    // Last: the connection that closes last tidies up.
    writer: Writer,
}

impl SqliteKeyring {
    /// Opens the keyring at `path`; makes it if it is not there, and brings older tables up to date.
    ///
    /// # Errors
    /// [`KeyringError::Held`] while another process has it, [`KeyringError::TooNew`] after a newer version has changed
    /// the tables beyond recognition, [`KeyringError::Unreachable`] or [`KeyringError::Corrupt`] with one line that
    /// says why.
    pub fn open(path: &Path) -> Result<Self, KeyringError> {
        Self::open_with(path, &Options::default())
    }

    /// The same with other limits than the usual.
    ///
    /// # Errors
    /// As [`SqliteKeyring::open`].
    pub fn open_with(path: &Path, options: &Options) -> Result<Self, KeyringError> {
        let lock = FileLock::take(path)?;
        let connection = schema::open_writer(path, options)?;
        let names = Names::default();
        names.load(&connection)?;
        let shared = Shared { names, whereabouts: Arc::new(Whereabouts::new(options.whereabouts)) };
        let finders = Arc::new(Finders::open(path, options, &shared)?);
        let supervisor = Supervisor::default();
        let readers = Readers::start(path, options, &shared, &supervisor)?;
        let backlog = Arc::new(Backlog::new(options.backlog_rows));
        let after_commit = AfterCommit { finders: Arc::clone(&finders), backlog: Arc::clone(&backlog) };
        let writer = Writer::start(connection, shared, after_commit, path, options, lock, &supervisor)
            .map_err(|error| KeyringError::Unreachable(format!("no thread: {error}")))?;
        Ok(Self { location: path.display().to_string(), supervisor, finders, backlog, readers, writer })
    }

    fn close_readers(&self) {
        self.finders.close();
        self.readers.close();
    }
}

impl Drop for SqliteKeyring {
    fn drop(&mut self) {
        self.close_readers();
    }
}

impl Keyring for SqliteKeyring {
    fn find<'a>(&'a self, ids: &'a [KeyId]) -> BoxFuture<'a, Result<Vec<Option<Record>>, KeyringError>> {
        if ids.len() <= FIND_HERE_MAX {
            return async move { self.finders.run(|reader| find::find(reader, ids)) }.boxed();
        }
        let ids = ids.to_vec();
        self.readers.run(move |reader| find::find(reader, &ids)).boxed()
    }

    fn of_user<'a>(&'a self, app: &'a AppName, user: &'a UserName) -> BoxFuture<'a, Result<Vec<Record>, KeyringError>> {
        let (app, user) = (app.clone(), user.clone());
        self.readers.run(move |reader| find::of_user(reader, &app, &user)).boxed()
    }

    fn due(&self, query: DueQuery) -> BoxFuture<'_, Result<Due, KeyringError>> {
        let backlog = Arc::clone(&self.backlog);
        self.readers.run(move |reader| due::due(reader, &backlog, &query)).boxed()
    }

    fn settle(&self, writes: Arc<Vec<Write>>) -> BoxFuture<'_, Result<Vec<Settled>, KeyringError>> {
        if writes.is_empty() {
            return std::future::ready(Ok(Vec::new())).boxed();
        }
        self.writer.settle(writes).boxed()
    }

    fn witnesses<'a>(
        &'a self,
        app: &'a AppName,
        except: KeyId,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Record>, KeyringError>> {
        let app = app.clone();
        self.readers.run(move |reader| witness::witnesses(reader, &app, except, now, limit)).boxed()
    }

    fn page(&self, query: PageQuery) -> BoxFuture<'_, Result<Page, KeyringError>> {
        self.readers.run(move |reader| page::page(reader, &query)).boxed()
    }

    fn count<'a>(
        &'a self,
        now: Timestamp,
        overdue_before: &'a [(AppName, Timestamp)],
    ) -> BoxFuture<'a, Result<Vec<Count>, KeyringError>> {
        let overdue_before = overdue_before.to_vec();
        self.readers.run(move |reader| count::count(reader, now, &overdue_before)).boxed()
    }

    fn note_used<'a>(&'a self, used: &'a [(KeyId, i64)]) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.writer.note_used(used.to_vec()).boxed()
    }

    fn apps(&self) -> BoxFuture<'_, Result<Vec<AppRow>, KeyringError>> {
        self.readers.run(|reader| apps::apps(&reader.connection)).boxed()
    }

    fn save_app<'a>(&'a self, app: &'a AppRow) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.writer.save_app(app.clone()).boxed()
    }

    fn roots(&self) -> BoxFuture<'_, Result<Vec<WrappedRoot>, KeyringError>> {
        self.readers.run(|reader| apps::roots(&reader.connection)).boxed()
    }

    fn add_root<'a>(&'a self, root: &'a WrappedRoot) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.writer.add_root(root.clone()).boxed()
    }

    fn location(&self) -> &str {
        &self.location
    }

    fn supervisor(&self) -> Option<&Supervisor> {
        Some(&self.supervisor)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.close_readers();
            self.writer.close().await;
        }
        .boxed()
    }
}
