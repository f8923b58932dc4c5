//! Finding rows by name: by id, and all of a player.

use std::collections::HashMap;

use futures_util::future::try_join;
use storekeeper_keyring::Record;
use storekeeper_model::{AppName, Identity, KeyId, UserName};

use crate::catalogue::{FIND, FIND_OF_USER, FIND_SPREAD, Statement};
use crate::database::{Database, Form};
use crate::error::Fault;
use crate::row::{BUCKETS, bucket, decode_all};

/// Rows by id, in the order asked for.
pub(crate) async fn find(database: &Database, ids: &[KeyId]) -> Result<Vec<Option<Record>>, Fault> {
    let mut records = records(database, ids).await?;
    if let ([_], [_]) = (ids, records.as_slice()) {
        return Ok(vec![records.pop()]);
    }
    let by_id: HashMap<KeyId, Record> = records.into_iter().map(|record| (record.id, record)).collect();
    Ok(ids.iter().map(|id| by_id.get(id).cloned()).collect())
}

/// The rows of these ids that there are, in any order.
pub(crate) async fn records(database: &Database, ids: &[KeyId]) -> Result<Vec<Record>, Fault> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let (sql, buckets, bytes) = asked(ids, database.form());
    let rows = database.find(sql, &[&buckets, &bytes]).await?;
    decode_all(database, &rows).await
}

/// The statement that reads given rows, and ids as its parameters.
pub(crate) fn asked(ids: &[KeyId], form: Form) -> (Statement, Vec<i16>, Vec<&[u8]>) {
    let sql = if form == Form::AnyBuckets { FIND } else { FIND_SPREAD };
    (sql, ids.iter().map(bucket).collect(), ids.iter().map(|id| id.as_bytes().as_slice()).collect())
}

/// Every row of a player: those without a slot by their ids, the others by name.
pub(crate) async fn of_user(database: &Database, app: &AppName, user: &UserName) -> Result<Vec<Record>, Fault> {
    let Some(number) = database.app_number(app).await? else { return Ok(Vec::new()) };
    let ids = Identity::usual_ids(app, user);
    let (first, last) = BUCKETS;
    let parameters: crate::database::Parameters<'_> = &[&first, &last, &user.as_str().as_bytes(), &number];
    let (usual, slotted) = try_join(find(database, &ids), database.query(FIND_OF_USER, parameters)).await?;
    let mut records = decode_all(database, &slotted).await?;
    records.extend(usual.into_iter().flatten());
    records.sort_unstable_by_key(|record| record.id);
    Ok(records)
}
