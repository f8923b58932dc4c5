//! Counting the population exactly, at the cost of what is due, lapsed or past the deadline.
//!
//! How many rows there are, and how many of them are revoked, refused and unproven, stands in `population`. What
//! depends on the instant is counted along three indexes that between them hold every row it can concern: a row that
//! has lapsed or passed its deadline either has a next attempt early enough to be met in `key_due`, or it is one of the
//! few in `key_lapsing` and `key_aging`.

use std::collections::BTreeMap;

use storekeeper_keyring::Count;
use storekeeper_model::{AppName, Timestamp};
use tokio_postgres::Row;

use crate::catalogue::{COUNT_AGING, COUNT_HANDED_OVER, COUNT_LAPSING, COUNT_OVERDUE, COUNT_POPULATION, COUNT_WAITING};
use crate::database::Database;
use crate::error::Fault;
use crate::row::{AGING_MILLIS, BUCKETS, kind};

type Counts = BTreeMap<(i32, i16), Count>;

/// Counts the population.
pub(crate) async fn count(
    database: &Database,
    now: Timestamp,
    overdue_before: &[(AppName, Timestamp)],
) -> Result<Vec<Count>, Fault> {
    let mut deadlines: BTreeMap<i32, i64> = BTreeMap::new();
    for (app, before) in overdue_before {
        if let Some(app) = database.app_number(app).await? {
            deadlines.insert(app, before.millis());
        }
    }
    let (apps, befores): (Vec<i32>, Vec<i64>) = deadlines.into_iter().unzip();
    let oldest = befores.iter().max().copied().unwrap_or(i64::MIN);
    let horizon = oldest.saturating_add(AGING_MILLIS);
    let (now, (first, last)) = (now.millis(), BUCKETS);
    let parameters: crate::database::Parameters<'_> = &[&first, &last, &now];
    // In one snapshot: between two questions rows may come and go.
    let answers = database
        .in_snapshot([
            (COUNT_POPULATION, &parameters[..2]),
            (COUNT_WAITING, parameters),
            (COUNT_LAPSING, parameters),
            (COUNT_OVERDUE, &[&first, &last, &now, &horizon, &apps, &befores]),
            (COUNT_AGING, &[&first, &last, &now, &oldest, &apps, &befores]),
            (COUNT_HANDED_OVER, parameters),
        ])
        .await?;
    let [population, waiting, lapsing, overdue, aging, handed_over] = &answers;
    let mut counts = kept(database, population).await?;
    for row in waiting {
        if let Some(count) = count_of(&mut counts, row)? {
            count.lapsed += number(row, 2)?;
            count.due_backlog += number(row, 3)?;
        }
    }
    for row in lapsing {
        if let Some(count) = count_of(&mut counts, row)? {
            count.lapsed += number(row, 2)?;
        }
    }
    for row in overdue.iter().chain(aging) {
        if let Some(count) = count_of(&mut counts, row)? {
            count.past_deadline += number(row, 2)?;
        }
    }
    for row in handed_over {
        if let Some(count) = count_of(&mut counts, row)? {
            count.handed_over += number(row, 2)?;
            let until = row.try_get::<_, Option<i64>>(3)?.map(Timestamp::from_millis);
            count.handed_over_until = [count.handed_over_until, until].into_iter().flatten().min();
        }
    }
    let mut counts: Vec<Count> = counts.into_values().collect();
    counts.iter_mut().for_each(|count| count.active = count.active.saturating_sub(count.lapsed + count.handed_over));
    counts.sort_by(|one, other| (&one.app, one.kind).cmp(&(&other.app, other.kind)));
    Ok(counts)
}

/// What stands in the table; `active` still holds those that lapsed and those handed over.
async fn kept(database: &Database, rows: &[Row]) -> Result<Counts, Fault> {
    let mut counts = Counts::new();
    for row in rows {
        let (app, kind_number): (i32, i16) = (row.try_get(0)?, row.try_get(1)?);
        if database.names.name(app).is_none() {
            database.load_names().await?;
        }
        let name = database.names.name(app).ok_or_else(|| Fault::corrupt("app"))?;
        let mut count = Count::none(name, kind(kind_number)?);
        (count.revoked, count.refused, count.unproven) = (number(row, 3)?, number(row, 4)?, number(row, 5)?);
        count.active = number(row, 2)?.saturating_sub(count.revoked);
        counts.insert((app, kind_number), count);
    }
    Ok(counts)
}

fn count_of<'c>(counts: &'c mut Counts, row: &Row) -> Result<Option<&'c mut Count>, Fault> {
    Ok(counts.get_mut(&(row.try_get(0)?, row.try_get(1)?)))
}

fn number(row: &Row, column: usize) -> Result<u64, Fault> {
    Ok(u64::try_from(row.try_get::<_, i64>(column)?).unwrap_or_default())
}
