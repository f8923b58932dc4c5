//! `Drain`: tells everybody that the server is going away. It happens once and is never taken back.

use tokio::sync::watch;

/// Clones share the word.
#[derive(Debug, Clone)]
pub(crate) struct Drain(watch::Sender<bool>);

impl Default for Drain {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Drain {
    /// Says it.
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was said.
    pub(crate) fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when it is said.
    pub(crate) async fn begun(&self) {
        let mut word = self.0.subscribe();
        // The sender is `self`, so waiting cannot fail.
        let _ = word.wait_for(|begun| *begun).await;
    }
}
