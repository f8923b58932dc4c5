//! `storekeeper clock`: the emulator's clock, which in `dev` is the keeper's too.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use storekeeper_model::{Timestamp, format_span, parse_span};

use crate::answer::ClockState;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Format, instant};
use crate::remote::{Patience, Remote};
use crate::target::Target;
use crate::watch;

/// Where the clock is.
const PATH: &str = "/control/v1/clock";

/// Look at the emulator's clock and move it; in `dev` it is the keeper's too.
#[derive(Debug, Args)]
pub struct Clock {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the instant it is and how fast time runs
    Show {
        #[command(flatten)]
        target: Target,
    },
    /// Move through time: everything that falls due on the way is done before this returns
    Advance {
        /// How far, such as 60d, 12h or 1d12h
        #[arg(value_name = "SPAN", value_parser = parse_span)]
        span: std::time::Duration,
        /// Show the way, and the population with and without storekeeper
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Jump to an instant, as a clock that is corrected does; nothing in between happens
    Set {
        /// RFC 3339, such as 2026-01-31T12:00:00Z
        #[arg(value_name = "INSTANT")]
        at: Timestamp,
        #[command(flatten)]
        target: Target,
    },
    /// Let time run by itself
    Run {
        /// How much time passes in a second: a span such as 1h, or a number of seconds
        #[arg(value_name = "RATE", default_value = "1", value_parser = rate)]
        rate: f64,
        #[command(flatten)]
        target: Target,
    },
    /// Stop time until it is advanced or run again
    Freeze {
        #[command(flatten)]
        target: Target,
    },
}

impl Clock {
    /// Runs the verb.
    pub async fn run(self, format: Format) -> CommandResult {
        match self.verb {
            Verb::Show { target } => {
                let clock = target.control()?.fetch::<ClockState>(PATH).await?;
                tell(&clock.value, &clock.raw, format)
            }
            Verb::Advance { span, watch, target } => advance(span, watch, &target, format).await,
            Verb::Set { at, target } => order(&target.control()?, &json!({ "set": at }), format).await,
            Verb::Run { rate, target } => order(&target.control()?, &json!({ "rate": rate }), format).await,
            Verb::Freeze { target } => order(&target.control()?, &json!({ "freeze": true }), format).await,
        }
    }
}

async fn advance(span: std::time::Duration, is_watched: bool, target: &Target, format: Format) -> CommandResult {
    let control = target.control()?;
    let wish = json!({ "advance": format_span(span) });
    if is_watched && format == Format::Table {
        return watch::advance(&control, target, span, &wish).await;
    }
    order(&control, &wish, format).await
}

async fn order(control: &Remote, wish: &Value, format: Format) -> CommandResult {
    let raw: Box<serde_json::value::RawValue> = control.post_patiently(PATH, wish, Patience::Endless).await?;
    let clock = serde_json::from_str(raw.get()).map_err(|error| CommandError::new(Exit::Failure, error))?;
    tell(&clock, &raw, format)
}

fn tell(clock: &ClockState, raw: &serde_json::value::RawValue, format: Format) -> CommandResult {
    match format {
        Format::Json => output::print_json(raw),
        Format::Table => output::print(&format!("{}, {}", instant(clock.now), pace(clock.rate))),
    }
}

/// How fast time runs, in words.
pub(super) fn pace(rate: f64) -> String {
    if rate == 0.0 {
        String::from("frozen")
    } else if (rate - 1.0).abs() < f64::EPSILON {
        String::from("running in real time")
    } else {
        format!("running {rate} times as fast as real time")
    }
}

/// A number, or how much time a second is.
fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().or_else(|_| parse_span(text).map(|span| span.as_secs_f64()));
    match rate {
        Ok(rate) if rate > 0.0 && rate <= 1e8 => Ok(rate),
        Ok(_) => Err(String::from("a rate is above 0 and at most 100000000; `storekeeper clock freeze` stops time")),
        Err(_) => Err(format!("`{text}` is neither a number nor a span such as 1h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_or_what_a_second_is() {
        assert_eq!(rate("1"), Ok(1.0));
        assert_eq!(rate("0.5"), Ok(0.5));
        assert_eq!(rate("1h"), Ok(3600.0));
        for bad in ["0", "-1", "nan", "inf", "fast", "2000000d"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paces_are_told_in_words() {
        for (rate, text) in
            [(0.0, "frozen"), (1.0, "running in real time"), (3600.0, "running 3600 times as fast as real time")]
        {
            assert_eq!(pace(rate), text);
        }
    }
}
