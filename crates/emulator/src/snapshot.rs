//! The emulator's state as text: what `snapshot` hands out, `restore` takes, and the data directory keeps.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use storekeeper_model::{ClientId, Fingerprint, Secret, Timestamp};

use crate::authority::{Authority, CertificateList, StoreCertificate};
use crate::certificate::SigningCertificate;
use crate::client_registry::{Client, ClientCertificate, ClientRegistry};
use crate::entropy::Entropy;
use crate::management::{ControlError, FederatedCredential};
use crate::revocation::{Revocations, SupersededKeys};
use crate::state::State;
use crate::sync::read;
use crate::{EmulatorOptions, Signatures, Switches};

/// Everything but the calls counted for rate limits, which last minutes. It contains private keys and client secrets, so
/// it belongs in a file that only its owner reads; `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    version: u32,
    seed: u64,
    next_serial: u64,
    switches: Switches,
    rotation_anchor: Option<Timestamp>,
    certificates: Vec<SavedCertificate>,
    entra: SavedKey,
    clients: Vec<SavedClient>,
    revocations: Revocations,
    superseded: BTreeMap<Fingerprint, Timestamp>,
}

/// The one version that is written and read.
const VERSION: u32 = 1;

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SavedCertificate {
    sign_from: Option<Timestamp>,
    renew_until: Option<Timestamp>,
    #[serde(flatten)]
    key: SavedKey,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum SavedKey {
    Real { private_key: String, certificate: String },
    Skipped { thumbprint: [u8; 20] },
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SavedClient {
    tenant_id: String,
    client_id: String,
    secret: Option<String>,
    secret_expires_at: Option<Timestamp>,
    certificate: Option<String>,
    federated: Option<FederatedCredential>,
}

impl Snapshot {
    /// The switches that were in force.
    pub fn switches(&self) -> Switches {
        self.switches
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted snapshot]")
    }
}

impl SavedKey {
    fn of(key: &SigningCertificate) -> Self {
        match key.private_key().zip(key.der()) {
            Some((private_key, certificate)) => Self::Real {
                private_key: STANDARD.encode(private_key.expose()),
                certificate: STANDARD.encode(certificate),
            },
            None => Self::Skipped { thumbprint: key.thumbprint() },
        }
    }

    fn restore(&self, signatures: Signatures) -> Result<SigningCertificate, ControlError> {
        match (self, signatures) {
            (Self::Real { private_key, certificate }, Signatures::Real) => {
                let decoded = STANDARD.decode(private_key).map(Secret::new).ok().zip(STANDARD.decode(certificate).ok());
                let restored =
                    decoded.and_then(|(key, certificate)| SigningCertificate::restore(key.expose(), certificate));
                restored.ok_or_else(|| ControlError::Snapshot(String::from("a signing key is unreadable")))
            }
            (Self::Skipped { thumbprint }, Signatures::Skipped) => Ok(SigningCertificate::unsigned(*thumbprint)),
            _ => Err(ControlError::Snapshot(String::from("it was made with other signatures"))),
        }
    }
}

impl SavedClient {
    fn of((tenant, id, client): (&str, &ClientId, &Client)) -> Self {
        Self {
            tenant_id: tenant.to_owned(),
            client_id: id.to_string(),
            secret: client.secret.as_ref().map(|secret| secret.expose().clone()),
            secret_expires_at: client.secret_expires_at,
            certificate: client.certificate.as_ref().map(ClientCertificate::base64),
            federated: client.federated.clone(),
        }
    }

    fn restore(&self, registry: &mut ClientRegistry) -> Result<(), ControlError> {
        let client = Client {
            secret: self.secret.clone().map(Secret::new),
            secret_expires_at: self.secret_expires_at,
            certificate: self.certificate.as_deref().map(ClientCertificate::parse).transpose()?,
            federated: self.federated.clone(),
        };
        registry.insert(&self.tenant_id, ClientId::new(&self.client_id), client);
        Ok(())
    }
}

impl State {
    /// Writes everything down.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let list = self.authority.list();
        let saved = |certificate: &StoreCertificate| SavedCertificate {
            sign_from: certificate.sign_from,
            renew_until: certificate.renew_until,
            key: SavedKey::of(&certificate.certificate),
        };
        Snapshot {
            version: VERSION,
            seed: self.entropy.seed(),
            next_serial: self.entropy.next(),
            switches: *read(&self.switches),
            rotation_anchor: list.anchor,
            certificates: list.list.iter().map(saved).collect(),
            entra: SavedKey::of(&self.entra),
            clients: read(&self.registry).iter().map(SavedClient::of).collect(),
            revocations: read(&self.revocations).clone(),
            superseded: self.superseded.list(),
        }
    }

    /// The state that was written down, or an error that names what is unreadable.
    pub(crate) fn restore(options: &EmulatorOptions, snapshot: &Snapshot) -> Result<Self, ControlError> {
        if snapshot.version != VERSION {
            return Err(ControlError::Snapshot(format!("version {} is not {VERSION}", snapshot.version)));
        }
        let restored = |saved: &SavedCertificate| {
            let key = saved.key.restore(options.signatures)?;
            Ok(StoreCertificate::new(key, saved.sign_from, saved.renew_until))
        };
        let list = snapshot.certificates.iter().map(restored).collect::<Result<Vec<_>, ControlError>>()?;
        if list.is_empty() {
            return Err(ControlError::Snapshot(String::from("it holds no signing certificate")));
        }
        let authority =
            Authority::restore(CertificateList { list, anchor: snapshot.rotation_anchor }, options.signatures);
        let entra = snapshot.entra.restore(options.signatures)?;
        let entropy = Entropy::new(snapshot.seed, next_block(snapshot.next_serial));
        let mut state = Self::assemble(options, snapshot.switches, entropy, authority, entra);
        let mut registry = ClientRegistry::default();
        snapshot.clients.iter().try_for_each(|client| client.restore(&mut registry))?;
        state.registry = registry.into();
        state.revocations = snapshot.revocations.clone().into();
        state.superseded = SupersededKeys::restore(snapshot.superseded.clone());
        Ok(state)
    }
}

/// Serials go on in a new block: whatever was minted between the snapshot and its return counts as minted before.
fn next_block(serial: u64) -> u64 {
    ((serial >> 32) + 1) << 32
}
