//! `Api`: what every handler shares: the keeper, who may ask, what is measured, and whether we are going away.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use storekeeper_keeper::Keeper;
use storekeeper_model::AppName;

use crate::caller::{Caller, Callers, Scope};
use crate::code;
use crate::config::{ServerConfig, SocketGuards};
use crate::drain::Drain;
use crate::metrics::HttpMetrics;
use crate::problem::Problem;
use crate::shares::{ShareGuard, Shares};

/// Shared by the routers of both listeners. Clones share it.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    keeper: Keeper,
    callers: RwLock<Arc<Callers>>,
    metrics: HttpMetrics,
    drain: Drain,
    batches: Shares,
    requests_max: usize,
    guards: SocketGuards,
    apps: HashMap<String, AppName>,
}

impl Api {
    /// The API of a keeper. Addresses do not matter here.
    pub fn new(keeper: Keeper, config: &ServerConfig) -> Self {
        let apps = keeper.apps().iter().map(|app| (app.as_str().to_owned(), app.clone())).collect();
        Self(Arc::new(Inner {
            keeper,
            callers: RwLock::new(Arc::new(Callers::new(config.callers.clone()))),
            metrics: HttpMetrics::default(),
            drain: Drain::default(),
            batches: Shares::new(config.limits.batches_max),
            requests_max: config.limits.requests_max,
            guards: config.guards,
            apps,
        }))
    }

    pub(crate) fn keeper(&self) -> &Keeper {
        &self.0.keeper
    }

    pub(crate) fn callers(&self) -> Arc<Callers> {
        Arc::clone(&self.0.callers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From the next request on these are the callers.
    pub(crate) fn replace_callers(&self, callers: Vec<Caller>) {
        *self.0.callers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Callers::new(callers));
    }

    pub(crate) fn metrics(&self) -> &HttpMetrics {
        &self.0.metrics
    }

    pub(crate) fn drain(&self) -> &Drain {
        &self.0.drain
    }

    pub(crate) fn guards(&self) -> &SocketGuards {
        &self.0.guards
    }

    pub(crate) fn requests_max(&self) -> usize {
        self.0.requests_max
    }

    /// A place for one more batch of a caller, if there is one.
    pub(crate) fn batch_share(&self, caller: &Caller) -> Option<ShareGuard> {
        self.0.batches.take(caller.shared_name())
    }

    /// A configured app for which the caller has the scope.
    pub(crate) fn allowed_app(&self, caller: &Caller, scope: Scope, name: &str) -> Result<&AppName, Problem> {
        caller.demand_for(scope, name)?;
        let unknown = || Problem::new(&code::APP_UNKNOWN, "no app of this name is configured");
        self.0.apps.get(name).ok_or_else(unknown)
    }
}
