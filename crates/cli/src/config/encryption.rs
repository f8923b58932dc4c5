//! `[encryption]`: the master key that seals everything at rest.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use storekeeper_model::Secret;
use zeroize::Zeroizing;

use super::problem::Report;
use super::resolve::Node;
use super::schema::{Kind, Occurs, Preset, Section, Setting};

/// The master key.
#[derive(Debug, Clone)]
pub struct Encryption {
    /// 32 random bytes; wraps the roots from which every row's key is derived.
    pub master_key: Secret<[u8; 32]>,
}

impl Encryption {
    pub(super) fn read(node: &Node, report: &mut Report) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        if let Some(text) = node.secret("master_key") {
            match decode(&text) {
                Some(key) => *bytes = *key.expose(),
                None => {
                    node.refuse("master_key", "is not 32 bytes as base64 text: `storekeeper init` makes one", report)
                }
            }
        }
        Self { master_key: Secret::new(*bytes) }
    }
}

fn decode(text: &Secret<String>) -> Option<Secret<[u8; 32]>> {
    let decoded = Zeroizing::new(STANDARD.decode(text.expose().trim()).ok()?);
    <[u8; 32]>::try_from(decoded.as_slice()).ok().map(Secret::new)
}

pub(super) const SECTION: Section = Section {
    name: "encryption",
    occurs: Occurs::Once,
    about: "What seals the keyring. Keep a copy elsewhere: without the master key nothing in the keyring can be read.",
    settings: &[Setting {
        name: "master_key",
        kind: Kind::Secret,
        preset: Preset::Required,
        sample: Some("master_key_file = \"master.key\""),
        about: "32 random bytes as base64 text.",
    }],
    sections: &[],
};
