//! Searches in the keyring for the engine: rows to hear as witnesses, and rows to probe a paused app with.

use storekeeper_clock::Clock;
use storekeeper_keyring::{Keyring, PageQuery, Record};
use storekeeper_model::{AppName, KeyId};

use crate::engine::AppIndex;
use crate::shell::Tools;

/// How many rows are heard as witnesses.
const WITNESSES: usize = 3;
/// How many they are chosen from where some are other keepers'.
const WITNESSES_AMONG: usize = 60;
/// How many rows the one to probe an app with is chosen from, and how many pages are looked through for them.
const PROBES: usize = 8;
const PAGES_MAX: usize = 64;

/// Rows to hear as witnesses, this one not among them.
pub(crate) async fn witnesses(tools: &Tools, app: AppIndex, except: KeyId) -> Vec<Record> {
    let looked_at = if tools.holding.is_shared() { WITNESSES_AMONG } else { WITNESSES };
    let found = tools.keyring.witnesses(name_of(tools, app), except, tools.clock.now(), looked_at).await;
    let found = found.unwrap_or_else(|error| {
        tracing::error!(%error, "no witnesses can be looked for");
        Vec::new()
    });
    let elapsed = tools.clock.elapsed();
    found.into_iter().filter(|record| tools.holding.contains(record.id, elapsed)).take(WITNESSES).collect()
}

/// Rows to probe a paused app with: live ones from `from` on, and from the start when there are none.
pub async fn probes(keyring: &dyn Keyring, app: &AppName, from: KeyId, clock: &dyn Clock) -> Vec<Record> {
    let mut query = PageQuery {
        app: Some(app.clone()),
        revoked: Some(false),
        alive_at: Some(clock.now()),
        after: Some(from),
        limit: PROBES,
        ..PageQuery::default()
    };
    for _ in 0..PAGES_MAX {
        match keyring.page(query.clone()).await {
            Ok(page) if !page.records.is_empty() => return page.records,
            Ok(page) => query.after = page.next,
            Err(error) => {
                tracing::error!(%error, "no probes can be looked for");
                break;
            }
        }
    }
    Vec::new()
}

/// The name of a configured app.
pub(crate) fn name_of(tools: &Tools, app: AppIndex) -> &AppName {
    &tools.attempts.config.apps[app.0].name
}
