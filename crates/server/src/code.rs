//! The table of problem codes: every way an answer can say no, and who must act on it. Nothing else names a code.

use http::StatusCode;
use storekeeper_keeper::Code;

/// Who has to do something before the same request can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The player has to mint a new key.
    User,
    /// The request is wrong.
    Caller,
    /// Whoever runs the keeper.
    Operator,
    /// Nobody: ask again later.
    Wait,
}

impl Act {
    /// All four.
    pub const ALL: [Self; 4] = [Self::User, Self::Caller, Self::Operator, Self::Wait];

    /// The word in the answer.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Caller => "caller",
            Self::Operator => "operator",
            Self::Wait => "wait",
        }
    }
}

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct ProblemCode {
    /// The stable word.
    pub code: &'static str,
    /// The HTTP status it always comes with.
    pub status: u16,
    /// Who must act.
    pub act: Act,
    /// How many seconds to wait where nothing better is known; `None` where waiting does not help.
    pub retry_after: Option<u32>,
    /// What happened, in a few words that never change.
    pub title: &'static str,
}

impl ProblemCode {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).expect("the table holds valid statuses only, which a test checks")
    }

    /// The row for what the keeper calls a problem.
    pub const fn of(code: Code) -> &'static Self {
        match code {
            Code::AppUnknown => &APP_UNKNOWN,
            Code::KeyNotFound => &KEY_NOT_FOUND,
            Code::KeyEmpty => &KEY_EMPTY,
            Code::KeyMalformed => &KEY_MALFORMED,
            Code::KeyTooLarge => &KEY_TOO_LARGE,
            Code::KeyWrongKind => &KEY_WRONG_KIND,
            Code::KeyWrongClient => &KEY_WRONG_CLIENT,
            Code::KeyWrongUser => &KEY_WRONG_USER,
            Code::KeyOlder => &KEY_OLDER,
            Code::KeyRevoked => &KEY_REVOKED,
            Code::KeyLapsed => &KEY_LAPSED,
            Code::KeyHandedOver => &KEY_HANDED_OVER,
            Code::KeyAltered => &KEY_ALTERED,
            Code::KeyChanged => &KEY_CHANGED,
            Code::KeyExpired => &KEY_EXPIRED,
            Code::KeyNotYetValid => &KEY_NOT_YET_VALID,
            Code::AppPaused => &APP_PAUSED,
            Code::KeyringUnavailable => &KEYRING_UNAVAILABLE,
            Code::RenewalRefused => &RENEWAL_REFUSED,
            Code::RenewalFailed => &RENEWAL_FAILED,
            Code::TicketRefused => &TICKET_REFUSED,
            Code::TicketUnavailable => &TICKET_UNAVAILABLE,
            Code::TooBusy => &TOO_BUSY,
            Code::ClockSkewed => &CLOCK_SKEWED,
            Code::ShuttingDown => &SHUTTING_DOWN,
            Code::MinTtlTooLong => &MIN_TTL_TOO_LONG,
            Code::NodeUnknown => &NODE_UNKNOWN,
            Code::NodeAlone => &NODE_ALONE,
            Code::LeasesElsewhere => &LEASES_ELSEWHERE,
        }
    }
}

macro_rules! table {
    ($($name:ident = $code:literal $status:literal $act:ident $retry:expr, $title:literal;)*) => {
        $(
            #[doc = concat!("`", $code, "`: ", $title, ".")]
            pub static $name: ProblemCode =
                ProblemCode { code: $code, status: $status, act: Act::$act, retry_after: $retry, title: $title };
        )*

        /// Every row, in the order of `docs/reference/codes.md`.
        pub static ALL: &[&ProblemCode] = &[$(&$name),*];
    };
}

table! {
    PATH_INVALID = "path_invalid" 400 Caller None, "the path is not validly percent-encoded";
    QUERY_INVALID = "query_invalid" 400 Caller None, "a query parameter is unknown, repeated or has a bad value";
    BODY_INVALID = "body_invalid" 400 Caller None, "the body is not the JSON expected here";
    USER_EMPTY = "user_empty" 400 Caller None, "the user name is empty";
    USER_NOT_UTF8 = "user_not_utf8" 400 Caller None, "the user name is not UTF-8";
    USER_TOO_LONG = "user_too_long" 400 Caller None, "the user name is longer than 256 bytes";
    SLOT_TOO_LONG = "slot_too_long" 400 Caller None, "the slot is longer than 64 bytes";
    KEY_EMPTY = "key_empty" 400 Caller None, "there is no key";
    KEY_MALFORMED = "key_malformed" 400 Caller None, "the text is no Store ID key";
    KEY_WRONG_KIND = "key_wrong_kind" 400 Caller None, "the key is for the other service";
    KEY_WRONG_CLIENT = "key_wrong_client" 400 Caller None, "the key was made for another client ID";
    KEY_WRONG_USER = "key_wrong_user" 400 Caller None, "the key was made for another user";
    KEY_ALTERED = "key_altered" 400 Caller None, "the key is not the one whose fingerprint came with it";
    MIN_TTL_TOO_LONG = "min_ttl_too_long" 400 Caller None, "more life is asked for than a renewal can promise";
    UNAUTHORIZED = "unauthorized" 401 Caller None, "no valid bearer token";
    FORBIDDEN = "forbidden" 403 Caller None, "the token does not allow this";
    ROUTE_UNKNOWN = "route_unknown" 404 Caller None, "there is no such route";
    APP_UNKNOWN = "app_unknown" 404 Caller None, "no app of this name is configured";
    KIND_UNKNOWN = "kind_unknown" 404 Caller None, "a key's kind is collections or purchase";
    AUDIENCE_UNKNOWN = "audience_unknown" 404 Caller None, "a ticket is for service, collections or purchase";
    NODE_UNKNOWN = "node_unknown" 404 Caller None, "no node of this id or name, or several, share the keyring";
    KEY_NOT_FOUND = "key_not_found" 404 Caller None, "no key is enrolled under this name";
    METHOD_NOT_ALLOWED = "method_not_allowed" 405 Caller None, "the route does not know this method";
    REQUEST_TIMEOUT = "request_timeout" 408 Caller None, "the body did not arrive in time";
    KEY_OLDER = "key_older" 409 Caller None, "a key issued later is held";
    NODE_ALONE = "node_alone" 409 Caller None, "one keeper alone holds the keyring";
    LEASES_ELSEWHERE = "leases_elsewhere" 409 Operator None, "other keepers renew keys of this keyring";
    KEY_CHANGED = "key_changed" 409 Caller None, "the key has changed since it was exported";
    KEY_REVOKED = "key_revoked" 410 User None, "the Store refuses this key for good";
    KEY_LAPSED = "key_lapsed" 410 User None, "the key expired before it could be renewed";
    KEY_HANDED_OVER = "key_handed_over" 410 Operator None, "the key is another keeper's";
    KEY_TOO_LARGE = "key_too_large" 413 Caller None, "the key is longer than 16 KiB";
    BODY_TOO_LARGE = "body_too_large" 413 Caller None, "the body is longer than 64 KiB";
    LINE_TOO_LONG = "line_too_long" 413 Caller None, "the line is longer than 64 KiB";
    MEDIA_TYPE_UNSUPPORTED = "media_type_unsupported" 415 Caller None, "the body is declared to be something else than JSON";
    KEY_EXPIRED = "key_expired" 422 User None, "the key has expired";
    KEY_NOT_YET_VALID = "key_not_yet_valid" 422 Caller None, "the key is dated ahead of our clock";
    TOO_MANY_REQUESTS = "too_many_requests" 429 Wait Some(1), "too many requests are under way";
    INTERNAL = "internal" 500 Operator None, "the keeper met a bug of its own";
    RENEWAL_REFUSED = "renewal_refused" 502 Wait Some(600), "the Store refused the renewal";
    TICKET_REFUSED = "ticket_refused" 502 Operator None, "Entra ID refuses the app's credentials";
    APP_PAUSED = "app_paused" 503 Wait Some(60), "the app is paused";
    KEYRING_UNAVAILABLE = "keyring_unavailable" 503 Wait Some(5), "the keyring is not available";
    RENEWAL_FAILED = "renewal_failed" 503 Wait Some(60), "the renewal failed";
    TICKET_UNAVAILABLE = "ticket_unavailable" 503 Wait Some(10), "Entra ID gives no ticket at the moment";
    TOO_BUSY = "too_busy" 503 Wait Some(1), "many callers write the same key at once";
    CLOCK_SKEWED = "clock_skewed" 503 Operator Some(60), "our clock and the Store's disagree";
    SHUTTING_DOWN = "shutting_down" 503 Wait Some(5), "the keeper is shutting down";
    NOT_READY = "not_ready" 503 Wait Some(5), "nothing can be served at the moment";
    NOT_LIVE = "not_live" 503 Operator None, "a core task is dead or stands still";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_unique_and_has_a_valid_status() {
        let words: BTreeSet<&str> = ALL.iter().map(|row| row.code).collect();
        assert_eq!(words.len(), ALL.len());
        for row in ALL {
            assert!(row.status().is_client_error() || row.status().is_server_error(), "{}", row.code);
            assert!(
                row.code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{}",
                row.code
            );
        }
    }

    #[test]
    fn what_waiting_can_cure_says_how_long() {
        for row in ALL {
            assert!(row.act != Act::Wait || row.retry_after.is_some(), "{}", row.code);
        }
    }

    #[test]
    fn the_page_of_codes_has_one_row_for_each() {
        let page = include_str!("../../../docs/reference/codes.md");
        let mut rows = page.lines().filter(|line| line.starts_with("| `"));
        for row in ALL {
            let told = rows.next().unwrap_or_else(|| panic!("{} is not documented", row.code));
            let cells: Vec<&str> = told.split('|').map(str::trim).collect();
            let wait = row.retry_after.map_or(String::from("-"), |seconds| seconds.to_string());
            assert_eq!(
                &cells[1..5],
                [&format!("`{}`", row.code), &row.status.to_string(), &format!("`{}`", row.act.as_str()), &wait],
                "{told}"
            );
            assert!(cells[5].len() > 20, "{told}");
        }
        assert_eq!(rows.next(), None);
    }

    #[test]
    fn the_keepers_words_are_ours() {
        let keepers = [
            Code::AppUnknown,
            Code::KeyNotFound,
            Code::KeyEmpty,
            Code::KeyMalformed,
            Code::KeyTooLarge,
            Code::KeyWrongKind,
            Code::KeyWrongClient,
            Code::KeyWrongUser,
            Code::KeyOlder,
            Code::KeyRevoked,
            Code::KeyLapsed,
            Code::KeyHandedOver,
            Code::KeyAltered,
            Code::KeyChanged,
            Code::KeyExpired,
            Code::KeyNotYetValid,
            Code::AppPaused,
            Code::KeyringUnavailable,
            Code::RenewalRefused,
            Code::RenewalFailed,
            Code::TicketRefused,
            Code::TicketUnavailable,
            Code::TooBusy,
            Code::ClockSkewed,
            Code::ShuttingDown,
            Code::MinTtlTooLong,
        ];
        for code in keepers {
            assert_eq!(ProblemCode::of(code).code, code.as_str());
        }
    }
}
