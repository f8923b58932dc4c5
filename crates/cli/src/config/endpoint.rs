//! `[endpoint]`: where the Store and Entra ID are. A ticket goes here and nowhere else.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use storekeeper_model::KeyKind;

use super::resolve::Node;
use super::schema::{Kind, Occurs, Preset, Section, Setting};

/// The three services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// Renews Collections keys.
    pub collections: EndpointUrl,
    /// Renews Purchase keys.
    pub purchase: EndpointUrl,
    /// Issues service tickets.
    pub entra: EndpointUrl,
    /// Which of Entra's token endpoints is asked.
    pub entra_version: EntraVersion,
}

/// The two shapes of Entra's token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntraVersion {
    /// `/oauth2/token` with `resource`.
    V1,
    /// `/oauth2/v2.0/token` with `scope`.
    V2,
}

impl Endpoints {
    pub(super) fn read(node: &Node) -> Self {
        let url = |name| node.url(name).unwrap_or_else(|| EndpointUrl(String::from("https://invalid.invalid")));
        let entra_version = match node.text("entra_version").as_deref() {
            Some("v1") => EntraVersion::V1,
            _ => EntraVersion::V2,
        };
        Self { collections: url("collections"), purchase: url("purchase"), entra: url("entra"), entra_version }
    }

    /// Where keys of that kind are renewed.
    pub fn store(&self, kind: KeyKind) -> &EndpointUrl {
        match kind {
            KeyKind::Collections => &self.collections,
            KeyKind::Purchase => &self.purchase,
        }
    }
}

/// A base address: `https`, or `http` towards loopback, with an optional path prefix and no slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointUrl(String);

impl EndpointUrl {
    /// The address, to which a path starting with `/` is appended.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseUrlError {
    /// Not an absolute address.
    #[error("is not an address such as https://collections.mp.microsoft.com")]
    Malformed,
    /// Neither `http` nor `https`.
    #[error("starts with neither https:// nor http://")]
    Scheme,
    /// `http` towards another machine: the ticket would travel in the clear.
    #[error("needs https: plain http is for loopback only")]
    Plain,
    /// A user name, a query or a fragment, which a base address has no use for.
    #[error("holds more than scheme, host, port and path")]
    Surplus,
}

impl FromStr for EndpointUrl {
    type Err = ParseUrlError;

    fn from_str(text: &str) -> Result<Self, ParseUrlError> {
        if text.contains(['?', '#', '@']) {
            return Err(ParseUrlError::Surplus);
        }
        let uri: http::Uri = text.parse().map_err(|_| ParseUrlError::Malformed)?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(ParseUrlError::Malformed)?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_loopback(host) => {}
            Some("http") => return Err(ParseUrlError::Plain),
            Some(_) => return Err(ParseUrlError::Scheme),
            None => return Err(ParseUrlError::Malformed),
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

/// Whether a host can only be this machine: a loopback address, or `localhost` and names below it (RFC 6761).
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_localhost = bare.eq_ignore_ascii_case("localhost") || bare.to_ascii_lowercase().ends_with(".localhost");
    is_localhost || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

const fn address(name: &'static str, preset: &'static str, about: &'static str) -> Setting {
    Setting { name, kind: Kind::Url, preset: Preset::Value(preset), sample: None, about }
}

pub(super) const SECTION: Section = Section {
    name: "endpoint",
    occurs: Occurs::Once,
    about: "Where the Store and Entra ID are: Microsoft's by default, the emulator's in tests. Tickets are sent nowhere else.",
    settings: &[
        address("collections", "https://collections.mp.microsoft.com", "Renews Collections keys."),
        address("purchase", "https://purchase.mp.microsoft.com", "Renews Purchase keys."),
        address("entra", "https://login.microsoftonline.com", "Issues service tickets."),
        Setting {
            name: "entra_version",
            kind: Kind::Choice(&["v1", "v2"]),
            preset: Preset::Value("v2"),
            sample: None,
            about: "Which of Entra's token endpoints is asked.",
        },
    ],
    sections: &[],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_does_without_https() {
        for good in [
            "https://a.example",
            "http://127.0.0.1:8440/x",
            "http://[::1]:1",
            "http://localhost:1",
            "http://a.localhost",
        ] {
            assert_eq!(good.parse::<EndpointUrl>().map(|url| url.0), Ok(good.to_owned()));
        }
        for plain in ["http://a.example", "http://10.0.0.1", "http://localhost.example", "http://127.0.0.1.example"] {
            assert_eq!(plain.parse::<EndpointUrl>(), Err(ParseUrlError::Plain), "{plain}");
        }
        assert_eq!("ftp://a".parse::<EndpointUrl>(), Err(ParseUrlError::Scheme));
        assert_eq!("a.example".parse::<EndpointUrl>(), Err(ParseUrlError::Malformed));
        assert_eq!("http://127.0.0.1@a.example".parse::<EndpointUrl>(), Err(ParseUrlError::Surplus));
        assert_eq!("https://a.example/?q".parse::<EndpointUrl>(), Err(ParseUrlError::Surplus));
    }

    #[test]
    fn the_slash_at_the_end_goes() {
        assert_eq!("https://a.example/prefix/".parse::<EndpointUrl>().unwrap().as_str(), "https://a.example/prefix");
    }
}
