//! Turns at RSA work, so that signing never holds up those who want none.
//!
//! A signature takes a quarter of a millisecond, everything else about a request a tenth of that. Handing the work to
//! other threads costs as much again in switches between them (measured: 20 µs a request on one core). Instead it is done
//! where the request is, one piece per core at a time, and before each piece everything that is ready to be read, answered
//! or written has its go: nobody waits for more than one signature.

use tokio::sync::Semaphore;

/// As many turns at a time as there are cores.
pub(crate) struct Turns(Semaphore);

impl Turns {
    pub(crate) fn new() -> Self {
        Self::at_a_time(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn at_a_time(number: usize) -> Self {
        Self(Semaphore::new(number))
    }

    /// Waits for its turn, in the order of asking, and does the work.
    pub(crate) async fn take<T>(&self, work: impl FnOnce() -> T) -> T {
        let _turn = self.0.acquire().await.expect("this semaphore is never closed");
        // Comes back after everything that is ready, sockets included.
        tokio::task::yield_now().await;
        work()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn others_have_their_go_between_pieces_of_work() {
        let (turns, order) = (Arc::new(Turns::at_a_time(1)), Arc::new(Mutex::new(Vec::new())));
        let workers: Vec<_> = (0..20)
            .map(|number| {
                let (turns, order) = (Arc::clone(&turns), Arc::clone(&order));
                tokio::spawn(async move { turns.take(|| order.lock().unwrap().push(Some(number))).await })
            })
            .collect();
        let seen = Arc::clone(&order);
        let other = tokio::spawn(async move {
            loop {
                seen.lock().unwrap().push(None);
                tokio::task::yield_now().await;
            }
        });
        for worker in workers {
            worker.await.unwrap();
        }
        other.abort();
        let order = order.lock().unwrap();
        // One that yields itself, as here, may come after the next piece; one that waits for a socket does not.
        let longest = order.split(Option::is_none).map(<[_]>::len).max();
        assert!(longest <= Some(2), "{order:?}");
        assert!(order.iter().flatten().is_sorted(), "{order:?}");
    }
}
