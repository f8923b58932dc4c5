//! `storekeeper key explain`: why a key is in the state it is, and what happens next, in sentences.

use clap::Args;
use serde_json::json;
use storekeeper_model::{KeyKind, Timestamp};

use super::name::{Name, found, kinds};
use crate::answer::{AppStats, History, Key, Outcome, Stats};
use crate::exit::CommandResult;
use crate::output::{self, Format, instant, relative, safe, span};

/// Explain why a player's keys are in the state they are, and what happens next.
#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    name: Name,
    /// collections or purchase; both unless told
    #[arg(value_name = "KIND")]
    kind: Option<KeyKind>,
}

impl Explain {
    /// Asks, and explains.
    pub(super) async fn run(self, format: Format) -> CommandResult {
        let (admin, operators_path) = self.name.player_for_operators().await?;
        let (data, path) = self.name.player().await?;
        let stats: Stats = data.get("/v1/stats").await?;
        let mut asked = Vec::new();
        for kind in kinds(self.kind) {
            asked.push(admin.fetch::<Key>(&self.name.key(&operators_path, kind)).await.map(|answer| (kind, answer)));
        }
        let mut explained = Vec::new();
        for (kind, answer) in found(asked)? {
            let history: History = data.get(&self.name.below_key(&path, kind, "history")).await?;
            let app = stats.apps.get(&answer.value.app).cloned().unwrap_or_default();
            let case = Case { key: &answer.value, outcomes: &history.outcomes, app: &app, now: stats.now };
            explained.push((answer.raw, case.sentences()));
        }
        if format == Format::Json {
            let keys: Vec<_> =
                explained.iter().map(|(key, sentences)| json!({ "key": key, "sentences": sentences })).collect();
            return output::print_json(&json!({ "now": stats.now, "keys": keys }));
        }
        let texts: Vec<String> = explained.iter().map(|(_, sentences)| sentences.join("\n")).collect();
        output::print(&texts.join("\n\n"))
    }
}

/// What is known.
struct Case<'a> {
    key: &'a Key,
    outcomes: &'a [Outcome],
    app: &'a AppStats,
    now: Timestamp,
}

impl Case<'_> {
    fn sentences(&self) -> Vec<String> {
        let mut told = vec![self.what()];
        match self.key.state.as_str() {
            "active" => self.active(&mut told),
            "revoked" => self.revoked(&mut told),
            "lapsed" => self.lapsed(&mut told),
            other => told.push(format!("Its state is `{}`, which this version does not know.", safe(other))),
        }
        told
    }

    fn what(&self) -> String {
        let Key { user, kind, state, fingerprint, app, slot, .. } = self.key;
        let slot = if slot.is_empty() { String::new() } else { format!(" (slot {})", safe(slot)) };
        format!("{}'s {kind} key{slot} in {app} is {state}; its fingerprint is {fingerprint}.", safe(user))
    }

    fn active(&self, told: &mut Vec<String>) {
        told.push(self.life());
        told.push(self.proof());
        told.extend(self.last_attempt());
        told.extend(self.refusal());
        told.extend(self.newcomer());
        told.push(self.next());
    }

    fn life(&self) -> String {
        let issued = relative(self.key.issued_at, self.now);
        match self.key.expires_at {
            Some(expires) => format!(
                "It was issued {issued} and lives until {} ({}); until then it is handed out, whatever else happens.",
                instant(expires),
                relative(expires, self.now)
            ),
            None => format!(
                "It was issued {issued}, but its exp does not lie after its nbf: its times say nothing, so it is renewed at once and handed out meanwhile."
            ),
        }
    }

    fn proof(&self) -> String {
        let renewed = self.outcomes.iter().rev().find(|outcome| outcome.result == "renewed");
        match (self.key.proven, renewed) {
            (true, Some(renewed)) => format!("The Store renewed it last {}.", relative(renewed.at, self.now)),
            (true, None) => String::from("The Store has renewed it before."),
            (false, _) => String::from("The Store has not renewed it yet, so it is not proven to be genuine."),
        }
    }

    /// What a last attempt without a successor means.
    fn last_attempt(&self) -> Option<String> {
        let last = self.outcomes.last()?;
        let when = relative(last.at, self.now);
        let status = last.status.map(|status| format!(", status {status}")).unwrap_or_default();
        let code = if last.code.is_empty() { "no reason given" } else { &last.code };
        match last.result.as_str() {
            "failed" => Some(format!(
                "The last attempt, {when}, failed ({}{status}); that says nothing about the key.",
                safe(code)
            )),
            "acquitted" => Some(format!("An operator undid its condemnation {when}.")),
            _ => None,
        }
    }

    fn refusal(&self) -> Option<String> {
        let since = self.key.refused_since?;
        let refusals =
            self.outcomes.iter().filter(|outcome| outcome.result == "refused" && outcome.at >= since).count();
        let times = if refusals > 1 { format!(", {refusals} times by now") } else { String::new() };
        Some(format!(
            "The Store has refused to renew it since {} ({}){times}. One refusal proves nothing: it is called revoked only after several over a day or more, while other keys of the app are renewed.",
            instant(since),
            relative(since, self.now)
        ))
    }

    fn newcomer(&self) -> Option<String> {
        let newcomer = self.key.newcomer.as_ref()?;
        Some(format!("A newer key, {newcomer}, waits beside it and takes its place once the Store has accepted it."))
    }

    fn next(&self) -> String {
        if let Some(reason) = &self.app.paused {
            let detail = self.app.paused_detail.as_deref().filter(|detail| !detail.is_empty());
            let detail = detail.map(|detail| format!(": {}", safe(detail))).unwrap_or_default();
            return format!(
                "Next: nothing, for the app is paused ({}{detail}); see `storekeeper status`.",
                safe(reason)
            );
        }
        if self.key.handed_over {
            return String::from(
                "Next: nothing; it was handed over to another keeper, and is served here until it expires.",
            );
        }
        let what = if self.key.refused_since.is_some() { "tried again" } else { "renewed" };
        match self.key.renew_at {
            Some(at) if at <= self.now => format!(
                "Next: it has been due for {} and is {what} as soon as the pace allows.",
                span(self.now.since(at))
            ),
            Some(at) => format!("Next: it is {what} {}, at {}.", relative(at, self.now), instant(at)),
            None => String::from(
                "Next: nothing; it is no longer renewed because nobody has read it for longer than `retain`.",
            ),
        }
    }

    fn revoked(&self, told: &mut Vec<String>) {
        let condemned = self.outcomes.iter().rev().find(|outcome| outcome.result == "revoked");
        let when = condemned.map(|outcome| format!(" {}", relative(outcome.at, self.now))).unwrap_or_default();
        told.push(format!(
            "It was condemned{when}: the Store refused it again and again while it renewed other keys of the app."
        ));
        told.push(String::from("Next: the player has to mint a new key; enrolling that one revives the row."));
        told.push(format!(
            "If you know better, `storekeeper app acquit {}` undoes condemnations while the keys still live.",
            safe(&self.key.app)
        ));
    }

    fn lapsed(&self, told: &mut Vec<String>) {
        let expired = self.key.expires_at.map(|at| format!(" at {} ({})", instant(at), relative(at, self.now)));
        told.push(format!(
            "It expired{} before it could be renewed: that is our failure, not the player's.",
            expired.unwrap_or_default()
        ));
        told.extend(self.last_attempt());
        told.push(String::from("Next: the player has to mint a new key; enrolling that one revives the row."));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(days: i64) -> Timestamp {
        Timestamp::from_seconds(1_769_860_800 + days * 86_400)
    }

    fn key(state: &str) -> Key {
        Key {
            app: String::from("mygame"),
            user: String::from("player-0001"),
            slot: String::new(),
            kind: String::from("collections"),
            state: state.to_owned(),
            proven: true,
            refused_since: None,
            key_version: 2,
            fingerprint: String::from("00112233445566778899aabbccddeeff"),
            certificate: String::from("AB"),
            issued_at: at(-3),
            expires_at: Some(at(27)),
            renew_at: Some(at(6)),
            newcomer: None,
            handed_over: false,
        }
    }

    fn outcome(days: i64, result: &str, code: &str) -> Outcome {
        Outcome { at: at(days), result: result.to_owned(), status: None, code: code.to_owned(), correlation_id: None }
    }

    fn check(key: &Key, outcomes: &[Outcome], app: &AppStats, expected: &[&str]) {
        let told = Case { key, outcomes, app, now: at(0) }.sentences().join("\n");
        for words in expected {
            assert!(told.contains(words), "`{words}` is missing in:\n{told}");
        }
    }

    #[test]
    fn a_key_that_is_well() {
        let expected = [
            "player-0001's collections key in mygame is active",
            "issued 3 days ago and lives until 2026-02-27T12:00:00Z (in 27 days)",
            "renewed it last 3 days ago",
            "Next: it is renewed in 6 days",
        ];
        check(&key("active"), &[outcome(-3, "renewed", "renewed")], &AppStats::default(), &expected);
    }

    #[test]
    fn a_key_in_trouble() {
        let refused =
            Key { refused_since: Some(at(-1)), renew_at: Some(at(0) - Duration::from_secs(90)), ..key("active") };
        let history = [outcome(-1, "refused", "refused"), outcome(0, "refused", "refused")];
        let expected =
            ["refused to renew it since", "2 times by now", "proves nothing", "due for 2 min and is tried again"];
        check(&refused, &history, &AppStats::default(), &expected);
        let paused = AppStats { paused: Some(String::from("credential")), ..AppStats::default() };
        let failed = [outcome(-1, "failed", "timed_out")];
        let expected = ["failed (timed_out); that says nothing", "Next: nothing, for the app is paused (credential)"];
        check(&key("active"), &failed, &paused, &expected);
    }

    #[test]
    fn a_key_that_is_gone() {
        let history = [outcome(-1, "revoked", "refused_beside_witness")];
        let expected = ["condemned 1 day ago", "mint a new key", "storekeeper app acquit mygame"];
        check(&key("revoked"), &history, &AppStats::default(), &expected);
        let lapsed = Key { expires_at: Some(at(-2)), ..key("lapsed") };
        check(&lapsed, &[], &AppStats::default(), &["expired at", "(2 days ago)", "our failure", "mint a new key"]);
    }

    #[test]
    fn odd_keys() {
        let odd = Key {
            expires_at: None,
            proven: false,
            newcomer: Some(String::from("ff")),
            renew_at: None,
            ..key("active")
        };
        let expected = ["its times say nothing", "not proven", "A newer key, ff, waits", "longer than `retain`"];
        check(&odd, &[], &AppStats::default(), &expected);
    }
}
