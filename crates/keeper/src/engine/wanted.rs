//! Tickets that are fetched although no key waits for one: the first of each app, so that a refused credential and a wrong
//! clock show at the start; one whose last fetch failed, until one succeeds; and one to compare the clocks by.

use storekeeper_model::Timestamp;

use super::Engine;
use super::event::{Action, TicketIndex};

/// At most this many tickets are fetched at a time on the engine's own account, however many apps there are.
const AT_ONCE_MAX: usize = 4;

impl Engine {
    /// Begins the fetches that are wanted, those first that waited longest.
    pub(super) fn fetch_wanted(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let mut wanted: Vec<TicketIndex> =
            self.wanted_tickets().filter(|place| self.tickets.get(*place).may_fetch(now)).collect();
        wanted.sort_by_key(|place| (self.tickets.get(*place).asked_at(), *place));
        wanted.dedup();
        let room = AT_ONCE_MAX.saturating_sub(self.tickets.fetching());
        for place in wanted.into_iter().take(room) {
            self.tickets.get_mut(place).demand(place, None, now, actions);
        }
        if self.clock_check.check_at().is_some_and(|at| at <= now) {
            self.clock_check.put_off_check(now);
            let places = self.apps.iter().map(|app| app.ticket);
            let free = places.into_iter().find(|place| self.tickets.get(*place).may_check(now));
            if let Some(place) = free {
                self.tickets.get_mut(place).fetch(place, now, actions);
            }
        }
    }

    /// The apps' tickets that never came, or did not come the last time.
    pub(super) fn wanted_tickets(&self) -> impl Iterator<Item = TicketIndex> + '_ {
        self.apps.iter().map(|app| app.ticket).filter(|place| self.tickets.get(*place).is_wanted())
    }
}
