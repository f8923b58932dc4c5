//! Commits for the engine: a group of outcomes, and a row that was written by others before its outcome.

use std::sync::Arc;

use storekeeper_keyring::{Keyring as _, KeyringError, Write};
use storekeeper_model::KeyId;

use crate::engine::{Event, SettleFault};
use crate::shell::Tools;

/// Makes a group of writes durable.
pub(crate) async fn settle(tools: &Tools, writes: Arc<Vec<Write>>) -> Event {
    match tools.keyring.settle(Arc::clone(&writes)).await {
        Ok(results) => Event::Settled(results),
        Err(error) => {
            let fault = match error {
                KeyringError::Refused(_) | KeyringError::Corrupt(_) => SettleFault::Row,
                _ => SettleFault::Keyring,
            };
            report_failure(&writes, &error);
            Event::SettleFailed(writes, fault)
        }
    }
}

fn report_failure(writes: &[Write], error: &KeyringError) {
    match writes {
        [Write::Put { record, .. }] => {
            let key = record.key.fingerprint;
            tracing::error!(%error, %key, "an outcome cannot be stored; it is kept and tried again");
        }
        _ => tracing::error!(%error, writes = writes.len(), "outcomes cannot be stored; they are kept and tried again"),
    }
}

/// Reads a row again.
pub(crate) async fn reread(tools: &Tools, id: KeyId) -> Event {
    match tools.keyring.find(&[id]).await {
        Ok(mut rows) => Event::Reread(id, rows.pop().flatten().map(Box::new)),
        Err(error) => {
            tracing::error!(%error, "a row that was written meanwhile cannot be read; it is tried again");
            Event::RereadFailed(id)
        }
    }
}
