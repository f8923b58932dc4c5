//! `[keyring.entra]`: the app registration whose token is the password of a database.

use std::path::PathBuf;

use storekeeper_keeper::SecretError;
use storekeeper_keyring_postgres::Address;
use storekeeper_model::{ClientId, Secret};

use super::app::{registration, required};
use super::endpoint::EndpointUrl;
use super::keyring::PostgresUrl;
use super::problem::Report;
use super::resolve::Node;
use super::schema::{Kind, Occurs, Preset, Section, Setting};
use super::secret_file;

/// Who asks Entra for a password, and for which resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntraPassword {
    /// Where tokens are issued: `[endpoint] entra`.
    pub authority: EndpointUrl,
    /// The Entra tenant: a GUID or a domain name.
    pub tenant_id: String,
    /// The app registration.
    pub client_id: ClientId,
    /// The identifier of the resource, and `/.default`.
    pub scope: String,
    secret: Secret<String>,
    file: Option<PathBuf>,
}

impl EntraPassword {
    /// Reads the section where it stands. A token goes to other machines by TLS alone.
    pub(super) fn read(
        keyring: &Node,
        endpoint: &Node,
        url: Option<&PostgresUrl>,
        admin_url: Option<&PostgresUrl>,
        report: &mut Report,
    ) -> Option<Self> {
        let node = keyring.below("entra").first()?;
        match url {
            None => {
                node.refuse("tenant_id", "is for PostgreSQL, and `url` names none: leave [keyring.entra] out", report);
            }
            Some(url) if url.address.has_password() => {
                let message = "holds a password, and [keyring.entra] says that Entra gives it: leave one out";
                keyring.refuse("url", message, report);
            }
            Some(_) => {}
        }
        for (name, url) in [("url", url), ("admin_url", admin_url)] {
            if url.is_some_and(|url| shows_a_token(&url.address)) {
                let message = "would show the token to whoever listens between: add ?sslmode=verify-full";
                keyring.refuse(name, message, report);
            }
        }
        let (tenant_id, client_id) = registration(node, report);
        Some(Self {
            authority: endpoint.url("entra")?,
            tenant_id: tenant_id?,
            client_id: client_id?,
            scope: node.text("scope")?,
            secret: node.secret("secret")?,
            file: node.secret_file("secret"),
        })
    }

    /// The client secret as it stands now: one that is replaced in its file is found without a restart.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn secret(&self) -> Result<Secret<String>, SecretError> {
        match &self.file {
            Some(file) => secret_file::read(file).map(|read| read.text),
            None => Ok(self.secret.clone()),
        }
    }
}

/// Whether a password that it does not hold could be sent to another machine without TLS.
fn shows_a_token(address: &Address) -> bool {
    !address.has_password() && !address.is_loopback() && !address.demands_tls()
}

pub(super) const SECTION: Section = Section {
    name: "entra",
    occurs: Occurs::Optional,
    about: "For Azure Database for PostgreSQL, and left out elsewhere: the password is a token that Entra ID gives to an app registration, which has a role of that name in the database. URLs without a password then get it.",
    settings: &[
        required(
            "tenant_id",
            "tenant_id = \"\"",
            "The directory (tenant) ID of the app registration, a GUID or a domain name.",
        ),
        required("client_id", "client_id = \"\"", "Its application (client) ID, a GUID."),
        Setting {
            name: "secret",
            kind: Kind::Secret,
            preset: Preset::Required,
            sample: Some("secret_file = \"database.secret\""),
            about: "The value of its client secret. A file is read again for each token.",
        },
        Setting {
            name: "scope",
            kind: Kind::Text,
            preset: Preset::Value("https://ossrdbms-aad.database.windows.net/.default"),
            sample: None,
            about: "What the token is for. Other clouds have other names for it.",
        },
    ],
    sections: &[],
};
