//! Events: what others want to hear of, told in the log and counted. Never with key material or a user's name.

use crate::engine::{Announcement, AppIndex};
use crate::shell::Tools;

/// Tells the world. The type is that of a CloudEvent (events.md), without its prefix `storekeeper.`.
pub(crate) fn announce(announcement: &Announcement, tools: &Tools) {
    let name = |app: &AppIndex| tools.attempts.config.apps[app.0].name.as_str();
    let kind = type_of(announcement);
    tools.metrics.event(kind);
    match announcement {
        Announcement::Key { app, kind: key_kind, fingerprint, reason, .. } => {
            tracing::info!(event = kind, app = name(app), kind = %key_kind, key = %fingerprint, reason);
        }
        Announcement::Paused { app, reason, detail } => {
            tracing::error!(event = kind, app = name(app), reason, detail, "keys of this app are served, not renewed");
        }
        Announcement::Resumed { app, reason } => {
            tracing::warn!(event = kind, app = name(app), reason, "keys of this app are renewed again");
        }
        Announcement::LifetimeChanged { app, before, after } => {
            tracing::warn!(event = kind, app = name(app), ?before, ?after, "keys are issued for another span");
        }
        Announcement::ClockSkewed { ours, theirs } => {
            tracing::error!(event = kind, %ours, %theirs, "our clock and the Store's disagree: nothing is condemned");
        }
        Announcement::ClockAgrees => tracing::warn!(event = kind, "our clock and the Store's agree again"),
        Announcement::Store { kind: key_kind, app, .. } => {
            tracing::warn!(event = kind, host = key_kind.host(), app = name(app));
        }
    }
}

fn type_of(announcement: &Announcement) -> &'static str {
    use crate::engine::KeyEvent;
    match announcement {
        Announcement::Key { event: KeyEvent::Proven, .. } => "key.proven",
        Announcement::Key { event: KeyEvent::EnrollmentRefused, .. } => "key.enrollment_refused",
        Announcement::Key { event: KeyEvent::Refused, .. } => "key.refused",
        Announcement::Key { event: KeyEvent::Recovered, .. } => "key.recovered",
        Announcement::Key { event: KeyEvent::ReenrollRequired, .. } => "key.reenroll_required",
        Announcement::Paused { .. } => "app.paused",
        Announcement::Resumed { .. } => "app.resumed",
        Announcement::LifetimeChanged { .. } => "app.lifetime_changed",
        Announcement::ClockSkewed { .. } => "clock.skewed",
        Announcement::ClockAgrees => "clock.agrees",
        Announcement::Store { restored: true, .. } => "store.restored",
        Announcement::Store { restored: false, .. } => "store.degraded",
    }
}

/// A label from remote text is one of a known set, or `other`.
pub(crate) fn known_code(code: &str) -> &'static str {
    const KNOWN: [&str; 16] = [
        "credential_refused",
        "misconfigured",
        "throttled",
        "unavailable",
        "unreadable",
        "redirected",
        "insecure",
        "dns_failed",
        "connect_failed",
        "tls_failed",
        "timed_out",
        "reset",
        "answer_too_large",
        "answer_malformed",
        "no_credential",
        "secret_unreadable",
    ];
    KNOWN.into_iter().find(|known| *known == code).unwrap_or("other")
}
