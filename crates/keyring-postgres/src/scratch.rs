//! A database for measurements: emptied if a measurement filled it, refused if it is somebody's.

use storekeeper_keyring::KeyringError;

use crate::Options;
use crate::catalogue::{SCRATCH_EMPTY, SCRATCH_FOUND};
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
