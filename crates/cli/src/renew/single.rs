//! One key instead of a stream of them.

use futures_util::stream::{Stream, StreamExt as _};
use storekeeper_model::StoreIdKey;

use super::line::Line;
use super::renewer::Renewer;
use super::stream::tick;
use super::verdict::Verdict;

/// Renews one key. The first signal ends this in order, another one at once.
pub async fn run_one(renewer: &Renewer, key: &StoreIdKey, mut signals: impl Stream<Item = ()> + Unpin) -> Verdict {
    let mut renewal = std::pin::pin!(renewer.renew(key));
    let mut answer_until = None;
    loop {
        tokio::select! {
            biased;
            verdict = &mut renewal => return verdict,
            Some(()) = signals.next() => match answer_until {
                None => answer_until = Some(renewer.clock().elapsed() + renewer.finish()),
                Some(_) => renewer.abandon(),
            },
            () = tick(renewer, answer_until.is_some()) => {
                if answer_until.is_some_and(|until| renewer.clock().elapsed() >= until) {
                    renewer.abandon();
                }
            }
        }
    }
}

/// The line of a stream that a renewed key would have come out as.
pub fn rescue_line(key: &StoreIdKey, verdict: &Verdict) -> Vec<u8> {
    let line = format!("{{\"key\":\"{}\"}}", key.jwt().expose());
    Line::read(line.as_bytes()).answer(verdict)
}
