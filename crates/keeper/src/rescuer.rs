//! The tasks around rescue files: one does what the engine decides, in order; one looks for what other processes left.

use std::sync::Arc;
use std::time::Duration;

use storekeeper_clock::Hold;
use storekeeper_keyring::seal::Sealer;
use storekeeper_model::Timestamp;
use tokio::sync::mpsc;

use crate::config::KeeperConfig;
use crate::engine::{Endangered, Event};
use crate::rescue::Rescue;
use crate::shell::{Postbox, Tools};

/// How often rescue files are looked for, in the operating system's time, as they are no part of the keeper's.
const RESCUE_PAUSE: Duration = Duration::from_secs(5);

/// What is done to the rescue file, in turn.
pub(crate) enum ToRescue {
    Put(Vec<Endangered>),
    End,
}

/// Runs until the other end of the channel is gone and everything is done.
pub(crate) async fn rescue(tools: Arc<Tools>, mut waiting: mpsc::UnboundedReceiver<(ToRescue, Hold)>) {
    let _guard = tools.supervisor.guard("the writer of the rescue file");
    while let Some((to_rescue, hold)) = waiting.recv().await {
        let rescue = Arc::clone(&tools.rescue);
        let done = tokio::task::spawn_blocking(move || match to_rescue {
            // A failure is reported and tried again where it happens.
            ToRescue::Put(endangered) => drop(rescue.write(endangered)),
            ToRescue::End => rescue.end(),
        });
        drop(done.await);
        drop(hold);
    }
}

/// Reserves space for a rescue file, on a thread that may wait for the disk.
pub(crate) async fn open_rescue(config: &KeeperConfig, sealer: &Sealer, now: Timestamp) -> Arc<Rescue> {
    let (folder, keyring, node) = (config.rescue_folder.clone(), sealer.keyring_id(), config.node.id);
    let open = tokio::task::spawn_blocking(move || Rescue::open(folder.as_deref(), keyring, node, now));
    Arc::new(open.await.expect("opening a folder does not panic"))
}

/// Looks for rescue files again and again: the keyring may take writes now, and other keepers end.
#[expect(clippy::disallowed_methods, reason = "a folder changes in the operating system's time")]
pub(crate) async fn take_up_again(tools: Arc<Tools>, sealer: Arc<Sealer>, postbox: Postbox) {
    let _guard = tools.supervisor.guard("the search for rescue files");
    loop {
        tokio::time::sleep(RESCUE_PAUSE).await;
        let now = tools.clock.now();
        if tools.rescue.take_up(&tools.keyring, &sealer, now).await > 0 {
            postbox.event(Event::Changed(now));
        }
    }
}
