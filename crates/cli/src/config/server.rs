//! `[server]`: where the keeper listens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::problem::Report;
use super::resolve::Node;
use super::schema::{Kind, Occurs, Preset, STRICT_FILES, Section, Setting};

/// The two listeners.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where backends talk to the keeper.
    pub listen: SocketAddr,
    /// Where operators do.
    pub admin_listen: SocketAddr,
    /// Whether the operator vouches for a proxy that speaks TLS in front of every listener that is not loopback.
    pub is_behind_proxy: bool,
}

impl Server {
    pub(super) fn read(node: &Node, report: &mut Report) -> Self {
        let unset = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let server = Self {
            listen: node.address("listen").unwrap_or(unset),
            admin_listen: node.address("admin_listen").unwrap_or(unset),
            is_behind_proxy: node.text("plaintext").is_some(),
        };
        for (name, address) in [("listen", server.listen), ("admin_listen", server.admin_listen)] {
            if let Err(error) = server.allow(address) {
                node.refuse(name, error.to_string(), report);
            }
        }
        if server.listen == server.admin_listen && server.listen.port() != 0 {
            node.refuse("admin_listen", "is the same as `listen`: give it a port of its own", report);
        }
        server
    }

    /// Whether a listener may be opened there; also to be asked of an address from the command line.
    ///
    /// # Errors
    /// [`Exposed`] when other machines could reach it and nothing protects the keys on their way.
    pub fn allow(&self, address: SocketAddr) -> Result<(), Exposed> {
        if address.ip().is_loopback() || self.is_behind_proxy { Ok(()) } else { Err(Exposed(address)) }
    }
}

/// Keys would travel in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} can be reached from other machines and keys would travel in the clear: listen on 127.0.0.1, or put a proxy that \
     speaks TLS in front and set `plaintext = \"behind-proxy\"`"
)]
pub struct Exposed(pub SocketAddr);

pub(super) const SECTION: Section = Section {
    name: "server",
    occurs: Occurs::Once,
    about: "Where the keeper listens. It speaks plain HTTP: a listener that is not loopback needs a proxy in front that speaks TLS.",
    settings: &[
        Setting {
            name: "listen",
            kind: Kind::Address,
            preset: Preset::Value("127.0.0.1:8433"),
            sample: None,
            about: "The HTTP API for backends. Port 0 takes a free one.",
        },
        Setting {
            name: "admin_listen",
            kind: Kind::Address,
            preset: Preset::Value("127.0.0.1:8434"),
            sample: None,
            about: "Health, metrics and administration.",
        },
        Setting {
            name: "plaintext",
            kind: Kind::Choice(&["behind-proxy"]),
            preset: Preset::Nothing,
            sample: Some("plaintext = \"behind-proxy\""),
            about: "Says that a proxy in front of every listener that is not loopback speaks TLS.",
        },
        STRICT_FILES,
    ],
    sections: &[],
};
