//! `Keeper`: the handle through which everybody else speaks with the keeper.

use std::sync::Arc;
use std::time::Duration;

use storekeeper_clock::Clock;
use storekeeper_keyring::{Keyring, Outcome};
use storekeeper_model::{AppName, Audience, Identity, KeyKind, Slot, UserName};

use crate::error::{EnrollError, OrderError, ReadError, RenewError, TicketError};
use crate::view::{EnrollRequest, Enrolled, KeyPage, KeyView, ListQuery, LiveKey, Stats, TicketView};

/// A running keeper. Clones share it.
#[derive(Clone)]
pub struct Keeper {}

impl Keeper {
    /// Takes keys in, in order; each answers for itself, and an `Ok` is durable.
    pub async fn enroll(&self, requests: Vec<EnrollRequest>) -> Vec<Result<Enrolled, EnrollError>> {
        unimplemented!()
    }
    /// Hands out a live key. With `min_ttl` a key with less life than that is renewed first.
    pub async fn get(&self, identity: &Identity, min_ttl: Option<Duration>) -> Result<LiveKey, ReadError> {
        unimplemented!()
    }
    /// Hands out many.
    pub async fn get_many(&self, identities: &[Identity]) -> Vec<Result<LiveKey, ReadError>> {
        unimplemented!()
    }
    /// What is known of a key in any state, without the key and without noting a use.
    pub async fn show(&self, identity: &Identity) -> Result<KeyView, ReadError> {
        unimplemented!()
    }
    /// Renews now, single flight; also a key that is not due.
    pub async fn renew(&self, identity: &Identity) -> Result<KeyView, RenewError> {
        unimplemented!()
    }
    /// Forgets one key, or with `kind: None` every key of the player (in `slot` if given, else in all slots). Returns how many there were.
    pub async fn forget(
        &self,
        app: &AppName,
        user: &UserName,
        slot: Option<&Slot>,
        kind: Option<KeyKind>,
    ) -> Result<usize, ReadError> {
        unimplemented!()
    }
    /// The last outcomes, oldest first.
    pub async fn history(&self, identity: &Identity) -> Result<Vec<Outcome>, ReadError> {
        unimplemented!()
    }
    /// Lists keys.
    pub async fn list(&self, query: ListQuery) -> Result<KeyPage, ReadError> {
        unimplemented!()
    }
    /// Counts the population.
    pub async fn stats(&self) -> Result<Stats, ReadError> {
        unimplemented!()
    }
    /// A ticket for a caller, from the one cache.
    pub async fn ticket(&self, app: &AppName, audience: Audience) -> Result<TicketView, TicketError> {
        unimplemented!()
    }
    /// Stops renewing an app's keys until an operator resumes it. They are served.
    pub async fn pause(&self, app: &AppName) -> Result<(), OrderError> {
        unimplemented!()
    }
    /// Resumes an app. With `condemn`, keys that wait because of the daily cap are condemned now; returns how many.
    pub async fn resume(&self, app: &AppName, condemn: bool) -> Result<u64, OrderError> {
        unimplemented!()
    }
    /// Undoes the condemnation of keys whose text still lives; returns how many.
    pub async fn acquit(&self, app: &AppName) -> Result<u64, OrderError> {
        unimplemented!()
    }
    /// Whether anything can be served; the reason if not.
    pub async fn ready(&self) -> Result<(), String> {
        unimplemented!()
    }
    /// The metrics of renewal and population in the Prometheus text format (OpenMetrics).
    pub async fn metrics(&self) -> String {
        unimplemented!()
    }
    /// The configured apps, in order.
    pub fn apps(&self) -> &[AppName] {
        unimplemented!()
    }
    /// The clock everything runs by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        unimplemented!()
    }
    /// Finishes what is under way, within ten seconds of real time, and stops.
    pub async fn shutdown(&self) {
        unimplemented!()
    }
}
