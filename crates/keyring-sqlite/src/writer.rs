//! `Writer`: the one thread that writes. Whatever waits becomes one transaction; answers leave after its commit.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::Connection;
use storekeeper_keyring::{AppRow, KeyringError, Settled, WrappedRoot, Write};
use storekeeper_model::{AppName, KeyId, Timestamp};
use storekeeper_supervisor::{Heart, Supervisor};
use tokio::sync::{mpsc, oneshot};

use crate::Options;
use crate::apps::{insert_root, save_app};
use crate::backlog::Backlog;
use crate::error::{again, closed, in_use};
use crate::lock::{FileLock, beside};
use crate::reader::Finders;
use crate::settle::Group;
use crate::shared::Shared;
use crate::watch::Watch;

/// How many groups may wait before a caller has to.
const WAITING_MAX: usize = 1024;
/// The write-ahead log is cut short by force when readers have kept it from being reused up to this many times its size.
const LOG_FACTOR_MAX: u64 = 4;
/// What the thread is called in a report of its death.
const TASK: &str = "the writer of the keyring";
const PAGE_AND_FRAME_HEADER: u64 = 4096 + 24;

/// What is to be written.
enum Request {
    Settle(Arc<Vec<Write>>),
    NoteUsed(Vec<(KeyId, i64)>),
    SaveApp(AppRow),
    AddRoot(WrappedRoot),
}

/// What became of it in a transaction that was committed.
enum Made {
    Settled(Vec<Settled>),
    Saved,
    RootExists,
}

struct Job {
    request: Request,
    answer: oneshot::Sender<Result<Made, KeyringError>>,
}

/// Who has to know of a commit before it is answered.
#[derive(Debug)]
pub(crate) struct AfterCommit {
    /// Their snapshots are out of date.
    pub(crate) finders: Arc<Finders>,
    /// Its order may be.
    pub(crate) backlog: Arc<Backlog>,
}

impl AfterCommit {
    fn tell(&self, jobs: &[Job]) {
        self.finders.committed();
        self.backlog.committed(jobs.iter().filter_map(|job| job.request.earliest_attempt()).min());
    }
}

/// The handle of the thread.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    finished: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Writer {
    /// Starts the thread. It gives `lock` back when it ends.
    pub(crate) fn start(
        connection: Connection,
        shared: Shared,
        after_commit: AfterCommit,
        path: &Path,
        options: &Options,
        lock: FileLock,
        supervisor: &Supervisor,
    ) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let (finish, finished) = oneshot::channel();
        let log_bytes_max = LOG_FACTOR_MAX * u64::from(options.checkpoint_pages) * PAGE_AND_FRAME_HEADER;
        let mut worker = Worker {
            after_commit,
            checkpoint_pages: options.checkpoint_pages.into(),
            heart: supervisor.heart(TASK),
            connection,
            shared,
            log: beside(path, "-wal"),
            watch: Watch::new(path),
            log_bytes_max,
            group_max: options.group_max,
            _lock: lock,
        };
        let guard = supervisor.guard(TASK);
        let run = move || {
            let _guard = guard;
            worker.run(waiting);
            drop(worker);
            let _ = finish.send(());
        };
        let thread = std::thread::Builder::new().name(String::from("keyring-writer")).spawn(run)?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { jobs: Mutex::new(Some(jobs)), thread, finished: Mutex::new(Some(finished)) })
    }

    /// Makes a group of writes.
    pub(crate) async fn settle(&self, writes: Arc<Vec<Write>>) -> Result<Vec<Settled>, KeyringError> {
        match self.ask(Request::Settle(writes)).await? {
            Made::Settled(settled) => Ok(settled),
            Made::Saved | Made::RootExists => unreachable!("writes are answered one by one"),
        }
    }

    /// Notes days of use.
    pub(crate) async fn note_used(&self, used: Vec<(KeyId, i64)>) -> Result<(), KeyringError> {
        self.ask(Request::NoteUsed(used)).await.map(|_| ())
    }

    /// Saves an app.
    pub(crate) async fn save_app(&self, app: AppRow) -> Result<(), KeyringError> {
        self.ask(Request::SaveApp(app)).await.map(|_| ())
    }

    /// Adds a root.
    pub(crate) async fn add_root(&self, root: WrappedRoot) -> Result<(), KeyringError> {
        let generation = root.generation;
        match self.ask(Request::AddRoot(root)).await? {
            Made::RootExists => Err(KeyringError::RootExists { generation }),
            Made::Saved | Made::Settled(_) => Ok(()),
        }
    }

    async fn ask(&self, request: Request) -> Result<Made, KeyringError> {
        let jobs = self.jobs.lock().expect(UNPOISONED).clone().ok_or_else(closed)?;
        let (answer, answered) = oneshot::channel();
        jobs.send(Job { request, answer }).await.map_err(|_| closed())?;
        drop(jobs);
        answered.await.map_err(|_| closed())?
    }

    /// Takes no more, finishes what waits, closes the database and gives the lock back.
    pub(crate) async fn close(&self) {
        self.jobs.lock().expect(UNPOISONED).take();
        let finished = self.finished.lock().expect(UNPOISONED).take();
        if let Some(finished) = finished {
            // An error says that the thread is gone already, which is what is waited for.
            let _ = finished.await;
        }
    }
}

impl Drop for Writer {
    /// Waits for the thread, so that whoever opens the file next finds it free.
    fn drop(&mut self) {
        self.jobs.lock().expect(UNPOISONED).take();
        if let Some(thread) = self.thread.lock().expect(UNPOISONED).take() {
            let _ = thread.join();
        }
    }
}

const UNPOISONED: &str = "nothing panics while it holds the lock";

struct Worker {
    connection: Connection,
    shared: Shared,
    after_commit: AfterCommit,
    log: PathBuf,
    watch: Watch,
    checkpoint_pages: i64,
    log_bytes_max: u64,
    group_max: usize,
    heart: Heart,
    _lock: FileLock,
}

impl Worker {
    fn run(&mut self, mut waiting: mpsc::Receiver<Job>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut writes = first.request.writes();
            let mut jobs = vec![first];
            while writes < self.group_max
                && let Ok(job) = waiting.try_recv()
            {
                writes += job.request.writes();
                jobs.push(job);
            }
            self.group(jobs);
            if let Err(error) = self.copy_log_back() {
                tracing::warn!(%error, "write-ahead log not copied back");
            }
        }
    }

    fn group(&self, jobs: Vec<Job>) {
        match self.commit(&jobs) {
            // Whoever no longer waits for an answer has his write all the same.
            Ok(made) => {
                let _busy = self.heart.busy();
                self.after_commit.tell(&jobs);
                jobs.into_iter().zip(made).for_each(|(job, made)| drop(job.answer.send(Ok(made))));
            }
            // One job that cannot be stored must not take others with it.
            Err(error @ (KeyringError::Refused(_) | KeyringError::Corrupt(_))) if jobs.len() > 1 => {
                tracing::warn!(%error, "group of writes refused, each is made alone");
                self.roll_back();
                jobs.into_iter().for_each(|job| self.group(vec![job]));
            }
            Err(error) => {
                tracing::warn!(%error, "group of writes failed");
                self.roll_back();
                jobs.into_iter().for_each(|job| drop(job.answer.send(Err(again(&error)))));
            }
        }
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.execute("-- writer::roll_back\nROLLBACK")
        {
            tracing::error!(%error, "transaction not rolled back");
        }
    }

    fn commit(&self, jobs: &[Job]) -> Result<Vec<Made>, KeyringError> {
        self.watch.check()?;
        // Numbers for the names of apps are made outside the transaction: they outlive its failure.
        let mut last = None;
        for name in jobs.iter().flat_map(|job| job.request.apps()) {
            if last.replace(name) != Some(name) {
                self.shared.names.number_or_new(&self.connection, name)?;
            }
        }
        self.execute("-- writer::commit\nBEGIN IMMEDIATE")?;
        let made = self.make(jobs).map_err(|error| in_use(&error))?;
        self.execute("-- writer::commit\nCOMMIT")?;
        // What went into a file that is no longer there is not durable, and nobody is told that it is.
        self.watch.check()?;
        Ok(made)
    }

    fn make(&self, jobs: &[Job]) -> rusqlite::Result<Vec<Made>> {
        let mut group = Group::new(&self.connection, &self.shared)?;
        let mut made = Vec::with_capacity(jobs.len());
        for job in jobs {
            made.push(match &job.request {
                Request::Settle(writes) => Made::Settled(group.settle(writes)?),
                Request::NoteUsed(used) => {
                    used.iter().try_for_each(|(id, day)| group.note_used(*id, *day))?;
                    Made::Saved
                }
                Request::SaveApp(app) => save_app(&self.connection, app).map(|()| Made::Saved)?,
                Request::AddRoot(root) if insert_root(&self.connection, root)? => Made::Saved,
                Request::AddRoot(_) => Made::RootExists,
            });
        }
        group.finish()?;
        Ok(made)
    }

    fn execute(&self, sql: &str) -> Result<(), KeyringError> {
        let run = || self.connection.prepare_cached(sql)?.raw_execute();
        run().map(|_| ()).map_err(|error| in_use(&error))
    }

    /// Copies the write-ahead log back into the database when it is long enough, after the answers have left.
    fn copy_log_back(&mut self) -> rusqlite::Result<()> {
        let [pages, copied] = self.checkpoint("-- writer::copy_log_back\nPRAGMA wal_checkpoint(NOOP)")?;
        if pages < self.checkpoint_pages || copied == pages {
            return Ok(());
        }
        // Once before, so that all of the log can be copied. Once after, so that it can begin anew: snapshots that are
        // taken from then on need nothing of it.
        self.after_commit.finders.release();
        self.checkpoint("-- writer::copy_log_back\nPRAGMA wal_checkpoint(PASSIVE)")?;
        self.after_commit.finders.release();
        if std::fs::metadata(&self.log).is_ok_and(|log| log.len() > self.log_bytes_max) {
            // Somebody else reads for a long time, such as a backup. The next try comes when the log is twice as long,
            // because this one may have to wait for the reader in vain.
            self.log_bytes_max = self.log_bytes_max.saturating_mul(2);
            self.checkpoint("-- writer::copy_log_back\nPRAGMA wal_checkpoint(TRUNCATE)")?;
        }
        Ok(())
    }

    /// How many pages the log has, and how many of them are copied.
    fn checkpoint(&self, sql: &str) -> rusqlite::Result<[i64; 2]> {
        self.connection.prepare_cached(sql)?.query_row([], |row| Ok([row.get(1)?, row.get(2)?]))
    }
}

impl Request {
    /// How many rows it may change.
    fn writes(&self) -> usize {
        match self {
            Self::Settle(writes) => writes.len(),
            Self::NoteUsed(used) => used.len(),
            Self::SaveApp(_) | Self::AddRoot(_) => 1,
        }
    }

    /// The earliest next attempt among the rows it puts.
    fn earliest_attempt(&self) -> Option<i64> {
        let Self::Settle(writes) = self else { return None };
        let attempts = writes.iter().filter_map(|write| match write {
            Write::Put { record, .. } => record.next_attempt_at,
            Write::Forget { .. } => None,
        });
        attempts.min().map(Timestamp::millis)
    }

    /// The apps it may name for the first time.
    fn apps(&self) -> impl Iterator<Item = &AppName> {
        let (writes, app) = match self {
            Self::Settle(writes) => (writes.as_slice(), None),
            Self::SaveApp(app) => (&[][..], Some(&app.name)),
            Self::NoteUsed(_) | Self::AddRoot(_) => (&[][..], None),
        };
        let put = writes.iter().filter_map(|write| match write {
            Write::Put { record, .. } => Some(&record.identity.app),
            Write::Forget { .. } => None,
        });
        put.chain(app)
    }
}
