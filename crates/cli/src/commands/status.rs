//! `storekeeper status`: one screen that says how a keeper does, and whether it needs an operator.

use clap::Args;
use serde_json::json;

use crate::answer::{ClockState, Condition, Health, Stats};
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Format, Rows, count, counted, instant, safe};
use crate::remote::Remote;
use crate::target::Target;

/// Show on one screen how a keeper does; exits 6 when something needs an operator.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    target: Target,
}

impl Status {
    /// Asks for the health and the population, and prints both.
    pub async fn run(self, format: Format) -> CommandResult {
        let data = self.target.data()?;
        let health = data.fetch::<Health>("/v1/health").await?;
        let conditions = &health.value.conditions;
        // A keyring that is away cannot be counted; the health says so.
        let stats = match data.fetch::<Stats>("/v1/stats").await {
            Err(error) if conditions.is_empty() => return Err(error),
            stats => stats.ok(),
        };
        let problems: Vec<String> = conditions.iter().map(problem).collect();
        if format == Format::Json {
            let stats = stats.map(|stats| stats.raw);
            output::print_json(&json!({ "stats": stats, "conditions": conditions, "problems": problems }))?;
        } else {
            self.screen(&data, stats.map(|stats| stats.value).as_ref(), &problems).await?;
        }
        match problems.len() {
            0 => Ok(()),
            found => Err(CommandError::new(Exit::Problems, format!("{} found", counted(found as u64, "problem")))),
        }
    }

    async fn screen(&self, data: &Remote, stats: Option<&Stats>, problems: &[String]) -> CommandResult {
        let mut head = Rows::pairs();
        head.add(["keeper", &data.address()]);
        if let Ok(admin) = self.target.admin()
            && admin.address() != data.address()
        {
            head.add(["admin", &admin.address()]);
        }
        if let Some(control) = self.target.control_if_any()? {
            let clock = control.get::<ClockState>("/control/v1/clock").await;
            let rate = clock.map(|clock| super::clock::pace(clock.rate)).unwrap_or_else(|error| error.message);
            head.add(["emulator", &format!("{}, {rate}", control.address())]);
        }
        if let Some(stats) = stats {
            head.add(["clock", &instant(stats.now)]);
        }
        output::print(&head.text())?;
        if let Some(stats) = stats {
            population(stats)?;
        }
        problems.iter().try_for_each(|problem| output::print(&format!("needs an operator: {problem}")))
    }
}

fn population(stats: &Stats) -> CommandResult {
    output::print("")?;
    output::print(&super::app::table(stats).text())?;
    let renewed: u64 = stats.apps.values().map(|app| app.renewals.renewed).sum();
    let failed: u64 = stats.apps.values().map(|app| app.renewals.failed).sum();
    output::print(&format!("\nsince the keeper started: {} renewed, {} failed", count(renewed), count(failed)))?;
    let handed_over: u64 = stats.apps.values().map(|app| app.handed_over).sum();
    if handed_over > 0 {
        output::print(&format!("handed over to another keeper: {}", counted(handed_over, "key")))?;
    }
    Ok(())
}

/// One line for a condition. Its code comes last, for the reader who looks it up.
fn problem(condition: &Condition) -> String {
    let app = condition.app.as_deref().map(|app| format!("{}: ", safe(app))).unwrap_or_default();
    format!("{app}{} [{}]", safe(&condition.detail), safe(&condition.code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_the_app_and_the_code() {
        let condition = |app: Option<&str>| Condition {
            code: String::from("keys_lapsed"),
            app: app.map(str::to_owned),
            detail: String::from("2 keys expired"),
        };
        assert_eq!(problem(&condition(Some("mygame"))), "mygame: 2 keys expired [keys_lapsed]");
        assert_eq!(problem(&condition(None)), "2 keys expired [keys_lapsed]");
    }
}
