//! `[renewal]`: when keys are renewed and how hard the Store is pushed; an `[[app]]` may override any of it.

use storekeeper_policy::PolicyError;
pub use storekeeper_policy::RenewalPolicy as Renewal;

use super::problem::Report;
use super::resolve::Node;
use super::schema::{Kind, Occurs, Preset, Section, Setting};

/// Takes what `node` says and the rest from `base`, and refuses what cannot keep a key alive.
pub(super) fn read(node: &Node, base: &Renewal, report: &mut Report) -> Renewal {
    let condemn_refusals = node.count("condemn_refusals").and_then(|count| u32::try_from(count).ok());
    let renewal = Renewal {
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
    // What a section merely inherits was judged where it is written.
    if node.values.iter().any(|value| node.is_written(value.name))
        && let Err(error) = renewal.validate()
    {
        let suspects = suspects(&error);
        let culprit = suspects.iter().find(|name| node.is_written(name)).unwrap_or(&suspects[0]);
        node.refuse(culprit, error.to_string(), report);
    }
    renewal
}

/// The settings that may be to blame, the likeliest first.
fn suspects(error: &PolicyError) -> Vec<&'static str> {
    match error {
        PolicyError::Zero { name }
        | PolicyError::TooShort { name, .. }
        | PolicyError::TooLong { name, .. }
        | PolicyError::PaceNotPositive { name, .. } => vec![name],
        PolicyError::DeadlinePastLife { .. } => vec!["deadline"],
        PolicyError::SpreadTooWide { .. } => vec!["spread", "target"],
        PolicyError::OutageBudgetTooLarge { .. } => vec!["outage_budget", "target", "spread", "deadline"],
        PolicyError::RefusalsOutOfRange { .. } => vec!["condemn_refusals"],
        PolicyError::PaceStartsTooFast { .. } => vec!["pace_start", "pace_max"],
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
        kind: Kind::Count(1, Renewal::CONDEMN_REFUSALS_MAX as u64),
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
