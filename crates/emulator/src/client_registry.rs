//! Who may ask Entra for tickets: tenants, their clients, and what each client proves itself with.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use storekeeper_model::{ClientId, Secret, Timestamp};

use crate::der;
use crate::management::{AddClient, ControlError, FederatedCredential};

/// The tenant of the development identity.
pub const DEV_TENANT_ID: &str = "11111111-1111-4111-8111-111111111111";
/// The client of the development identity.
pub const DEV_CLIENT_ID: &str = "22222222-2222-4222-8222-222222222222";
/// The secret of the development identity: fixed and published, so that no setup is needed.
pub const DEV_CLIENT_SECRET: &str = "storekeeper-dev-secret";

/// Tenants and their clients, both under normalised ids.
#[derive(Clone, Default)]
pub(crate) struct ClientRegistry {
    tenants: BTreeMap<String, BTreeMap<ClientId, Arc<Client>>>,
}

/// A registered application.
pub(crate) struct Client {
    /// Its one secret.
    pub(crate) secret: Option<Secret<String>>,
    /// When the secret stops working.
    pub(crate) secret_expires_at: Option<Timestamp>,
    /// What its own assertions are signed with.
    pub(crate) certificate: Option<ClientCertificate>,
    /// Whose assertions count as its own.
    pub(crate) federated: Option<FederatedCredential>,
}

impl ClientRegistry {
    /// With the development identity alone.
    pub(crate) fn development() -> Self {
        let client = Client {
            secret: Some(Secret::new(DEV_CLIENT_SECRET.to_owned())),
            secret_expires_at: None,
            certificate: None,
            federated: None,
        };
        let mut registry = Self::default();
        registry.insert(DEV_TENANT_ID, ClientId::new(DEV_CLIENT_ID), client);
        registry
    }

    /// Registers a client, or replaces its registration.
    pub(crate) fn add(&mut self, wish: AddClient) -> Result<(), ControlError> {
        let AddClient { tenant_id, client_id, secret, secret_expires_at, certificate, federated } = wish;
        if !is_guid(&tenant_id) {
            return Err(ControlError::TenantMalformed(tenant_id.chars().take(64).collect()));
        }
        let certificate = certificate.as_deref().map(ClientCertificate::parse).transpose()?;
        if secret.is_none() && certificate.is_none() && federated.is_none() {
            return Err(ControlError::CredentialMissing);
        }
        let client = Client { secret, secret_expires_at, certificate, federated };
        self.insert(&tenant_id, ClientId::new(&client_id), client);
        Ok(())
    }

    /// Puts a client in its place.
    pub(crate) fn insert(&mut self, tenant: &str, id: ClientId, client: Client) {
        self.tenants.entry(tenant.to_ascii_lowercase()).or_default().insert(id, Arc::new(client));
    }

    /// Whether the tenant exists, in whatever case it is written.
    pub(crate) fn knows_tenant(&self, tenant: &str) -> bool {
        self.tenants.contains_key(&tenant.to_ascii_lowercase())
    }

    /// A client of that tenant.
    pub(crate) fn find(&self, tenant: &str, id: &ClientId) -> Option<Arc<Client>> {
        self.tenants.get(&tenant.to_ascii_lowercase())?.get(id).cloned()
    }

    /// A tenant that has this client, or else the development tenant.
    pub(crate) fn tenant_of(&self, id: &ClientId) -> String {
        let home = self.tenants.iter().find(|(_, clients)| clients.contains_key(id));
        home.map_or_else(|| DEV_TENANT_ID.to_owned(), |(tenant, _)| tenant.clone())
    }

    /// All clients with their tenants, for a snapshot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &ClientId, &Client)> {
        self.tenants.iter().flat_map(|(tenant, clients)| {
            clients.iter().map(move |(id, client)| (tenant.as_str(), id, client.as_ref()))
        })
    }
}

/// Whether the text is a GUID with dashes.
pub(crate) fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// A certificate registered for client assertions (store.md 2.4).
pub(crate) struct ClientCertificate {
    der: Vec<u8>,
    x5t: String,
    x5t_s256: String,
    kid: String,
}

impl ClientCertificate {
    /// From PEM, or the base64 of the DER.
    pub(crate) fn parse(text: &str) -> Result<Self, ControlError> {
        let base64: String =
            text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).flat_map(str::chars).collect();
        let der = STANDARD.decode(base64).map_err(|_| ControlError::CertificateUnreadable)?;
        let key = der::certificate_public_key(&der).ok_or(ControlError::CertificateUnreadable)?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
            .parse()
            .map_err(|_| ControlError::CertificateUnreadable)?;
        let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &der);
        let sha256 = digest::digest(&digest::SHA256, &der);
        let kid = sha1.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        Ok(Self { x5t: URL_SAFE_NO_PAD.encode(sha1), x5t_s256: URL_SAFE_NO_PAD.encode(sha256), kid, der })
    }

    /// The certificate as base64 of its DER, which [`ClientCertificate::parse`] reads.
    pub(crate) fn base64(&self) -> String {
        STANDARD.encode(&self.der)
    }

    /// Whether an assertion's header means this certificate.
    pub(crate) fn is_named(&self, kid: Option<&str>, x5t: Option<&str>, x5t_s256: Option<&str>) -> bool {
        match (x5t_s256, x5t, kid) {
            (Some(name), _, _) => name == self.x5t_s256,
            (None, Some(name), _) => name == self.x5t,
            (None, None, Some(name)) => name.eq_ignore_ascii_case(&self.kid),
            (None, None, None) => false,
        }
    }

    /// Whether `signature`, still base64url, is this certificate's over `message`. RS256 and PS256 are known.
    pub(crate) fn verifies(&self, alg: &str, message: &str, signature: &str) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match alg {
            "RS256" => &RSA_PKCS1_2048_8192_SHA256,
            "PS256" => &RSA_PSS_2048_8192_SHA256,
            _ => return false,
        };
        let key = der::certificate_public_key(&self.der);
        let (Some(key), Ok(signature)) = (key, URL_SAFE_NO_PAD.decode(signature)) else { return false };
        UnparsedPublicKey::new(algorithm, key).verify(message.as_bytes(), &signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(tenant: &str, secret: Option<&str>) -> AddClient {
        AddClient {
            tenant_id: tenant.to_owned(),
            client_id: String::from("33333333-3333-4333-8333-333333333333"),
            secret: secret.map(|secret| Secret::new(secret.to_owned())),
            secret_expires_at: None,
            certificate: None,
            federated: None,
        }
    }

    #[test]
    fn clients_are_found_however_their_ids_are_written() {
        let registry = ClientRegistry::development();
        assert!(registry.knows_tenant(&DEV_TENANT_ID.to_uppercase()));
        let id = ClientId::new("{22222222222242228222222222222222}");
        assert!(registry.find(DEV_TENANT_ID, &id).is_some());
        assert_eq!(registry.tenant_of(&ClientId::new("nobody")), DEV_TENANT_ID);
    }

    #[test]
    fn a_client_needs_a_guid_for_a_tenant_and_a_credential() {
        let check = |wish, expected| assert_eq!(ClientRegistry::development().add(wish), expected);
        let tenant = "44444444-4444-4444-8444-444444444444";
        check(wish(tenant, Some("s")), Ok(()));
        check(wish(tenant, None), Err(ControlError::CredentialMissing));
        check(wish("contoso", Some("s")), Err(ControlError::TenantMalformed(String::from("contoso"))));
        let broken = AddClient { certificate: Some(String::from("AAAA")), ..wish(tenant, None) };
        check(broken, Err(ControlError::CertificateUnreadable));
    }

    #[test]
    fn registering_again_replaces() {
        let mut registry = ClientRegistry::development();
        let tenant = "44444444-4444-4444-8444-444444444444";
        registry.add(wish(tenant, Some("one"))).unwrap();
        registry.add(wish(tenant, Some("two"))).unwrap();
        let client = registry.find(tenant, &ClientId::new("33333333333343338333333333333333")).unwrap();
        assert_eq!(client.secret.as_ref().unwrap().expose(), "two");
        assert_eq!(registry.iter().count(), 2);
    }
}
