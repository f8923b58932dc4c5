//! `Reload`: what SIGHUP does to a running `serve`. The whole configuration is read again; callers and credentials are
//! replaced, all or nothing, and every other setting that has changed is named in the log, because it needs a restart.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use storekeeper_keeper::{Condition, ConditionCode, CredentialSource, Keeper, KeeperConfig, SecretError, Surroundings};
use storekeeper_model::{AppName, Secret, Timestamp};
use storekeeper_server::Running;

use crate::compose;
use crate::config::Config;
use crate::log_writer::LogWriter;

/// A credential that can be replaced while the keeper runs.
#[derive(Debug)]
struct Replaceable(RwLock<Arc<dyn CredentialSource>>);

impl Replaceable {
    fn inner(&self) -> Arc<dyn CredentialSource> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl CredentialSource for Replaceable {
    fn read(&self) -> Result<Secret<String>, SecretError> {
        self.inner().read()
    }

    fn expires_at(&self) -> Option<Timestamp> {
        self.inner().expires_at()
    }
}

/// The part of a running `serve` that can be replaced.
pub struct Reload {
    file: PathBuf,
    environment: BTreeMap<String, String>,
    /// Settings and values, as they are in force.
    in_force: Mutex<BTreeMap<String, String>>,
    credentials: BTreeMap<AppName, Vec<Arc<Replaceable>>>,
    log: LogWriter,
    /// Why the last reload failed, if it did.
    failure: Mutex<Option<String>>,
}

impl Reload {
    /// Makes the credentials of `keeper` replaceable.
    pub fn new(
        file: PathBuf,
        environment: &BTreeMap<String, String>,
        config: &Config,
        keeper: &mut KeeperConfig,
        log: &LogWriter,
    ) -> Self {
        let mut credentials = BTreeMap::new();
        for app in &mut keeper.apps {
            let replaceable: Vec<Arc<Replaceable>> =
                app.credentials.iter().map(|source| Arc::new(Replaceable(RwLock::new(Arc::clone(source))))).collect();
            app.credentials =
                replaceable.iter().map(|source| Arc::clone(source) as Arc<dyn CredentialSource>).collect();
            credentials.insert(app.name.clone(), replaceable);
        }
        Self {
            file,
            environment: environment.clone(),
            in_force: Mutex::new(settings(config)),
            credentials,
            log: log.clone(),
            failure: Mutex::default(),
        }
    }

    /// Reads the configuration again. An invalid one changes nothing, and is a condition until a valid one is read.
    pub fn reload(&self, keeper: &Keeper, server: &Running) {
        let reloaded = self.read().and_then(|(config, keeper_config)| {
            let server_config = compose::server_config(&config).map_err(|error| error.message)?;
            server.replace_callers(server_config.callers).map_err(|error| error.to_string())?;
            Ok((config, keeper_config))
        });
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match reloaded {
            Ok((config, keeper_config)) => {
                self.replace_credentials(&keeper_config);
                keeper.retry_tickets();
                let waiting = self.note(&config);
                tracing::info!(file = %self.file.display(), "SIGHUP: callers and credentials were read again");
                if !waiting.is_empty() {
                    tracing::warn!(settings = waiting.join(", "), "these settings have changed and need a restart");
                }
                *failure = None;
            }
            Err(error) => {
                tracing::error!(error, "SIGHUP: the configuration is not valid; the settings of before stay in force");
                *failure = Some(error);
            }
        }
    }

    fn read(&self) -> Result<(Config, KeeperConfig), String> {
        let (config, warnings) = Config::load(&self.file, &self.environment).map_err(|error| error.to_string())?;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let keeper = compose::keeper_config(&config, 0, false);
        for source in keeper.apps.iter().flat_map(|app| &app.credentials) {
            source.read().map_err(|error| error.to_string())?;
        }
        Ok((config, keeper))
    }

    fn replace_credentials(&self, config: &KeeperConfig) {
        for app in &config.apps {
            let Some(current) = self.credentials.get(&app.name) else { continue };
            for (current, new) in current.iter().zip(&app.credentials) {
                *current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(new);
            }
        }
    }

    /// Remembers the settings; returns those that have changed and were not replaced.
    fn note(&self, config: &Config) -> Vec<String> {
        let in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let new = settings(config);
        let changed = |name: &&String| in_force.get(*name) != new.get(*name);
        let names: std::collections::BTreeSet<&String> = in_force.keys().chain(new.keys()).collect();
        names.into_iter().filter(|name| !is_replaced(name)).filter(changed).cloned().collect()
    }
}

impl Surroundings for Reload {
    fn log_lines_dropped(&self) -> u64 {
        self.log.dropped()
    }

    fn conditions(&self) -> Vec<Condition> {
        let mut conditions = self.log.conditions();
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone().map(|error| {
            let detail = format!(
                "the configuration on disk is not valid, the settings of before are in force: {error}; correct it and send SIGHUP again"
            );
            Condition::of_keeper(ConditionCode::ReloadFailed, detail.replace('\n', "; "))
        });
        conditions.extend(failure);
        conditions.extend(crate::descriptors::condition());
        conditions
    }
}

fn settings(config: &Config) -> BTreeMap<String, String> {
    config.show().iter().map(|shown| (shown.setting.clone(), shown.value.clone())).collect()
}

/// Whether a reload replaces the setting.
fn is_replaced(setting: &str) -> bool {
    setting.starts_with("caller") || setting.contains(".credential[")
}
