//! A database for measurements: emptied if a measurement filled it, refused if it is somebody's.

use storekeeper_keyring::KeyringError;

use crate::Options;
use crate::catalogue::{
    DISTRIBUTED_TABLES, REFERENCE_TABLES, SCRATCH_BYTES, SCRATCH_EMPTY, SCRATCH_FOUND, SCRATCH_READ,
};
use crate::error::Fault;
use crate::schema::{Admin, migrate};
use crate::target::{Target, unreachable};

/// Makes empty tables in a database that has none, or none but those that an earlier call made.
///
/// # Errors
/// [`KeyringError::Unreachable`] if there are tables of somebody's; otherwise as [`migrate`].
pub async fn scratch(url: &str) -> Result<(), KeyringError> {
    let target = Target::parse(url, &Options::default())?;
    let admin = Admin::connect(&target).await?;
    let emptied = empty(&admin.client).await.map_err(|fault| target.explain(&fault));
    admin.end().await;
    if !emptied? {
        return Err(unreachable(format!(
            "the database {} at {} has tables and no bench made them: name an empty one",
            target.address.database(),
            target.address.places()
        )));
    }
    migrate(url).await.map(drop)
}

/// How much disk the keyring's tables take, with their indexes.
///
/// # Errors
/// As [`migrate`].
pub async fn scratch_bytes(url: &str) -> Result<u64, KeyringError> {
    let target = Target::parse(url, &Options::default())?;
    let admin = Admin::connect(&target).await?;
    let tables = [REFERENCE_TABLES, DISTRIBUTED_TABLES].concat();
    let found = admin.client.query_one(SCRATCH_BYTES, &[&tables]).await;
    admin.end().await;
    let bytes = found.and_then(|row| row.try_get::<_, i64>(0)).map_err(|error| target.explain(&error.into()))?;
    Ok(u64::try_from(bytes).unwrap_or_default())
}

/// Reads every row, so that the server's machine has them in memory as far as it can.
///
/// # Errors
/// As [`migrate`].
pub async fn scratch_read(url: &str) -> Result<(), KeyringError> {
    let target = Target::parse(url, &Options::default())?;
    let admin = Admin::connect(&target).await?;
    let read = admin.client.execute(SCRATCH_READ, &[]).await;
    admin.end().await;
    read.map(drop).map_err(|error| target.explain(&error.into()))
}

/// `false` if there is something that is not ours.
async fn empty(client: &tokio_postgres::Client) -> Result<bool, Fault> {
    let found = client.query_one(SCRATCH_FOUND, &[]).await?;
    let (tables, marks): (i64, i64) = (found.try_get(0)?, found.try_get(1)?);
    let is_ours = tables == 0 || marks == 1;
    if is_ours {
        client.batch_execute(SCRATCH_EMPTY).await?;
    }
    Ok(is_ours)
}
