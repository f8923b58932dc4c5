//! What a keeper makes sure of before it starts: the keyring fits the configuration and the master key fits the keyring.

use std::collections::BTreeMap;

use storekeeper_keyring::seal::{LoadRootsError, MasterKey, Sealer};
use storekeeper_keyring::{AppRow, Keyring, KeyringError};
use storekeeper_model::{AppName, ClientId, Timestamp};
use storekeeper_policy::PolicyError;

use crate::config::KeeperConfig;

/// Why a keeper does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The keyring cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The master key does not fit.
    #[error(transparent)]
    MasterKey(#[from] LoadRootsError),
    /// An app's policy cannot work.
    #[error("app `{app}`: {source}")]
    Policy {
        /// The app.
        app: AppName,
        /// What is wrong.
        source: PolicyError,
    },
    /// The keyring holds keys of an app that is not configured.
    #[error(
        "the keyring holds {keys} keys of app `{app}`, which is not configured: put it back, or start with --accept-orphans to let its keys expire"
    )]
    Orphaned {
        /// The app.
        app: AppName,
        /// How many.
        keys: u64,
    },
    /// An app's client ID changed while it has keys.
    #[error(
        "app `{app}` has {keys} keys of client ID {held}, but {configured} is configured: none of them could be renewed; put the client ID back, or start with --accept-orphans"
    )]
    ClientIdChanged {
        /// The app.
        app: AppName,
        /// How many keys.
        keys: u64,
        /// The keys' client ID.
        held: ClientId,
        /// The configured one.
        configured: ClientId,
    },
}

/// Compares apps and keyring, saves the rows of new apps, and returns all rows with the number of keys per app.
pub(crate) async fn check_apps(
    config: &KeeperConfig,
    keyring: &dyn Keyring,
    now: Timestamp,
) -> Result<(Vec<AppRow>, BTreeMap<AppName, u64>), StartError> {
    for app in &config.apps {
        app.policy.validate().map_err(|source| StartError::Policy { app: app.name.clone(), source })?;
    }
    let mut rows = keyring.apps().await?;
    let mut populations: BTreeMap<AppName, u64> = BTreeMap::new();
    for count in keyring.count(now, &[]).await? {
        *populations.entry(count.app).or_default() += count.active + count.revoked + count.lapsed + count.handed_over;
    }
    for row in &mut rows {
        let keys = populations.get(&row.name).copied().unwrap_or(0);
        let configured = config.apps.iter().find(|app| app.name == row.name);
        match configured {
            None if keys > 0 && !config.accept_orphans => {
                return Err(StartError::Orphaned { app: row.name.clone(), keys });
            }
            Some(app) if app.client_id != row.client_id => {
                if keys > 0 && !config.accept_orphans {
                    let (held, configured) = (row.client_id.clone(), app.client_id.clone());
                    return Err(StartError::ClientIdChanged { app: row.name.clone(), keys, held, configured });
                }
                row.client_id = app.client_id.clone();
                keyring.save_app(row).await?;
            }
            _ => {}
        }
    }
    for app in &config.apps {
        if !rows.iter().any(|row| row.name == app.name) {
            let row = AppRow {
                name: app.name.clone(),
                client_id: app.client_id.clone(),
                paused: None,
                evidence_since: Timestamp::EPOCH,
                condemned_day: 0,
                condemned: 0,
            };
            keyring.save_app(&row).await?;
            rows.push(row);
        }
    }
    Ok((rows, populations))
}

/// Unwraps the keyring's roots, or makes the first one: durable before anything is sealed under it. Of several keepers
/// that start at once on an empty keyring one makes it, and the others take that.
pub(crate) async fn open_sealer(
    keyring: &dyn Keyring,
    master: &MasterKey,
    now: Timestamp,
) -> Result<Sealer, StartError> {
    let (sealer, first) = Sealer::load_or_create(master, keyring.roots().await?, now)?;
    let Some(root) = first else { return Ok(sealer) };
    match keyring.add_root(&root).await {
        Ok(()) => Ok(sealer),
        Err(error @ KeyringError::RootExists { .. }) => {
            let roots = keyring.roots().await?;
            if roots.is_empty() { Err(error.into()) } else { Ok(Sealer::load_or_create(master, roots, now)?.0) }
        }
        Err(error) => Err(error.into()),
    }
}
