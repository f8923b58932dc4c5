//! `[renewal]`: when keys are renewed and how hard the Store is pushed; an `[[app]]` may override any of it.

use std::time::Duration;

use storekeeper_model::format_span;

use super::problem::Report;
use super::resolve::Node;
use super::schema::{Kind, Occurs, Preset, Section, Setting};

/// The policy of one app. Spans are for keys that live 30 days; they shrink with a shorter lifetime.
#[derive(Debug, Clone, PartialEq)]
pub struct Renewal {
    /// The age at which a key is renewed.
    pub target: Duration,
    /// Each key's fixed offset lies within ± this.
    pub spread: Duration,
    /// Past this age somebody is paged.
    pub deadline: Duration,
    /// How long the Store may be away before the deadline is in danger.
    pub outage_budget: Duration,
    /// Renewals per second to begin with, towards each host and client ID.
    pub pace_start: f64,
    /// Renewals per second at most, towards each host and client ID.
    pub pace_max: f64,
    /// Keys not read for this long are no longer renewed; `None` renews all.
    pub retain: Option<Duration>,
    /// A key is condemned only after refusals over at least this long.
    pub condemn_after: Duration,
    /// A key is condemned only after at least this many refusals.
    pub condemn_refusals: u32,
}

impl Default for Renewal {
    /// What the table of settings says.
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        Self {
            target: days(9),
            spread: days(2),
            deadline: days(14),
            outage_budget: days(3),
            pace_start: 20.0,
            pace_max: 500.0,
            retain: None,
            condemn_after: days(1),
            condemn_refusals: 3,
        }
    }
}

impl Renewal {
    /// Takes what `node` says and the rest from `base`.
    pub(super) fn read(node: &Node, base: &Self, report: &mut Report) -> Self {
        let condemn_refusals = node.count("condemn_refusals").and_then(|count| u32::try_from(count).ok());
        let renewal = Self {
            target: node.span("target").unwrap_or(base.target),
            spread: node.span("spread").unwrap_or(base.spread),
            deadline: node.span("deadline").unwrap_or(base.deadline),
            outage_budget: node.span("outage_budget").unwrap_or(base.outage_budget),
            pace_start: node.rate("pace_start").unwrap_or(base.pace_start),
            pace_max: node.rate("pace_max").unwrap_or(base.pace_max),
            retain: if node.is_off("retain") { None } else { node.span("retain").or(base.retain) },
            condemn_after: node.span("condemn_after").unwrap_or(base.condemn_after),
            condemn_refusals: condemn_refusals.unwrap_or(base.condemn_refusals),
        };
        if node.values.iter().any(|value| node.is_written(value.name)) {
            renewal.check(node, report);
        }
        renewal
    }

    /// Refuses combinations that cannot keep a key alive.
    fn check(&self, node: &Node, report: &mut Report) {
        let written =
            |names: [&'static str; 4]| names.into_iter().find(|name| node.is_written(name)).unwrap_or(names[0]);
        if self.target.is_zero() || self.spread >= self.target {
            let message = "must be longer than `spread`, or keys would be renewed the moment they are issued";
            node.refuse(written(["target", "spread", "target", "target"]), message, report);
        }
        let worst = self.target.saturating_add(self.spread).saturating_add(self.outage_budget);
        if worst > self.deadline {
            let message = format!(
                "target {} + spread {} + outage_budget {} = {} is past the deadline of {}: shorten one of them",
                format_span(self.target),
                format_span(self.spread),
                format_span(self.outage_budget),
                format_span(worst),
                format_span(self.deadline)
            );
            node.refuse(written(["deadline", "target", "outage_budget", "spread"]), message, report);
        }
        if self.pace_start > self.pace_max {
            let message = format!("pace_start {}/s is above pace_max {}/s", self.pace_start, self.pace_max);
            node.refuse(written(["pace_start", "pace_max", "pace_max", "pace_max"]), message, report);
        }
    }
}

const fn span(name: &'static str, preset: &'static str, about: &'static str) -> Setting {
    Setting { name, kind: Kind::Span, preset: Preset::Value(preset), sample: None, about }
}

const fn rate(name: &'static str, preset: &'static str, about: &'static str) -> Setting {
    Setting { name, kind: Kind::Rate, preset: Preset::Value(preset), sample: None, about }
}

pub(super) const SETTINGS: &[Setting] = &[
    span("target", "9d", "The age at which a key is renewed."),
    span("spread", "2d", "Each key's own fixed offset lies within ± this, so that load is flat."),
    span("deadline", "14d", "Past this age somebody is paged; the Store may refuse older keys for their certificate."),
    span(
        "outage_budget",
        "3d",
        "How long the Store may be away. target + spread + outage_budget must not exceed the deadline.",
    ),
    rate("pace_start", "20/s", "Renewals per second to begin with, towards each host and client ID."),
    rate("pace_max", "500/s", "Renewals per second at most, towards each host and client ID."),
    Setting {
        name: "retain",
        kind: Kind::SpanOrOff,
        preset: Preset::Value("off"),
        sample: Some("retain = \"180d\""),
        about: "Keys not read for this long are no longer renewed.",
    },
    span("condemn_after", "1d", "A refused key is condemned only after refusals over at least this long."),
    Setting {
        name: "condemn_refusals",
        kind: Kind::Count(1, 1000),
        preset: Preset::Value("3"),
        sample: None,
        about: "A refused key is condemned only after at least this many refusals.",
    },
];

pub(super) const SECTION: Section = Section {
    name: "renewal",
    occurs: Occurs::Once,
    about: "When keys are renewed, and how hard the Store is pushed. Spans shrink for keys that live less than 30 days.",
    settings: SETTINGS,
    sections: &[],
};

/// `[app.renewal]`.
pub(super) const OVERRIDES: Section = Section {
    name: "renewal",
    occurs: Occurs::Overrides,
    about: "Overrides `[renewal]` for this app; what it does not name is taken from there.",
    settings: SETTINGS,
    sections: &[],
};
