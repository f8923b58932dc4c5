//! When an app's keys are not renewed, and how that ends: the guard, our configuration, our credentials, an operator.

use std::collections::HashSet;

use storekeeper_keyring::{AppRow, Record};
use storekeeper_model::Timestamp;

use super::clock_check::Source;
use super::event::{Action, Announcement, AppIndex, Asked, Order, TicketFetched, TicketIndex, Waiter};
use super::line::Cause;
use super::tickets::Demand;
use super::{Engine, PauseReason, RETRY_PAUSE};

/// The row to probe with: one that would tell most, which is a proven key that nothing is held against.
pub(super) fn choose_probe(records: Vec<Record>) -> Option<Record> {
    let records = records.into_iter().filter(|record| !record.is_handed_over());
    records.max_by_key(|record| (record.state.refused().is_none(), record.proven, record.failures == 0))
}

impl Engine {
    /// Pauses an app. What waits is given back: while paused nothing is held against anybody.
    pub(super) fn pause(
        &mut self,
        index: AppIndex,
        reason: PauseReason,
        detail: String,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let app = &mut self.apps[index.0];
        if !app.pause(reason, detail.clone(), now) {
            return;
        }
        self.save_app(index, now, actions);
        actions.push(Action::Announce(Announcement::Paused { app: index, reason: reason.as_str(), detail }));
        self.release_paused(index, reason.as_str(), actions);
    }

    /// What waits for a paused app is given back.
    fn release_paused(&mut self, index: AppIndex, reason: &str, actions: &mut Vec<Action>) {
        let mut released = Vec::new();
        for waiting in self.fresh_waiting.values_mut() {
            waiting.retain(|waiting| {
                let stays = waiting.app != index;
                if !stays {
                    released.push(waiting.record.id);
                }
                stays
            });
        }
        self.fresh_waiting.retain(|_, waiting| !waiting.is_empty());
        for line in &mut self.lines {
            line.queue.retain(|waiting| {
                let stays = waiting.app != index || waiting.cause == Cause::Probe;
                if !stays {
                    released.push(waiting.record.id);
                }
                stays
            });
        }
        for id in released {
            self.release(id, &Asked::Paused(reason.to_owned()), actions);
        }
    }

    /// Has an app's row saved.
    pub(super) fn save_app(&mut self, index: AppIndex, now: Timestamp, actions: &mut Vec<Action>) {
        actions.push(Action::SaveApp(index, Box::new(self.apps[index.0].saving(now))));
    }

    /// It could not be: it is saved later.
    pub(super) fn save_failed(&mut self, index: AppIndex, now: Timestamp) {
        let app = &mut self.apps[index.0];
        app.saves = app.saves.saturating_sub(1);
        app.save_at = Some(now + RETRY_PAUSE);
    }

    /// It was, beside what others had changed.
    pub(super) fn app_saved(&mut self, index: AppIndex, row: &AppRow, now: Timestamp, actions: &mut Vec<Action>) {
        let app = &mut self.apps[index.0];
        app.saves = app.saves.saturating_sub(1);
        if app.saves == 0 && app.save_at.is_none() {
            self.adopt(index, row, now, actions);
        }
    }

    /// Takes over what stands in an app's row. Where another keeper was told to lift the cap, what waits here is judged too.
    fn adopt(&mut self, index: AppIndex, row: &AppRow, now: Timestamp, actions: &mut Vec<Action>) {
        let app = &mut self.apps[index.0];
        let was_lifted = app.is_cap_lifted(now);
        let awaiting = if was_lifted { HashSet::new() } else { app.awaiting_operator.clone() };
        app.adopt(row, now);
        if app.is_cap_lifted(now) && !awaiting.is_empty() {
            app.awaiting_operator.clear();
            actions.push(Action::Hasten(awaiting));
        }
    }

    /// Another keeper may have paused or resumed the app, or condemned some of its keys. While something of ours is on
    /// its way into the row, what stands there is not the last word.
    pub(super) fn app_seen(&mut self, index: AppIndex, row: &AppRow, now: Timestamp, actions: &mut Vec<Action>) {
        let app = &mut self.apps[index.0];
        if app.saves > 0 || app.save_at.is_some() {
            return;
        }
        let was_paused = app.is_paused();
        self.adopt(index, row, now, actions);
        let app = &self.apps[index.0];
        if let Some(paused) = app.paused.as_ref().filter(|_| !was_paused) {
            let reason = paused.reason.clone();
            self.release_paused(index, &reason, actions);
        } else if was_paused && !self.apps[index.0].is_paused() {
            self.scanning.at = Some(now);
        }
    }

    /// Resumes an app and looks for what fell due meanwhile.
    pub(super) fn resume(&mut self, index: AppIndex, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(reason) = self.apps[index.0].resume(now) else { return };
        self.save_app(index, now, actions);
        actions.push(Action::Announce(Announcement::Resumed { app: index, reason }));
        self.scanning.at = Some(now);
    }

    /// Entra answered.
    pub(super) fn ticket_came(
        &mut self,
        ticket: TicketIndex,
        fetched: TicketFetched,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        self.compare_clocks(Source::Entra, fetched.date, now, actions);
        let result = fetched.result;
        let came = result.is_ok();
        self.tickets.get_mut(ticket).fetched(ticket, result, now, actions);
        let hopeless = self.tickets.get(ticket).is_hopeless(now);
        let detail = self.tickets.get(ticket).fault().map(|fault| fault.detail.clone()).unwrap_or_default();
        for index in (0..self.apps.len()).map(AppIndex) {
            let app = &self.apps[index.0];
            if app.ticket != ticket {
                continue;
            }
            if came && app.reason == Some(PauseReason::Credential) {
                self.resume(index, now, actions);
            } else if hopeless && !app.is_paused() {
                self.pause(index, PauseReason::Credential, detail.clone(), now, actions);
            }
        }
    }

    /// A paused app asks for no ticket, so somebody has to ask for it.
    pub(super) fn probe_credentials(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        for index in (0..self.apps.len()).map(AppIndex) {
            if self.apps[index.0].reason != Some(PauseReason::Credential) {
                continue;
            }
            let ticket = self.apps[index.0].ticket;
            if let Demand::Use(_) = self.tickets.get_mut(ticket).demand(ticket, None, now, actions) {
                self.resume(index, now, actions);
            }
        }
    }

    /// An operator's order.
    pub(super) fn order(
        &mut self,
        waiter: Waiter,
        index: AppIndex,
        order: Order,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let mut concerned = 0;
        match order {
            Order::Pause => {
                self.pause(index, PauseReason::Operator, String::from("paused by an operator"), now, actions);
            }
            Order::Resume { condemn } => {
                // Resuming lets go of what awaits; the operator meant it.
                let awaiting = self.apps[index.0].awaiting_operator.clone();
                self.resume(index, now, actions);
                if condemn {
                    let app = &mut self.apps[index.0];
                    app.cap_lifted_on = Some(now.day());
                    app.awaiting_operator.clear();
                    concerned = awaiting.len() as u64;
                    actions.push(Action::Hasten(awaiting));
                    // The others hear of it by the row.
                    self.save_app(index, now, actions);
                }
            }
            Order::VoidEvidence => {
                self.apps[index.0].void_evidence(now);
                self.save_app(index, now, actions);
            }
        }
        actions.push(Action::ReplyOrder(waiter, concerned));
    }
}
