//! What a person sees while time is moved: how far it is, and how many keys live with and without storekeeper.

use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use storekeeper_clock::{Clock as _, SystemClock};
use storekeeper_model::Timestamp;

use crate::answer::{ClockState, Stats};
use crate::exit::{CommandError, CommandResult};
use crate::first_keys::FirstKeys;
use crate::output::{self, count};
use crate::remote::{Patience, Remote};
use crate::target::Target;

/// How often the screen is brought up to date.
const LOOK: Duration = Duration::from_millis(200);
/// Without a terminal a line is printed each time this share of the way is done.
const LINES: u32 = 6;
const CLOCK: &str = "/control/v1/clock";

/// Advances the clock, and shows the way and the population.
///
/// # Errors
/// What the emulator says.
pub(crate) async fn advance(control: &Remote, target: &Target, span: Duration, wish: &Value) -> CommandResult {
    let from = control.get::<ClockState>(CLOCK).await?.now;
    let population = Population::of(target)?;
    let mut screen = Screen::new(from, span);
    let moving = control.post_patiently::<ClockState>(CLOCK, wish, Patience::Endless);
    tokio::pin!(moving);
    let real = SystemClock::new();
    loop {
        let next_look = real.sleep_until(real.now() + LOOK);
        tokio::select! {
            moved = &mut moving => {
                screen.clear();
                return end(&moved?, from, &population).await;
            }
            _ = next_look => {
                // What cannot be seen now is seen at the next look; the move itself tells what is wrong.
                if let Ok(clock) = control.get::<ClockState>(CLOCK).await {
                    screen.show(clock.now, &population.line(clock.now).await)?;
                }
            }
        }
    }
}

async fn end(clock: &ClockState, from: Timestamp, population: &Population) -> CommandResult {
    let line = population.line(clock.now).await;
    let days = output::span(clock.now.since(from));
    output::print(&join(&format!("{} ({days} later)", output::instant(clock.now)), &line))
}

/// Whom to ask for the population.
struct Population {
    keeper: Option<Remote>,
    first_keys: Option<FirstKeys>,
}

impl Population {
    fn of(target: &Target) -> Result<Self, CommandError> {
        let ready = target.ready()?;
        let keeper = if target.knows_keeper() { Some(target.data()?) } else { None };
        let first_keys = ready.and_then(|ready| FirstKeys::read(&ready.first_keys_file?));
        Ok(Self { keeper, first_keys })
    }

    /// `with storekeeper 2,000 alive, without it 0`, as far as it is known.
    async fn line(&self, now: Timestamp) -> String {
        let mut parts = Vec::new();
        if let Some(keeper) = &self.keeper
            && let Ok(stats) = keeper.get::<Stats>("/v1/stats").await
        {
            parts.push(with(&stats));
        }
        if let Some(first_keys) = &self.first_keys {
            parts.push(format!("without it {}", count(first_keys.alive_at(now))));
        }
        parts.join(", ")
    }
}

fn with(stats: &Stats) -> String {
    let keys = stats.keys();
    let mut text = format!("with storekeeper {} alive", count(keys.active));
    for (number, word) in [(keys.revoked, "revoked"), (keys.lapsed, "lapsed")] {
        if number > 0 {
            text.push_str(&format!(" ({} {word})", count(number)));
        }
    }
    text
}

fn join(head: &str, line: &str) -> String {
    if line.is_empty() { head.to_owned() } else { format!("{head}: {line}") }
}

/// A bar on a terminal, now and then a line elsewhere.
struct Screen {
    from: Timestamp,
    span: Duration,
    bar: Option<ProgressBar>,
    lines: u32,
}

impl Screen {
    fn new(from: Timestamp, span: Duration) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {percent}%\n{msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
            ProgressBar::new(millis(span)).with_style(style)
        });
        Self { from, span, bar, lines: 0 }
    }

    fn show(&mut self, now: Timestamp, line: &str) -> CommandResult {
        let done = now.since(self.from).min(self.span);
        let (day, days) = (done.as_secs() / 86_400, self.span.as_secs() / 86_400);
        if let Some(bar) = &self.bar {
            bar.set_prefix(format!("day {day} of {days}"));
            bar.set_position(millis(done));
            bar.set_message(line.to_owned());
            return Ok(());
        }
        let passed = u32::try_from(millis(done) * u64::from(LINES) / millis(self.span).max(1)).unwrap_or(LINES);
        if passed <= self.lines || passed >= LINES {
            return Ok(());
        }
        self.lines = passed;
        output::print(&join(&format!("day {day} of {days}"), line))
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{AppStats, KeyCounts};

    #[test]
    fn the_population_is_told_in_a_few_words() {
        let stats = |active, revoked, lapsed| {
            let app = AppStats { keys: KeyCounts { active, revoked, lapsed }, ..AppStats::default() };
            Stats { now: Timestamp::EPOCH, clock_skew_seconds: None, apps: [(String::from("a"), app)].into() }
        };
        assert_eq!(with(&stats(2000, 0, 0)), "with storekeeper 2,000 alive");
        assert_eq!(with(&stats(1899, 100, 1)), "with storekeeper 1,899 alive (100 revoked) (1 lapsed)");
        assert_eq!(join("day 3 of 60", ""), "day 3 of 60");
    }
}
