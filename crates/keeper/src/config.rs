//! What the keeper has to know about the apps it keeps keys for.

use std::sync::Arc;
use std::time::Duration;

use storekeeper_client::{Endpoint, EntraVersion};
use storekeeper_keyring::NodeId;
use storekeeper_model::{AppName, ClientId, KeyKind, Secret, Timestamp};
use storekeeper_policy::RenewalPolicy;

use crate::fleet::LeaseTimes;

/// Everything that is configured.
#[derive(Debug, Clone)]
pub struct KeeperConfig {
    /// The apps; names are unique.
    pub apps: Vec<AppConfig>,
    /// Where Collections answers.
    pub collections: Endpoint,
    /// Where Purchase answers.
    pub purchase: Endpoint,
    /// Where Entra ID answers.
    pub entra: Endpoint,
    /// Which of Entra's two token endpoints is asked.
    pub entra_version: EntraVersion,
    /// How many renewals may be under way at once.
    pub concurrency: usize,
    /// The longest one exchange may take, in the operating system's time.
    pub request_timeout: Duration,
    /// How many rows are remembered once they have been read.
    pub cache_rows: usize,
    /// Whether pace and breaker hold renewals back; off only in benches.
    pub limits: Limits,
    /// Seeds jitter and correlation vectors.
    pub seed: u64,
    /// Start although the keyring holds keys of an app that is not configured, or whose client ID changed.
    pub accept_orphans: bool,
    /// Where successors are put that the keyring does not take; `None`: they are lost when the process ends.
    pub rescue_folder: Option<std::path::PathBuf>,
    /// Who this keeper is among those that share the keyring.
    pub node: NodeConfig,
}

/// Who a keeper is among those that share a keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Made anew at each start, from random bytes.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// How its leases live; the same in all nodes.
    pub times: LeaseTimes,
}

impl Default for NodeConfig {
    /// For a keeper that shares with nobody.
    fn default() -> Self {
        Self { id: NodeId::from_bytes([0; 16]), name: String::from("keeper"), times: LeaseTimes::default() }
    }
}

/// Whether pace and breaker apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// As the policy says.
    On,
    /// For benches.
    Off,
}

impl KeeperConfig {
    /// Where the service for a kind of key answers.
    pub fn endpoint(&self, kind: KeyKind) -> &Endpoint {
        match kind {
            KeyKind::Collections => &self.collections,
            KeyKind::Purchase => &self.purchase,
        }
    }
}

/// One app.
#[derive(Debug, Clone)]
pub struct AppConfig {
    /// As it stands in routes.
    pub name: AppName,
    /// The Entra tenant: a GUID or a domain name.
    pub tenant: String,
    /// The Entra application.
    pub client_id: ClientId,
    /// One or two credentials; the second takes over when the first is refused.
    pub credentials: Vec<Arc<dyn CredentialSource>>,
    /// Whether a key's `userId` claim must be the player's name.
    pub user_claim: UserClaim,
    /// When its keys are renewed.
    pub policy: RenewalPolicy,
}

/// What enrollment makes of the claim `userId`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UserClaim {
    /// It proves nothing and is not looked at.
    #[default]
    Ignore,
    /// It must equal the name the key is enrolled under.
    Equal,
}

/// Gives the secret of a credential when it is needed, so that a secret replaced on disk is found without a restart.
pub trait CredentialSource: Send + Sync + std::fmt::Debug {
    /// Reads the secret as it stands now.
    ///
    /// # Errors
    /// See [`SecretError`].
    fn read(&self) -> Result<Secret<String>, SecretError>;

    /// When it expires, as far as that was told; only the directory it was made in knows for sure.
    fn expires_at(&self) -> Option<Timestamp> {
        None
    }
}

/// Why a secret cannot be read. One line for the operator: which file, what is wrong; never the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The operator has to correct something: the file is missing, forbidden, or holds no secret.
    #[error("{0}")]
    Wrong(String),
    /// This machine cannot read it at the moment: too many files are open, the disk fails. That says nothing about the
    /// secret, and may pass by itself.
    #[error("{0}")]
    Unavailable(String),
}

/// A secret that does not change.
#[derive(Debug)]
pub struct FixedSecret(pub Secret<String>);

impl CredentialSource for FixedSecret {
    fn read(&self) -> Result<Secret<String>, SecretError> {
        Ok(self.0.clone())
    }
}
