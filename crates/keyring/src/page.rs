//! Pages of rows and counts of the population.

use storekeeper_model::{AppName, KeyId, KeyKind, Timestamp};

use crate::Record;

/// Which rows to list, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct PageQuery {
    /// Only this app's.
    pub app: Option<AppName>,
    /// Only revoked ones (`Some(true)`) or only active ones (`Some(false)`).
    pub revoked: Option<bool>,
    /// Only those whose `exp` lies at or before (`lapsed`), with `lapsed_at` as the instant to compare with.
    pub expired_at: Option<Timestamp>,
    /// Only those whose `exp` lies after this instant.
    pub alive_at: Option<Timestamp>,
    /// Only those whose next attempt is due before this instant.
    pub due_before: Option<Timestamp>,
    /// Only rows after this one.
    pub after: Option<KeyId>,
    /// At most this many.
    pub limit: usize,
}

impl PageQuery {
    /// Whether a row is asked for, but for its place and the limit.
    pub fn matches(&self, record: &Record) -> bool {
        let expires_at = record.key.lifetime.expires_at();
        self.app.as_ref().is_none_or(|app| *app == record.identity.app)
            && self.revoked.is_none_or(|revoked| revoked == record.state.is_revoked())
            && self.expired_at.is_none_or(|at| expires_at.is_some_and(|expires_at| expires_at <= at))
            && self.alive_at.is_none_or(|at| expires_at.is_none_or(|expires_at| expires_at > at))
            && self.due_before.is_none_or(|at| record.next_attempt_at.is_some_and(|due_at| due_at < at))
    }
}

/// Some rows, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order of their ids; may be fewer than asked for although there are more.
    pub records: Vec<Record>,
    /// Ask for rows after this one; `None` at the end.
    pub next: Option<KeyId>,
}

/// How many rows of one app and kind are in which state. Exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The app.
    pub app: AppName,
    /// The kind.
    pub kind: KeyKind,
    /// Active and not past `exp`.
    pub active: u64,
    /// Condemned.
    pub revoked: u64,
    /// Active in the row, but past `exp`.
    pub lapsed: u64,
    /// Of the rows not condemned, lapsed ones included: with a refusal held against them.
    pub refused: u64,
    /// Never renewed by the Store, whatever the state.
    pub unproven: u64,
    /// Active, not past `exp`, and their next attempt was due before `now`.
    pub due_backlog: u64,
    /// Active, not past `exp`, and older than the deadline: `iat` lies before the instant given to `count`.
    pub past_deadline: u64,
    /// Handed over to another keeper, expired or not: these count as neither active nor lapsed nor past the deadline.
    pub handed_over: u64,
    /// When the first of those expires that has not yet.
    pub handed_over_until: Option<Timestamp>,
}

impl Count {
    /// No rows.
    pub const fn none(app: AppName, kind: KeyKind) -> Self {
        Self {
            app,
            kind,
            active: 0,
            revoked: 0,
            lapsed: 0,
            refused: 0,
            unproven: 0,
            due_backlog: 0,
            past_deadline: 0,
            handed_over: 0,
            handed_over_until: None,
        }
    }

    /// Counts one row: the definition that every backend's own way of counting has to agree with.
    pub fn add(&mut self, record: &Record, now: Timestamp, overdue_before: Option<Timestamp>) {
        let facets = record.facets();
        let is_handed_over = record.is_handed_over();
        let is_ours = !facets.revoked && !is_handed_over;
        let is_lapsed = record.key.lifetime.expires_at().is_some_and(|at| at <= now) && is_ours;
        let is_active = is_ours && !is_lapsed;
        let was_due = record.next_attempt_at.is_some_and(|at| at < now);
        let is_old = overdue_before.is_some_and(|before| record.key.lifetime.issued_at() < before);
        self.active += u64::from(is_active);
        self.revoked += u64::from(facets.revoked);
        self.lapsed += u64::from(is_lapsed);
        self.refused += u64::from(facets.refused);
        self.unproven += u64::from(facets.unproven);
        self.due_backlog += u64::from(is_active && was_due);
        self.past_deadline += u64::from(is_active && is_old);
        self.handed_over += u64::from(is_handed_over);
        let until = record.key.lifetime.expires_at().filter(|at| is_handed_over && *at > now);
        self.handed_over_until = [self.handed_over_until, until].into_iter().flatten().min();
    }
}
