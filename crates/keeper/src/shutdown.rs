//! The end of a keeper: what is under way is finished within a limit, and what is left after that is rescued.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use storekeeper_keyring::Keyring as _;
use tokio::sync::{Notify, oneshot};

use crate::keeper::Keeper;
use crate::rescue::{Drained, RescueFacts};
use crate::shell::Message;

/// How long a shutdown waits for what is under way, and for commits, in the operating system's time. With the rest of the
/// shutdown it makes 20 seconds.
const DRAIN_MAX: Duration = Duration::from_secs(15);
/// How long the engine may take to surrender what it holds.
const SURRENDER_MAX: Duration = Duration::from_secs(2);
/// How long a shutdown waits for the keyring to close.
const CLOSE_MAX: Duration = Duration::from_secs(3);
/// How long a shutdown waits after that until its leases are given back, in the operating system's time.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// When the end began, and whether it is urgent by now.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    began_at: OnceLock<Instant>,
    hurry: Notify,
}

impl Drain {
    /// The rest of [`DRAIN_MAX`] passes, or an operator does not want to wait.
    #[expect(clippy::disallowed_methods, reason = "a guard against work that does not end")]
    async fn is_over(&self) {
        let until = *self.began_at.get_or_init(Instant::now) + DRAIN_MAX;
        tokio::select! {
            () = tokio::time::sleep(until.saturating_duration_since(Instant::now())) => {}
            () = self.hurry.notified() => {}
        }
    }
}

impl Keeper {
    /// Starts no renewal from here on. Everything else goes on, and the time that [`Keeper::shutdown`] may take begins.
    pub fn stop_renewing(&self) {
        #[expect(clippy::disallowed_methods, reason = "a guard against work that does not end")]
        self.inner.drain.began_at.get_or_init(Instant::now);
        self.inner.postbox.send(Message::Drain);
    }

    /// Cuts short the wait of a [`Keeper::shutdown`] that is under way: what is not committed by now is rescued.
    pub fn hurry(&self) {
        self.inner.drain.hurry.notify_one();
    }

    /// Finishes what is under way and stops, within 20 seconds of real time since [`Keeper::stop_renewing`]. Successors that
    /// the keyring does not take in that time are put into the rescue file.
    pub async fn shutdown(&self) -> Drained {
        self.stop_renewing();
        if let Some(taking_up) = &self.inner.taking_up {
            taking_up.abort();
        }
        let fleet = self.inner.fleet.lock().expect("no holder of this lock panics").take();
        if let Some((fleet, _)) = &fleet {
            fleet.leave();
        }
        let drained = self.drain().await;
        if !drained.is_clean() {
            tracing::error!("{drained}");
        }
        if let Some((_, fleet)) = fleet
            && within(LEAVE_MAX, fleet).await.is_none()
        {
            tracing::warn!("leases could not be given back; others take them when they have stood still long enough");
        }
        if within(CLOSE_MAX, self.inner.tools.keyring.close()).await.is_none() {
            tracing::warn!("the keyring does not close; a write that is under way may still be made");
        }
        drained
    }

    /// Waits until nothing is under way, and rescues what is left after that.
    async fn drain(&self) -> Drained {
        let shell = self.inner.shell.lock().expect("no holder of this lock panics").take();
        let Some(mut shell) = shell else { return Drained::default() };
        let rescue = Arc::clone(&self.inner.tools.rescue);
        let ended = tokio::select! {
            ended = &mut shell => Some(ended),
            () = self.inner.drain.is_over() => None,
        };
        let (unsettled, unanswered) = match ended {
            Some(Ok(())) => (Vec::new(), 0),
            // What it held was rescued when it was dropped.
            Some(Err(_)) => return rescue.abandoned(),
            None => {
                let (reply, surrendered) = oneshot::channel();
                self.inner.postbox.send(Message::Surrender(reply));
                match within(SURRENDER_MAX, surrendered).await {
                    Some(Ok(held)) => held,
                    _ => {
                        shell.abort();
                        drop(within(SURRENDER_MAX, shell).await);
                        return rescue.abandoned();
                    }
                }
            }
        };
        let finish = tokio::task::spawn_blocking(move || rescue.finish(unsettled, unanswered));
        finish.await.unwrap_or_default()
    }

    /// What is to be seen of rescue files.
    pub fn rescue(&self) -> RescueFacts {
        self.inner.tools.rescue.facts()
    }
}

#[expect(clippy::disallowed_methods, reason = "a guard against work that does not end")]
async fn within<T>(span: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(span, work).await.ok()
}
