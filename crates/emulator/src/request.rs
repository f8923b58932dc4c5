//! What the emulator is asked and what it answers, free of sockets: the seam between listening and judging.

use bytes::Bytes;
use storekeeper_model::{Fingerprint, KeyKind};

/// Which of the three emulated hosts a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VirtualHost {
    /// `collections.mp.microsoft.com`
    Collections,
    /// `purchase.mp.microsoft.com`
    Purchase,
    /// `login.microsoftonline.com`
    Login,
}

impl VirtualHost {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Collections, Self::Purchase, Self::Login];

    /// The DNS name, which is also the path prefix for clients that can only set a base URL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Collections => KeyKind::Collections.host(),
            Self::Purchase => KeyKind::Purchase.host(),
            Self::Login => "login.microsoftonline.com",
        }
    }

    /// The kind of key this host issues and renews; `None` for Entra ID.
    pub const fn kind(self) -> Option<KeyKind> {
        match self {
            Self::Collections => Some(KeyKind::Collections),
            Self::Purchase => Some(KeyKind::Purchase),
            Self::Login => None,
        }
    }
}

impl From<KeyKind> for VirtualHost {
    fn from(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Collections => Self::Collections,
            KeyKind::Purchase => Self::Purchase,
        }
    }
}

/// One request, already routed to a virtual host.
#[derive(Clone, Copy)]
pub struct StoreRequest<'a> {
    /// From `Host`, SNI or path prefix.
    pub host: VirtualHost,
    /// As sent, upper case.
    pub method: &'a str,
    /// Without prefix and query.
    pub path: &'a str,
    /// Without the question mark.
    pub query: Option<&'a str>,
    /// The header `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The header `Authorization`.
    pub authorization: Option<&'a str>,
    /// The header `MS-CV`.
    pub ms_cv: Option<&'a str>,
    /// The whole body. A listener may cut it at one byte more than [`BODY_BYTES_MAX`]: the verdict is the same.
    pub body: &'a [u8],
}

/// The longest request body that is read (store.md 3.3); a longer one is answered 413.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// One answer, complete but for the headers of the transport (`Content-Length`, `Connection`).
#[derive(Clone)]
pub struct StoreAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Names as the services spell them, and values that are valid header text.
    pub headers: Vec<(&'static str, String)>,
    /// May carry a key or a ticket: not for logs.
    pub body: Bytes,
    /// What the ledger keeps.
    pub note: ExchangeNote,
}

impl StoreAnswer {
    /// The first value of a header, its name compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What may be remembered of an exchange: never a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeNote {
    /// What was asked.
    pub endpoint: Endpoint,
    /// `innererror.code` of a Store error as sent, or the AADSTS number of an Entra error.
    pub inner_code: Option<String>,
    /// The key that was presented.
    pub fingerprint: Option<Fingerprint>,
    /// The key that was issued.
    pub successor: Option<Fingerprint>,
}

impl ExchangeNote {
    /// Nothing but the endpoint.
    pub const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, inner_code: None, fingerprint: None, successor: None }
    }
}

/// The groups of routes by which faults are planned and exchanges are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// Entra's token endpoints.
    Token,
    /// Renewal, on both hosts.
    Renew,
    /// Key creation, on both hosts.
    Keys,
    /// Entra's discovery documents and signing keys.
    Discovery,
    /// Collections queries. The emulator routes, lists and fails them on demand, and answers 404.
    Query,
    /// Fulfilling consumables: as [`Endpoint::Query`].
    Consume,
    /// Granting free products: as [`Endpoint::Query`].
    Grant,
    /// Subscriptions: as [`Endpoint::Query`].
    Recurrences,
    /// Clawback version 1: as [`Endpoint::Query`].
    Orders,
    /// Clawback version 2: as [`Endpoint::Query`].
    Clawback,
    /// Everything else.
    Unknown,
}

impl Endpoint {
    /// All of them, for tables.
    pub const ALL: [Self; 11] = [
        Self::Token,
        Self::Renew,
        Self::Keys,
        Self::Discovery,
        Self::Query,
        Self::Consume,
        Self::Grant,
        Self::Recurrences,
        Self::Orders,
        Self::Clawback,
        Self::Unknown,
    ];

    /// The name used in fault plans and in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Renew => "renew",
            Self::Keys => "keys",
            Self::Discovery => "discovery",
            Self::Query => "query",
            Self::Consume => "consume",
            Self::Grant => "grant",
            Self::Recurrences => "recurrences",
            Self::Orders => "orders",
            Self::Clawback => "clawback",
            Self::Unknown => "unknown",
        }
    }

    /// Which group a path belongs to, whatever the method: a wrong method on a known path is still that endpoint.
    ///
    /// Paths are matched without regard to ASCII case: Microsoft's own library spells one differently from the
    /// documentation and works (store.md 6.3).
    pub fn of(host: VirtualHost, path: &str) -> Self {
        match host {
            VirtualHost::Collections => of_table(&COLLECTIONS, path),
            VirtualHost::Purchase if is_recurrence_change(path) => Self::Recurrences,
            VirtualHost::Purchase => of_table(&PURCHASE, path),
            VirtualHost::Login => of_login(path),
        }
    }
}

const COLLECTIONS: [(&str, Endpoint); 7] = [
    ("/v6.0/b2b/keys/renew", Endpoint::Renew),
    ("/v7.0/beneficiaries/me/keys", Endpoint::Keys),
    ("/v6.0/collections/query", Endpoint::Query),
    ("/v8.0/collections/b2bLicensePreview", Endpoint::Query),
    ("/v9.0/collections/publisherQuery", Endpoint::Query),
    ("/v6.0/collections/consume", Endpoint::Consume),
    ("/v8.0/collections/consume", Endpoint::Consume),
];

const PURCHASE: [(&str, Endpoint); 7] = [
    ("/v6.0/b2b/keys/renew", Endpoint::Renew),
    ("/v7.0/users/me/keys", Endpoint::Keys),
    ("/v6.0/purchases/grant", Endpoint::Grant),
    ("/v7.0/purchases/grant", Endpoint::Grant),
    ("/v8.0/b2b/recurrences/query", Endpoint::Recurrences),
    ("/v8.0/b2b/orders/query", Endpoint::Orders),
    ("/v8.0/b2b/clawback/sastoken", Endpoint::Clawback),
];

fn of_table(table: &[(&str, Endpoint)], path: &str) -> Endpoint {
    table
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(path))
        .map_or(Endpoint::Unknown, |(_, endpoint)| *endpoint)
}

fn is_recurrence_change(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    let id = path.strip_prefix("/v8.0/b2b/recurrences/").and_then(|rest| rest.strip_suffix("/change"));
    id.is_some_and(|id| !id.is_empty() && !id.contains('/'))
}

fn of_login(path: &str) -> Endpoint {
    LoginRoute::of(path).map_or(Endpoint::Unknown, |(_, route)| match route {
        LoginRoute::TokenV1 | LoginRoute::TokenV2 => Endpoint::Token,
        _ => Endpoint::Discovery,
    })
}

/// Entra's routes below a tenant (store.md 2.2, 2.3, 2.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginRoute {
    /// `/oauth2/token`
    TokenV1,
    /// `/oauth2/v2.0/token`
    TokenV2,
    /// `/.well-known/openid-configuration`
    DocumentV1,
    /// `/v2.0/.well-known/openid-configuration`
    DocumentV2,
    /// `/discovery/keys` and `/discovery/v2.0/keys`
    SigningKeys,
}

impl LoginRoute {
    /// The tenant's name and the route behind it.
    pub(crate) fn of(path: &str) -> Option<(&str, Self)> {
        const ROUTES: [(&str, LoginRoute); 6] = [
            ("oauth2/token", LoginRoute::TokenV1),
            ("oauth2/v2.0/token", LoginRoute::TokenV2),
            (".well-known/openid-configuration", LoginRoute::DocumentV1),
            ("v2.0/.well-known/openid-configuration", LoginRoute::DocumentV2),
            ("discovery/keys", LoginRoute::SigningKeys),
            ("discovery/v2.0/keys", LoginRoute::SigningKeys),
        ];
        let (tenant, rest) = path.strip_prefix('/')?.split_once('/')?;
        if tenant.is_empty() {
            return None;
        }
        ROUTES.iter().find(|(known, _)| known.eq_ignore_ascii_case(rest)).map(|(_, route)| (tenant, *route))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_path_has_its_endpoint() {
        use VirtualHost::{Collections, Login, Purchase};
        let check = |host, path, expected| assert_eq!(Endpoint::of(host, path), expected, "{host:?} {path}");
        check(Collections, "/v6.0/b2b/keys/renew", Endpoint::Renew);
        check(Purchase, "/V6.0/B2B/keys/renew", Endpoint::Renew);
        check(Collections, "/v7.0/beneficiaries/me/keys", Endpoint::Keys);
        check(Purchase, "/v7.0/beneficiaries/me/keys", Endpoint::Unknown);
        check(Purchase, "/v7.0/users/me/keys", Endpoint::Keys);
        check(Collections, "/v7.0/users/me/keys", Endpoint::Unknown);
        check(Collections, "/v9.0/collections/PublisherQuery", Endpoint::Query);
        check(Purchase, "/v8.0/b2b/recurrences/mdr:0:abc:def/change", Endpoint::Recurrences);
        check(Purchase, "/v8.0/b2b/recurrences//change", Endpoint::Unknown);
        check(Purchase, "/v8.0/b2b/clawback/sastoken", Endpoint::Clawback);
        check(Login, "/contoso.com/oauth2/token", Endpoint::Token);
        check(Login, "/contoso.com/oauth2/v2.0/token", Endpoint::Token);
        check(Login, "/t/v2.0/.well-known/openid-configuration", Endpoint::Discovery);
        check(Login, "/t/discovery/keys", Endpoint::Discovery);
        check(Login, "/oauth2/token", Endpoint::Unknown);
        check(Login, "/v6.0/b2b/keys/renew", Endpoint::Unknown);
    }

    #[test]
    fn an_endpoint_is_written_as_it_is_named() {
        for endpoint in Endpoint::ALL {
            assert_eq!(serde_json::to_string(&endpoint).unwrap(), format!("\"{}\"", endpoint.as_str()));
        }
    }
}
