//! `storekeeper fault`: faults of the emulated Store and Entra, on demand.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use storekeeper_model::{format_span, parse_span};

use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Format, Rows, counted};
use crate::remote::{Patience, Remote};
use crate::target::Target;

const PATH: &str = "/control/v1/faults";

/// Make the emulated Store and Entra fail, on demand.
#[derive(Debug, Args)]
pub struct Fault {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Plan a fault
    #[command(after_help = EXAMPLES)]
    Add(Box<Add>),
    /// List the planned faults and how often each has struck
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Clear one fault, or all of them
    Clear {
        /// The number that `fault list` shows; without it all are cleared
        #[arg(value_name = "NUMBER")]
        number: Option<u64>,
        #[command(flatten)]
        target: Target,
    },
}

const EXAMPLES: &str = "\
Examples:
  storekeeper fault add renew --status 503 --for 4d
  storekeeper fault add token --status 401 --count 3
  storekeeper fault add renew --status 429 --header 'Retry-After: 30' --probability 0.1
  storekeeper fault add renew --when after --reset --count 1";

#[derive(Debug, Args)]
struct Add {
    /// What has to be called
    #[arg(value_name = "ENDPOINT", value_parser = ENDPOINTS)]
    endpoint: String,
    /// Meet the request before it is processed, or the answer after
    #[arg(long, value_parser = ["before", "after"], default_value = "before")]
    when: String,
    /// Answer with this status
    #[arg(long, value_name = "STATUS")]
    status: Option<u16>,
    /// Put this header on the answer, as `Name: value`
    #[arg(long, value_name = "HEADER", value_parser = header)]
    header: Vec<(String, String)>,
    /// Answer with this body
    #[arg(long, value_name = "TEXT", conflicts_with = "body_file")]
    body: Option<String>,
    /// Answer with the body in this file
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
    /// Wait so long, in the emulator's time
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    delay: Option<Duration>,
    /// Break the connection off without an answer
    #[arg(long)]
    reset: bool,
    /// Promise the whole body and send so many bytes of it, or half
    #[arg(long, value_name = "BYTES", num_args = 0..=1)]
    truncate: Option<Option<u64>>,
    /// Strike so many times
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Strike each exchange with this probability
    #[arg(long, value_name = "P")]
    probability: Option<f64>,
    /// Strike for so long, in the emulator's time
    #[arg(long = "for", value_name = "SPAN", value_parser = parse_span)]
    lasts: Option<Duration>,
    #[command(flatten)]
    target: Target,
}

const ENDPOINTS: [&str; 10] =
    ["token", "renew", "keys", "discovery", "query", "consume", "grant", "recurrences", "orders", "clawback"];

impl Fault {
    /// Runs the verb.
    pub async fn run(self, format: Format) -> CommandResult {
        match self.verb {
            Verb::Add(add) => add.run(format).await,
            Verb::List { target } => list(&target.control()?, format).await,
            Verb::Clear { number, target } => clear(&target.control()?, number, format).await,
        }
    }
}

impl Add {
    async fn run(self, format: Format) -> CommandResult {
        let answer: Box<RawValue> = self.target.control()?.post(PATH, &self.order()?).await?;
        if format == Format::Json {
            return output::print_json(&answer);
        }
        let planned: Planned =
            serde_json::from_str(answer.get()).map_err(|error| CommandError::new(Exit::Failure, error))?;
        output::print(&format!("fault {}: {}", planned.id, planned.told()))
    }

    /// The document of emulator.md, holding only what was said.
    fn order(&self) -> Result<Value, CommandError> {
        let mut order = Map::from_iter([
            (String::from("endpoint"), json!(self.endpoint)),
            (String::from("when"), json!(self.when)),
        ]);
        let mut say = |name: &str, value: Option<Value>| {
            order.extend(value.map(|value| (name.to_owned(), value)));
        };
        let headers: Map<String, Value> =
            self.header.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        say("status", self.status.map(|status| json!(status)));
        say("headers", (!headers.is_empty()).then_some(Value::Object(headers)));
        say("body", self.body()?.map(|text| json!(text)));
        say("delay", self.delay.map(|span| json!(format_span(span))));
        say("reset", self.reset.then_some(Value::Bool(true)));
        say("truncate", self.truncate.map(|bytes| bytes.map_or(json!(true), |bytes| json!(bytes))));
        say("count", self.count.map(|count| json!(count)));
        say("probability", self.probability.map(|probability| json!(probability)));
        say("for", self.lasts.map(|span| json!(format_span(span))));
        Ok(Value::Object(order))
    }

    fn body(&self) -> Result<Option<String>, CommandError> {
        let Some(file) = &self.body_file else { return Ok(self.body.clone()) };
        let text = std::fs::read_to_string(file);
        text.map(Some).map_err(|error| CommandError::new(Exit::Usage, format!("{}: {error}", file.display())))
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written `Name: value`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[derive(Deserialize)]
struct Plan {
    faults: Vec<Planned>,
}

/// A fault of the plan, as the emulator tells it.
#[derive(Debug, Deserialize)]
struct Planned {
    id: u64,
    #[serde(default)]
    fired: u64,
    #[serde(default)]
    active: bool,
    #[serde(flatten)]
    order: Map<String, Value>,
}

impl Planned {
    fn endpoint(&self) -> String {
        self.text("endpoint")
    }

    fn text(&self, name: &str) -> String {
        match self.order.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::from("-"),
        }
    }

    /// What it does, as it would be ordered.
    fn does(&self) -> String {
        let mut parts = Vec::new();
        if self.text("when") == "after" {
            parts.push(String::from("after processing"));
        }
        for name in ["status", "delay", "truncate"] {
            if self.order.contains_key(name) {
                parts.push(format!("{name} {}", self.text(name)));
            }
        }
        if let Some(Value::Object(headers)) = self.order.get("headers") {
            parts.extend(headers.iter().map(|(name, value)| format!("{name}: {}", value.as_str().unwrap_or_default())));
        }
        for name in ["body", "reset"] {
            if self.order.get(name).is_some_and(|value| *value != json!(false)) {
                parts.push(name.to_owned());
            }
        }
        parts.join(", ")
    }

    /// How often it strikes.
    fn how_often(&self) -> String {
        let mut parts = Vec::new();
        for name in ["probability", "for"] {
            if self.order.contains_key(name) {
                parts.push(format!("{name} {}", self.text(name)));
            }
        }
        match self.order.get("count").and_then(Value::as_u64) {
            Some(1) => parts.push(String::from("once")),
            Some(count) => parts.push(format!("{count} times")),
            None if parts.is_empty() => parts.push(String::from("always")),
            None => {}
        }
        parts.join(", ")
    }

    fn told(&self) -> String {
        format!("{} {}, {}", self.endpoint(), self.does(), self.how_often())
    }
}

async fn list(control: &Remote, format: Format) -> CommandResult {
    let plan = control.fetch::<Plan>(PATH).await?;
    if format == Format::Json {
        return output::print_json(&plan.raw);
    }
    if plan.value.faults.is_empty() {
        return output::print("no faults are planned");
    }
    let mut rows = Rows::new(["NUMBER", "ENDPOINT", "FAULT", "HOW OFTEN", "STRUCK", "SPENT"]).numbers(&[0, 4]);
    for fault in &plan.value.faults {
        let spent = if fault.active { "no" } else { "yes" };
        let (endpoint, does, how_often) = (fault.endpoint(), fault.does(), fault.how_often());
        rows.add([&fault.id.to_string(), &endpoint, &does, &how_often, &fault.fired.to_string(), spent]);
    }
    output::print(&rows.text())
}

async fn clear(control: &Remote, number: Option<u64>, format: Format) -> CommandResult {
    #[derive(Deserialize)]
    struct Cleared {
        cleared: u64,
    }
    let path = number.map_or_else(|| PATH.to_owned(), |number| format!("{PATH}/{number}"));
    let reply = control.send(Method::DELETE, &path, None, Patience::Usual).await?;
    if format == Format::Json {
        return output::print_json(&control.read::<Box<RawValue>>(&reply)?);
    }
    output::print(&format!("{} cleared", counted(control.read::<Cleared>(&reply)?.cleared, "fault")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planned_fault_is_told_as_it_was_ordered() {
        let check = |document: &str, expected: &str| {
            let planned: Planned = serde_json::from_str(document).unwrap();
            assert_eq!(planned.told(), expected);
        };
        check(
            r#"{"id":1,"endpoint":"renew","when":"before","status":503,"for":"4d","active":true}"#,
            "renew status 503, for 4d",
        );
        check(
            r#"{"id":1,"endpoint":"renew","when":"after","reset":true,"count":1}"#,
            "renew after processing, reset, once",
        );
        check(
            r#"{"id":1,"endpoint":"token","status":429,"headers":{"Retry-After":"30"},"probability":0.5,"count":3}"#,
            "token status 429, Retry-After: 30, probability 0.5, 3 times",
        );
        check(r#"{"id":1,"endpoint":"token","delay":"5s"}"#, "token delay 5s, always");
    }

    #[test]
    fn a_header_has_a_name_and_a_value() {
        assert_eq!(header("Retry-After: 30"), Ok((String::from("Retry-After"), String::from("30"))));
        assert!(header("Retry-After").is_err());
    }
}
