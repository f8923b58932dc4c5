//! The statements of a group of writes. Each is compare-and-set; what it changes in the counts is added up and written
//! in the same transaction.

use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection};
use storekeeper_keyring::{Expected, Facets, Record, Settled, Write};
use storekeeper_model::{AppName, Identity, KeyId};

use crate::row::{Binder, counted, kind_number};
use crate::shared::Shared;

const INSERT: &str = "-- settle::insert
    INSERT INTO record (revision, witness, failing, issued_at, expires_at, next_attempt_at, revoked_at, last_used_day,
        fingerprint, body, newcomer, id, app, kind, user, slot)
    VALUES (:revision, :witness, :failing, :issued_at, :expires_at, :next_attempt_at, :revoked_at, :last_used_day,
        :fingerprint, :body, :newcomer, :id, :app, :kind, :user, :slot)
    ON CONFLICT (id) DO NOTHING";

macro_rules! update {
    ($name:literal, $by:literal) => {
        concat!(
            "-- settle::",
            $name,
            "
    UPDATE record SET revision = :revision, witness = :witness, failing = :failing, issued_at = :issued_at,
        expires_at = :expires_at, next_attempt_at = :next_attempt_at, revoked_at = :revoked_at,
        last_used_day = CASE WHEN :last_used_day > ifnull(last_used_day, :last_used_day - 1) THEN :last_used_day
            ELSE last_used_day END,
        fingerprint = :fingerprint, body = :body, newcomer = :newcomer
    WHERE ",
            $by,
            " = :id AND revision = :expected_revision AND fingerprint = :expected_fingerprint"
        )
    };
}

const UPDATE: &str = update!("update", "id");

/// The `+` keeps SQLite from going through the index of ids.
const UPDATE_AT: &str = concat!(update!("update_at", "+id"), " AND place = :place");

const FORGET: &str = "-- settle::forget
    DELETE FROM record WHERE id = :id AND revision = :expected_revision AND fingerprint = :expected_fingerprint";

const COUNT: &str = "-- settle::count
    INSERT INTO population (app, kind, total, revoked, refused, unproven)
    VALUES (:app, :kind, :total, :revoked, :refused, :unproven)
    ON CONFLICT (app, kind) DO UPDATE SET total = total + excluded.total, revoked = revoked + excluded.revoked,
        refused = refused + excluded.refused, unproven = unproven + excluded.unproven";

const NOTE_USED: &str = "-- settle::note_used
    UPDATE record SET last_used_day = :day
    WHERE id = :id AND (last_used_day IS NULL OR last_used_day < :day)";

/// The statements of one transaction, and what they changed in the counts so far.
pub(crate) struct Group<'c> {
    connection: &'c Connection,
    shared: &'c Shared,
    insert: CachedStatement<'c>,
    update: CachedStatement<'c>,
    update_at: CachedStatement<'c>,
    counts: HashMap<(i64, i64), Change>,
    /// The app asked for last, with its number: most groups are of one app.
    app: Option<(AppName, i64)>,
}

/// Rows in all, and those revoked, refused, unproven.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Change([i64; 4]);

impl Change {
    fn add(&mut self, facets: Facets, sign: i64) {
        let [revoked, refused, unproven] = counted(facets);
        for (sum, one) in self.0.iter_mut().zip([1, revoked, refused, unproven]) {
            *sum += sign * one;
        }
    }
}

impl<'c> Group<'c> {
    /// Prepares a group; the transaction is the caller's.
    pub(crate) fn new(connection: &'c Connection, shared: &'c Shared) -> rusqlite::Result<Self> {
        let prepare = |sql| connection.prepare_cached(sql);
        let [insert, update, update_at] = [prepare(INSERT)?, prepare(UPDATE)?, prepare(UPDATE_AT)?];
        Ok(Self { connection, shared, insert, update, update_at, counts: HashMap::new(), app: None })
    }

    /// Makes writes; what becomes of each stands in its place. The app of a row that is put must have its number by now.
    ///
    /// They are made in the order in which the rows lie in the file, those of new rows in that of the index of ids, so that
    /// a page that holds several is changed once. The writes of one row stay in their order.
    pub(crate) fn settle(&mut self, writes: &[Write]) -> rusqlite::Result<Vec<Settled>> {
        let mut order: Vec<usize> = (0..writes.len()).collect();
        order.sort_by_cached_key(|at| {
            let id = writes[*at].id();
            (self.shared.whereabouts.place(id).unwrap_or(i64::MAX), id)
        });
        let mut settled = vec![Settled::Conflict; writes.len()];
        for at in order {
            settled[at] = self.settle_one(&writes[at])?;
        }
        Ok(settled)
    }

    fn settle_one(&mut self, write: &Write) -> rusqlite::Result<Settled> {
        match write {
            Write::Put { expected: Expected::Absent, record } => self.insert(record),
            Write::Put { expected: expected @ Expected::Row { facets, .. }, record } => {
                self.update(expected, *facets, record)
            }
            Write::Forget { id, identity, expected: expected @ Expected::Row { facets, .. } } => {
                self.forget(*id, identity, expected, *facets)
            }
            Write::Forget { expected: Expected::Absent, .. } => Ok(Settled::Conflict),
        }
    }

    fn insert(&mut self, record: &Record) -> rusqlite::Result<Settled> {
        let Identity { app: _, user, slot, kind } = &record.identity;
        let app = self.app(&record.identity)?;
        let mut binder = Binder::new(&mut self.insert);
        binder.bind_changes(record)?;
        binder.bind(record.id.as_bytes().as_slice())?;
        binder.bind(app)?;
        binder.bind(kind_number(*kind))?;
        binder.bind(user.as_str())?;
        binder.bind(slot.as_str())?;
        if binder.execute()? == 0 {
            return Ok(Settled::Conflict);
        }
        self.shared.whereabouts.note(record.id, self.connection.last_insert_rowid());
        self.count(&record.identity, &[(record.facets(), 1)])?;
        Ok(Settled::Done(record.revision))
    }

    fn update(&mut self, expected: &Expected, before: Facets, record: &Record) -> rusqlite::Result<Settled> {
        if !self.updates_at_its_place(expected, record)? {
            let mut binder = Binder::new(&mut self.update);
            binder.bind_changes(record)?;
            bind_expected(&mut binder, record.id, expected)?;
            if binder.execute()? == 0 {
                return Ok(Settled::Conflict);
            }
        }
        let after = record.facets();
        if before != after {
            self.count(&record.identity, &[(before, -1), (after, 1)])?;
        }
        Ok(Settled::Done(record.revision))
    }

    /// Whether the row stood where it was last seen, and was as expected.
    fn updates_at_its_place(&mut self, expected: &Expected, record: &Record) -> rusqlite::Result<bool> {
        let Some(place) = self.shared.whereabouts.place(record.id) else { return Ok(false) };
        let mut binder = Binder::new(&mut self.update_at);
        binder.bind_changes(record)?;
        bind_expected(&mut binder, record.id, expected)?;
        binder.bind(place)?;
        Ok(binder.execute()? > 0)
    }

    fn forget(
        &mut self,
        id: KeyId,
        identity: &Identity,
        expected: &Expected,
        before: Facets,
    ) -> rusqlite::Result<Settled> {
        let mut statement = self.connection.prepare_cached(FORGET)?;
        let mut binder = Binder::new(&mut statement);
        bind_expected(&mut binder, id, expected)?;
        let Expected::Row { revision, .. } = expected else { return Ok(Settled::Conflict) };
        if binder.execute()? == 0 {
            return Ok(Settled::Conflict);
        }
        self.count(identity, &[(before, -1)])?;
        Ok(Settled::Done(*revision))
    }

    fn app(&mut self, identity: &Identity) -> rusqlite::Result<i64> {
        if let Some((_, number)) = self.app.as_ref().filter(|(app, _)| *app == identity.app) {
            return Ok(*number);
        }
        let number = self.shared.names.number(&identity.app).ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        self.app = Some((identity.app.clone(), number));
        Ok(number)
    }

    fn count(&mut self, identity: &Identity, changes: &[(Facets, i64)]) -> rusqlite::Result<()> {
        let app = self.app(identity)?;
        let change = self.counts.entry((app, kind_number(identity.kind))).or_default();
        changes.iter().for_each(|(facets, sign)| change.add(*facets, *sign));
        Ok(())
    }

    /// Notes a day on which a key was read.
    pub(crate) fn note_used(&self, id: KeyId, day: i64) -> rusqlite::Result<()> {
        self.connection.prepare_cached(NOTE_USED)?.execute((day, id.as_bytes().as_slice())).map(|_| ())
    }

    /// Writes the counts. The last thing before the commit.
    pub(crate) fn finish(self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached(COUNT)?;
        for ((app, kind), Change([total, revoked, refused, unproven])) in self.counts {
            statement.execute((app, kind, total, revoked, refused, unproven))?;
        }
        Ok(())
    }
}

fn bind_expected(binder: &mut Binder<'_, '_>, id: KeyId, expected: &Expected) -> rusqlite::Result<()> {
    let Expected::Row { revision, fingerprint, .. } = expected else { return Ok(()) };
    binder.bind(id.as_bytes().as_slice())?;
    binder.bind(revision.number())?;
    binder.bind(fingerprint.as_bytes().as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values are bound by place: both statements have to name them in the order of `Binder::bind_changes`.
    #[test]
    fn insert_and_update_name_what_a_renewal_changes_in_the_same_order() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../migrations/V1__record.sql")).unwrap();
        let names = |sql| {
            let statement = connection.prepare(sql).unwrap();
            (1..=11).map(|at| statement.parameter_name(at).unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(INSERT), names(UPDATE));
        assert_eq!(names(INSERT), names(UPDATE_AT));
        assert_eq!(names(INSERT)[10], ":newcomer");
    }

    #[test]
    fn a_row_whose_place_is_known_is_not_looked_up_by_its_id() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../migrations/V1__record.sql")).unwrap();
        let plan = |sql| {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            statement.raw_query().next().unwrap().unwrap().get::<_, String>(3).unwrap()
        };
        assert!(plan(UPDATE).contains("INDEX record_id (id=?)"), "{}", plan(UPDATE));
        assert!(plan(UPDATE_AT).contains("INTEGER PRIMARY KEY (rowid=?)"), "{}", plan(UPDATE_AT));
    }
}
