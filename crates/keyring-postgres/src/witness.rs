//! Finding who can bear witness, along the same index as what is due.

use storekeeper_keyring::Record;
use storekeeper_model::{AppName, KeyId, Timestamp};

use crate::catalogue::WITNESSES;
use crate::database::Database;
use crate::error::Fault;
use crate::find::find;
use crate::row::{BUCKETS, bears_witness, id};

/// How far the search goes along the index: first a little, which is nearly always enough, then for long.
const SCANS: [i64; 2] = [500, 50_000];

/// Rows that can bear witness, the soonest next attempt first.
pub(crate) async fn witnesses(
    database: &Database,
    app: &AppName,
    except: KeyId,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Record>, Fault> {
    let Some(app) = database.app_number(app).await? else { return Ok(Vec::new()) };
    let (first, last) = BUCKETS;
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut ids = Vec::new();
    for scan in SCANS {
        let except = except.as_bytes().as_slice();
        let parameters: crate::database::Parameters<'_> = &[&first, &last, &scan, &app, &now.millis(), &except, &most];
        let rows = database.query(WITNESSES, parameters).await?;
        ids = rows.iter().map(|row| id(row, 0)).collect::<Result<_, _>>()?;
        if ids.len() >= limit {
            break;
        }
    }
    // A row may have been written since it was found.
    let records = find(database, &ids).await?.into_iter().flatten();
    Ok(records.filter(|record| bears_witness(record) && record.is_witness(now)).collect())
}
