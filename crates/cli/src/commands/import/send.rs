//! Sends the lines of an import in groups, and counts what became of each. What may pass is tried again.

use std::time::Duration;

use indicatif::ProgressBar;
use serde::Deserialize;
use storekeeper_clock::{Clock as _, SystemClock};
use storekeeper_model::Timestamp;

use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::remark;
use crate::remote::{Patience, Remote};

use super::Tally;
use super::line::{Rejected, app_of, with_app};
use super::source::{Entry, Source};

/// How many lines go in one request: one commit of the keeper.
const GROUP: usize = 1024;
/// How many bytes of lines go in one request at most, but for the last.
const GROUP_BYTES: usize = 4 * 1024 * 1024;
/// How often what may pass is tried again; the pauses add up to a minute.
const TRIES: u32 = 6;

/// Sends.
pub(super) struct Sender<'a> {
    pub(super) keeper: &'a Remote,
    pub(super) bar: &'a ProgressBar,
    pub(super) now: Timestamp,
}

/// What became of a line.
#[derive(Deserialize)]
struct Answer {
    line: usize,
    outcome: Option<String>,
    #[serde(default)]
    handed_over: bool,
    code: Option<String>,
    act: Option<String>,
    detail: Option<String>,
}

impl Answer {
    /// Whether the same line may be taken later.
    fn may_pass(&self) -> bool {
        self.act.as_deref() == Some("wait") || self.code.as_deref() == Some("internal")
    }
}

impl Sender<'_> {
    /// Sends every line; what is not taken is told.
    pub(super) async fn send(&self, mut source: Source, app: Option<&str>, tally: &mut Tally) -> CommandResult {
        let mut entries = source.entries().into_iter().peekable();
        while entries.peek().is_some() {
            let (mut group, mut body, mut bytes) = (Vec::with_capacity(GROUP), Vec::with_capacity(GROUP), 0);
            while group.len() < GROUP && bytes < GROUP_BYTES {
                let Some(entry) = entries.next() else { break };
                let text = with_app(source.text(&entry)?, app);
                bytes += text.len();
                body.push(text);
                group.push(entry);
            }
            self.send_group(group, body, tally).await?;
        }
        Ok(())
    }

    async fn send_group(&self, mut group: Vec<Entry>, mut body: Vec<Vec<u8>>, tally: &mut Tally) -> CommandResult {
        for attempt in 0.. {
            let (answers, failure) = self.exchange(&body).await?;
            let mut open = Vec::new();
            let mut answered = vec![false; group.len()];
            for answer in answers {
                let Some(place) = answer.line.checked_sub(1).filter(|place| *place < group.len()) else { continue };
                if !answer.may_pass() && !std::mem::replace(&mut answered[place], true) {
                    if answer.handed_over {
                        tally.handed_over += 1;
                        tally.handed_over_apps.extend(app_of(&body[place]));
                    }
                    self.count(&group[place], answer, tally);
                    self.bar.inc(1);
                }
            }
            open.extend((0..group.len()).filter(|place| !answered[*place]));
            if open.is_empty() {
                return Ok(());
            }
            if attempt == TRIES {
                let message = "the keeper takes no more: begin again when it does, what is taken is recognised";
                return Err(failure.unwrap_or_else(|| CommandError::new(Exit::Unavailable, message)));
            }
            group = open.iter().map(|place| group[*place]).collect();
            body = open.iter().map(|place| std::mem::take(&mut body[*place])).collect();
            let clock = SystemClock::new();
            drop(clock.sleep_until(clock.now() + Duration::from_secs(1 << attempt.min(4))).await);
        }
        Ok(())
    }

    /// The answers there are, and why there are no more.
    async fn exchange(&self, body: &[Vec<u8>]) -> Result<(Vec<Answer>, Option<CommandError>), CommandError> {
        let mut text = Vec::with_capacity(body.iter().map(|line| line.len() + 1).sum());
        for line in body {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        let path = "/v1/admin/keys:import";
        match self.keeper.send(http::Method::POST, path, Some(text), Patience::Usual).await {
            Err(error) if error.exit == Exit::Unavailable => Ok((Vec::new(), Some(error))),
            Err(error) => Err(error),
            Ok(reply) => {
                let answers = serde_json::Deserializer::from_slice(&reply.body).into_iter::<Answer>();
                // Where the answer broke off, what is missing is sent again.
                Ok((answers.map_while(Result::ok).collect(), None))
            }
        }
    }

    fn count(&self, entry: &Entry, answer: Answer, tally: &mut Tally) {
        let counter = match answer.outcome.as_deref() {
            Some("new") => &mut tally.new,
            Some("known") => &mut tally.known,
            Some("replaced") => &mut tally.replaced,
            Some("waiting") => &mut tally.waiting,
            _ => {
                let code = answer.code.unwrap_or_else(|| String::from("unknown"));
                let detail =
                    answer.detail.unwrap_or_else(|| String::from("the keeper gave an answer of another version"));
                let rejected = Rejected { number: entry.number, code, detail };
                tally.reject(&rejected);
                return self.bar.suspend(|| remark(&rejected.to_string()));
            }
        };
        *counter += 1;
        let is_usable = entry.expires_at != i64::MIN;
        tally.dead += u64::from(is_usable && entry.expires_at <= self.now.millis());
    }
}
