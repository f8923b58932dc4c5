//! The switches of the emulator: which era it plays, and both answers to what store.md section 11 leaves open.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which era of the Store is played (store.md 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// 30 days, renewable until `exp`; certificates rotate only on request.
    #[default]
    Documented,
    /// As `Documented`, and the signing certificate rotates every 7 days; one that stopped signing is accepted for
    /// renewal for 14 more days, so that every key can be renewed for 14 days and none for more than 21.
    GameDocs,
    /// 90 days less a second, renewable after `exp` (2015 to 2022).
    Legacy,
}

impl Profile {
    /// `exp` - `iat` of a key minted now (store.md 3.4).
    pub const fn lifetime(self) -> Duration {
        match self {
            Self::Documented | Self::GameDocs => Duration::from_secs(2_592_000),
            Self::Legacy => Duration::from_secs(7_775_999),
        }
    }

    /// Whether a key is still renewed at and after its `exp`.
    pub const fn renews_expired(self) -> bool {
        matches!(self, Self::Legacy)
    }
}

/// How a 401 of the Store is told (store.md 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorShape {
    /// The inner code directly.
    #[default]
    Plain,
    /// Inner code `AuthenticationFailure`, the cause flattened to text in `data[0]`.
    Wrapped,
}

/// Open question 1: does a key that has been renewed still renew?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Superseded {
    /// It does, any number of times, until its own `exp`.
    #[default]
    Usable,
    /// It is refused from then on. Only keys renewed while this answer is chosen are remembered.
    Refused,
}

/// Open question 5: does a ticket obtained with a certificate or an assertion (`appidacr` "2") pass key creation?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificateTickets {
    /// Like one obtained with a secret.
    #[default]
    Accepted,
    /// Refused at key creation, and only there (store.md 2.4).
    Refused,
}

/// Open question 6: is a v2.0-format ticket (`azp` instead of `appid`) accepted?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FormatV2Tickets {
    /// 401 `AuthenticationTokenInvalid` (store.md 2.8).
    #[default]
    Refused,
    /// `azp` counts as `appid`.
    Accepted,
}

/// Open question 9: does an answer continue the caller's correlation vector?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Correlation {
    /// The received `MS-CV`, extended.
    #[default]
    Continued,
    /// A vector of the Store's own, whatever was sent.
    Fresh,
}

/// How many calls one publisher user may make (store.md 5.5). Open question 3: renewal may not be limited at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Calls in any span of `seconds`.
    pub operations: u32,
    /// The span, in whole seconds of the emulator's time.
    pub seconds: u32,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { operations: 200, seconds: 300 }
    }
}

/// Everything about the emulator's behaviour that may change while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    /// The era.
    pub profile: Profile,
    /// How a 401 is told.
    pub errors: ErrorShape,
    /// Whether a superseded key still renews.
    pub superseded: Superseded,
    /// Whether key creation takes tickets obtained without a secret.
    pub certificate_tickets: CertificateTickets,
    /// Whether tickets without `appid` pass.
    pub format_v2_tickets: FormatV2Tickets,
    /// What becomes of the caller's `MS-CV`.
    pub correlation: Correlation,
    /// Open question 10: how far `nbf` and `exp` may be missed, in seconds, at most 300 (store.md 4.5).
    pub skew_seconds: u32,
    /// The bucket per publisher user; `None` is no limit.
    pub rate_limit: Option<RateLimit>,
}

impl Switches {
    /// The largest `skew_seconds`.
    pub const SKEW_SECONDS_MAX: u32 = 300;
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            errors: ErrorShape::default(),
            superseded: Superseded::default(),
            certificate_tickets: CertificateTickets::default(),
            format_v2_tickets: FormatV2Tickets::default(),
            correlation: Correlation::default(),
            skew_seconds: 0,
            rate_limit: Some(RateLimit::default()),
        }
    }
}

/// A change of some switches; what is absent stays. The body of `POST /control/v1/profile`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileChange {
    /// See [`Switches::profile`].
    pub profile: Option<Profile>,
    /// See [`Switches::errors`].
    pub errors: Option<ErrorShape>,
    /// See [`Switches::superseded`].
    pub superseded: Option<Superseded>,
    /// See [`Switches::certificate_tickets`].
    pub certificate_tickets: Option<CertificateTickets>,
    /// See [`Switches::format_v2_tickets`].
    pub format_v2_tickets: Option<FormatV2Tickets>,
    /// See [`Switches::correlation`].
    pub correlation: Option<Correlation>,
    /// See [`Switches::skew_seconds`]; cut to 300.
    pub skew_seconds: Option<u32>,
    /// See [`Switches::rate_limit`]; zero operations switch the limit off.
    pub rate_limit: Option<RateLimit>,
}

impl ProfileChange {
    /// The switches after the change.
    pub fn apply(self, to: Switches) -> Switches {
        Switches {
            profile: self.profile.unwrap_or(to.profile),
            errors: self.errors.unwrap_or(to.errors),
            superseded: self.superseded.unwrap_or(to.superseded),
            certificate_tickets: self.certificate_tickets.unwrap_or(to.certificate_tickets),
            format_v2_tickets: self.format_v2_tickets.unwrap_or(to.format_v2_tickets),
            correlation: self.correlation.unwrap_or(to.correlation),
            skew_seconds: self.skew_seconds.unwrap_or(to.skew_seconds).min(Switches::SKEW_SECONDS_MAX),
            rate_limit: self.rate_limit.map_or(to.rate_limit, |limit| (limit.operations > 0).then_some(limit)),
        }
    }
}

/// Whether keys and tickets carry real signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signatures {
    /// RSA-2048, made and verified.
    #[default]
    Real,
    /// Random bytes of the same length, never verified: for simulation and load generation, where RSA would be all that
    /// is measured. No command line leads here.
    Skipped,
}

/// How an emulator starts.
#[derive(Debug, Clone, Default)]
pub struct EmulatorOptions {
    /// The switches it starts with and returns to on reset.
    pub switches: Switches,
    /// Decides payloads and ids; RSA keys are always fresh.
    pub seed: u64,
    /// Where `refreshUri` and the discovery documents point, when not at Microsoft: the emulated hosts follow as path
    /// prefixes.
    pub public_url: Option<String>,
    /// Real by default.
    pub signatures: Signatures,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_touches_what_it_names() {
        let change: ProfileChange = serde_json::from_str(r#"{"profile":"game-docs","errors":"wrapped"}"#).unwrap();
        let expected = Switches { profile: Profile::GameDocs, errors: ErrorShape::Wrapped, ..Switches::default() };
        assert_eq!(change.apply(Switches::default()), expected);
    }

    #[test]
    fn limits_of_a_change() {
        let change: ProfileChange =
            serde_json::from_str(r#"{"skew_seconds":900,"rate_limit":{"operations":0,"seconds":1}}"#).unwrap();
        let switches = change.apply(Switches::default());
        assert_eq!((switches.skew_seconds, switches.rate_limit), (300, None));
        assert!(serde_json::from_str::<ProfileChange>(r#"{"profil":"legacy"}"#).is_err());
    }
}
