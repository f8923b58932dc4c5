//! `ClockCheck`: our clock compared with the Store's and Entra ID's, by the `Date` of their responses.

use std::time::Duration;

use storekeeper_model::Timestamp;

use super::event::{Action, Announcement};

/// For this long after a response of the Store its clock outranks Entra's: keys live by the Store's.
const STORE_PREVAILS: Duration = Duration::from_secs(600);
/// While the clocks disagree, they are compared at least this often: by a ticket fetched for that, if by nothing else.
const CHECK_PAUSE: Duration = Duration::from_secs(60);

/// Who dated a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Store,
    Entra,
}

/// Our clock compared with theirs.
#[derive(Debug, Default)]
pub(super) struct ClockCheck {
    /// Ours and theirs, when they were last compared.
    compared: Option<(Timestamp, Timestamp)>,
    /// What time it is there now, carried on from then by a clock that never steps; `None` where it is not carried.
    carried: Option<Timestamp>,
    skewed: bool,
    /// Whether the disagreement was announced.
    is_announced: bool,
    store_said_at: Option<Timestamp>,
    /// By whose clock the Store dates its successors, as the last one since the disagreement began has shown.
    dates_by_theirs: Option<bool>,
    /// When a ticket is fetched to compare the clocks by it.
    check_at: Option<Timestamp>,
}

impl ClockCheck {
    /// Whether the clocks differ by more than five minutes.
    pub(super) fn is_skewed(&self) -> bool {
        self.skewed
    }

    /// Ours and theirs when they were last compared; `None` until a response has been dated.
    pub(super) fn compared(&self) -> Option<(Timestamp, Timestamp)> {
        self.compared
    }

    /// What time it is at the Store, as far as that is known.
    pub(super) fn theirs(&self) -> Option<Timestamp> {
        self.carried.or(self.compared.map(|(_, theirs)| theirs))
    }

    /// The instant by which rows are due. While the clocks disagree a successor's `iat` shows which of them is right. Until
    /// there is one the later counts: to renew some keys early is harmless.
    pub(super) fn due_now(&self, now: Timestamp) -> Timestamp {
        match (self.theirs().filter(|_| self.skewed), self.dates_by_theirs) {
            (None, _) | (_, Some(false)) => now,
            (Some(theirs), Some(true)) => theirs,
            (Some(theirs), None) => theirs.max(now),
        }
    }

    /// A successor was issued just now.
    pub(super) fn issued(&mut self, issued_at: Timestamp, now: Timestamp) {
        if let Some(theirs) = self.theirs().filter(|_| self.skewed) {
            self.dates_by_theirs = Some(issued_at.distance(theirs) <= issued_at.distance(now));
        }
    }

    /// Ours and theirs now.
    pub(super) fn now(&self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        self.carried.map(|theirs| (now, theirs)).or(self.compared)
    }

    /// Takes over what time it is at the Store, carried on from the last comparison.
    pub(super) fn carry(&mut self, theirs: Option<Timestamp>) {
        self.carried = theirs;
    }

    /// A response was dated. Returns what is to be announced of that.
    pub(super) fn compare(&mut self, source: Source, theirs: Timestamp, now: Timestamp) -> Option<Announcement> {
        let is_recent = |at: Timestamp| at <= now && now < at + STORE_PREVAILS;
        match source {
            Source::Store => self.store_said_at = Some(now),
            Source::Entra if self.store_said_at.is_some_and(is_recent) => return None,
            Source::Entra => {}
        }
        self.compared = Some((now, theirs));
        self.carried = None;
        self.skewed = storekeeper_policy::is_skewed(now, theirs);
        self.dates_by_theirs = self.dates_by_theirs.filter(|_| self.skewed);
        self.check_at = self.skewed.then(|| now + CHECK_PAUSE);
        match (self.skewed, std::mem::replace(&mut self.is_announced, self.skewed)) {
            (true, false) => Some(Announcement::ClockSkewed { ours: now, theirs }),
            (false, true) => Some(Announcement::ClockAgrees),
            _ => None,
        }
    }

    /// Looks whether our clock was set since the last comparison. A disagreement is announced once a response confirms it.
    pub(super) fn look(&mut self, now: Timestamp) -> Option<Announcement> {
        let was_skewed = self.skewed;
        self.skewed = storekeeper_policy::is_skewed(now, self.carried?);
        self.dates_by_theirs = self.dates_by_theirs.filter(|_| self.skewed);
        match (was_skewed, self.skewed) {
            // A machine that slept looks the same as a clock that was set: the next response decides, the Store's or Entra's.
            (false, true) => (self.store_said_at, self.check_at) = (None, Some(now)),
            (true, false) => self.check_at = None,
            _ => {}
        }
        let is_over = !self.skewed && self.is_announced;
        self.is_announced &= self.skewed;
        is_over.then_some(Announcement::ClockAgrees)
    }

    /// When a comparison is wanted that no key's renewal brings.
    pub(super) fn check_at(&self) -> Option<Timestamp> {
        self.check_at
    }

    /// One is under way, or cannot be made now.
    pub(super) fn put_off_check(&mut self, now: Timestamp) {
        self.check_at = Some(now + CHECK_PAUSE);
    }

    /// Our clock went back: what was to be waited for may lie far ahead.
    pub(super) fn clock_went_back(&mut self, now: Timestamp) {
        self.check_at = self.check_at.map(|at| at.min(now));
        self.store_said_at = self.store_said_at.filter(|at| *at <= now);
    }
}

impl super::Engine {
    /// Takes over what time it is at the Store: the last comparison, carried on by a clock that never steps.
    pub fn carry_store_time(&mut self, theirs: Option<Timestamp>) {
        self.clock_check.carry(theirs);
    }

    /// Whether our clock and the Store's disagree.
    pub fn is_skewed(&self) -> bool {
        self.clock_check.is_skewed()
    }

    /// Ours and the Store's clock, or Entra's, when they were last compared.
    pub fn clocks(&self) -> Option<(Timestamp, Timestamp)> {
        self.clock_check.compared()
    }

    /// A response was dated.
    pub(super) fn compare_clocks(
        &mut self,
        source: Source,
        theirs: Option<Timestamp>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let was_skewed = self.is_skewed();
        let announcement = theirs.and_then(|theirs| self.clock_check.compare(source, theirs, now));
        self.clocks_were_compared(was_skewed, announcement, now, actions);
    }

    /// Looks whether our clock was set.
    pub(super) fn look_for_skew(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let was_skewed = self.is_skewed();
        let announcement = self.clock_check.look(now);
        self.clocks_were_compared(was_skewed, announcement, now, actions);
    }

    /// What time it is by whichever clock is ahead, ours or the Store's.
    pub(super) fn latest(&self, now: Timestamp) -> Timestamp {
        self.clock_check.theirs().map_or(now, |theirs| now.max(theirs))
    }

    /// What time it is by whichever clock is behind.
    pub(super) fn earliest(&self, now: Timestamp) -> Timestamp {
        self.clock_check.theirs().map_or(now, |theirs| now.min(theirs))
    }

    /// Whether an instant has come by our clock and by the Store's as well: ours alone may be wrong by days, and while
    /// the Store does not answer that would stay unnoticed.
    pub(super) fn has_surely_come(&self, at: Timestamp, now: Timestamp) -> bool {
        at <= now && self.clock_check.theirs().is_some_and(|theirs| at <= theirs)
    }

    /// What was set aside while the clocks disagreed is looked for at once when they agree.
    fn clocks_were_compared(
        &mut self,
        was_skewed: bool,
        announcement: Option<Announcement>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        if was_skewed && !self.is_skewed() {
            self.set_aside.clear();
            self.scanning.at = Some(now);
        }
        actions.extend(announcement.map(Action::Announce));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn the_stores_clock_outranks_entras_for_a_while() {
        let mut check = ClockCheck::default();
        assert_eq!(check.compare(Source::Entra, NOW, NOW), None);
        assert!(matches!(check.compare(Source::Store, NOW + HOUR, NOW), Some(Announcement::ClockSkewed { .. })));
        assert_eq!(check.compare(Source::Entra, NOW, NOW), None);
        assert!(check.is_skewed(), "Entra does not speak for the Store");
        let later = NOW + STORE_PREVAILS;
        assert_eq!(check.compare(Source::Entra, later, later), Some(Announcement::ClockAgrees));
        assert!(!check.is_skewed() && check.check_at().is_none());
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_and_checked_at_once() {
        let mut check = ClockCheck::default();
        assert_eq!(check.compare(Source::Store, NOW, NOW), None);
        check.carry(Some(NOW));
        assert_eq!((check.look(NOW + HOUR), check.is_skewed()), (None, true));
        assert_eq!(check.check_at(), Some(NOW + HOUR));
        // It was the machine that had slept: Entra's response is believed, and there is nothing to announce.
        assert_eq!(check.compare(Source::Entra, NOW + HOUR, NOW + HOUR), None);
        assert!(!check.is_skewed());
        let skewed = check.compare(Source::Entra, NOW, NOW + HOUR);
        assert!(matches!(skewed, Some(Announcement::ClockSkewed { .. })));
        check.carry(Some(NOW + HOUR));
        assert_eq!(check.look(NOW + HOUR), Some(Announcement::ClockAgrees), "set right, and seen without a response");
    }
}
