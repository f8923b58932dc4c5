//! How several keepers share the database: nodes beat, leases change hands compare-and-set. No clock stands in a row.

use std::collections::HashSet;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use storekeeper_keyring::{AppRow, ClockReport, KeyringError, Lease, LeaseChange, Leases, Node, NodeId, Presence};
use storekeeper_model::Bucket;
use tokio_postgres::Row;

use crate::PostgresKeyring;
use crate::apps::change_app;
use crate::catalogue::{LEASE_CHANGE, LEASES, NODE_BEAT, NODE_DRAIN, NODE_REMOVE, NODE_UNDRAIN, NODES};
use crate::database::Database;
use crate::error::Fault;
use crate::row::BUCKETS;

/// Changes that met others this often in a row are given up for now.
const ATTEMPTS_MAX: usize = 8;

impl Leases for PostgresKeyring {
    fn beat<'a>(&'a self, presence: &'a Presence) -> BoxFuture<'a, Result<Vec<Node>, KeyringError>> {
        let presence = presence.clone();
        self.ask_shared(|database| async move { beat(&database, &presence).await })
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<Node>, KeyringError>> {
        self.ask_shared(|database| async move { nodes(&database).await })
    }

    fn all(&self) -> BoxFuture<'_, Result<Vec<Lease>, KeyringError>> {
        self.ask_shared(|database| async move { leases(&database).await })
    }

    fn change(&self, changes: Vec<LeaseChange>) -> BoxFuture<'_, Result<Vec<bool>, KeyringError>> {
        if changes.is_empty() {
            return std::future::ready(Ok(Vec::new())).boxed();
        }
        self.ask_shared(|database| async move { change(&database, &changes).await })
    }

    fn drain_node(&self, id: NodeId) -> BoxFuture<'_, Result<bool, KeyringError>> {
        self.ask_shared(move |database| async move {
            Ok(!database.query(NODE_DRAIN, &[&id.as_bytes().as_slice()]).await?.is_empty())
        })
    }

    fn undrain_node(&self, id: NodeId) -> BoxFuture<'_, Result<bool, KeyringError>> {
        self.ask_shared(move |database| async move {
            Ok(!database.query(NODE_UNDRAIN, &[&id.as_bytes().as_slice()]).await?.is_empty())
        })
    }

    fn remove_node<'a>(&'a self, seen: &'a Node) -> BoxFuture<'a, Result<bool, KeyringError>> {
        let (id, beat) = (seen.id, number(seen.beat));
        self.ask_shared(move |database| async move {
            Ok(!database.query(NODE_REMOVE, &[&id.as_bytes().as_slice(), &beat]).await?.is_empty())
        })
    }

    fn change_app<'a>(&'a self, seen: &'a AppRow, app: &'a AppRow) -> BoxFuture<'a, Result<bool, KeyringError>> {
        let (seen, app) = (seen.clone(), app.clone());
        self.ask_shared(|database| async move { change_app(&database, &seen, &app).await })
    }
}

impl PostgresKeyring {
    /// Leads a question to the connections that are kept for it.
    fn ask_shared<T: Send + 'static, F>(
        &self,
        question: impl FnOnce(Database) -> F,
    ) -> BoxFuture<'_, Result<T, KeyringError>>
    where
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let work = question(self.shared.clone());
        self.shared.run(work).boxed()
    }
}

/// A beat that is made twice, because a connection was lost, has moved all the same.
async fn beat(database: &Database, presence: &Presence) -> Result<Vec<Node>, Fault> {
    let id = presence.id.as_bytes().as_slice();
    let name = presence.name.replace('\0', "\u{fffd}");
    let clock = clock_column(presence.clock);
    database.query(NODE_BEAT, &[&id, &name, &presence.draining, &presence.leaving, &clock]).await?;
    nodes(database).await
}

async fn nodes(database: &Database) -> Result<Vec<Node>, Fault> {
    let node = |row: &Row| {
        Ok(Node {
            id: node_id(row.try_get(0)?)?,
            name: row.try_get(1)?,
            beat: u64::try_from(row.try_get::<_, i64>(2)?).map_err(|_| Fault::corrupt("beat"))?,
            draining: row.try_get(3)?,
            clock: clock_report(row.try_get(4)?),
        })
    };
    database.query(NODES, &[]).await?.iter().map(node).collect()
}

const AGREES: i16 = 1;
const SKEWED: i16 = 2;

fn clock_column(clock: ClockReport) -> Option<i16> {
    match clock {
        ClockReport::Unknown => None,
        ClockReport::Agrees => Some(AGREES),
        ClockReport::Skewed => Some(SKEWED),
    }
}

/// A number of a later version says nothing to this one: no lease moves because of it.
fn clock_report(column: Option<i16>) -> ClockReport {
    match column {
        Some(AGREES) => ClockReport::Agrees,
        Some(SKEWED) => ClockReport::Skewed,
        _ => ClockReport::Unknown,
    }
}

async fn leases(database: &Database) -> Result<Vec<Lease>, Fault> {
    let (first, last) = BUCKETS;
    let rows = database.query(LEASES, &[&first, &last]).await?;
    let leases = rows.iter().map(lease).collect::<Result<Vec<_>, _>>()?;
    let is_whole = leases.iter().map(|lease| lease.bucket.number()).eq(0..Bucket::COUNT);
    if is_whole {
        Ok(leases)
    } else {
        Err(Fault::Corrupt(String::from("the table of leases: not one for each bucket")))
    }
}

fn lease(row: &Row) -> Result<Lease, Fault> {
    Ok(Lease {
        bucket: bucket(row)?,
        owner: row.try_get::<_, Option<&[u8]>>(1)?.map(node_id).transpose()?,
        term: u64::try_from(row.try_get::<_, i64>(2)?).map_err(|_| Fault::corrupt("term"))?,
    })
}

fn bucket(row: &Row) -> Result<Bucket, Fault> {
    u16::try_from(row.try_get::<_, i16>(0)?).ok().and_then(Bucket::new).ok_or_else(|| Fault::corrupt("bucket"))
}

fn node_id(bytes: &[u8]) -> Result<NodeId, Fault> {
    bytes.try_into().map(NodeId::from_bytes).map_err(|_| Fault::corrupt("node"))
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

async fn change(database: &Database, changes: &[LeaseChange]) -> Result<Vec<bool>, Fault> {
    // In one order, so that two who change the same leases seldom wait for each other in a circle.
    let mut sorted: Vec<&LeaseChange> = changes.iter().collect();
    sorted.sort_unstable_by_key(|change| change.seen.bucket);
    let column = |owner: Option<NodeId>| owner.map(|owner| owner.as_bytes().to_vec());
    let buckets: Vec<i16> = sorted.iter().map(|change| number_of(change.seen.bucket)).collect();
    let terms: Vec<i64> = sorted.iter().map(|change| number(change.seen.term)).collect();
    let seen: Vec<_> = sorted.iter().map(|change| column(change.seen.owner)).collect();
    let owners: Vec<_> = sorted.iter().map(|change| column(change.owner)).collect();
    let mut attempts = 1..=ATTEMPTS_MAX;
    let rows = loop {
        match database.query(LEASE_CHANGE, &[&buckets, &terms, &seen, &owners]).await {
            Err(fault) if fault.is_contended() && attempts.next().is_some() => {}
            rows => break rows?,
        }
    };
    let made = rows.iter().map(bucket).collect::<Result<HashSet<_>, _>>()?;
    Ok(changes.iter().map(|change| made.contains(&change.seen.bucket)).collect())
}

fn number_of(bucket: Bucket) -> i16 {
    i16::try_from(bucket.number()).expect("there are 4096 buckets")
}
