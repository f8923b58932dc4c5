//! One transaction for a group of requests: made again when it met another one or its connection was lost, and found
//! out about when the connection was lost in the very commit.

use std::collections::{HashMap, HashSet};

use deadpool_postgres::{Object, Transaction};
use storekeeper_keyring::{Record, Settled, Write};
use storekeeper_model::KeyId;

use crate::apps::{add_root, has_root, save_app};
use crate::database::Database;
use crate::error::Fault;
use crate::find::asked;
use crate::row::decode_all;
use crate::settle::{Plan, done, note_used};
use crate::writer::{Made, Request};

/// A transaction that met others this often in a row is given up for now.
const ATTEMPTS_MAX: usize = 8;
/// Rows of more writes than this that ended in doubt are no longer remembered.
const DOUBTFUL_MAX: usize = 1 << 17;

/// Commits groups, one at a time.
pub(crate) struct Committer {
    database: Database,
    /// Rows whose last write was sent to be committed, and nobody knows whether it was.
    doubtful: HashSet<KeyId>,
    /// The bucket in which this keeper keeps its part of the counts.
    counted_in: i16,
}

/// How a transaction is to end, and what will have been made then.
enum Ending {
    /// From there on nobody knows, until the answer comes.
    Commit(Vec<Made>),
    /// An earlier attempt has made it.
    RollBack(Vec<Made>),
}

/// How an attempt ended without an answer.
struct Failure {
    fault: Fault,
    /// What will have been made if the transaction was committed after all.
    in_doubt: Option<Vec<Made>>,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { fault, in_doubt: None }
    }
}

impl Committer {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, doubtful: HashSet::new(), counted_in: any_bucket() }
    }

    /// Makes a group of requests durable; answers each in its place.
    pub(crate) async fn commit(&mut self, requests: &[&Request]) -> Result<Vec<Made>, Fault> {
        // Numbers for the names of apps are made outside the transaction: they outlive its failure.
        for name in requests.iter().flat_map(|request| request.apps()) {
            self.database.app_number_or_new(name).await?;
        }
        let writes = requests.iter().flat_map(|request| request.writes()).collect();
        let plan = Plan::new(writes, &self.database.names, self.database.form())?;
        let mut in_doubt = None;
        let mut last = Fault::Closed;
        for _ in 0..ATTEMPTS_MAX {
            match self.attempt(&plan, requests, in_doubt.as_deref()).await {
                Ok(made) => {
                    self.settled(&plan);
                    let settled = settled(&made);
                    let writes = plan.writes().iter().copied().zip(&settled);
                    self.database.backlog.committed(writes, &self.database.names);
                    return Ok(made);
                }
                Err(failure) => {
                    in_doubt = failure.in_doubt.or(in_doubt);
                    let before = std::mem::replace(&mut last, failure.fault);
                    // Another connection was to lead to another database, and has not.
                    let is_final = matches!(last, Fault::Late) || last.is_read_only() && before.is_read_only();
                    if is_final || !last.is_contended() && !last.is_lost() {
                        break;
                    }
                    tracing::debug!(fault = %last, "transaction is made again");
                }
            }
        }
        if in_doubt.is_some() {
            self.remember(&plan);
        }
        Err(last)
    }

    fn settled(&mut self, plan: &Plan<'_>) {
        if !self.doubtful.is_empty() {
            let ids: HashSet<KeyId> = plan.writes().iter().map(|write| write.id()).collect();
            self.doubtful.retain(|id| !ids.contains(id));
        }
    }

    fn remember(&mut self, plan: &Plan<'_>) {
        if self.doubtful.len() < DOUBTFUL_MAX {
            self.doubtful.extend(plan.writes().iter().map(|write| write.id()));
        }
    }

    async fn attempt(
        &self,
        plan: &Plan<'_>,
        requests: &[&Request],
        in_doubt: Option<&[Made]>,
    ) -> Result<Vec<Made>, Failure> {
        let mut connection = self.database.connection().await?;
        let answered = self.database.answered();
        let made = self.on(&mut connection, plan, requests, in_doubt).await;
        self.database.part_with(connection, answered, made.as_ref().err().map(|failure| &failure.fault));
        made
    }

    async fn on(
        &self,
        connection: &mut Object,
        plan: &Plan<'_>,
        requests: &[&Request],
        in_doubt: Option<&[Made]>,
    ) -> Result<Vec<Made>, Failure> {
        let statements = async {
            let transaction = connection.transaction().await?;
            let ending = self.in_transaction(&transaction, plan, requests, in_doubt).await?;
            Ok((transaction, ending))
        };
        // The time of the statements is over before they are committed: whatever comes too late after that is in doubt.
        let (transaction, ending) = self.database.in_time_for(plan.statements(), statements).await?;
        match ending {
            Ending::RollBack(made) => {
                self.database.in_time(async { Ok(transaction.rollback().await?) }).await?;
                Ok(made)
            }
            Ending::Commit(made) => match self.database.in_time(async { Ok(transaction.commit().await?) }).await {
                Ok(()) => Ok(made),
                Err(fault) => {
                    let in_doubt = fault.leaves_doubt().then_some(made);
                    Err(Failure { fault, in_doubt })
                }
            },
        }
    }

    /// Makes all that is to be made, up to the end of the transaction.
    async fn in_transaction(
        &self,
        transaction: &Transaction<'_>,
        plan: &Plan<'_>,
        requests: &[&Request],
        in_doubt: Option<&[Made]>,
    ) -> Result<Ending, Fault> {
        if let Some(spread) = &self.database.spread {
            transaction.batch_execute(&spread.begin).await?;
        }
        let mut settled = plan.run(transaction, &self.database.names, self.counted_in).await?;
        let used = requests.iter().flat_map(|request| request.used());
        note_used(transaction, used, self.database.form()).await?;
        self.recognise(transaction, plan, &mut settled).await?;
        let mut made = Vec::with_capacity(requests.len());
        let mut rest = settled.into_iter();
        for (place, request) in requests.iter().enumerate() {
            made.push(match request {
                Request::Settle(writes) => Made::Settled(rest.by_ref().take(writes.len()).collect()),
                Request::NoteUsed(_) => Made::Saved,
                Request::SaveApp(app) => save_app(transaction, app).await.map(|()| Made::Saved)?,
                Request::AddRoot(root) if add_root(transaction, root).await? => Made::Saved,
                Request::AddRoot(root) => {
                    let was_ours = in_doubt.is_some_and(|before| matches!(before[place], Made::Saved));
                    if was_ours && has_root(transaction, root).await? { Made::Saved } else { Made::RootExists }
                }
            });
        }
        if let Some(before) = in_doubt
            && self.was_committed(transaction, plan, before, &made).await?
        {
            // What others wrote since may let more of it succeed now: that was not what was asked for.
            return Ok(Ending::RollBack(before.to_vec()));
        }
        Ok(Ending::Commit(made))
    }

    /// Writes that ended in doubt before, and were asked for again, are done if they stand there to the letter.
    async fn recognise(
        &self,
        transaction: &Transaction<'_>,
        plan: &Plan<'_>,
        settled: &mut [Settled],
    ) -> Result<(), Fault> {
        let is_doubtful = |(place, write): &(usize, &&Write)| {
            settled[*place] == Settled::Conflict && self.doubtful.contains(&write.id())
        };
        let places: Vec<usize> = plan.writes().iter().enumerate().filter(is_doubtful).map(|(place, _)| place).collect();
        let held = self.held(transaction, places.iter().map(|place| plan.writes()[*place])).await?;
        for place in places {
            if stands(plan.writes()[place], &held) {
                settled[place] = done(plan.writes()[place]);
            }
        }
        Ok(())
    }

    /// Whether an earlier attempt, which ended in doubt, was committed after all. It was not if one of its writes could
    /// be made once more: all of them were made, or none.
    async fn was_committed(
        &self,
        transaction: &Transaction<'_>,
        plan: &Plan<'_>,
        before: &[Made],
        now: &[Made],
    ) -> Result<bool, Fault> {
        let (before, now) = (settled(before), settled(now));
        let was_done = |place: &usize| before[*place] != Settled::Conflict;
        let places: Vec<usize> = (0..before.len()).filter(was_done).collect();
        if places.iter().any(|place| now[*place] != Settled::Conflict) {
            return Ok(false);
        }
        let held = self.held(transaction, places.iter().map(|place| plan.writes()[*place])).await?;
        Ok(places.iter().any(|place| stands(plan.writes()[*place], &held)))
    }

    /// The rows that writes are about, as they stand.
    async fn held(
        &self,
        transaction: &Transaction<'_>,
        writes: impl Iterator<Item = &Write>,
    ) -> Result<HashMap<KeyId, Record>, Fault> {
        let ids: Vec<KeyId> = writes.map(Write::id).collect::<HashSet<_>>().into_iter().collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let (sql, buckets, bytes) = asked(&ids, self.database.form());
        let statement = transaction.prepare_cached(sql).await?;
        let rows = transaction.query(&statement, &[&buckets, &bytes]).await?;
        let records = decode_all(&self.database, &rows).await?;
        Ok(records.into_iter().map(|record| (record.id, record)).collect())
    }
}

/// A bucket that differs between processes; two that draw the same wait for each other now and then, and nothing else.
fn any_bucket() -> i16 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let drawn = std::hash::RandomState::new().build_hasher().finish() % 4096;
    i16::try_from(drawn).expect("there are 4096 buckets")
}

/// Whether a row is what a write would have made of it.
fn stands(write: &Write, held: &HashMap<KeyId, Record>) -> bool {
    let held = held.get(&write.id());
    match write {
        Write::Put { record, .. } => held.is_some_and(|held| {
            let last_used_day = held.last_used_day;
            *held == Record { last_used_day, ..Record::clone(record) }
        }),
        Write::Forget { .. } => held.is_none(),
    }
}

fn settled(made: &[Made]) -> Vec<Settled> {
    let of = |made: &Made| match made {
        Made::Settled(settled) => settled.clone(),
        Made::Saved | Made::RootExists => Vec::new(),
    };
    made.iter().flat_map(of).collect()
}
