//! The population as a whole: listed, counted, acquitted, measured.

use std::sync::Arc;
use std::time::Duration;

use storekeeper_keyring::{Expected, Keyring as _, Outcome, OutcomeResult, PageQuery, Record, Settled, State, Write};
use storekeeper_model::{AppName, KeyId, KeyKind, Timestamp};
use storekeeper_policy::{RenewalPolicy, Standing};

use crate::engine::{Event, Observation, Order};
use crate::error::{OrderError, ReadError};
use crate::exposition;
use crate::health::{Facts, Health, Surroundings};
use crate::keeper::Keeper;
use crate::shell::Message;
use crate::view::{AppStats, KeyPage, KeyView, KindStats, ListQuery, SignedSpan, Stats, Visibility};

/// How many rows are read or written at a time when a whole population is walked.
const PAGE: usize = 1000;
/// The id of no row.
const NO_ROW: KeyId = KeyId::from_bytes([0; 16]);
/// How long a look at the health waits for the keyring, in the operating system's time.
const PROBE_MAX: Duration = Duration::from_secs(4);
/// A key that is handed over is in use for this long after it was read.
const IN_USE: Duration = Duration::from_secs(60 * 60);
/// A list looks at this many pages at most before it answers with what it has.
const PAGES_MAX: usize = 8;

impl Keeper {
    /// Lists keys, in the order of their ids. May answer with fewer than asked for although there are more.
    ///
    /// # Errors
    /// [`ReadError::AppUnknown`], [`ReadError::Keyring`].
    pub async fn list(&self, query: ListQuery) -> Result<KeyPage, ReadError> {
        if let Some(app) = &query.app {
            self.known_app(app)?;
        }
        let now = self.clock().now();
        let mut asked = PageQuery {
            app: query.app.as_ref().or(query.visible.only_app()).cloned(),
            due_before: query.due_before,
            after: query.after,
            ..filter(query.standing, now)
        };
        let mut keys = Vec::new();
        for _ in 0..PAGES_MAX {
            asked.limit = query.limit - keys.len();
            let page = self.inner.tools.keyring.page(asked.clone()).await?;
            let visible = |record: &&Record| query.visible.sees(record.identity.app.as_str());
            keys.extend(page.records.iter().filter(visible).map(|record| KeyView::of(record, now)));
            asked.after = page.next;
            if asked.after.is_none() || keys.len() >= query.limit {
                break;
            }
        }
        Ok(KeyPage { keys, next: asked.after })
    }

    /// Counts the population. Exact.
    ///
    /// # Errors
    /// [`ReadError::Keyring`].
    pub async fn stats(&self) -> Result<Stats, ReadError> {
        let seen = self.observe().await;
        self.stats_beside(&seen).await
    }

    async fn stats_beside(&self, seen: &Observation) -> Result<Stats, ReadError> {
        let now = self.clock().now();
        let config = &self.inner.config;
        let overdue: Vec<(AppName, Timestamp)> =
            config.apps.iter().map(|app| (app.name.clone(), now - app.policy.deadline)).collect();
        let counts = self.inner.tools.keyring.count(now, &overdue).await?;
        let expiring_at = |name: &AppName| {
            let until = counts.iter().filter(|count| count.app == *name).filter_map(|count| count.handed_over_until);
            until.min().filter(|at| *at <= now + self.inner.apps[name].policy.outage_budget)
        };
        let apps = self.inner.names.iter().zip(&seen.apps).map(|(name, app)| {
            let kinds = KeyKind::ALL.map(|kind| {
                let counted = counts.iter().find(|count| count.app == *name && count.kind == kind);
                let stats = counted.map_or_else(KindStats::default, |count| KindStats {
                    active: count.active,
                    revoked: count.revoked,
                    lapsed: count.lapsed,
                    refused: count.refused,
                    unproven: count.unproven,
                    due_backlog: count.due_backlog,
                    past_deadline: count.past_deadline,
                    handed_over: count.handed_over,
                    handed_over_until: count.handed_over_until,
                });
                (kind, stats)
            });
            let (renewed, failed) = self.inner.tools.metrics.tally(name);
            AppStats {
                app: name.clone(),
                kinds: kinds.to_vec(),
                paused: app.paused.clone(),
                awaiting_operator: app.awaiting_operator,
                handed_over_read_at: self.inner.tools.metrics.handed_over_read_at(name).filter(|at| *at > now - IN_USE),
                handed_over_expiring_at: expiring_at(name),
                renewed,
                failed,
            }
        });
        let stats = Stats {
            now,
            apps: apps.collect(),
            clock_skew: seen.clocks.map(|(ours, theirs)| SignedSpan::between(ours, theirs)),
        };
        self.tell_population(&stats);
        Ok(stats)
    }

    /// The engine's cap on condemnations follows the population.
    fn tell_population(&self, stats: &Stats) {
        for app in &stats.apps {
            let keys = app.kinds.iter().map(|(_, kind)| kind.active + kind.revoked + kind.lapsed).sum();
            let index = self.inner.index[&app.app];
            self.inner.postbox.send(Message::Event(Event::Counted(index, keys)));
        }
    }

    /// Undoes the condemnation of keys whose text still lives: they are active again and due at once, and what was held
    /// against the app's keys until now proves nothing. Returns how many there were.
    ///
    /// # Errors
    /// See [`OrderError`]; what was undone before an error stays undone.
    pub async fn acquit(&self, app: &AppName) -> Result<u64, OrderError> {
        self.order(app, Order::VoidEvidence).await?;
        let now = self.clock().now();
        let keyring = &self.inner.tools.keyring;
        let mut query = PageQuery {
            app: Some(app.clone()),
            revoked: Some(true),
            alive_at: Some(now),
            limit: PAGE,
            ..PageQuery::default()
        };
        let mut acquitted = 0;
        loop {
            let page = keyring.page(query.clone()).await?;
            let policy = &self.inner.config.apps[self.inner.index[app].0].policy;
            let writes = page.records.into_iter().map(|record| acquittal(record, policy, now)).collect();
            let settled = keyring.settle(Arc::new(writes)).await?;
            acquitted += settled.iter().filter(|settled| matches!(settled, Settled::Done(_))).count() as u64;
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        self.inner.postbox.send(Message::Event(Event::Changed(now)));
        Ok(acquitted)
    }

    /// The metrics of renewal and population in the Prometheus text format (OpenMetrics), without the closing `# EOF`.
    /// Samples of apps that are not visible are left out.
    pub async fn metrics(&self, visible: &Visibility) -> String {
        self.probe_keyring().await;
        let seen = self.observe().await;
        let stats = self.stats_beside(&seen).await.ok();
        self.survey(stats.as_ref()).await;
        let health = self.assess(stats.as_ref(), &seen);
        let dropped = self.inner.surroundings.get().map_or(0, |surroundings| surroundings.log_lines_dropped());
        self.inner.tools.metrics.set_health(&health, &self.inner.names, &self.inner.keyring_state, dropped);
        let text = self.inner.tools.metrics.encode(stats.as_ref(), &seen);
        if visible.is_all() {
            return text;
        }
        let apps = self.inner.config.apps.iter().filter(|app| visible.sees(app.name.as_str()));
        let clients: Vec<String> = apps.map(|app| app.client_id.to_string()).collect();
        exposition::keep(&text, |label, value| match label {
            "app" => value.is_empty() || visible.sees(value),
            "client_id" => clients.iter().any(|client| client == value),
            _ => true,
        })
    }

    /// What an operator has to look at now. Asks the keyring for a row and for a write that changes nothing, and waits a
    /// few seconds at most.
    pub async fn health(&self) -> Health {
        self.probe_keyring().await;
        let seen = self.observe().await;
        let stats = self.stats_beside(&seen).await.ok();
        self.assess(stats.as_ref(), &seen)
    }

    /// Lets the process around the keeper add to its health. The first caller wins.
    pub fn surround(&self, surroundings: Arc<dyn Surroundings>) {
        drop(self.inner.surroundings.set(surroundings));
    }

    /// Whether anything can be served; the reason if not: no reads from the keyring, and nothing remembered either.
    ///
    /// # Errors
    /// One line for the operator.
    pub async fn ready(&self) -> Result<(), String> {
        if self.is_shut_down() {
            return Err(String::from("the keeper is shutting down"));
        }
        let answered = self.inner.tools.keyring.find(&[NO_ROW]).await;
        match answered {
            Err(error) if self.inner.tools.keyring.remembers_nothing() => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    /// Whether the core tasks live and make progress; which one does not, if one does not.
    ///
    /// # Errors
    /// One line for the operator.
    pub fn progress(&self) -> Result<(), String> {
        let supervisor = self.supervisor();
        if let Some(task) = supervisor.failure() {
            return Err(format!("{task} has died"));
        }
        match supervisor.stalled() {
            Some((task, span)) => Err(format!("{task} has made no progress for {} s", span.as_secs())),
            None => Ok(()),
        }
    }

    fn assess(&self, stats: Option<&Stats>, seen: &Observation) -> Health {
        let surroundings =
            self.inner.surroundings.get().map_or_else(Vec::new, |surroundings| surroundings.conditions());
        let stalled = self.supervisor().stalled().map(|(task, span)| (task, span.as_secs()));
        Health::assess(&Facts {
            stats,
            seen,
            keyring: &self.inner.keyring_state,
            rescue: &self.rescue(),
            stalled,
            renewing_nodes: self.inner.tools.holding.renewing_nodes(),
            surroundings: &surroundings,
        })
    }

    /// Has the keyring's state reflect this moment, also where nothing else is read or written.
    async fn probe_keyring(&self) {
        let keyring = self.inner.tools.keyring.clone();
        let probes = tokio::spawn(async move {
            // The state has noted what came of them.
            drop(tokio::join!(keyring.find(&[NO_ROW]), keyring.note_used(&[(NO_ROW, 0)])));
        });
        #[expect(clippy::disallowed_methods, reason = "a guard against a database that does not answer")]
        let probed = tokio::time::timeout(PROBE_MAX, probes).await;
        // A probe that is late goes on, and the next look sees what came of it.
        drop(probed);
    }
}

fn filter(standing: Option<Standing>, now: Timestamp) -> PageQuery {
    let any = PageQuery::default();
    match standing {
        None => any,
        Some(Standing::Active) => PageQuery { revoked: Some(false), alive_at: Some(now), ..any },
        Some(Standing::Revoked) => PageQuery { revoked: Some(true), ..any },
        Some(Standing::Lapsed) => PageQuery { revoked: Some(false), expired_at: Some(now), ..any },
    }
}

fn acquittal(mut record: Record, policy: &RenewalPolicy, now: Timestamp) -> Write {
    let expected = Expected::of(&record);
    // At once; but never later than its own moment, lest a clock that runs ahead buries it.
    let moment = storekeeper_policy::renew_at(policy, record.id, &record.key.lifetime);
    record.revision = record.revision.next();
    record.state = State::ACTIVE;
    record.next_attempt_at = Some(moment.map_or(now, |moment| moment.min(now)));
    record.history.push(Outcome {
        at: now,
        result: OutcomeResult::Acquitted,
        status: None,
        code: std::borrow::Cow::Borrowed("operator"),
        correlation_id: None,
    });
    Write::Put { expected, record: Box::new(record) }
}
