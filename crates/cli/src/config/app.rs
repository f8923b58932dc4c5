//! `[[app]]`: the applications whose players' keys are kept.

use std::path::PathBuf;

pub use storekeeper_keeper::UserClaim;
use storekeeper_keeper::{CredentialSource, SecretError};
use storekeeper_model::{AppName, ClientId, Secret, Timestamp};

use super::problem::Report;
use super::renewal::{self, Renewal};
use super::resolve::Node;
use super::schema::{Kind, Occurs, Preset, Section, Setting};
use super::secret_file;

/// One application.
#[derive(Debug, Clone)]
pub struct App {
    /// Its name in routes and rows.
    pub name: AppName,
    /// The Entra tenant: a GUID or a domain name.
    pub tenant_id: String,
    /// Its Entra application.
    pub client_id: ClientId,
    /// What is demanded of a key's `userId` claim.
    pub user_claim: UserClaim,
    /// In the order of preference; one or two.
    pub credentials: Vec<Credential>,
    /// Its policy.
    pub renewal: Renewal,
}

/// How the app proves itself to Entra.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A client secret.
    ClientSecret {
        /// As it stood when the configuration was read.
        secret: Secret<String>,
        /// Where it stands; read again whenever it is needed, so that one that is replaced is found without a restart.
        file: Option<PathBuf>,
        /// When it expires, as its owner says.
        expires_at: Option<Timestamp>,
    },
}

impl CredentialSource for Credential {
    fn read(&self) -> Result<Secret<String>, SecretError> {
        match self {
            Self::ClientSecret { secret, file: None, .. } => Ok(secret.clone()),
            Self::ClientSecret { file: Some(file), .. } => secret_file::read(file).map(|read| read.text),
        }
    }

    fn expires_at(&self) -> Option<Timestamp> {
        let Self::ClientSecret { expires_at, .. } = self;
        *expires_at
    }
}

impl App {
    pub(super) fn read(node: &Node, base: &Renewal, report: &mut Report) -> Option<Self> {
        let renewal = renewal::read(node.only("renewal"), base, report);
        let credentials = credentials(node, report);
        let (tenant_id, client_id) = registration(node, report);
        let name = node
            .text("name")
            .and_then(|text| AppName::new(&text).map_err(|error| node.refuse("name", error.to_string(), report)).ok());
        let user_claim = match node.text("user_claim").as_deref() {
            Some("equal") => UserClaim::Equal,
            _ => UserClaim::Ignore,
        };
        Some(Self { name: name?, tenant_id: tenant_id?, client_id: client_id?, user_claim, credentials, renewal })
    }
}

/// The tenant and the client ID of an app registration.
pub(super) fn registration(node: &Node, report: &mut Report) -> (Option<String>, Option<ClientId>) {
    let tenant_id = node.text("tenant_id").filter(|tenant| {
        let fits = is_tenant(tenant);
        if !fits {
            node.refuse("tenant_id", "is neither a GUID nor a domain name: take it from the app registration", report);
        }
        fits
    });
    let client_id = node.text("client_id").map(|text| ClientId::new(&text)).filter(|client_id| {
        if !client_id.is_guid() {
            node.refuse(
                "client_id",
                "is not a GUID: take the application (client) ID from the app registration",
                report,
            );
        }
        client_id.is_guid()
    });
    (tenant_id, client_id)
}

fn credentials(app: &Node, report: &mut Report) -> Vec<Credential> {
    let nodes = app.below("credential");
    if nodes.is_empty() {
        let message = "is missing: add an [[app.credential]] section below this [[app]]";
        report.problem(app.origin.clone(), app.setting("credential"), message);
    }
    if let Some(third) = nodes.get(CREDENTIALS_MAX) {
        report.problem(third.origin.clone(), third.path.clone(), "is one too many: an app has at most two credentials");
    }
    nodes.iter().filter_map(|node| credential(node, report)).collect()
}

fn credential(node: &Node, report: &mut Report) -> Option<Credential> {
    match node.text("type")?.as_str() {
        "client_secret" => {
            if !node.is_written("secret") {
                let message = "is missing: write `secret_file`, the file that holds the client secret";
                report.problem(node.origin.clone(), node.setting("secret_file"), message);
            }
            let (secret, file) = (node.secret("secret")?, node.secret_file("secret"));
            let expires_at = node.text("expires_at").and_then(|text| {
                let at = instant(&text);
                if at.is_none() {
                    node.refuse("expires_at", "is no day such as \"2027-01-31\", nor an instant", report);
                }
                at
            });
            Some(Credential::ClientSecret { secret, file, expires_at })
        }
        other => {
            node.refuse("type", format!("`{other}` is not in this version: use \"client_secret\""), report);
            None
        }
    }
}

/// A day, at whose beginning it is, or an instant.
fn instant(text: &str) -> Option<Timestamp> {
    text.parse().or_else(|_| format!("{text}T00:00:00Z").parse()).ok()
}

/// A GUID or something with the form of a domain name; it becomes part of a path.
fn is_tenant(text: &str) -> bool {
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    is_plain && text.len() <= 253 && (ClientId::new(text).is_guid() || (text.contains('.') && !text.contains("..")))
}

const CREDENTIALS_MAX: usize = 2;

pub(super) const fn required(name: &'static str, sample: &'static str, about: &'static str) -> Setting {
    Setting { name, kind: Kind::Text, preset: Preset::Required, sample: Some(sample), about }
}

pub(super) const SECTION: Section = Section {
    name: "app",
    occurs: Occurs::Repeats,
    about: "An application whose players' keys are kept. Its IDs stand in the app registration in Entra.",
    settings: &[
        required(
            "name",
            "name = \"mygame\"",
            "Its name in routes: a-z, A-Z, 0-9, `-`, `_` and `.`. Keys are kept under it.",
        ),
        required("tenant_id", "tenant_id = \"\"", "The directory (tenant) ID, a GUID or a domain name."),
        required(
            "client_id",
            "client_id = \"\"",
            "The application (client) ID, a GUID. Keys of any other client ID are refused.",
        ),
        Setting {
            name: "user_claim",
            kind: Kind::Choice(&["ignore", "equal"]),
            preset: Preset::Value("ignore"),
            sample: None,
            about: "`equal`: a key's `userId` claim must equal the user it is enrolled for.",
        },
    ],
    sections: &[CREDENTIAL, renewal::OVERRIDES],
};

const CREDENTIAL: Section = Section {
    name: "credential",
    occurs: Occurs::Repeats,
    about: "How the app proves itself to Entra. A second one is used while the first is refused.",
    settings: &[
        Setting {
            name: "type",
            kind: Kind::Choice(&["client_secret", "certificate", "workload_identity", "managed_identity"]),
            preset: Preset::Required,
            sample: Some("type = \"client_secret\""),
            about: "This version knows `client_secret`; the other types are understood and refused.",
        },
        Setting {
            name: "secret",
            kind: Kind::Secret,
            preset: Preset::Nothing,
            sample: Some("secret_file = \"mygame.secret\""),
            about: "The value of the client secret.",
        },
        Setting {
            name: "expires_at",
            kind: Kind::Text,
            preset: Preset::Nothing,
            sample: Some("expires_at = \"2027-01-31\""),
            about: "When the app registration says that it expires: a day or an instant. For the metric that warns of it.",
        },
    ],
    sections: &[],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_replaced_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "second\n").unwrap();
        let credential = Credential::ClientSecret {
            secret: Secret::new(String::from("first")),
            file: Some(file.clone()),
            expires_at: None,
        };
        assert_eq!(credential.read().unwrap().expose(), "second");
        std::fs::remove_file(&file).unwrap();
        assert!(credential.read().unwrap_err().to_string().contains("does not exist"));
    }

    #[test]
    fn tenants() {
        for good in ["11111111-1111-4111-8111-111111111111", "contoso.onmicrosoft.com"] {
            assert!(is_tenant(good), "{good}");
        }
        for bad in ["", "common/oauth2", "contoso", "a..b", "a.b?c", "../x.y"] {
            assert!(!is_tenant(bad), "{bad}");
        }
    }
}
