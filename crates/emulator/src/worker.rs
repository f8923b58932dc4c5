//! Worker threads for RSA work, as many as there are cores, so that signing never holds up those who serve sockets.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;

use tokio::sync::{mpsc, oneshot};

/// How many pieces of work wait for a thread; whoever brings more waits before the queue.
const QUEUE_MAX: usize = 256;

type Work = Box<dyn FnOnce() + Send>;

/// Threads that take work in the order in which it comes. They end when this is dropped and the queue is empty.
pub(crate) struct Workers {
    queue: mpsc::Sender<Work>,
}

/// The work panicked; the thread that did it lives on.
#[derive(Debug, thiserror::Error)]
#[error("the work was not finished")]
pub(crate) struct Unfinished;

impl Workers {
    /// One thread for each core that this process may use.
    pub(crate) fn start() -> std::io::Result<Self> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let (queue, waiting) = mpsc::channel::<Work>(QUEUE_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..threads {
            let waiting = Arc::clone(&waiting);
            thread::Builder::new().name(format!("emulator-rsa-{number}")).spawn(move || work(&waiting))?;
        }
        Ok(Self { queue })
    }

    /// Has a thread do `work`. When the caller is gone before its turn comes, it is not done at all.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unfinished> {
        let (sender, done) = oneshot::channel();
        let work = move || {
            if !sender.is_closed() {
                drop(sender.send(work()));
            }
        };
        self.queue.send(Box::new(work)).await.map_err(|_| Unfinished)?;
        done.await.map_err(|_| Unfinished)
    }
}

fn work(waiting: &Mutex<mpsc::Receiver<Work>>) {
    loop {
        let next = waiting.lock().expect("nothing panics while it waits for work").blocking_recv();
        let Some(work) = next else { return };
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            tracing::error!("a piece of work panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_costs_one_answer_and_no_thread() {
        let workers = Workers::start().unwrap();
        for _ in 0..8 {
            assert!(workers.run(|| -> u8 { panic!("on purpose") }).await.is_err());
        }
        assert_eq!(workers.run(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn more_work_than_fits_the_queue_is_all_done() {
        let workers = Workers::start().unwrap();
        let all = futures_util::future::join_all((0..QUEUE_MAX * 2).map(|number| workers.run(move || number))).await;
        let done: Vec<_> = all.into_iter().map(Result::unwrap).collect();
        assert_eq!(done, (0..QUEUE_MAX * 2).collect::<Vec<_>>());
    }
}
