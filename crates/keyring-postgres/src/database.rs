//! `Database`: the connections to it, made when they are needed and replaced when they are lost.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, QueueMode, RecyclingMethod, Runtime, Transaction};
use futures_util::TryStreamExt as _;
use futures_util::stream::FuturesOrdered;
use storekeeper_keyring::KeyringError;
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row};

use crate::Options;
use crate::backlog::Backlog;
use crate::catalogue::{SESSION, SESSION_SPREAD, Statement};
use crate::distribution::Spread;
use crate::error::Fault;
use crate::hosts::Hosts;
use crate::names::Names;
use crate::target::Target;

/// What a statement about given rows spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Rows of any buckets, told apart by its first parameter.
    AnyBuckets,
    /// Rows of one bucket, which is its first parameter: it goes to the node that holds them.
    OneBucket,
}

/// Parameters of a statement.
pub(crate) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A parameter of one's own.
pub(crate) type Column<'a> = Box<dyn ToSql + Send + Sync + 'a>;

/// Parameters of one of the times that a statement is sent.
pub(crate) type Set<'a> = Vec<&'a (dyn ToSql + Sync)>;

/// So many statements are under way on a connection that answers one after the other.
pub(crate) const PIPELINED_MAX: usize = 256;

/// So many connections are made at once.
const CONNECTING_MAX: usize = 8;

/// How long one of many small statements may take on a slow day.
const STATEMENT_TIME: Duration = Duration::from_millis(20);

/// Shared by all that speak to the database.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pool: Pool,
    /// The numbers of apps.
    pub(crate) names: Names,
    /// What is due in the order of risk, from one question to the next.
    pub(crate) backlog: Arc<Backlog>,
    /// How the tables are spread over several nodes, if they are.
    pub(crate) spread: Option<Spread>,
    hosts: Arc<Hosts>,
    answers: Arc<AtomicU64>,
    runtime: tokio::runtime::Handle,
    answer_within: Duration,
    find_within: Duration,
}

impl Database {
    /// Prepares connections; none is made yet. Everything will run on the current runtime.
    pub(crate) fn new(target: &Target, options: &Options, spread: Option<Spread>) -> Result<Self, KeyringError> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let timeout = options.statement_timeout.as_millis();
        let besides = if spread.is_some() { format!("{SESSION_SPREAD}; ") } else { String::new() };
        let session = format!(
            "{SESSION}; {besides}SET statement_timeout = {timeout}; SET idle_in_transaction_session_timeout = {timeout}"
        );
        let manager = Manager::from_connect(target.config.clone(), target.connector(options, &session), recycling);
        let pool = Pool::builder(manager)
            .max_size(options.connections.max(2))
            // The one used last goes first: each keeps buffers of the size of its largest answer.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(options.statement_timeout))
            .build()
            .map_err(|error| KeyringError::Unreachable(error.to_string()))?;
        let runtime = tokio::runtime::Handle::current();
        let answer_within = options.answer_within();
        let find_within = options.find_timeout;
        let backlog = Arc::new(Backlog::new(options.backlog_rows, options.backlog_fresh));
        let (hosts, answers) = (Arc::clone(&target.hosts), Arc::default());
        let names = Names::default();
        Ok(Self { pool, names, backlog, spread, hosts, answers, runtime, answer_within, find_within })
    }

    /// Runs something on the runtime that the connections belong to: the caller may be on another or on none, and may
    /// stop waiting.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, KeyringError> {
        match self.runtime.spawn(work).await {
            Ok(done) => done.map_err(KeyringError::from),
            Err(_) => Err(Fault::Closed.for_caller()),
        }
    }

    /// Starts something that lasts.
    pub(crate) fn start(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// A connection for one's own use.
    pub(crate) async fn connection(&self) -> Result<Object, Fault> {
        self.connection_within(self.answer_within).await
    }

    async fn connection_within(&self, limit: Duration) -> Result<Object, Fault> {
        within(limit, async { Ok(self.pool.get().await?) }).await
    }

    /// Makes all connections that there may be, and holds them.
    pub(crate) async fn all_connections(&self) -> Result<Vec<Object>, Fault> {
        let asked = (0..self.pool.status().max_size).map(|_| self.connection()).collect();
        in_turn(asked, CONNECTING_MAX).await
    }

    /// Asks a question, and asks again when the connection turns out to be lost: questions change nothing.
    pub(crate) async fn query(&self, sql: Statement, parameters: Parameters<'_>) -> Result<Vec<Row>, Fault> {
        self.query_within(self.answer_within, sql, parameters).await
    }

    /// The same for somebody who has another source: a database that does not answer is given up soon.
    pub(crate) async fn find(&self, sql: Statement, parameters: Parameters<'_>) -> Result<Vec<Row>, Fault> {
        self.query_within(self.find_within, sql, parameters).await
    }

    async fn query_within(
        &self,
        limit: Duration,
        sql: Statement,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, Fault> {
        match self.query_once(limit, sql, parameters).await {
            Err(fault) if fault.is_lost() && !matches!(fault, Fault::Late) => {
                self.query_once(limit, sql, parameters).await
            }
            answer => answer,
        }
    }

    async fn query_once(&self, limit: Duration, sql: Statement, parameters: Parameters<'_>) -> Result<Vec<Row>, Fault> {
        let connection = self.connection_within(limit).await?;
        let ask = async {
            let statement = connection.prepare_cached(sql).await?;
            Ok(connection.query(&statement, parameters).await?)
        };
        let answered = self.answered();
        let answer = within(limit, ask).await;
        self.part_with(connection, answered, answer.as_ref().err());
        answer
    }

    /// Asks several questions about the same state of affairs.
    pub(crate) async fn in_snapshot<const QUESTIONS: usize>(
        &self,
        questions: [(Statement, Parameters<'_>); QUESTIONS],
    ) -> Result<[Vec<Row>; QUESTIONS], Fault> {
        match self.in_snapshot_once(&questions).await {
            Err(fault) if fault.is_lost() && !matches!(fault, Fault::Late) => self.in_snapshot_once(&questions).await,
            answers => answers,
        }
    }

    async fn in_snapshot_once<const QUESTIONS: usize>(
        &self,
        questions: &[(Statement, Parameters<'_>); QUESTIONS],
    ) -> Result<[Vec<Row>; QUESTIONS], Fault> {
        let mut connection = self.connection().await?;
        let ask = async {
            let reads = connection.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
            let transaction = reads.start().await?;
            let mut answers = [const { Vec::new() }; QUESTIONS];
            for ((sql, parameters), answer) in questions.iter().zip(&mut answers) {
                let statement = transaction.prepare_cached(sql).await?;
                *answer = transaction.query(&statement, parameters).await?;
            }
            transaction.commit().await?;
            Ok(answers)
        };
        let answered = self.answered();
        let answers = self.in_time(ask).await;
        self.part_with(connection, answered, answers.as_ref().err());
        answers
    }

    /// How often the database has answered, for [`Database::part_with`].
    pub(crate) fn answered(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Gives a connection back after it was used, if it can be used again. So that a new one may lead to another host, the
    /// others are given up with it when the database may only be read now, or has not answered anybody since `answered`.
    pub(crate) fn part_with(&self, connection: Object, answered: u64, fault: Option<&Fault>) {
        let Some(fault) = fault.filter(|fault| fault.is_lost()) else {
            self.answers.fetch_add(1, Ordering::Relaxed);
            return;
        };
        drop(Object::take(connection));
        let is_silent = matches!(fault, Fault::Late) && self.answered() == answered;
        if fault.is_read_only() {
            self.hosts.forget();
        }
        if is_silent {
            self.hosts.fell_silent();
        }
        if fault.is_read_only() || is_silent {
            self.pool.retain(|_, _| false);
        }
    }

    /// Gives up a server that does not answer.
    pub(crate) async fn in_time<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        within(self.answer_within, work).await
    }

    /// The same for work of many statements, which take their time even where nothing is wrong.
    pub(crate) async fn in_time_for<T>(
        &self,
        statements: usize,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let besides = STATEMENT_TIME * u32::try_from(statements).unwrap_or(u32::MAX);
        within(self.answer_within + besides, work).await
    }

    /// Which form of statements about given rows is sent.
    pub(crate) const fn form(&self) -> Form {
        if self.spread.is_some() { Form::OneBucket } else { Form::AnyBuckets }
    }

    /// No connection is given from now on.
    pub(crate) fn close(&self) {
        self.pool.close();
    }
}

/// Sends a statement once for each set of parameters, none waiting for the answer to another; all rows, in order.
pub(crate) async fn each(transaction: &Transaction<'_>, sql: Statement, sets: &[Set<'_>]) -> Result<Vec<Row>, Fault> {
    let statement = transaction.prepare_cached(sql).await?;
    let mut asked = Vec::with_capacity(sets.len());
    for parameters in sets {
        asked.push(transaction.query(&statement, parameters));
    }
    Ok(in_turn(asked, PIPELINED_MAX).await?.into_iter().flatten().collect())
}

/// Waits for all, so many of them under way at once; begins them and answers in their order, up to the first error.
pub(crate) async fn in_turn<T, E>(asked: Vec<impl Future<Output = Result<T, E>>>, at_once: usize) -> Result<Vec<T>, E> {
    let mut answers = Vec::with_capacity(asked.len());
    let mut under_way = FuturesOrdered::new();
    for one in asked {
        if under_way.len() == at_once {
            answers.extend(under_way.try_next().await?);
        }
        under_way.push_back(one);
    }
    while let Some(answer) = under_way.try_next().await? {
        answers.push(answer);
    }
    Ok(answers)
}

#[expect(clippy::disallowed_methods, reason = "a guard on a socket, like those in HTTP clients")]
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(Fault::Late))
}
