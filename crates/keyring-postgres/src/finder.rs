//! `Finder`: rows by id. Whoever asks while others do, or while as many questions as may be are under way, shares one.
//!
//! A row that is asked for alone costs what a question costs, which is many times what finding it costs. While little is
//! asked for, nobody waits for others.

use std::sync::Arc;

use storekeeper_keyring::{KeyringError, Record};
use storekeeper_model::KeyId;
use storekeeper_supervisor::Supervisor;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::database::Database;
use crate::error::Fault;
use crate::find::find;

/// So many questions that may be shared are under way at once. A second one, lest one that is late delays everybody; the
/// more there are, the less they are shared.
const QUESTIONS_MAX: usize = 2;
/// Once a question is about so many rows, nobody else shares it.
const ROWS_MAX: usize = 256;
/// How many may wait before a caller has to.
const WAITING_MAX: usize = 1024;

type Found = Result<Vec<Option<Record>>, KeyringError>;

struct Asked {
    ids: Vec<KeyId>,
    answer: oneshot::Sender<Found>,
}

/// The handle of the tasks that ask; they end when it is dropped.
#[derive(Debug)]
pub(crate) struct Finder {
    database: Database,
    asked: mpsc::Sender<Asked>,
}

impl Finder {
    /// Starts the tasks.
    pub(crate) fn start(database: &Database, supervisor: &Supervisor) -> Self {
        let (asked, waiting) = mpsc::channel(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..QUESTIONS_MAX {
            let (database, waiting) = (database.clone(), Arc::clone(&waiting));
            let guard = supervisor.guard("a reader of the keyring");
            database.clone().start(async move {
                let _guard = guard;
                while let Some(asked) = next(&waiting).await {
                    answer(&database, asked).await;
                }
            });
        }
        Self { database: database.clone(), asked }
    }

    /// Rows by id, in the order asked for, as they stand when this is called or later.
    pub(crate) async fn find(&self, ids: Vec<KeyId>) -> Found {
        if ids.len() >= ROWS_MAX {
            let database = self.database.clone();
            return self.database.run(async move { find(&database, &ids).await }).await;
        }
        let closed = || Fault::Closed.for_caller();
        let (answer, answered) = oneshot::channel();
        self.asked.send(Asked { ids, answer }).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

/// Waits for somebody, and takes along who waits besides.
async fn next(waiting: &Mutex<mpsc::Receiver<Asked>>) -> Option<Vec<Asked>> {
    let mut waiting = waiting.lock().await;
    let first = waiting.recv().await?;
    // Whoever is about to ask does so first.
    tokio::task::yield_now().await;
    let (mut rows, mut asked) = (first.ids.len(), vec![first]);
    while rows < ROWS_MAX
        && let Ok(one) = waiting.try_recv()
    {
        rows += one.ids.len();
        asked.push(one);
    }
    Some(asked)
}

/// Asks for all of them. Whoever no longer waits for his answer has none.
async fn answer(database: &Database, asked: Vec<Asked>) {
    let ids: Vec<KeyId> = asked.iter().flat_map(|one| one.ids.iter().copied()).collect();
    match find(database, &ids).await {
        Ok(found) => {
            let mut found = found.into_iter();
            for one in asked {
                let theirs = found.by_ref().take(one.ids.len()).collect();
                drop(one.answer.send(Ok(theirs)));
            }
        }
        // One row that cannot be read must not take others with it.
        Err(Fault::Corrupt(_)) if asked.len() > 1 => {
            for one in asked {
                let found = find(database, &one.ids).await;
                drop(one.answer.send(found.map_err(KeyringError::from)));
            }
        }
        Err(fault) => asked.into_iter().for_each(|one| drop(one.answer.send(Err(fault.for_caller())))),
    }
}
