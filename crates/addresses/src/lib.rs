//! `AddressOrder`: which of several addresses of a host to try first. An address that answered comes first, an address that
//! failed comes last for some minutes. It opens no socket and reads no clock: the caller passes how much time has passed.

use std::time::Duration;

/// An address that failed is tried last for this long.
pub const PENALTY: Duration = Duration::from_secs(5 * 60);

/// At most this many addresses of each kind are remembered; the oldest is forgotten.
const REMEMBERED_MAX: usize = 64;

/// What is known of addresses, of one host or of several. `A` is an address, or a host's place in a list of hosts.
///
/// Every `elapsed` is the time since one fixed moment, by a clock that never steps.
#[derive(Debug, Clone)]
pub struct AddressOrder<A> {
    /// Those that answered and have not failed since, the most recent arrival first; and when each answered last.
    good: Vec<(A, Duration)>,
    /// Those that failed and have not answered since, and when.
    failed: Vec<(A, Duration)>,
}

impl<A> Default for AddressOrder<A> {
    fn default() -> Self {
        Self { good: Vec::new(), failed: Vec::new() }
    }
}

impl<A: Clone + Eq> AddressOrder<A> {
    /// Puts addresses into the order in which to try them: those that answered, those that are unknown in the order
    /// given, and those that failed within [`PENALTY`], the one whose failure is the oldest first.
    pub fn sort(&self, addresses: &mut [A], elapsed: Duration) {
        addresses.sort_by_key(|address| {
            let place = self.good.iter().position(|(good, _)| good == address);
            (self.failed_at(address, elapsed), place.unwrap_or(usize::MAX))
        });
    }

    /// Puts those that failed within [`PENALTY`] last, and leaves the others in the order given: for lists that are
    /// meant to be used evenly.
    pub fn sort_failed_last(&self, addresses: &mut [A], elapsed: Duration) {
        addresses.sort_by_key(|address| self.failed_at(address, elapsed));
    }

    /// An address answered a request.
    pub fn answered(&mut self, address: &A, elapsed: Duration) {
        match self.good.iter_mut().find(|(good, _)| good == address) {
            Some((_, at)) => *at = elapsed,
            None => {
                self.failed.retain(|(failed, _)| failed != address);
                self.good.insert(0, (address.clone(), elapsed));
                self.good.truncate(REMEMBERED_MAX);
            }
        }
    }

    /// An address refused, did not prove its name, or said nothing in time. Returns whether that is news.
    pub fn failed(&mut self, address: &A, elapsed: Duration) -> bool {
        self.good.retain(|(good, _)| good != address);
        let is_news = self.failed_at(address, elapsed).is_none();
        self.failed.retain(|(failed, _)| failed != address);
        self.failed.insert(0, (address.clone(), elapsed));
        self.failed.truncate(REMEMBERED_MAX);
        is_news
    }

    /// Whether an address has answered a request since this moment: then one request without a response says nothing
    /// about the address.
    pub fn has_answered_since(&self, address: &A, since: Duration) -> bool {
        self.good.iter().any(|(good, at)| good == address && *at >= since)
    }

    /// Everything that is known is void.
    pub fn forget(&mut self) {
        self.good.clear();
        self.failed.clear();
    }

    /// When it failed, if that still counts.
    fn failed_at(&self, address: &A, elapsed: Duration) -> Option<Duration> {
        let (_, at) = self.failed.iter().find(|(failed, _)| failed == address)?;
        (elapsed.saturating_sub(*at) < PENALTY).then_some(*at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sorted(order: &AddressOrder<u8>, elapsed: Duration) -> Vec<u8> {
        let mut addresses = vec![1, 2, 3];
        order.sort(&mut addresses, elapsed);
        addresses
    }

    #[test]
    fn unknown_addresses_keep_their_order() {
        assert_eq!(sorted(&AddressOrder::default(), SECOND), [1, 2, 3]);
    }

    #[test]
    fn a_failed_address_comes_last_for_some_minutes() {
        let mut order = AddressOrder::default();
        assert!(order.failed(&1, SECOND));
        assert_eq!(sorted(&order, SECOND * 2), [2, 3, 1]);
        assert!(!order.failed(&1, SECOND * 2), "that is known");
        assert_eq!(sorted(&order, SECOND + PENALTY), [2, 3, 1], "the penalty begins with the last failure");
        assert_eq!(sorted(&order, SECOND * 2 + PENALTY), [1, 2, 3]);
        assert!(order.failed(&1, SECOND * 2 + PENALTY), "known again only after it was tried again");
    }

    #[test]
    fn the_oldest_failure_is_tried_first_where_all_failed() {
        let mut order = AddressOrder::default();
        for (address, at) in [(2, SECOND), (1, SECOND * 2), (3, SECOND * 3)] {
            order.failed(&address, at);
        }
        assert_eq!(sorted(&order, SECOND * 4), [2, 1, 3]);
        order.failed(&2, SECOND * 5);
        assert_eq!(sorted(&order, SECOND * 6), [1, 3, 2], "each gets its turn");
    }

    #[test]
    fn a_good_address_comes_first_until_it_fails() {
        let mut order = AddressOrder::default();
        order.answered(&3, SECOND);
        assert_eq!(sorted(&order, SECOND), [3, 1, 2]);
        order.answered(&2, SECOND * 2);
        assert_eq!(sorted(&order, SECOND * 2), [2, 3, 1]);
        order.answered(&3, SECOND * 3);
        assert_eq!(sorted(&order, SECOND * 3), [2, 3, 1], "two that answer in turn do not change places");
        order.failed(&2, SECOND * 4);
        assert_eq!(sorted(&order, SECOND * 4), [3, 1, 2]);
        order.answered(&2, SECOND * 5);
        assert_eq!(sorted(&order, SECOND * 5), [2, 3, 1], "an answer ends the penalty");
    }

    #[test]
    fn a_list_that_is_used_evenly_keeps_its_order_but_for_failures() {
        let mut order = AddressOrder::default();
        order.answered(&3, SECOND);
        order.failed(&1, SECOND);
        let mut addresses = [1, 2, 3];
        order.sort_failed_last(&mut addresses, SECOND * 2);
        assert_eq!(addresses, [2, 3, 1]);
    }

    #[test]
    fn answers_to_others_are_remembered() {
        let mut order = AddressOrder::default();
        order.answered(&1, SECOND * 5);
        assert!(order.has_answered_since(&1, SECOND * 5) && !order.has_answered_since(&1, SECOND * 6));
        order.failed(&1, SECOND * 6);
        assert!(!order.has_answered_since(&1, SECOND), "it has failed since");
        order.forget();
        assert_eq!(sorted(&order, SECOND * 6), [1, 2, 3]);
    }

    #[test]
    fn no_more_is_remembered_than_a_few() {
        let mut order = AddressOrder::default();
        for address in 0..200_u8 {
            order.failed(&address, SECOND);
            order.answered(&address.wrapping_add(100), SECOND);
        }
        assert!(order.failed.len() <= REMEMBERED_MAX && order.good.len() <= REMEMBERED_MAX);
    }
}
