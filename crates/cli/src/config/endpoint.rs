//! `[endpoint]`: where the Store and Entra ID are. A ticket goes here and nowhere else.

use std::fmt;
use std::str::FromStr;

pub use storekeeper_client::EntraVersion;
use storekeeper_client::{Endpoint, EndpointError};
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

impl Endpoints {
    pub(super) fn read(node: &Node) -> Self {
        let nowhere = || "https://invalid.invalid".parse().expect("a well-formed address");
        let url = |name| node.url(name).unwrap_or_else(nowhere);
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

/// A base address as it was written and as it is used; see [`Endpoint`] for what it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointUrl {
    text: String,
    endpoint: Endpoint,
}

impl EndpointUrl {
    /// The address, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// As the client takes it.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for EndpointUrl {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::parse(text)?;
        Ok(Self { text: endpoint.to_string(), endpoint })
    }
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
