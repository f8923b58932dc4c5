//! `Writer`: the one task that writes. Whatever waits becomes one transaction; answers leave after its commit.

use std::sync::{Arc, Mutex};

use storekeeper_keyring::{AppRow, KeyringError, Settled, WrappedRoot, Write};
use storekeeper_model::{AppName, KeyId};
use storekeeper_supervisor::Supervisor;
use tokio::sync::{mpsc, oneshot};

use crate::commit::Committer;
use crate::database::Database;
use crate::error::Fault;

/// How many groups may wait before a caller has to.
const WAITING_MAX: usize = 1024;

/// What is to be written.
#[derive(Debug)]
pub(crate) enum Request {
    Settle(Arc<Vec<Write>>),
    NoteUsed(Vec<(KeyId, i64)>),
    SaveApp(AppRow),
    AddRoot(WrappedRoot),
}

/// What became of it in a transaction that was committed.
#[derive(Debug, Clone)]
pub(crate) enum Made {
    Settled(Vec<Settled>),
    Saved,
    RootExists,
}

struct Job {
    request: Request,
    answer: oneshot::Sender<Result<Made, KeyringError>>,
}

/// The handle of the task.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    finished: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Writer {
    /// Starts the task; it ends when the handle is closed or dropped and what waited is done.
    pub(crate) fn start(database: &Database, group_max: usize, supervisor: &Supervisor) -> Self {
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let (finish, finished) = oneshot::channel();
        let committer = Committer::new(database.clone());
        let guard = supervisor.guard("the writer of the keyring");
        database.start(async move {
            let _guard = guard;
            run(committer, waiting, group_max).await;
            // Nobody may be waiting for the end.
            let _ = finish.send(());
        });
        Self { jobs: Mutex::new(Some(jobs)), finished: Mutex::new(Some(finished)) }
    }

    /// Makes a group of writes.
    pub(crate) async fn settle(&self, writes: Arc<Vec<Write>>) -> Result<Vec<Settled>, KeyringError> {
        match self.ask(Request::Settle(writes)).await? {
            Made::Settled(settled) => Ok(settled),
            Made::Saved | Made::RootExists => unreachable!("writes are answered one by one"),
        }
    }

    /// Writes something that has no answer of its own.
    pub(crate) async fn save(&self, request: Request) -> Result<(), KeyringError> {
        self.ask(request).await.map(|_| ())
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
        let closed = || Fault::Closed.for_caller();
        let jobs = self.jobs.lock().expect(UNPOISONED).clone().ok_or_else(closed)?;
        let (answer, answered) = oneshot::channel();
        jobs.send(Job { request, answer }).await.map_err(|_| closed())?;
        drop(jobs);
        answered.await.map_err(|_| closed())?
    }

    /// Takes no more, and waits until what waits is done.
    pub(crate) async fn close(&self) {
        self.jobs.lock().expect(UNPOISONED).take();
        let finished = self.finished.lock().expect(UNPOISONED).take();
        if let Some(finished) = finished {
            // An error says that the task is gone already, which is what is waited for.
            let _ = finished.await;
        }
    }
}

const UNPOISONED: &str = "nothing panics while it holds the lock";

async fn run(mut committer: Committer, mut waiting: mpsc::Receiver<Job>, group_max: usize) {
    while let Some(first) = waiting.recv().await {
        let mut size = first.request.size();
        let mut jobs = vec![first];
        while size < group_max
            && let Ok(job) = waiting.try_recv()
        {
            size += job.request.size();
            jobs.push(job);
        }
        group(&mut committer, jobs).await;
    }
}

async fn group(committer: &mut Committer, jobs: Vec<Job>) {
    let requests: Vec<&Request> = jobs.iter().map(|job| &job.request).collect();
    match committer.commit(&requests).await {
        // Whoever no longer waits for an answer has his write all the same.
        Ok(made) => jobs.into_iter().zip(made).for_each(|(job, made)| drop(job.answer.send(Ok(made)))),
        // One request that cannot be stored must not take others with it.
        Err(fault) if (fault.is_refusal() || matches!(fault, Fault::Corrupt(_))) && jobs.len() > 1 => {
            tracing::warn!(%fault, "group of writes refused, each is made alone");
            for job in jobs {
                let made = committer.commit(&[&job.request]).await;
                let made = made.map(|mut made| made.pop().expect("one answer for one request"));
                drop(job.answer.send(made.map_err(KeyringError::from)));
            }
        }
        Err(fault) => {
            tracing::warn!(%fault, "group of writes failed");
            jobs.into_iter().for_each(|job| drop(job.answer.send(Err(fault.for_caller()))));
        }
    }
}

impl Request {
    /// How many rows it may change.
    fn size(&self) -> usize {
        match self {
            Self::Settle(writes) => writes.len(),
            Self::NoteUsed(used) => used.len(),
            Self::SaveApp(_) | Self::AddRoot(_) => 1,
        }
    }

    /// The writes of rows in it.
    pub(crate) fn writes(&self) -> &[Write] {
        match self {
            Self::Settle(writes) => writes,
            _ => &[],
        }
    }

    /// The days of use in it.
    pub(crate) fn used(&self) -> impl Iterator<Item = (KeyId, i64)> {
        let used: &[_] = match self {
            Self::NoteUsed(used) => used,
            _ => &[],
        };
        used.iter().copied()
    }

    /// The apps it may name for the first time. A row that is to be forgotten may have been put by another keeper.
    pub(crate) fn apps(&self) -> impl Iterator<Item = &AppName> {
        let app = match self {
            Self::SaveApp(app) => Some(&app.name),
            _ => None,
        };
        let put = self.writes().iter().map(|write| match write {
            Write::Put { record, .. } => &record.identity.app,
            Write::Forget { identity, .. } => &identity.app,
        });
        put.chain(app)
    }
}
