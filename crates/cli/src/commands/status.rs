//! `storekeeper status`: one screen that says how a keeper does, and whether it needs somebody.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use storekeeper_policy::SKEW_MAX;

use crate::answer::{AppStats, ClockState, Stats};
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Format, Rows, count, counted, instant, relative, safe};
use crate::remote::Remote;
use crate::target::Target;

/// Tell on one screen how a keeper does; exits 6 when something needs a person.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    target: Target,
}

impl Status {
    /// Looks, and tells.
    pub async fn run(self, format: Format) -> CommandResult {
        let data = self.target.data()?;
        let stats = data.fetch::<Stats>("/v1/stats").await?;
        let problems = problems(&stats.value);
        if format == Format::Json {
            output::print_json(&json!({ "stats": stats.raw, "problems": problems }))?;
        } else {
            self.screen(&data, &stats.value, &problems).await?;
        }
        match problems.len() {
            0 => Ok(()),
            found => Err(CommandError::new(Exit::Problems, format!("{} found", counted(found as u64, "problem")))),
        }
    }

    async fn screen(&self, data: &Remote, stats: &Stats, problems: &[String]) -> CommandResult {
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
        head.add(["clock", &instant(stats.now)]);
        output::print(&head.text())?;
        output::print("")?;
        output::print(&super::app::table(stats).text())?;
        let renewed: u64 = stats.apps.values().map(|app| app.renewals.renewed).sum();
        let failed: u64 = stats.apps.values().map(|app| app.renewals.failed).sum();
        output::print(&format!("\nsince the keeper started: {} renewed, {} failed", count(renewed), count(failed)))?;
        let handed_over: u64 = stats.apps.values().map(|app| app.handed_over).sum();
        if handed_over > 0 {
            output::print(&format!("handed over to another keeper: {}", counted(handed_over, "key")))?;
        }
        problems.iter().try_for_each(|problem| output::print(&format!("needs somebody: {problem}")))
    }
}

/// What a person has to look at, one line each.
fn problems(stats: &Stats) -> Vec<String> {
    let mut problems: Vec<String> = stats.apps.iter().flat_map(|(name, app)| of_app(&safe(name), app, stats)).collect();
    if let Some(skew) = stats.clock_skew_seconds
        && skew.abs() > SKEW_MAX.as_secs_f64()
    {
        let (span, side) =
            (output::span(Duration::from_secs_f64(skew.abs())), if skew > 0.0 { "ahead of" } else { "behind" });
        problems
            .push(format!("the keeper's clock is {span} {side} the Store's: nothing is condemned until they agree"));
    }
    problems
}

fn of_app(name: &str, app: &AppStats, stats: &Stats) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(reason) = &app.paused {
        let since = app
            .paused_since
            .map(|at| format!(" since {} ({})", instant(at), relative(at, stats.now)))
            .unwrap_or_default();
        let detail = app.paused_detail.as_deref().filter(|detail| !detail.is_empty());
        let detail = detail.map(|detail| format!(": {}", safe(detail))).unwrap_or_default();
        problems.push(format!("{name} is paused{since}, reason {}{detail}; {}", safe(reason), remedy(reason, name)));
    }
    if app.keys.lapsed > 0 {
        let keys = counted(app.keys.lapsed, "key");
        problems
            .push(format!("{name}: {keys} expired before they could be renewed; their players have to mint new ones"));
    }
    if app.past_deadline > 0 {
        let keys = counted(app.past_deadline, "key");
        problems.push(format!("{name}: {keys} past the policy's deadline, which the Store may refuse any moment"));
    }
    if app.awaiting_operator > 0 {
        let keys = counted(app.awaiting_operator, "key");
        problems.push(format!(
            "{name}: {keys} more than one day may condemn; look why, then `storekeeper app resume {name} --condemn`"
        ));
    }
    problems
}

/// What ends a pause.
fn remedy(reason: &str, name: &str) -> String {
    match reason {
        "operator" => format!("`storekeeper app resume {name}` ends it"),
        "guard" => {
            String::from("most keys are refused, so the fault is not theirs; it ends by itself when a probe succeeds")
        }
        "credential" => String::from("renew the app's secret; it ends by itself when Entra accepts it"),
        "inconsistent_client_id" => {
            String::from("the Store says that client_id is not the keys'; correct the configuration")
        }
        _ => format!("`storekeeper app resume {name}` ends it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::KeyCounts;

    fn stats(app: AppStats, skew: Option<f64>) -> Stats {
        let now = "2026-01-31T12:00:00Z".parse().unwrap();
        Stats { now, clock_skew_seconds: skew, apps: [(String::from("mygame"), app)].into() }
    }

    fn check(app: AppStats, skew: Option<f64>, expected: &[&str]) {
        let told = problems(&stats(app, skew));
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (line, words) in told.iter().zip(expected) {
            assert!(line.contains(words), "{line}");
        }
    }

    #[test]
    fn what_runs_by_itself_needs_nobody() {
        let keys = KeyCounts { active: 2000, revoked: 3, lapsed: 0 };
        check(AppStats { keys, refused: 2, due_backlog: 40, ..AppStats::default() }, Some(-12.0), &[]);
    }

    #[test]
    fn each_thing_that_needs_somebody_is_told() {
        let app = AppStats {
            keys: KeyCounts { active: 1, revoked: 0, lapsed: 2 },
            paused: Some(String::from("credential")),
            paused_detail: Some(String::from("Entra refused the credential")),
            paused_since: Some("2026-01-31T10:00:00Z".parse().unwrap()),
            past_deadline: 1,
            awaiting_operator: 7,
            ..AppStats::default()
        };
        let expected = [
            "mygame is paused since 2026-01-31T10:00:00Z (2 h ago), reason credential: Entra refused the credential; renew the app's secret",
            "2 keys expired",
            "1 key past the policy's deadline",
            "`storekeeper app resume mygame --condemn`",
            "1 h ahead of the Store's",
        ];
        check(app, Some(3600.0), &expected);
    }
}
