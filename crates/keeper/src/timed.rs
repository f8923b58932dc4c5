//! `Timed`: a keyring in front of another that measures how long each of its verbs takes, in the operating system's time,
//! and notes whether they fail.

use std::sync::Arc;

use futures_util::FutureExt as _;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;
use storekeeper_keyring::keyring::{Answer, Closed};
use storekeeper_keyring::{
    AppRow, Count, Due, DueQuery, Keyring, Leases, Page, PageQuery, Record, Settled, WrappedRoot, Write,
};
use storekeeper_model::{AppName, KeyId, Timestamp, UserName};

use crate::keyring_state::{KeyringState, Side};
use crate::metrics::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    operation: &'static str,
}

fn histogram() -> Histogram {
    Histogram::new([
        0.000_01, 0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
    ])
}

/// A keyring that is measured.
pub(crate) struct Timed {
    inner: Arc<dyn Keyring>,
    spans: Family<Labels, Histogram, fn() -> Histogram>,
    errors: Family<Labels, Counter>,
    state: Arc<KeyringState>,
}

impl Timed {
    /// Measures `inner` from now on.
    pub(crate) fn new(inner: Arc<dyn Keyring>, state: Arc<KeyringState>, metrics: &Metrics) -> Self {
        let spans = Family::new_with_constructor(histogram as fn() -> Histogram);
        let registered: Family<Labels, Histogram, fn() -> Histogram> = Family::clone(&spans);
        let errors = Family::<Labels, Counter>::default();
        metrics.register(|registry| {
            let help = "Time that the keyring takes, by what it is asked for";
            registry.register_with_unit("keyring_operation_duration", help, Unit::Seconds, registered);
            let help = "Calls of the keyring that failed, by what it was asked for";
            registry.register("keyring_errors", help, errors.clone());
        });
        Self { inner, spans, errors, state }
    }

    #[expect(clippy::disallowed_methods, reason = "what is measured is a disk or a network, not the keeper's time")]
    fn timed<'a, T: Send + 'a>(&'a self, side: Side, operation: &'static str, answer: Answer<'a, T>) -> Answer<'a, T> {
        let began = std::time::Instant::now();
        async move {
            let answer = answer.await;
            self.spans.get_or_create(&Labels { operation }).observe(began.elapsed().as_secs_f64());
            if answer.is_err() {
                self.errors.get_or_create(&Labels { operation }).inc();
            }
            self.state.note(side, operation, answer.as_ref().err());
            answer
        }
        .boxed()
    }
}

impl Keyring for Timed {
    fn find<'a>(&'a self, ids: &'a [KeyId]) -> Answer<'a, Vec<Option<Record>>> {
        self.timed(Side::Reads, "find", self.inner.find(ids))
    }

    fn of_user<'a>(&'a self, app: &'a AppName, user: &'a UserName) -> Answer<'a, Vec<Record>> {
        self.timed(Side::Reads, "of_user", self.inner.of_user(app, user))
    }

    fn due(&self, query: DueQuery) -> Answer<'_, Due> {
        self.timed(Side::Reads, "due", self.inner.due(query))
    }

    fn settle(&self, writes: Arc<Vec<Write>>) -> Answer<'_, Vec<Settled>> {
        self.timed(Side::Writes, "settle", self.inner.settle(writes))
    }

    fn witnesses<'a>(
        &'a self,
        app: &'a AppName,
        except: KeyId,
        now: Timestamp,
        limit: usize,
    ) -> Answer<'a, Vec<Record>> {
        self.timed(Side::Reads, "witnesses", self.inner.witnesses(app, except, now, limit))
    }

    fn page(&self, query: PageQuery) -> Answer<'_, Page> {
        self.timed(Side::Reads, "page", self.inner.page(query))
    }

    fn count<'a>(&'a self, now: Timestamp, overdue_before: &'a [(AppName, Timestamp)]) -> Answer<'a, Vec<Count>> {
        self.timed(Side::Reads, "count", self.inner.count(now, overdue_before))
    }

    fn note_used<'a>(&'a self, used: &'a [(KeyId, i64)]) -> Answer<'a, ()> {
        self.timed(Side::PerhapsWrites, "note_used", self.inner.note_used(used))
    }

    fn apps(&self) -> Answer<'_, Vec<AppRow>> {
        self.timed(Side::Reads, "apps", self.inner.apps())
    }

    fn save_app<'a>(&'a self, app: &'a AppRow) -> Answer<'a, ()> {
        self.timed(Side::Writes, "save_app", self.inner.save_app(app))
    }

    fn roots(&self) -> Answer<'_, Vec<WrappedRoot>> {
        self.timed(Side::Reads, "roots", self.inner.roots())
    }

    fn add_root<'a>(&'a self, root: &'a WrappedRoot) -> Answer<'a, ()> {
        self.timed(Side::Writes, "add_root", self.inner.add_root(root))
    }

    fn location(&self) -> &str {
        self.inner.location()
    }

    fn leases(&self) -> Option<&dyn Leases> {
        self.inner.leases()
    }

    fn close(&self) -> Closed<'_> {
        self.inner.close()
    }
}
