//! A group of writes as a few statements, each compare-and-set; what they change in the counts is written in the same
//! transaction.

use std::collections::{BTreeMap, HashMap};

use deadpool_postgres::Transaction;
use storekeeper_keyring::{Expected, Facets, Record, Settled, Write, body, newcomer};
use storekeeper_model::{Identity, KeyId, Timestamp};
use tokio_postgres::types::ToSql;

use crate::catalogue::{
    SETTLE_COUNT, SETTLE_COUNT_IN, SETTLE_FORGET, SETTLE_FORGET_IN, SETTLE_INSERT, SETTLE_INSERT_IN, SETTLE_NOTE_USED,
    SETTLE_NOTE_USED_IN, SETTLE_UPDATE, SETTLE_UPDATE_IN, Statement,
};
use crate::database::{Column, Form, PIPELINED_MAX, Set, each, in_turn};
use crate::error::Fault;
use crate::names::Names;
use crate::row::{bears_witness, bucket, id, is_aging, is_lapsing, kind_number, revoked_at};

/// The writes of a group, laid out for the database once, however often the transaction has to be done.
pub(crate) struct Plan<'w> {
    writes: Vec<&'w Write>,
    steps: Vec<Step<'w>>,
    form: Form,
}

/// One statement, and which writes it makes.
struct Step<'w> {
    sql: Statement,
    columns: Vec<Column<'w>>,
    places: HashMap<KeyId, usize>,
}

/// A write and its place in the group.
#[derive(Clone, Copy)]
struct Placed<'w> {
    place: usize,
    write: &'w Write,
}

impl<'w> Plan<'w> {
    /// Lays a group out. The apps of rows must have their numbers by now.
    pub(crate) fn new(writes: Vec<&'w Write>, names: &Names, form: Form) -> Result<Self, Fault> {
        let mut steps = Vec::new();
        for mut round in rounds(&writes) {
            // All keepers lock rows in this order, so that they do not wait for each other in a circle.
            round.sort_unstable_by_key(|placed| placed.write.id());
            let (mut new, mut changed, mut gone) = (Vec::new(), Vec::new(), Vec::new());
            for placed in round {
                match placed.write {
                    Write::Put { expected: Expected::Absent, .. } => new.push(placed),
                    Write::Put { .. } => changed.push(placed),
                    Write::Forget { expected: Expected::Row { .. }, .. } => gone.push(placed),
                    // What is not there cannot be forgotten: a conflict whatever stands there.
                    Write::Forget { expected: Expected::Absent, .. } => {}
                }
            }
            match form {
                Form::AnyBuckets => {
                    steps.extend(Step::insert(&new, names)?);
                    steps.extend(Step::update(&changed));
                    steps.extend(Step::forget(&gone));
                }
                Form::OneBucket => {
                    for new in new.chunks(1) {
                        steps.extend(Step::insert(new, names)?.map(|step| step.in_one_bucket(SETTLE_INSERT_IN, new)));
                    }
                    for changed in changed.chunk_by(have_one_bucket) {
                        steps.extend(Step::update(changed).map(|step| step.in_one_bucket(SETTLE_UPDATE_IN, changed)));
                    }
                    for gone in gone.chunk_by(have_one_bucket) {
                        steps.extend(Step::forget(gone).map(|step| step.in_one_bucket(SETTLE_FORGET_IN, gone)));
                    }
                }
            }
        }
        Ok(Self { writes, steps, form })
    }

    /// The writes, in the order in which they were given.
    pub(crate) fn writes(&self) -> &[&'w Write] {
        &self.writes
    }

    /// How many statements they take.
    pub(crate) const fn statements(&self) -> usize {
        self.steps.len()
    }

    /// Makes the writes in a transaction; says for each what will have come of it once that is committed.
    /// Counts are added to rows in the bucket `counted_in`.
    pub(crate) async fn run(
        &self,
        transaction: &Transaction<'_>,
        names: &Names,
        counted_in: i16,
    ) -> Result<Vec<Settled>, Fault> {
        let mut settled = vec![Settled::Conflict; self.writes.len()];
        let mut counts = Counts::default();
        let mut asked = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let statement = transaction.prepare_cached(step.sql).await?;
            asked.push(async move { transaction.query(&statement, &parameters(&step.columns)).await });
        }
        let at_once = if self.form == Form::AnyBuckets { 1 } else { PIPELINED_MAX };
        for (step, rows) in self.steps.iter().zip(in_turn(asked, at_once).await?) {
            for row in rows {
                let id = id(&row, 0)?;
                let place = *step.places.get(&id).ok_or_else(|| Fault::corrupt("id"))?;
                settled[place] = done(self.writes[place]);
                counts.add(self.writes[place], names)?;
            }
        }
        counts.write(transaction, counted_in, self.form).await?;
        Ok(settled)
    }
}

/// Two writes to the same row are judged in order: each round holds at most one write per row.
fn rounds<'w>(writes: &[&'w Write]) -> Vec<Vec<Placed<'w>>> {
    let mut before: HashMap<KeyId, usize> = HashMap::with_capacity(writes.len());
    let mut rounds: Vec<Vec<Placed<'w>>> = Vec::new();
    for (place, write) in writes.iter().copied().enumerate() {
        let round = before.entry(write.id()).and_modify(|round| *round += 1).or_insert(0);
        if *round == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[*round].push(Placed { place, write });
    }
    rounds
}

/// The answer to a write that was made.
pub(crate) fn done(write: &Write) -> Settled {
    match write {
        Write::Put { record, .. } => Settled::Done(record.revision),
        Write::Forget { expected: Expected::Row { revision, .. }, .. } => Settled::Done(*revision),
        Write::Forget { expected: Expected::Absent, .. } => Settled::Conflict,
    }
}

fn parameters<'c>(columns: &'c [Column<'_>]) -> Vec<&'c (dyn ToSql + Sync)> {
    columns.iter().map(|column| &**column as &(dyn ToSql + Sync)).collect()
}

impl<'w> Step<'w> {
    fn insert(placed: &[Placed<'w>], names: &Names) -> Result<Option<Self>, Fault> {
        let records = records(placed);
        let identities = || records.iter().map(|record| &record.identity);
        let numbers = identities().map(|identity| number(identity, names)).collect::<Result<Vec<i32>, _>>()?;
        let mut columns = changes(&records);
        columns.push(Box::new(numbers));
        columns.push(Box::new(identities().map(|identity| kind_number(identity.kind)).collect::<Vec<i16>>()));
        columns.push(Box::new(identities().map(|identity| identity.user.as_str().as_bytes()).collect::<Vec<&[u8]>>()));
        columns.push(Box::new(identities().map(|identity| identity.slot.as_str().as_bytes()).collect::<Vec<&[u8]>>()));
        Ok(Self::new(SETTLE_INSERT, columns, placed))
    }

    fn update(placed: &[Placed<'w>]) -> Option<Self> {
        let mut columns = changes(&records(placed));
        columns.extend(expected(placed));
        Self::new(SETTLE_UPDATE, columns, placed)
    }

    fn forget(placed: &[Placed<'w>]) -> Option<Self> {
        let ids = || placed.iter().map(|placed| placed.write.id());
        let mut columns: Vec<Column<'w>> = vec![
            Box::new(ids().map(|id| bucket(&id)).collect::<Vec<i16>>()),
            Box::new(ids().map(|id| id.as_bytes().to_vec()).collect::<Vec<Vec<u8>>>()),
        ];
        columns.extend(expected(placed));
        Self::new(SETTLE_FORGET, columns, placed)
    }

    /// The same by a statement about the one bucket that all of the writes are in.
    fn in_one_bucket(mut self, sql: Statement, placed: &[Placed<'w>]) -> Self {
        self.sql = sql;
        self.columns[0] = Box::new(bucket(&placed[0].write.id()));
        self
    }

    fn new(sql: Statement, columns: Vec<Column<'w>>, placed: &[Placed<'w>]) -> Option<Self> {
        let places = placed.iter().map(|placed| (placed.write.id(), placed.place)).collect();
        (!placed.is_empty()).then_some(Self { sql, columns, places })
    }
}

fn have_one_bucket(one: &Placed<'_>, other: &Placed<'_>) -> bool {
    bucket(&one.write.id()) == bucket(&other.write.id())
}

fn records<'w>(placed: &[Placed<'w>]) -> Vec<&'w Record> {
    let record = |placed: &Placed<'w>| match placed.write {
        Write::Put { record, .. } => Some(&**record),
        Write::Forget { .. } => None,
    };
    placed.iter().filter_map(record).collect()
}

/// What a renewal may change, in the order of the statements, bucket and id before it.
fn changes<'w>(records: &[&'w Record]) -> Vec<Column<'w>> {
    fn column<'w, T: ToSql + Send + Sync + 'w>(
        records: &[&'w Record],
        value: impl FnMut(&'w Record) -> T,
    ) -> Column<'w> {
        Box::new(records.iter().copied().map(value).collect::<Vec<T>>())
    }
    vec![
        column(records, |record| bucket(&record.id)),
        column(records, |record| record.id.as_bytes().as_slice()),
        column(records, |record| record.revision.number()),
        column(records, bears_witness),
        column(records, Record::is_failing),
        column(records, is_lapsing),
        column(records, is_aging),
        column(records, |record| record.key.lifetime.issued_at().millis()),
        column(records, |record| record.key.lifetime.expires_at().map(Timestamp::millis)),
        column(records, |record| record.next_attempt_at.map(Timestamp::millis)),
        column(records, |record| revoked_at(&record.state).map(Timestamp::millis)),
        column(records, |record| record.last_used_day.map(day)),
        column(records, |record| record.key.fingerprint.as_bytes().as_slice()),
        column(records, body::pack),
        column(records, |record| record.newcomer.as_ref().map(newcomer::pack)),
    ]
}

/// What has to stand still.
fn expected<'w>(placed: &[Placed<'w>]) -> [Column<'w>; 2] {
    let mut revisions = Vec::with_capacity(placed.len());
    let mut fingerprints: Vec<&'w [u8]> = Vec::with_capacity(placed.len());
    for placed in placed {
        let (Write::Put { expected, .. } | Write::Forget { expected, .. }) = placed.write;
        if let Expected::Row { revision, fingerprint, .. } = expected {
            revisions.push(revision.number());
            fingerprints.push(fingerprint.as_bytes());
        }
    }
    [Box::new(revisions), Box::new(fingerprints)]
}

fn number(identity: &Identity, names: &Names) -> Result<i32, Fault> {
    names.known(&identity.app).ok_or_else(|| Fault::corrupt("app"))
}

/// A day as stored; millions of years are enough.
fn day(day: i64) -> i32 {
    i32::try_from(day).unwrap_or(if day < 0 { i32::MIN } else { i32::MAX })
}

/// What a group changes in the counts, in the order in which all keepers lock them.
#[derive(Default)]
struct Counts(BTreeMap<(i32, i16), [i64; 4]>);

impl Counts {
    /// Adds what a write that was made has changed.
    fn add(&mut self, write: &Write, names: &Names) -> Result<(), Fault> {
        let (identity, before, after) = match write {
            Write::Put { expected, record } => (&record.identity, facets(expected), Some(record.facets())),
            Write::Forget { identity, expected, .. } => (identity, facets(expected), None),
        };
        if before == after {
            return Ok(());
        }
        let sums = self.0.entry((number(identity, names)?, kind_number(identity.kind))).or_default();
        for (facets, sign) in [(before, -1), (after, 1)] {
            if let Some(Facets { revoked, refused, unproven }) = facets {
                let one = [1, i64::from(revoked), i64::from(refused), i64::from(unproven)];
                sums.iter_mut().zip(one).for_each(|(sum, one)| *sum += sign * one);
            }
        }
        Ok(())
    }

    /// Adds them to this keeper's own rows, so that keepers do not wait for each other.
    async fn write(&self, transaction: &Transaction<'_>, counted_in: i16, form: Form) -> Result<(), Fault> {
        let changed: Vec<_> = self.0.iter().filter(|(_, sums)| **sums != [0; 4]).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let (sql, at_once) = match form {
            Form::AnyBuckets => (SETTLE_COUNT, changed.len()),
            Form::OneBucket => (SETTLE_COUNT_IN, 1),
        };
        let columns: Vec<Vec<Column<'_>>> = changed
            .chunks(at_once)
            .map(|changed| {
                let sums = |at: usize| Box::new(changed.iter().map(|(_, sums)| sums[at]).collect::<Vec<i64>>());
                let buckets: Column<'_> = match form {
                    Form::AnyBuckets => Box::new(vec![counted_in; changed.len()]),
                    Form::OneBucket => Box::new(counted_in),
                };
                let apps = Box::new(changed.iter().map(|((app, _), _)| *app).collect::<Vec<i32>>());
                let kinds = Box::new(changed.iter().map(|((_, kind), _)| *kind).collect::<Vec<i16>>());
                vec![buckets, apps, kinds, sums(0), sums(1), sums(2), sums(3)]
            })
            .collect();
        let sets: Vec<Set<'_>> = columns.iter().map(|columns| parameters(columns)).collect();
        each(transaction, sql, &sets).await.map(drop)
    }
}

const fn facets(expected: &Expected) -> Option<Facets> {
    match expected {
        Expected::Absent => None,
        Expected::Row { facets, .. } => Some(*facets),
    }
}

/// Notes the days on which keys were read, unless later ones are noted.
pub(crate) async fn note_used(
    transaction: &Transaction<'_>,
    used: impl Iterator<Item = (KeyId, i64)>,
    form: Form,
) -> Result<(), Fault> {
    let mut days: BTreeMap<KeyId, i64> = BTreeMap::new();
    for (id, read_on) in used {
        days.entry(id).and_modify(|noted| *noted = read_on.max(*noted)).or_insert(read_on);
    }
    if days.is_empty() {
        return Ok(());
    }
    let days: Vec<(KeyId, i64)> = days.into_iter().collect();
    let noted = |days: &[(KeyId, i64)]| -> Vec<Column<'static>> {
        let ids: Vec<Vec<u8>> = days.iter().map(|(id, _)| id.as_bytes().to_vec()).collect();
        let buckets: Column<'static> = match form {
            Form::AnyBuckets => Box::new(days.iter().map(|(id, _)| bucket(id)).collect::<Vec<i16>>()),
            Form::OneBucket => Box::new(bucket(&days[0].0)),
        };
        let read_on: Vec<i32> = days.iter().map(|(_, read_on)| day(*read_on)).collect();
        vec![buckets, Box::new(ids), Box::new(read_on)]
    };
    let (sql, columns): (Statement, Vec<Vec<Column<'_>>>) = match form {
        Form::AnyBuckets => (SETTLE_NOTE_USED, vec![noted(&days)]),
        Form::OneBucket => {
            (SETTLE_NOTE_USED_IN, days.chunk_by(|one, other| bucket(&one.0) == bucket(&other.0)).map(noted).collect())
        }
    };
    let sets: Vec<Set<'_>> = columns.iter().map(|columns| parameters(columns)).collect();
    each(transaction, sql, &sets).await.map(drop)
}
