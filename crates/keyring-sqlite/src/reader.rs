//! `Reader`: a connection that reads. `Finders` are used by whoever calls, one at a time; `Readers` are threads for
//! what may take longer.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;

use rusqlite::{Connection, Transaction};
use storekeeper_keyring::KeyringError;
use storekeeper_supervisor::Supervisor;
use tokio::sync::oneshot;

use crate::Options;
use crate::error::{closed, in_use};
use crate::names::Names;
use crate::schema::open_reader;
use crate::shared::Shared;
use crate::whereabouts::Whereabouts;

/// A connection that reads, and what it needs to find and understand rows.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Read-only.
    pub(crate) connection: Connection,
    /// Shared with the writer.
    pub(crate) names: Names,
    /// Shared with the writer.
    pub(crate) whereabouts: Arc<Whereabouts>,
}

impl Reader {
    fn open(path: &Path, cache_kib: u32, shared: &Shared) -> Result<Self, KeyringError> {
        let Shared { names, whereabouts } = shared.clone();
        Ok(Self { connection: open_reader(path, cache_kib)?, names, whereabouts })
    }

    fn execute(&self, sql: &str) -> Result<(), KeyringError> {
        let run = || self.connection.prepare_cached(sql)?.raw_execute();
        run().map(drop).map_err(|error| in_use(&error))
    }

    /// Lets several queries see one state; give it back by dropping.
    pub(crate) fn snapshot(&self) -> Result<Transaction<'_>, KeyringError> {
        self.connection.unchecked_transaction().map_err(|error| in_use(&error))
    }
}

/// Connections for reads so short that a change of thread would cost more.
///
/// Each keeps its snapshot open from one read to the next until something is committed: asking the operating system for
/// a new one costs more than finding a row. Before the log is copied back the writer has them all given back.
#[derive(Debug)]
pub(crate) struct Finders {
    finders: Vec<Mutex<Option<Finder>>>,
    next: AtomicUsize,
    commits: AtomicU64,
}

#[derive(Debug)]
struct Finder {
    reader: Reader,
    /// Which commit the open snapshot shows, at least.
    snapshot: Option<u64>,
}

impl Finders {
    /// Opens all connections.
    pub(crate) fn open(path: &Path, options: &Options, shared: &Shared) -> Result<Self, KeyringError> {
        let open = |_| {
            let reader = Reader::open(path, options.finder_cache_kib, shared)?;
            Ok(Mutex::new(Some(Finder { reader, snapshot: None })))
        };
        let finders = (0..options.finders.max(1)).map(open).collect::<Result<_, _>>()?;
        Ok(Self { finders, next: AtomicUsize::new(0), commits: AtomicU64::new(0) })
    }

    /// Something is committed: what begins from now on must see it. Called before anybody is told of the commit.
    pub(crate) fn committed(&self) {
        self.commits.fetch_add(1, Ordering::Release);
    }

    /// Gives back all snapshots.
    pub(crate) fn release(&self) {
        for finder in &self.finders {
            if let Some(finder) = finder.lock().expect(UNPOISONED).as_mut() {
                finder.release();
            }
        }
    }

    /// Runs a short read on this thread, with a connection that nobody uses at the moment.
    pub(crate) fn run<T>(&self, read: impl FnOnce(&Reader) -> Result<T, KeyringError>) -> Result<T, KeyringError> {
        let free = self.finders.iter().find_map(|finder| finder.try_lock().ok());
        let mut finder = free.unwrap_or_else(|| self.turn());
        finder.as_mut().ok_or_else(closed)?.run(self.commits.load(Ordering::Acquire), read)
    }

    /// All are in use for some microseconds: waits for one, each time another.
    fn turn(&self) -> MutexGuard<'_, Option<Finder>> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.finders.len();
        self.finders[next].lock().expect(UNPOISONED)
    }

    /// Closes all connections as they become free.
    pub(crate) fn close(&self) {
        for finder in &self.finders {
            finder.lock().expect(UNPOISONED).take();
        }
    }
}

impl Finder {
    fn run<T>(
        &mut self,
        commits: u64,
        read: impl FnOnce(&Reader) -> Result<T, KeyringError>,
    ) -> Result<T, KeyringError> {
        if self.snapshot != Some(commits) {
            self.release();
            self.reader.execute("-- reader::run\nBEGIN")?;
            self.snapshot = Some(commits);
        }
        let answer = read(&self.reader);
        if answer.is_err() {
            self.release();
        }
        answer
    }

    fn release(&mut self) {
        if self.snapshot.take().is_some()
            && let Err(error) = self.reader.execute("-- reader::release\nROLLBACK")
        {
            tracing::warn!(%error, "snapshot not given back");
        }
    }
}

type Task = Box<dyn FnOnce(&Reader) + Send>;

/// Threads that read.
#[derive(Debug)]
pub(crate) struct Readers {
    tasks: Mutex<Option<mpsc::Sender<Task>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    /// Opens the connections and starts a thread for each.
    pub(crate) fn start(
        path: &Path,
        options: &Options,
        shared: &Shared,
        supervisor: &Supervisor,
    ) -> Result<Self, KeyringError> {
        let (tasks, waiting) = mpsc::channel::<Task>();
        let waiting = Arc::new(Mutex::new(waiting));
        let mut threads = Vec::new();
        for _ in 0..options.readers.max(1) {
            let (reader, waiting) = (Reader::open(path, options.reader_cache_kib, shared)?, Arc::clone(&waiting));
            let guard = supervisor.guard("a reader of the keyring");
            let run = move || {
                let _guard = guard;
                while let Some(task) = next(&waiting) {
                    task(&reader);
                }
            };
            let thread = std::thread::Builder::new().name(String::from("keyring-reader")).spawn(run);
            threads.push(thread.map_err(|error| KeyringError::Unreachable(format!("no thread: {error}")))?);
        }
        Ok(Self { tasks: Mutex::new(Some(tasks)), threads: Mutex::new(threads) })
    }

    /// Runs a read on one of the threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, KeyringError> + Send + 'static,
    ) -> Result<T, KeyringError> {
        let (answer, answered) = oneshot::channel();
        // Whoever asked may have gone.
        let task: Task = Box::new(move |reader| drop(answer.send(read(reader))));
        self.tasks.lock().expect(UNPOISONED).as_ref().ok_or_else(closed)?.send(task).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Takes no more, and waits for what is under way.
    pub(crate) fn close(&self) {
        self.tasks.lock().expect(UNPOISONED).take();
        for thread in self.threads.lock().expect(UNPOISONED).drain(..) {
            // A read that panicked was answered with an error.
            drop(thread.join());
        }
    }
}

fn next(waiting: &Mutex<mpsc::Receiver<Task>>) -> Option<Task> {
    waiting.lock().expect(UNPOISONED).recv().ok()
}

const UNPOISONED: &str = "nothing panics while it holds the lock";
