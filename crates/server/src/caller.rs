//! Who may ask what: callers, their scopes and apps, and the token by which a caller is known.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use storekeeper_keeper::Visibility;
use storekeeper_model::{AppName, Secret};

use crate::problem::Problem;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Read keys, lists, histories and statistics.
    KeyRead,
    /// Enroll, renew and forget keys.
    KeyWrite,
    /// Tickets that are handed to client apps (`collections`, `purchase`).
    TicketClient,
    /// Tickets that authenticate the publisher's own service; they never leave it.
    TicketService,
    /// Have calls to the Store made with key and ticket put in.
    StoreCall,
    /// Scrape `/metrics`.
    MetricsRead,
    /// Pause, resume and acquit; look at a key in any state.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::KeyRead,
        Self::KeyWrite,
        Self::TicketClient,
        Self::TicketService,
        Self::StoreCall,
        Self::MetricsRead,
        Self::Admin,
    ];

    /// The word used in configuration and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyRead => "key:read",
            Self::KeyWrite => "key:write",
            Self::TicketClient => "ticket:client",
            Self::TicketService => "ticket:service",
            Self::StoreCall => "store:call",
            Self::MetricsRead => "metrics:read",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a scope is `key:read`, `key:write`, `ticket:client`, `ticket:service`, `store:call`, `metrics:read` or `admin`"
)]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;
    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

/// A token must be 16 to 512 visible ASCII characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token is 16 to 512 visible ASCII characters")]
pub struct TokenError;

/// The SHA-256 digest of a token: all that is kept of it.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Digests a token.
    ///
    /// # Errors
    /// [`TokenError`] when the text cannot be one.
    pub fn of(token: &Secret<String>) -> Result<Self, TokenError> {
        Self::of_bytes(token.expose().as_bytes())
    }

    fn of_bytes(token: &[u8]) -> Result<Self, TokenError> {
        let fits = (16..=512).contains(&token.len()) && token.iter().all(u8::is_ascii_graphic);
        if fits { Ok(Self(Sha256::digest(token).into())) } else { Err(TokenError) }
    }

    /// Compares without telling by its duration where the digests differ.
    fn is(&self, other: &Self) -> bool {
        let difference = self.0.iter().zip(&other.0).fold(0, |difference, (ours, theirs)| difference | (ours ^ theirs));
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Somebody who may ask.
#[derive(Debug, Clone)]
pub struct Caller {
    name: Arc<str>,
    token: TokenDigest,
    scopes: u8,
    visible: Visibility,
}

/// A route decides here what it is about: one app, every app, or those of the caller. A scope alone is never enough.
impl Caller {
    /// A caller known by `token`, who may do what `scopes` say; until [`Caller::limited_to`], with every app.
    pub fn new(name: &str, token: TokenDigest, scopes: &[Scope]) -> Self {
        Self {
            name: name.into(),
            token,
            scopes: scopes.iter().fold(0, |bits, scope| bits | scope.bit()),
            visible: Visibility::All,
        }
    }

    /// Limits the caller to these apps; an empty list leaves none.
    #[must_use]
    pub fn limited_to(mut self, apps: Vec<AppName>) -> Self {
        self.visible = Visibility::Only(apps);
        self
    }

    /// The configured name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The configured name, to be kept.
    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// The apps the caller may see.
    pub fn visible(&self) -> &Visibility {
        &self.visible
    }

    /// Whether the caller is known by the same token as `other`.
    pub(crate) fn shares_token_with(&self, other: &Self) -> bool {
        self.token.is(&other.token)
    }

    /// Demands the scope for one app. The answer is the same whether the app exists or not.
    pub(crate) fn demand_for(&self, scope: Scope, app: &str) -> Result<(), Problem> {
        self.demand(scope)?;
        if self.visible.sees(app) { Ok(()) } else { Err(Problem::app_not_allowed()) }
    }

    /// Demands the scope for every app: what concerns all of them is not for a caller who is limited to some.
    pub(crate) fn demand_for_all(&self, scope: Scope) -> Result<(), Problem> {
        self.demand(scope)?;
        if self.visible.is_all() { Ok(()) } else { Err(Problem::every_app_concerned()) }
    }

    /// Demands the scope for whichever apps the caller may see: the route answers for those alone.
    pub(crate) fn demand_for_visible(&self, scope: Scope) -> Result<&Visibility, Problem> {
        self.demand(scope).map(|()| &self.visible)
    }

    fn demand(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes & scope.bit() != 0 { Ok(()) } else { Err(Problem::scope_missing(scope)) }
    }
}

/// Everybody who may ask.
#[derive(Debug, Clone, Default)]
pub(crate) struct Callers(Vec<Arc<Caller>>);

impl Callers {
    pub(crate) fn new(callers: Vec<Caller>) -> Self {
        Self(callers.into_iter().map(Arc::new).collect())
    }

    /// Who sent this request. Every caller is compared, so that the duration does not tell who is near.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<&Arc<Caller>, Problem> {
        let token = bearer(headers).ok_or_else(Problem::no_token)?;
        let digest = TokenDigest::of_bytes(token).map_err(|TokenError| Problem::no_token())?;
        let found =
            self.0.iter().fold(None, |found, caller| if caller.token.is(&digest) { Some(caller) } else { found });
        found.ok_or_else(Problem::unknown_token)
    }
}

/// The token of the one `Authorization` header.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn digest(token: &str) -> Result<TokenDigest, TokenError> {
        TokenDigest::of(&Secret::new(token.to_owned()))
    }

    fn check(values: &[&str], expected: Result<&str, &str>) {
        let callers = Callers::new(vec![
            Caller::new("one", digest("a-token-of-some-length").unwrap(), &[Scope::KeyRead]),
            Caller::new("two", digest("another-token-of-length").unwrap(), &[]),
        ]);
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        let found = callers.authenticate(&headers);
        assert_eq!(
            found.as_ref().map(|caller| caller.name()).map_err(|problem| problem.detail()),
            expected,
            "{values:?}"
        );
    }

    #[test]
    fn a_caller_is_known_by_the_whole_token_only() {
        let none = "send `Authorization: Bearer` and a token of 16 to 512 visible ASCII characters";
        check(&["Bearer a-token-of-some-length"], Ok("one"));
        check(&["bearer another-token-of-length"], Ok("two"));
        check(&["Bearer a-token-of-some-lengtH"], Err("no caller with this token is configured"));
        check(&["Bearer a-token-of-some-length-"], Err("no caller with this token is configured"));
        check(&[], Err(none));
        check(&["Bearer"], Err(none));
        check(&["Bearer "], Err(none));
        check(&["Basic a-token-of-some-length"], Err(none));
        check(&["a-token-of-some-length"], Err(none));
        check(&["Bearer a-token-of-some-length", "Bearer another-token-of-length"], Err(none));
        check(&["Bearer a-token-of some-length"], Err(none));
    }

    #[test]
    fn a_token_has_16_to_512_visible_characters() {
        assert!(digest(&"t".repeat(15)).is_err());
        assert!(digest(&"t".repeat(16)).is_ok());
        assert!(digest(&"t".repeat(512)).is_ok());
        assert!(digest(&"t".repeat(513)).is_err());
        assert!(digest("token-with-ümlaut").is_err());
        assert!(digest("token with a space").is_err());
    }

    #[test]
    fn scopes_are_told_apart() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
            let caller = Caller::new("one", digest("a-token-of-some-length").unwrap(), &[scope]);
            for other in Scope::ALL {
                assert_eq!(caller.demand(other).is_ok(), other == scope);
            }
        }
        assert_eq!("key".parse::<Scope>(), Err(UnknownScope));
    }

    #[test]
    fn an_empty_list_of_apps_leaves_none() {
        let caller = Caller::new("one", digest("a-token-of-some-length").unwrap(), &Scope::ALL);
        assert!(caller.demand_for(Scope::KeyRead, "mygame").is_ok() && caller.demand_for_all(Scope::KeyRead).is_ok());
        let none = caller.limited_to(Vec::new());
        assert!(none.demand_for(Scope::KeyRead, "mygame").is_err() && none.demand_for_all(Scope::KeyRead).is_err());
        assert_eq!(none.demand_for_visible(Scope::KeyRead).unwrap(), &Visibility::Only(Vec::new()));
    }

    #[test]
    fn a_caller_is_printed_without_the_token() {
        let caller = Caller::new("one", digest("a-token-of-some-length").unwrap(), &Scope::ALL);
        assert!(format!("{caller:?}").contains("token: [redacted]"));
    }
}
