//! What an import would do: how old the keys are, what is dead already, and how long it takes until all is renewed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use storekeeper_model::{AppName, KeyKind, Timestamp};
use storekeeper_policy::{RenewalPolicy, deadline_at, renew_at};

use crate::config::Config;
use crate::exit::{CommandError, CommandResult, Exit};
use crate::output::{self, Format, Rows, count, counted, instant_or_dash};

use super::line::Seen;

/// Days of age at which the columns of the table end.
const AGES: [u64; 6] = [3, 7, 11, 14, 21, 30];

/// What was seen of one app and kind.
#[derive(Debug, Default, Serialize)]
struct Share {
    keys: u64,
    /// Expired: only the players can help.
    dead: u64,
    /// Alive, and older than the policy's deadline.
    past_deadline: u64,
    /// Alive, and due at once.
    due: u64,
    /// Their times say nothing: due at once.
    without_times: u64,
    /// By age in days: up to 3, 7, 11, 14, 21, 30, and more.
    ages: [u64; 7],
    /// The first of the living to expire.
    first_expires_at: Option<Timestamp>,
    /// Until all that is due is renewed, at the pace that is reached.
    drain_seconds: u64,
    /// The same if the Store allowed no more than the pace that is begun with.
    drain_at_start_seconds: u64,
}

/// A plan.
pub(super) struct Plan {
    now: Timestamp,
    policies: BTreeMap<AppName, RenewalPolicy>,
    shares: BTreeMap<(AppName, &'static str), Share>,
}

#[derive(Serialize)]
struct Told<'a> {
    now: Timestamp,
    /// Those that would be sent; each is in one share.
    lines: u64,
    overtaken: u64,
    rejected: u64,
    shares: Vec<ToldShare<'a>>,
}

#[derive(Serialize)]
struct ToldShare<'a> {
    app: &'a str,
    kind: &'a str,
    #[serde(flatten)]
    share: &'a Share,
}

impl Plan {
    /// Plans by the policies of a configuration, or by the default one.
    pub(super) fn new(
        config: Option<&Path>,
        environment: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Self, CommandError> {
        let policies = match config {
            None => BTreeMap::new(),
            Some(file) => {
                let loaded = Config::load(file, environment);
                let (config, _) = loaded.map_err(|error| CommandError::new(Exit::Usage, error))?;
                config.app.iter().map(|app| (app.name.clone(), app.renewal)).collect()
            }
        };
        Ok(Self { now, policies, shares: BTreeMap::new() })
    }

    fn policy(&self, app: &AppName) -> RenewalPolicy {
        self.policies.get(app).copied().unwrap_or_default()
    }

    /// Takes a key into account.
    pub(super) fn add(&mut self, seen: &Seen) {
        let (now, policy) = (self.now, self.policy(&seen.app));
        let share = self.shares.entry((seen.app.clone(), KeyKind::as_str(seen.kind))).or_default();
        share.keys += 1;
        let Some(expires_at) = seen.lifetime.expires_at() else {
            share.without_times += 1;
            share.due += 1;
            return;
        };
        let age = now.since(seen.lifetime.issued_at());
        let column = AGES.iter().position(|days| age <= Duration::from_secs(days * 86_400));
        share.ages[column.unwrap_or(AGES.len())] += 1;
        if expires_at <= now {
            share.dead += 1;
            return;
        }
        share.first_expires_at = Some(share.first_expires_at.map_or(expires_at, |first| first.min(expires_at)));
        share.past_deadline += u64::from(deadline_at(&policy, &seen.lifetime).is_some_and(|at| at <= now));
        share.due += u64::from(renew_at(&policy, seen.id, &seen.lifetime).is_some_and(|at| at <= now));
    }

    /// Says how long it takes, now that all keys are known.
    fn end(&mut self) {
        let policies: Vec<RenewalPolicy> = self.shares.keys().map(|(app, _)| self.policy(app)).collect();
        for (share, policy) in self.shares.values_mut().zip(policies) {
            share.drain_seconds = drain(share.due, policy.pace_max);
            share.drain_at_start_seconds = drain(share.due, policy.pace_start);
        }
    }

    /// Prints it.
    pub(super) fn print(mut self, lines: u64, overtaken: u64, rejected: u64, format: Format) -> CommandResult {
        self.end();
        let shares = self.shares.iter();
        if format == Format::Json {
            let shares = shares.map(|((app, kind), share)| ToldShare { app: app.as_str(), kind, share }).collect();
            return output::print_json(&Told { now: self.now, lines, overtaken, rejected, shares });
        }
        let mut rows = Rows::new([
            "APP",
            "KIND",
            "KEYS",
            "DEAD",
            "PAST DEADLINE",
            "DUE",
            "≤3D",
            "≤7D",
            "≤11D",
            "≤14D",
            "≤21D",
            "≤30D",
            "OLDER",
            "FIRST EXPIRES",
            "TIME TO DRAIN",
        ])
        .numbers(&[2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        for ((app, kind), share) in shares {
            rows.add(row(app, kind, share));
        }
        output::print(&format!("{}\n{}", rows.text(), remarks(lines, overtaken, rejected, self.policies.is_empty())))
    }
}

/// Time to renew so many keys of one host at a pace.
fn drain(keys: u64, pace: f64) -> u64 {
    (keys as f64 / pace).ceil() as u64
}

fn row(app: &AppName, kind: &str, share: &Share) -> [String; 15] {
    let [a, b, c, d, e, f, g] = share.ages.map(count);
    let spans =
        [share.drain_seconds, share.drain_at_start_seconds].map(|seconds| output::span(Duration::from_secs(seconds)));
    [
        app.to_string(),
        kind.to_owned(),
        count(share.keys),
        count(share.dead),
        count(share.past_deadline),
        count(share.due),
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        instant_or_dash(share.first_expires_at),
        format!("{} to {}", spans[0], spans[1]),
    ]
}

fn remarks(lines: u64, overtaken: u64, rejected: u64, is_default: bool) -> String {
    let policy =
        if is_default { "the default policy; --config FILE plans by yours" } else { "the configured policies" };
    let rejected =
        if rejected > 0 { format!(", {} cannot be taken", counted(rejected, "line")) } else { String::new() };
    let overtaken = if overtaken > 0 {
        format!(", {} overtaken by a later one", counted(overtaken, "line"))
    } else {
        String::new()
    };
    format!("{}{overtaken}{rejected}; by {policy}. Nothing was changed.", counted(lines, "key"))
}

#[cfg(test)]
mod tests {
    use storekeeper_model::{KeyId, Lifetime};

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn plan(now: Timestamp) -> Plan {
        Plan { now, policies: BTreeMap::new(), shares: BTreeMap::new() }
    }

    #[test]
    fn each_key_is_in_the_figures_that_its_age_belongs_to() {
        let now = Timestamp::from_seconds(1_790_000_000);
        let mut plan = plan(now);
        let app = AppName::new("mygame").unwrap();
        let mut add = |kind, lifetime, times: u8| {
            for number in 0..times {
                let id = KeyId::from_bytes([number * 16; 16]);
                plan.add(&Seen { app: app.clone(), kind, id, lifetime, is_exported: true });
            }
        };
        let of_age = |days: u32| {
            let issued_at = now - DAY * days;
            Lifetime::new(issued_at, issued_at, issued_at + DAY * 30)
        };
        // Renewed between the seventh and the eleventh day of its life, each at its own moment: these are due or are not
        // whoever they are.
        for (days, times) in [(1, 2), (3, 1), (6, 4), (12, 5), (14, 1), (15, 3), (30, 2), (31, 6)] {
            add(KeyKind::Collections, of_age(days), times);
        }
        add(KeyKind::Purchase, Lifetime::new(now, now + DAY, now), 7);
        plan.end();
        let [collections, purchase] = plan.shares.values().collect::<Vec<_>>()[..] else { panic!("one of each kind") };
        assert_eq!((collections.keys, collections.dead), (24, 8), "thirty days are a life");
        assert_eq!(collections.ages, [3, 4, 0, 6, 3, 2, 6]);
        assert_eq!((collections.past_deadline, collections.due), (4, 9));
        assert_eq!(collections.first_expires_at, Some(now + DAY * 15));
        assert_eq!((collections.drain_seconds, collections.drain_at_start_seconds), (1, 1));
        assert_eq!((purchase.keys, purchase.without_times, purchase.due, purchase.dead), (7, 7, 7, 0));
        assert_eq!((purchase.ages, purchase.first_expires_at), ([0; 7], None));
    }

    #[test]
    fn the_time_to_drain_follows_what_is_due_and_the_pace() {
        assert_eq!([drain(0, 20.0), drain(1, 20.0), drain(20, 20.0), drain(21, 20.0)], [0, 1, 1, 2]);
        assert_eq!(drain(10_000_000, 500.0), 20_000);
    }
}
