//! The survey: what only a look at every row can tell, for the metrics. Rows are walked page by page, when somebody
//! scrapes and not otherwise, and so seldom that all walks together take at most one two-hundredth of the time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;
use storekeeper_keyring::{Keyring as _, KeyringError, PageQuery, Record};
use storekeeper_model::{AppName, KeyKind, Timestamp};

use crate::keeper::Keeper;
use crate::metrics::{Kind, Metrics};
use crate::view::Stats;

type Float = Gauge<f64, AtomicU64>;

/// How many rows are read at a time.
const PAGE: usize = 1000;
/// A population of this size is walked while the scrape waits; a larger one behind its back.
const SMALL: u64 = 2_000;
/// A walk is made again after this many times the time it took.
const PAUSE_FACTOR: u32 = 200;
/// Of each app and kind this many certificates are told by name, those with the most keys.
const CERTIFICATES_MAX: usize = 31;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    app: String,
    kind: Kind,
    certificate: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BudgetLabels {
    app: String,
    until: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CredentialLabels {
    app: String,
    credential: u32,
}

/// What the last walk found, and when the next may begin.
pub(crate) struct Survey {
    found: Mutex<Found>,
    is_under_way: AtomicBool,
    by_certificate: Family<CertificateLabels, Gauge>,
    budget: Family<BudgetLabels, Float>,
}

#[derive(Debug, Default)]
struct Found {
    next_at: Option<Timestamp>,
    /// Of active keys: when the first passes its deadline, and when the first expires.
    soonest: BTreeMap<AppName, [Timestamp; 2]>,
}

/// What is added up on the way.
#[derive(Debug, Default)]
struct Walk {
    certificates: BTreeMap<(AppName, KeyKind), HashMap<String, u64>>,
    soonest: BTreeMap<AppName, [Timestamp; 2]>,
}

impl Survey {
    /// Nothing is known yet. When credentials expire is told as it was configured.
    pub(crate) fn new(metrics: &Metrics, credentials: &[(AppName, Vec<Option<Timestamp>>)]) -> Self {
        let survey = Self {
            found: Mutex::default(),
            is_under_way: AtomicBool::new(false),
            by_certificate: Family::default(),
            budget: Family::default(),
        };
        let expiry: Family<CredentialLabels, Float> = Family::default();
        for (app, expiries) in credentials {
            for (credential, expires_at) in (0..).zip(expiries) {
                let labels = CredentialLabels { app: app.to_string(), credential };
                if let Some(at) = expires_at {
                    expiry.get_or_create(&labels).set(at.millis() as f64 / 1000.0);
                }
            }
        }
        metrics.register(|registry| {
            let help = "Active keys by the certificate that signed them, as of the last survey";
            registry.register("keys_by_certificate", help, survey.by_certificate.clone());
            let help = "How long the Store may be away before the first key passes its deadline, or expires";
            registry.register_with_unit("outage_budget", help, Unit::Seconds, survey.budget.clone());
            let help = "When a credential expires, where that is configured";
            registry.register("credential_expiry_timestamp_seconds", help, expiry);
        });
        survey
    }

    fn tell(&self, now: Timestamp) {
        let found = self.found.lock().expect("no holder of this lock panics");
        self.budget.clear();
        for (app, instants) in &found.soonest {
            for (until, at) in ["deadline", "expiry"].into_iter().zip(instants) {
                let labels = BudgetLabels { app: app.to_string(), until };
                self.budget.get_or_create(&labels).set(at.since(now).as_secs_f64());
            }
        }
    }

    fn take(&self, walk: Walk, next_at: Timestamp) {
        self.by_certificate.clear();
        for ((app, kind), certificates) in walk.certificates {
            for (certificate, keys) in told(certificates) {
                let labels = CertificateLabels { app: app.to_string(), kind: kind.into(), certificate };
                self.by_certificate.get_or_create(&labels).set(i64::try_from(keys).unwrap_or(i64::MAX));
            }
        }
        let mut found = self.found.lock().expect("no holder of this lock panics");
        *found = Found { next_at: Some(next_at), soonest: walk.soonest };
    }
}

/// The certificates with the most keys, and all others as one.
fn told(certificates: HashMap<String, u64>) -> Vec<(String, u64)> {
    let mut certificates: Vec<(String, u64)> = certificates.into_iter().collect();
    certificates.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    let others: u64 = certificates.iter().skip(CERTIFICATES_MAX).map(|(_, keys)| keys).sum();
    certificates.truncate(CERTIFICATES_MAX);
    if others > 0 {
        certificates.push((String::from("other"), others));
    }
    certificates
}

impl Keeper {
    /// Brings the survey's metrics up to date: what was found is told at once; if it is time, rows are walked again.
    pub(crate) async fn survey(&self, stats: Option<&Stats>) {
        let (survey, now) = (&self.inner.survey, self.clock().now());
        let next_at = survey.found.lock().expect("no holder of this lock panics").next_at;
        let is_time = next_at.is_none_or(|at| at <= now);
        if is_time && !survey.is_under_way.swap(true, Ordering::AcqRel) {
            let keys: u64 = stats.map_or(u64::MAX, population);
            let (keeper, guard) = (self.clone(), self.supervisor().guard("the survey of the population"));
            let walk = tokio::spawn(async move {
                let _guard = guard;
                keeper.walk().await;
            });
            if keys <= SMALL {
                // A panic is the supervisor's to report.
                drop(walk.await);
            }
        }
        survey.tell(now);
    }

    async fn walk(&self) {
        #[expect(clippy::disallowed_methods, reason = "how long a walk takes decides how often it is made")]
        let began = std::time::Instant::now();
        match self.walked().await {
            Ok(walk) => {
                let pause = began.elapsed().saturating_mul(PAUSE_FACTOR).max(Duration::from_secs(1));
                self.inner.survey.take(walk, self.clock().now() + pause);
            }
            Err(error) => tracing::warn!(%error, "keys cannot be surveyed"),
        }
        self.inner.survey.is_under_way.store(false, Ordering::Release);
    }

    async fn walked(&self) -> Result<Walk, KeyringError> {
        let now = self.clock().now();
        let mut query = PageQuery { revoked: Some(false), alive_at: Some(now), limit: PAGE, ..PageQuery::default() };
        let mut walk = Walk::default();
        loop {
            let page = self.inner.tools.keyring.page(query.clone()).await?;
            page.records.iter().for_each(|record| self.add(record, &mut walk));
            query.after = page.next;
            if query.after.is_none() {
                return Ok(walk);
            }
            tokio::task::yield_now().await;
        }
    }

    fn add(&self, record: &Record, walk: &mut Walk) {
        let Some(app) = self.inner.apps.get(&record.identity.app).filter(|_| !record.is_handed_over()) else { return };
        let certificates = walk.certificates.entry((app.name.clone(), record.identity.kind)).or_default();
        *certificates.entry(record.key.certificate.as_str().to_owned()).or_default() += 1;
        let lifetime = &record.key.lifetime;
        let instants = storekeeper_policy::deadline_at(&app.policy, lifetime).zip(lifetime.expires_at());
        let Some((deadline_at, expires_at)) = instants else { return };
        let [deadline, expiry] = walk.soonest.entry(app.name.clone()).or_insert([deadline_at, expires_at]);
        (*deadline, *expiry) = ((*deadline).min(deadline_at), (*expiry).min(expires_at));
    }
}

fn population(stats: &Stats) -> u64 {
    let kinds = stats.apps.iter().flat_map(|app| &app.kinds);
    kinds.map(|(_, kind)| kind.active + kind.revoked + kind.lapsed + kind.handed_over).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rarest_certificates_are_told_together() {
        let many = (0..40).map(|number| (format!("{number:02}"), 100 - number)).collect();
        let told = told(many);
        assert_eq!(told.len(), CERTIFICATES_MAX + 1);
        assert_eq!(told[0], (String::from("00"), 100));
        assert_eq!(told[CERTIFICATES_MAX], (String::from("other"), (31..40).map(|number| 100 - number).sum()));
    }
}
