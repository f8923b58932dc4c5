//! How apps' rows are saved: one after the other, and beside what other keepers change in them.

use std::collections::HashMap;
use std::sync::Arc;

use storekeeper_clock::Hold;
use storekeeper_keyring::{AppRow, Keyring, KeyringError, Leases};
use tokio::sync::{mpsc, oneshot};

use crate::engine::{AppIndex, Event, Saving};
use crate::fleet::merge;
use crate::shell::{OrderReply, Postbox, Tools};

/// A row that others change at the same moment is tried so often.
const ROUNDS_MAX: usize = 16;

/// What is done in turn.
pub(crate) enum ToSave {
    App(AppIndex, Box<Saving>),
    /// Tells who gave an order, behind the rows it concerns.
    Tell(oneshot::Sender<OrderReply>, u64),
    /// Other keepers may have saved something.
    Look,
}

/// Saves apps' rows and tells who waits for that, in order.
pub(crate) async fn save(tools: Arc<Tools>, postbox: Postbox, mut waiting: mpsc::UnboundedReceiver<(ToSave, Hold)>) {
    // What could not be saved, as it had been seen before: the next attempt has to tell that whole change.
    let mut unsaved: HashMap<AppIndex, AppRow> = HashMap::new();
    let _guard = tools.supervisor.guard("the writer of apps' rows");
    while let Some((to_save, hold)) = waiting.recv().await {
        match to_save {
            ToSave::App(app, saving) => {
                let seen = unsaved.remove(&app).unwrap_or(saving.seen);
                match save_one(&tools, &seen, &saving.row).await {
                    Ok(row) => postbox.event(Event::AppSaved(app, Box::new(row))),
                    Err(error) => {
                        tracing::error!(%error, app = %saving.row.name, "an app's row cannot be saved; it is tried again");
                        unsaved.insert(app, seen);
                        postbox.event(Event::SaveFailed(app));
                    }
                }
            }
            ToSave::Tell(reply, concerned) if unsaved.is_empty() => drop(reply.send(Ok(concerned))),
            ToSave::Tell(reply, _) => {
                let why = "the order stands, and is forgotten if this process ends before it can be stored";
                drop(reply.send(Err(KeyringError::Unavailable(String::from(why)))));
            }
            ToSave::Look => look(&tools, &postbox).await,
        }
        drop(hold);
    }
}

async fn save_one(tools: &Tools, seen: &AppRow, row: &AppRow) -> Result<AppRow, KeyringError> {
    match tools.keyring.leases() {
        Some(leases) => save_shared(tools, leases, seen, row).await,
        None => tools.keyring.save_app(row).await.map(|()| row.clone()),
    }
}

/// Makes our change upon what stands there, until nobody has changed that meanwhile.
async fn save_shared(tools: &Tools, leases: &dyn Leases, seen: &AppRow, row: &AppRow) -> Result<AppRow, KeyringError> {
    for _ in 0..ROUNDS_MAX {
        let theirs = tools.keyring.apps().await?.into_iter().find(|theirs| theirs.name == row.name);
        let Some(theirs) = theirs else {
            tools.keyring.save_app(row).await?;
            return Ok(row.clone());
        };
        let merged = merge(seen, row, &theirs);
        if merged == theirs || leases.change_app(&theirs, &merged).await? {
            return Ok(merged);
        }
    }
    Err(KeyringError::Unavailable(String::from("the app's row is being changed by many keepers at once")))
}

async fn look(tools: &Tools, postbox: &Postbox) {
    match tools.keyring.apps().await {
        Ok(rows) => {
            let apps = tools.attempts.config.apps.iter().enumerate();
            for (index, app) in apps {
                if let Some(row) = rows.iter().find(|row| row.name == app.name) {
                    postbox.event(Event::AppSeen(AppIndex(index), Box::new(row.clone())));
                }
            }
        }
        Err(error) => tracing::warn!(%error, "whether other keepers have paused an app cannot be seen"),
    }
}
