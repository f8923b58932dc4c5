//! The shapes of the answers, named as in the contract. Keys are written here and nowhere else.

use std::io::Write as _;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use storekeeper_keeper::{AppStats, Health, KeyPage, KeyView, KindStats, LiveKey, SignedSpan, Stats, Visibility};
use storekeeper_keyring::Outcome;
use storekeeper_model::{AppName, Fingerprint, KeyKind, Timestamp};
use utoipa::ToSchema;

/// What is known of a key, without the key.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyView)]
pub(crate) struct KeyAnswer<'a> {
    /// The configured app.
    app: &'a str,
    /// The backend's own name for the player.
    user: &'a str,
    /// Which of the player's Store accounts; usually empty.
    slot: &'a str,
    /// `collections` or `purchase`.
    kind: &'a str,
    /// `active`, `revoked` or `lapsed`.
    state: &'a str,
    /// Whether the Store has renewed this line at least once.
    proven: bool,
    /// Since when the Store refuses it, if it does.
    #[schema(value_type = Option<String>, format = DateTime)]
    refused_since: Option<Timestamp>,
    /// Changes only with the key.
    key_version: u32,
    /// The first 16 bytes of SHA-256 over the key, in lower-case hexadecimal digits.
    #[schema(value_type = String)]
    fingerprint: Fingerprint,
    /// Which certificate signed it.
    certificate: &'a str,
    /// The claim `iat`.
    #[schema(value_type = String, format = DateTime)]
    issued_at: Timestamp,
    /// The claim `exp`; null when the key's times are unusable.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// When the next renewal is due; null when none will be made.
    #[schema(value_type = Option<String>, format = DateTime)]
    renew_at: Option<Timestamp>,
    /// The fingerprint of a newer key that waits beside this one until the Store has accepted it; absent when none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    newcomer: Option<Fingerprint>,
    /// Whether its renewals are another keeper's now; absent when they are not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    handed_over: bool,
}

impl<'a> From<&'a KeyView> for KeyAnswer<'a> {
    fn from(view: &'a KeyView) -> Self {
        Self {
            app: view.identity.app.as_str(),
            user: view.identity.user.as_str(),
            slot: view.identity.slot.as_str(),
            kind: view.identity.kind.as_str(),
            state: view.standing.as_str(),
            proven: view.proven,
            refused_since: view.refused_since,
            key_version: view.key_version,
            fingerprint: view.fingerprint,
            certificate: view.certificate.as_str(),
            issued_at: view.issued_at,
            expires_at: view.expires_at,
            renew_at: view.renew_at,
            newcomer: view.newcomer,
            handed_over: view.handed_over,
        }
    }
}

/// A live key and what is known of it: the shape of what [`write_key`] writes.
#[derive(ToSchema)]
#[schema(as = LiveKey)]
#[expect(dead_code, reason = "read by the OpenAPI document only")]
pub(crate) struct LiveKeyAnswer<'a> {
    /// The compact JWT.
    key: &'a str,
    #[schema(inline)]
    #[serde(flatten)]
    view: KeyAnswer<'a>,
}

/// Writes a live key. The key is not scanned for characters to escape: three base64url parts and two dots have none.
pub(crate) fn write_key(live: &LiveKey, out: &mut Vec<u8>) {
    out.reserve(1 + room(live));
    out.push(b'{');
    write_key_members(live, out);
}

/// The same without the opening brace, to be appended to members written by hand.
pub(crate) fn write_key_members(live: &LiveKey, out: &mut Vec<u8>) {
    let key = live.key.expose().as_bytes();
    debug_assert!(
        key.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte)),
        "a parsed key is base64url"
    );
    out.reserve(room(live));
    out.extend_from_slice(b"\"key\":\"");
    out.extend_from_slice(key);
    out.push(b'"');
    KeyAnswer::from(&live.view).write_members(out);
    out.push(b'}');
}

/// How many bytes an answer takes at most, unless names are long: taken at once, it is not copied while it grows.
fn room(live: &LiveKey) -> usize {
    live.key.expose().len() + 640
}

impl KeyAnswer<'_> {
    /// Writes what serializing writes, each member after a comma. One key after the other is read all day long, and to
    /// look in sixteen constant names for characters to escape would take longer than to decrypt the key.
    fn write_members(&self, out: &mut Vec<u8>) {
        member(",\"app\":", &self.app, out);
        member(",\"user\":", &self.user, out);
        member(",\"slot\":", &self.slot, out);
        member(",\"kind\":", &self.kind, out);
        member(",\"state\":", &self.state, out);
        member(",\"proven\":", &self.proven, out);
        instant(",\"refused_since\":", self.refused_since, out);
        member(",\"key_version\":", &self.key_version, out);
        member(",\"fingerprint\":", &self.fingerprint, out);
        member(",\"certificate\":", &self.certificate, out);
        instant(",\"issued_at\":", Some(self.issued_at), out);
        instant(",\"expires_at\":", self.expires_at, out);
        instant(",\"renew_at\":", self.renew_at, out);
        if let Some(newcomer) = self.newcomer {
            member(",\"newcomer\":", &newcomer, out);
        }
        if self.handed_over {
            out.extend_from_slice(b",\"handed_over\":true");
        }
    }
}

fn member(name: &str, value: &impl Serialize, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    write(value, out);
}

/// The text of an instant has nothing to escape either.
fn instant(name: &str, at: Option<Timestamp>, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    match at {
        Some(at) => write!(out, "\"{at}\"").expect("memory takes it"),
        None => out.extend_from_slice(b"null"),
    }
}

/// Writes an object without its opening brace, to be appended to members written by hand.
pub(crate) fn write_members(object: &impl Serialize, out: &mut Vec<u8>) {
    let brace = out.len();
    write(object, out);
    debug_assert_eq!(out[brace], b'{', "only objects have members");
    out.remove(brace);
}

/// Writes any answer.
pub(crate) fn write(answer: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, answer).expect("an answer of numbers and text can always be written to memory");
}

/// A key handed in.
#[derive(Serialize, ToSchema)]
#[schema(as = Enrolled)]
pub(crate) struct EnrolledAnswer<'a> {
    /// `new`, `known`, `replaced` or `waiting` (for proof).
    pub(crate) outcome: &'a str,
    /// The fingerprint of the key that was handed in; `fingerprint` is that of the key that is held.
    #[schema(value_type = String)]
    pub(crate) enrolled: Fingerprint,
    #[serde(flatten)]
    pub(crate) view: KeyAnswer<'a>,
}

/// A page of keys.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyPage)]
pub(crate) struct PageAnswer<'a> {
    /// Without the keys themselves; may be fewer than asked for although there are more.
    keys: Vec<KeyAnswer<'a>>,
    /// Give this as `cursor` to read on; null at the end.
    next: Option<String>,
}

impl<'a> From<&'a KeyPage> for PageAnswer<'a> {
    fn from(page: &'a KeyPage) -> Self {
        Self { keys: page.keys.iter().map(KeyAnswer::from).collect(), next: page.next.map(|id| id.to_string()) }
    }
}

/// The last outcomes of a key.
#[derive(Serialize, ToSchema)]
#[schema(as = History)]
pub(crate) struct HistoryAnswer<'a> {
    /// At most eight, oldest first.
    outcomes: Vec<OutcomeAnswer<'a>>,
}

/// One outcome.
#[derive(Serialize, ToSchema)]
#[schema(as = Outcome)]
struct OutcomeAnswer<'a> {
    /// When, by the keeper's clock.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// `enrolled`, `waiting`, `renewed`, `refused`, `failed`, `dropped`, `revoked` or `acquitted`.
    result: &'a str,
    /// The HTTP status, where there was an answer.
    status: Option<u16>,
    /// A stable word that says why; empty where there is nothing to say.
    code: &'a str,
    /// The Store's `MS-CorrelationId`, for a support request; a renewal keeps it only while it is the latest outcome.
    correlation_id: Option<&'a str>,
}

impl<'a> From<&'a [Outcome]> for HistoryAnswer<'a> {
    fn from(outcomes: &'a [Outcome]) -> Self {
        let outcomes = outcomes.iter().map(|outcome| OutcomeAnswer {
            at: outcome.at,
            result: outcome.result.as_str(),
            status: outcome.status,
            code: &outcome.code,
            correlation_id: outcome.correlation_id.as_deref(),
        });
        Self { outcomes: outcomes.collect() }
    }
}

/// A service ticket.
#[derive(Serialize, ToSchema)]
#[schema(as = Ticket)]
pub(crate) struct TicketAnswer<'a> {
    /// The access token.
    pub(crate) access_token: &'a str,
    /// Until when it may be used, by the keeper's clock.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) expires_at: Timestamp,
}

/// The population and what is done for it. Counts are exact.
#[derive(Serialize, ToSchema)]
#[schema(as = Stats)]
pub(crate) struct StatsAnswer<'a> {
    /// The keeper's clock.
    #[schema(value_type = String, format = DateTime)]
    now: Timestamp,
    /// Our clock minus the Store's in seconds; null until an answer has told.
    clock_skew_seconds: Option<f64>,
    /// Per configured app that the caller may see, in the order of configuration.
    #[schema(value_type = std::collections::BTreeMap<String, AppStatsAnswer>)]
    apps: InOrder<'a, AppStatsAnswer<'a>>,
}

impl<'a> StatsAnswer<'a> {
    /// The statistics of the apps that are visible.
    pub(crate) fn new(stats: &'a Stats, visible: &Visibility) -> Self {
        let visible = stats.apps.iter().filter(|app| visible.sees(app.app.as_str()));
        Self {
            now: stats.now,
            clock_skew_seconds: stats.clock_skew.map(|skew| match skew {
                SignedSpan::Ahead(span) => span.as_secs_f64(),
                SignedSpan::Behind(span) => -span.as_secs_f64(),
            }),
            apps: InOrder(visible.map(|app| (app.app.as_str(), AppStatsAnswer::from(app))).collect()),
        }
    }
}

/// What an operator has to look at.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct HealthAnswer<'a> {
    /// The most urgent first; empty when all is well.
    conditions: Vec<ConditionAnswer<'a>>,
}

/// One thing that an operator has to look at.
#[derive(Serialize, ToSchema)]
#[schema(as = Condition)]
struct ConditionAnswer<'a> {
    /// A stable word, listed in `docs/reference/conditions.md`.
    code: &'static str,
    /// The app it concerns; null for the whole keeper.
    app: Option<&'a str>,
    /// One line for a person.
    detail: &'a str,
}

impl<'a> HealthAnswer<'a> {
    /// The conditions of the keeper and of the apps that are visible.
    pub(crate) fn new(health: &'a Health, visible: &Visibility) -> Self {
        let visible = health
            .conditions
            .iter()
            .filter(|condition| condition.app.as_ref().is_none_or(|app| visible.sees(app.as_str())));
        let conditions = visible.map(|condition| ConditionAnswer {
            code: condition.code.as_str(),
            app: condition.app.as_ref().map(AppName::as_str),
            detail: &condition.detail,
        });
        Self { conditions: conditions.collect() }
    }
}

/// An object whose members keep their order.
struct InOrder<'a, T>(Vec<(&'a str, T)>);

impl<T: Serialize> Serialize for InOrder<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

/// One app's share of the statistics.
#[derive(Serialize, ToSchema)]
#[schema(as = AppStats)]
struct AppStatsAnswer<'a> {
    keys: KeyCounts,
    /// Active keys with a refusal held against them.
    refused: u64,
    /// Keys the Store has not renewed yet.
    unproven: u64,
    /// Why the app's keys are not renewed; null while they are.
    paused: Option<&'a str>,
    /// The same for a person.
    paused_detail: Option<&'a str>,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    paused_since: Option<Timestamp>,
    /// Active keys past their moment.
    due_backlog: u64,
    /// Active keys older than the policy's deadline.
    past_deadline: u64,
    /// Keys whose renewals are another keeper's now; they count neither as active nor as lapsed.
    handed_over: u64,
    /// Keys that wait for `resume` with `condemn`, because the daily cap on condemnations was reached.
    awaiting_operator: u64,
    renewals: RenewalCounts,
    /// The same counts per kind.
    #[schema(value_type = std::collections::BTreeMap<String, KindStatsAnswer>)]
    kinds: InOrder<'a, KindStatsAnswer>,
}

/// How many keys are in which state.
#[derive(Serialize, ToSchema)]
struct KeyCounts {
    active: u64,
    revoked: u64,
    lapsed: u64,
}

/// What came of renewals since the keeper started.
#[derive(Serialize, ToSchema)]
struct RenewalCounts {
    renewed: u64,
    failed: u64,
}

/// The counts of one kind.
#[derive(Serialize, ToSchema)]
#[schema(as = KindStats)]
struct KindStatsAnswer {
    keys: KeyCounts,
    refused: u64,
    unproven: u64,
    due_backlog: u64,
    past_deadline: u64,
    handed_over: u64,
}

impl From<&KindStats> for KindStatsAnswer {
    fn from(stats: &KindStats) -> Self {
        Self {
            keys: KeyCounts { active: stats.active, revoked: stats.revoked, lapsed: stats.lapsed },
            refused: stats.refused,
            unproven: stats.unproven,
            due_backlog: stats.due_backlog,
            past_deadline: stats.past_deadline,
            handed_over: stats.handed_over,
        }
    }
}

impl<'a> From<&'a AppStats> for AppStatsAnswer<'a> {
    fn from(app: &'a AppStats) -> Self {
        let sum = |count: fn(&KindStats) -> u64| app.kinds.iter().map(|(_, stats)| count(stats)).sum::<u64>();
        Self {
            keys: KeyCounts { active: sum(|s| s.active), revoked: sum(|s| s.revoked), lapsed: sum(|s| s.lapsed) },
            refused: sum(|stats| stats.refused),
            unproven: sum(|stats| stats.unproven),
            paused: app.paused.as_ref().map(|paused| paused.reason.as_str()),
            paused_detail: app.paused.as_ref().map(|paused| paused.detail.as_str()),
            paused_since: app.paused.as_ref().map(|paused| paused.since),
            due_backlog: sum(|stats| stats.due_backlog),
            past_deadline: sum(|stats| stats.past_deadline),
            handed_over: sum(|stats| stats.handed_over),
            awaiting_operator: app.awaiting_operator,
            renewals: RenewalCounts { renewed: app.renewed, failed: app.failed },
            kinds: InOrder(app.kinds.iter().map(|(kind, stats)| (KeyKind::as_str(*kind), stats.into())).collect()),
        }
    }
}

/// An operator's order, carried out.
#[derive(Serialize, ToSchema)]
#[schema(as = Order)]
pub(crate) struct OrderAnswer<'a> {
    /// The app.
    pub(crate) app: &'a str,
    /// Of `pause` and `resume`: why its keys are not renewed now; null when they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) paused: Option<Option<&'a str>>,
    /// Of `resume`: how many waiting keys were condemned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) condemned: Option<u64>,
    /// Of `acquit`: how many keys are active again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) acquitted: Option<u64>,
    /// Of `reclaim`: how many keys are renewed here again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reclaimed: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &KeyAnswer<'_>) {
        let mut members = Vec::new();
        answer.write_members(&mut members);
        let whole = serde_json::to_vec(answer).unwrap();
        assert_eq!(
            std::str::from_utf8(&members[1..]).unwrap(),
            std::str::from_utf8(&whole[1..whole.len() - 1]).unwrap()
        );
    }

    #[test]
    fn a_view_written_by_hand_is_what_serializing_writes() {
        let at = |seconds: i64| Timestamp::from_seconds(1_800_000_000 + seconds);
        let plain = KeyAnswer {
            app: "mygame",
            user: "player \"one\"\n\u{1F3AE}",
            slot: "",
            kind: "purchase",
            state: "active",
            proven: true,
            refused_since: None,
            key_version: 7,
            fingerprint: Fingerprint::of("key"),
            certificate: "C5D2",
            issued_at: at(0),
            expires_at: Some(at(1)),
            renew_at: Some(Timestamp::from_millis(1_800_000_000_120)),
            newcomer: None,
            handed_over: false,
        };
        check(&plain);
        let newcomer = Some(Fingerprint::of("another"));
        check(&KeyAnswer {
            refused_since: Some(at(-1)),
            expires_at: None,
            renew_at: None,
            newcomer,
            handed_over: true,
            ..plain
        });
    }
}
