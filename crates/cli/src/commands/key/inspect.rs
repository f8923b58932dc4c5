//! `storekeeper key inspect`: what a key says of itself, offline; never the key, its payload or its signature.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use storekeeper_clock::{Clock as _, SystemClock};
use storekeeper_model::{Lifetime, StoreIdKey, Timestamp};
use storekeeper_policy::{RenewalPolicy, deadline_at};

use crate::exit::{CommandError, CommandResult, Exit};
use crate::key_file;
use crate::output::{self, Format, Rows, instant, relative, span};

/// Tell what a key says of itself, offline. Neither its payload nor its signature is printed.
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The file that holds the key; stdin unless told
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// See it as of this instant, instead of now
    #[arg(long, value_name = "INSTANT")]
    at: Option<Timestamp>,
}

impl Inspect {
    /// Reads the key, and tells.
    pub(super) fn run(self, format: Format) -> CommandResult {
        let key = StoreIdKey::parse(key_file::read(self.file.as_deref())?);
        let key = key.map_err(|error| CommandError::new(Exit::Usage, error))?;
        let now = self.at.unwrap_or_else(|| SystemClock::new().now());
        let seen = Seen::of(&key, now);
        match format {
            Format::Json => output::print_json(&seen.document()),
            Format::Table => output::print(&seen.table().text()),
        }
    }
}

/// A key, seen at an instant.
struct Seen<'a> {
    key: &'a StoreIdKey,
    now: Timestamp,
    /// Between these the default policy renews it.
    window: Option<[Timestamp; 2]>,
    deadline: Option<Timestamp>,
}

impl<'a> Seen<'a> {
    fn of(key: &'a StoreIdKey, now: Timestamp) -> Self {
        let policy = RenewalPolicy::default();
        let lifetime = key.lifetime();
        Self { key, now, window: window(&policy, lifetime), deadline: deadline_at(&policy, lifetime) }
    }

    /// `live`, `expired`, `not valid yet`, or that it has no usable times.
    fn state(&self) -> &'static str {
        let lifetime = self.key.lifetime();
        match (lifetime.not_before(), lifetime.expires_at()) {
            (Some(not_before), Some(_)) if self.now < not_before => "not_yet_valid",
            (Some(_), Some(expires_at)) if self.now >= expires_at => "expired",
            (Some(_), Some(_)) => "live",
            _ => "times_unusable",
        }
    }

    fn document(&self) -> serde_json::Value {
        let lifetime = self.key.lifetime();
        let [issued_at, claimed_not_before, claimed_expires_at] = lifetime.claimed();
        json!({
            "kind": self.key.kind().as_str(),
            "client_id": self.key.client_id().to_string(),
            "user_id": self.key.user_id().as_str(),
            "certificate": self.key.certificate().as_str(),
            "fingerprint": self.key.fingerprint(),
            "state": self.state(),
            "issued_at": issued_at,
            "not_before": claimed_not_before,
            "expires_at": lifetime.expires_at(),
            "claimed_expires_at": claimed_expires_at,
            "renew_from": self.window.map(|[from, _]| from),
            "renew_until": self.window.map(|[_, until]| until),
            "deadline": self.deadline,
            "refresh_uri_known": self.key.refresh_uri_is_known(),
            "now": self.now,
        })
    }

    fn table(&self) -> Rows {
        let (key, now) = (self.key, self.now);
        let lifetime = key.lifetime();
        let seen = |at: Timestamp| format!("{}  {}", instant(at), relative(at, now));
        let [issued_at, not_before, expires_at] = lifetime.claimed();
        let mut rows = Rows::pairs();
        rows.add(["kind", key.kind().as_str()]);
        rows.add(["client ID", &key.client_id().to_string()]);
        rows.add(["userId", key.user_id().as_str()]);
        rows.add(["certificate", key.certificate().as_str()]);
        rows.add(["fingerprint", &key.fingerprint().to_string()]);
        rows.add(["state", &self.state_in_words()]);
        rows.add(["issued", &seen(issued_at)]);
        rows.add(["valid from", &seen(not_before)]);
        rows.add(["expires", &seen(expires_at)]);
        if let Some(length) = lifetime.length() {
            rows.add(["lives", &span(length)]);
        }
        if let Some([from, until]) = self.window {
            rows.add(["renew from", &seen(from)]);
            rows.add(["renew until", &seen(until)]);
        }
        if let Some(deadline) = self.deadline {
            rows.add(["deadline", &seen(deadline)]);
        }
        if !key.refresh_uri_is_known() {
            rows.add(["refreshUri", "not Microsoft's own; storekeeper never follows it"]);
        }
        rows
    }

    fn state_in_words(&self) -> String {
        let text = match self.state() {
            "live" => "live",
            "expired" => "expired: only the player can obtain another",
            "not_yet_valid" => "not valid yet: the Store refuses it until then",
            _ => "exp does not lie after nbf and iat: the times are unusable, so it is due at once",
        };
        text.to_owned()
    }
}

/// When the default policy renews a key: between the earliest and the latest moment that an identity can give it.
fn window(policy: &RenewalPolicy, lifetime: &Lifetime) -> Option<[Timestamp; 2]> {
    let at = |share: u8| {
        let id = storekeeper_model::KeyId::from_bytes([share; 16]);
        storekeeper_policy::renew_at(policy, id, lifetime)
    };
    Some([at(0)?, at(0xff)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_that_of_the_policy() {
        let day = |days: i64| Timestamp::from_seconds(1_733_526_889 + days * 86_400);
        let lifetime = Lifetime::new(day(0), day(0), day(30));
        let [from, until] = window(&RenewalPolicy::default(), &lifetime).unwrap();
        assert_eq!(from, day(7));
        assert!(until > day(10) && until < day(11) + std::time::Duration::from_secs(1), "{until}");
        assert_eq!(window(&RenewalPolicy::default(), &Lifetime::new(day(0), day(30), day(0))), None);
    }
}
