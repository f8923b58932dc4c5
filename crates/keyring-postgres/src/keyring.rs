//! `PostgresKeyring`: opens the database, and leads each call to the function that answers it.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join};
use storekeeper_keyring::{
    AppRow, Count, Due, DueQuery, Keyring, KeyringError, Leases, Page, PageQuery, Record, Settled, WrappedRoot, Write,
};
use storekeeper_model::{AppName, KeyId, Timestamp, UserName};
use storekeeper_supervisor::Supervisor;

use crate::database::Database;
use crate::finder::Finder;
use crate::target::Target;
use crate::writer::{Request, Writer};
use crate::{Options, apps, count, distribution, due, find, page, schema, witness};

/// Where the tables are spread each write of a group is a statement of its own: it has to be through in time on a slow day.
const SPREAD_GROUP_MAX: usize = 512;

/// The shared keyring: one PostgreSQL, spoken to by any number of keepers at once.
///
/// A write is durable, as the server understands it, before it is answered. While the server is away every call is
/// `Unavailable`; lost connections are replaced as soon as it is back. Calls may be made from any runtime or none: the
/// work is done on the one that the keyring was opened on, which has to live as long.
#[derive(Debug)]
pub struct PostgresKeyring {
    location: String,
    supervisor: Supervisor,
    database: Database,
    /// For beats and leases: they must not wait behind anything else.
    pub(crate) shared: Database,
    finder: Finder,
    writer: Writer,
}

impl PostgresKeyring {
    /// Opens the keyring that a URL names. Its tables have to be there: [`crate::migrate`] makes them. All connections that
    /// it may hold are made at once.
    ///
    /// # Errors
    /// [`KeyringError::TooNew`] after a newer version has changed the tables beyond recognition; otherwise
    /// [`KeyringError::Unreachable`] with one line that says what is in the way and what to do.
    pub async fn open(url: &str) -> Result<Self, KeyringError> {
        Self::open_with(url, &Options::default()).await
    }

    /// The same with other limits than the usual.
    ///
    /// # Errors
    /// As [`PostgresKeyring::open`].
    pub async fn open_with(url: &str, options: &Options) -> Result<Self, KeyringError> {
        let target = Target::parse(url, options)?;
        let mut database = Database::new(&target, options, None)?;
        schema::check(&database, &target).await?;
        let spread = distribution::found_by(&database).await.map_err(|fault| target.explain(&fault))?;
        if spread.is_some() {
            database.close();
            database = Database::new(&target, options, spread.clone())?;
        }
        database.load_names().await.map_err(|fault| target.explain(&fault))?;
        let writes_max = if spread.is_some() { SPREAD_GROUP_MAX } else { usize::MAX };
        let shared = Database::new(&target, &options.for_leases(), spread)?;
        // A limit that is too low is told now, and not when there is most to do.
        let all = try_join(database.all_connections(), shared.all_connections()).await;
        drop(all.map_err(|fault| target.explain(&fault))?);
        let supervisor = Supervisor::default();
        let writer = Writer::start(&database, options.group_max.min(writes_max), &supervisor);
        let finder = Finder::start(&database, &supervisor);
        Ok(Self { location: target.location(), supervisor, database, shared, finder, writer })
    }

    /// Leads a question to where the connections live.
    fn ask<T: Send + 'static, F>(&self, question: impl FnOnce(Database) -> F) -> BoxFuture<'_, Result<T, KeyringError>>
    where
        F: Future<Output = Result<T, crate::error::Fault>> + Send + 'static,
    {
        let work = question(self.database.clone());
        self.database.run(work).boxed()
    }
}

impl Keyring for PostgresKeyring {
    fn find<'a>(&'a self, ids: &'a [KeyId]) -> BoxFuture<'a, Result<Vec<Option<Record>>, KeyringError>> {
        self.finder.find(ids.to_vec()).boxed()
    }

    fn of_user<'a>(&'a self, app: &'a AppName, user: &'a UserName) -> BoxFuture<'a, Result<Vec<Record>, KeyringError>> {
        let (app, user) = (app.clone(), user.clone());
        self.ask(|database| async move { find::of_user(&database, &app, &user).await })
    }

    fn due(&self, query: DueQuery) -> BoxFuture<'_, Result<Due, KeyringError>> {
        self.ask(|database| async move { due::due(&database, &query).await })
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
        self.ask(move |database| async move { witness::witnesses(&database, &app, except, now, limit).await })
    }

    fn page(&self, query: PageQuery) -> BoxFuture<'_, Result<Page, KeyringError>> {
        self.ask(|database| async move { page::page(&database, &query).await })
    }

    fn count<'a>(
        &'a self,
        now: Timestamp,
        overdue_before: &'a [(AppName, Timestamp)],
    ) -> BoxFuture<'a, Result<Vec<Count>, KeyringError>> {
        let overdue_before = overdue_before.to_vec();
        self.ask(move |database| async move { count::count(&database, now, &overdue_before).await })
    }

    fn note_used<'a>(&'a self, used: &'a [(KeyId, i64)]) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.writer.save(Request::NoteUsed(used.to_vec())).boxed()
    }

    fn apps(&self) -> BoxFuture<'_, Result<Vec<AppRow>, KeyringError>> {
        self.ask(|database| async move { apps::apps(&database).await })
    }

    fn save_app<'a>(&'a self, app: &'a AppRow) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.writer.save(Request::SaveApp(app.clone())).boxed()
    }

    fn roots(&self) -> BoxFuture<'_, Result<Vec<WrappedRoot>, KeyringError>> {
        self.ask(|database| async move { apps::roots(&database).await })
    }

    fn add_root<'a>(&'a self, root: &'a WrappedRoot) -> BoxFuture<'a, Result<(), KeyringError>> {
        self.writer.add_root(root.clone()).boxed()
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }

    fn location(&self) -> &str {
        &self.location
    }

    fn supervisor(&self) -> Option<&Supervisor> {
        Some(&self.supervisor)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.writer.close().await;
            self.database.close();
            self.shared.close();
        }
        .boxed()
    }
}
