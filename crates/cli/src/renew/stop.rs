//! `Stop`: whether renewals are to end, and whether those in flight are still waited for.

use tokio::sync::watch;

/// How far the end has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    #[default]
    Renewing,
    /// Nothing new is sent; what is in flight is waited for.
    Finishing,
    /// Nothing is waited for.
    Over,
}

/// Ends renewals in two steps.
#[derive(Debug, Default)]
pub(super) struct Stop(watch::Sender<Phase>);

impl Stop {
    /// Sends nothing new from here on.
    pub(super) fn finish(&self) {
        self.reach(Phase::Finishing);
    }

    /// Waits for nothing from here on.
    pub(super) fn abandon(&self) {
        self.reach(Phase::Over);
    }

    /// Resolves once nothing new is sent.
    pub(super) async fn finishing(&self) {
        self.reached(Phase::Finishing).await;
    }

    /// Resolves once nothing is waited for.
    pub(super) async fn over(&self) {
        self.reached(Phase::Over).await;
    }

    fn reach(&self, phase: Phase) {
        self.0.send_modify(|reached| *reached = phase.max(*reached));
    }

    async fn reached(&self, phase: Phase) {
        let mut reached = self.0.subscribe();
        reached.wait_for(|reached| *reached >= phase).await.expect("its sender is borrowed here");
    }
}
