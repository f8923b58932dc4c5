//! `Endpoint`: a base URL that a ticket or a credential may be sent to, checked when it is configured.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use http::Uri;
use http::uri::{Authority, Scheme};
use storekeeper_model::KeyKind;

/// Where a service is reached: `https`, or plain `http` on the loopback interface only; a path prefix is allowed.
///
/// A value that exists is a place that a ticket may go to (ARCHITECTURE.md, invariant 3). It comes from configuration, never
/// from a key's `refreshUri` and never from a redirect.
///
/// ```
/// use storekeeper_client::Endpoint;
/// assert!(Endpoint::parse("https://collections.mp.microsoft.com").is_ok());
/// assert!(Endpoint::parse("http://127.0.0.1:8440/collections.mp.microsoft.com").is_ok());
/// assert!(Endpoint::parse("http://collections.mp.microsoft.com").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: Scheme,
    authority: Authority,
    prefix: String,
}

/// Why a text is no [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not an absolute URL with a host.
    #[error("an endpoint is an absolute URL such as https://collections.mp.microsoft.com")]
    Malformed,
    /// Neither `https` nor `http`.
    #[error("an endpoint's scheme is https, or http for a loopback address")]
    Scheme,
    /// Plain `http` to another machine would show the ticket to the network.
    #[error("plain http is for loopback addresses only: use https")]
    PlainHttp,
    /// A user name or password before the host.
    #[error("an endpoint carries no user name or password")]
    UserInfo,
    /// A query or a fragment.
    #[error("an endpoint carries no query and no fragment")]
    Query,
}

impl Endpoint {
    /// Reads a base URL; a slash at its end makes no difference.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let uri: Uri = text.parse().map_err(|_| EndpointError::Malformed)?;
        if text.contains(['#', '?']) {
            return Err(EndpointError::Query);
        }
        let parts = uri.into_parts();
        let (scheme, authority) = (parts.scheme, parts.authority.ok_or(EndpointError::Malformed)?);
        let scheme = scheme.filter(is_http_or_https).ok_or(EndpointError::Scheme)?;
        check_authority(&authority)?;
        if scheme == Scheme::HTTP && !is_loopback(authority.host()) {
            return Err(EndpointError::PlainHttp);
        }
        let path = parts.path_and_query.as_ref().map_or("", |path| path.path());
        Ok(Self { scheme, authority, prefix: path.trim_end_matches('/').to_owned() })
    }

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.authority.host())
    }

    /// The host, without port.
    pub fn host(&self) -> &str {
        self.authority.host()
    }

    /// A path below it. `path` starts with a slash and is encoded already.
    pub(crate) fn url(&self, path: &str) -> Uri {
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{path}", self.prefix))
            .build()
            .expect("a parsed scheme and authority with an encoded absolute path make a URL")
    }
}

/// Whether a ticket may be sent to this URL at all.
#[cfg_attr(not(feature = "transport"), expect(dead_code, reason = "only what sends asks again"))]
pub(crate) fn is_safe(url: &Uri) -> bool {
    match url.scheme_str() {
        Some("https") => true,
        Some("http") => url.host().is_some_and(is_loopback),
        _ => false,
    }
}

/// Whether a host, as it stands in a URL, is this machine. `localhost` counts because the transport never asks the
/// network for its address.
fn is_loopback(host: &str) -> bool {
    if let Some(v6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return v6.parse::<Ipv6Addr>().is_ok_and(|address| address.to_canonical().is_loopback());
    }
    is_localhost(host) || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub(crate) fn is_localhost(host: &str) -> bool {
    host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case("localhost")
}

fn is_http_or_https(scheme: &Scheme) -> bool {
    *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS
}

fn check_authority(authority: &Authority) -> Result<(), EndpointError> {
    if authority.as_str().contains('@') {
        return Err(EndpointError::UserInfo);
    }
    let has_port_text = authority.as_str().len() > authority.host().len();
    if authority.host().is_empty() || (has_port_text && authority.port_u16().is_none()) {
        return Err(EndpointError::Malformed);
    }
    Ok(())
}

impl FromStr for Endpoint {
    type Err = EndpointError;
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Self::parse(text)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.prefix)
    }
}

/// The three services: where each is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// Renews Collections keys.
    pub collections: Endpoint,
    /// Renews Purchase keys.
    pub purchase: Endpoint,
    /// Issues service tickets.
    pub entra: Endpoint,
}

impl Endpoints {
    /// Microsoft's own.
    pub fn microsoft() -> Self {
        let own = |host| Endpoint::parse(host).expect("a literal https URL is an endpoint");
        Self {
            collections: own("https://collections.mp.microsoft.com"),
            purchase: own("https://purchase.mp.microsoft.com"),
            entra: own("https://login.microsoftonline.com"),
        }
    }

    /// Where a key of this kind is renewed: the kind comes from the key's `aud` (store.md 4.8).
    pub const fn for_kind(&self, kind: KeyKind) -> &Endpoint {
        match kind {
            KeyKind::Collections => &self.collections,
            KeyKind::Purchase => &self.purchase,
        }
    }
}

impl Default for Endpoints {
    fn default() -> Self {
        Self::microsoft()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, EndpointError>) {
        let url = Endpoint::parse(text).map(|endpoint| endpoint.url("/v6.0/b2b/keys/renew").to_string());
        assert_eq!(url, expected.map(str::to_owned), "{text}");
    }

    #[test]
    fn a_base_url_with_or_without_prefix() {
        check("https://purchase.mp.microsoft.com", Ok("https://purchase.mp.microsoft.com/v6.0/b2b/keys/renew"));
        check("https://purchase.mp.microsoft.com/", Ok("https://purchase.mp.microsoft.com/v6.0/b2b/keys/renew"));
        check("https://example.org:8443/a/b//", Ok("https://example.org:8443/a/b/v6.0/b2b/keys/renew"));
        check("http://127.0.0.1:8440/purchase", Ok("http://127.0.0.1:8440/purchase/v6.0/b2b/keys/renew"));
        check("http://127.8.9.10", Ok("http://127.8.9.10/v6.0/b2b/keys/renew"));
        check("http://[::1]:80", Ok("http://[::1]:80/v6.0/b2b/keys/renew"));
        check("http://LOCALHOST:1", Ok("http://LOCALHOST:1/v6.0/b2b/keys/renew"));
        check("http://localhost.", Ok("http://localhost./v6.0/b2b/keys/renew"));
    }

    #[test]
    fn plain_http_leaves_this_machine_under_no_name() {
        for text in [
            "http://collections.mp.microsoft.com",
            "http://10.0.0.1",
            "http://0.0.0.0:8440",
            "http://127.0.0.1.example.org",
            "http://localhost.example.org",
            "http://notlocalhost",
            "http://127.1",
            "http://2130706433",
            "http://0x7f.1",
            "http://[::]",
            "http://[fe80::1]",
            "http://[::ffff:10.0.0.1]",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_endpoint() {
        check("", Err(EndpointError::Malformed));
        check("collections", Err(EndpointError::Scheme));
        check("/v6.0", Err(EndpointError::Malformed));
        check("ftp://127.0.0.1", Err(EndpointError::Scheme));
        check("https://user@example.org", Err(EndpointError::UserInfo));
        check("http://127.0.0.1@example.org", Err(EndpointError::UserInfo));
        check("https://example.org?x=1", Err(EndpointError::Query));
        check("https://example.org/#f", Err(EndpointError::Query));
        check("https://example.org:99999", Err(EndpointError::Malformed));
        check("https://:443", Err(EndpointError::Malformed));
    }

    #[test]
    fn it_prints_as_it_was_given() {
        for text in ["https://login.microsoftonline.com", "http://127.0.0.1:8440/login.microsoftonline.com"] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Endpoints::default().for_kind(KeyKind::Purchase).host(), KeyKind::Purchase.host());
        assert_eq!(Endpoints::default().for_kind(KeyKind::Collections).host(), KeyKind::Collections.host());
    }
}
