//! What the control port may ask of the emulator: the shapes of its requests and answers, and why one is refused.

use serde::{Deserialize, Deserializer, Serialize};
use storekeeper_model::{Audience, CertificateId, Fingerprint, KeyKind, Secret, Timestamp};

/// Mint a key: the body of `POST /control/v1/keys`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MintKey {
    /// Which service it is for.
    #[serde(deserialize_with = "from_text")]
    pub kind: KeyKind,
    /// The claim `userId`.
    pub user_id: String,
    /// The hidden Store account, at most 64 bytes; by default one account per publisher user.
    #[serde(default)]
    pub account: Option<String>,
    /// By default the development client.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Any instant; by default now.
    #[serde(default)]
    pub issued_at: Option<Timestamp>,
    /// The `kid` of the certificate to sign with, even a retired one; by default the one that signs (or signed) at
    /// `issued_at`.
    #[serde(default)]
    pub certificate: Option<String>,
    /// Characters of the claim `payload`, a multiple of four; 344 by default.
    #[serde(default)]
    pub payload_length: Option<usize>,
}

impl MintKey {
    /// A key issued now to the development client.
    pub fn new(kind: KeyKind, user_id: impl Into<String>) -> Self {
        Self {
            kind,
            user_id: user_id.into(),
            account: None,
            client_id: None,
            issued_at: None,
            certificate: None,
            payload_length: None,
        }
    }
}

/// Mint a ticket: the body of `POST /control/v1/tickets`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MintTicket {
    /// What it is good for.
    #[serde(deserialize_with = "from_text")]
    pub audience: Audience,
    /// By default the development client; it need not be registered.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Merged over the defaults; `null` removes a claim.
    #[serde(default)]
    pub claims: serde_json::Map<String, serde_json::Value>,
}

/// Revoke keys: the body of `POST /control/v1/revocations`. Exactly the keys minted so far are meant; what is minted
/// afterwards for the same user or client, or by the same certificate, is untouched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// This one key.
    Fingerprint(Fingerprint),
    /// All keys with this claim `userId`.
    UserId(String),
    /// All keys of this client.
    ClientId(String),
    /// All keys signed by the certificate with this `kid`.
    Certificate(CertificateId),
}

/// Register a client, or replace its registration: the body of `POST /control/v1/clients`. At least one kind of
/// credential is needed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddClient {
    /// A GUID; unknown ones become known.
    pub tenant_id: String,
    /// The application's ID.
    pub client_id: String,
    /// A client secret.
    #[serde(default, deserialize_with = "secret_text")]
    pub secret: Option<Secret<String>>,
    /// When the secret stops working (AADSTS7000222); by default never.
    #[serde(default)]
    pub secret_expires_at: Option<Timestamp>,
    /// An X.509 certificate with an RSA key for client assertions: PEM, or the base64 of its DER.
    #[serde(default)]
    pub certificate: Option<String>,
    /// A federated credential.
    #[serde(default)]
    pub federated: Option<FederatedCredential>,
}

/// Whose assertions count as a client's own (store.md 2.5). They must be signed by the emulator's Entra key, as
/// tickets minted on the control port with these claims are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FederatedCredential {
    /// The claim `iss`.
    pub issuer: String,
    /// The claim `sub`, case-sensitive.
    pub subject: String,
    /// The claim `aud`.
    #[serde(default = "token_exchange")]
    pub audience: String,
}

/// One signing certificate as listed by `GET /control/v1/certificates`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateView {
    /// Its `kid`: the upper-case hexadecimal SHA-1 thumbprint.
    pub certificate: CertificateId,
    /// The thumbprint as base64url.
    pub x5t: String,
    /// When it began to sign; `null` for the one that always has.
    pub sign_from: Option<Timestamp>,
    /// From when on keys it signed are no longer renewed; `null` while no end is set.
    pub renew_until: Option<Timestamp>,
    /// Whether it signs what is minted now.
    pub signing: bool,
}

/// Why the control port's wish cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// See [`MintKey::certificate`].
    #[error("no signing certificate has the id `{0}`")]
    CertificateUnknown(String),
    /// See [`MintKey::payload_length`].
    #[error("a payload has {min} to {max} characters, a multiple of four", min = crate::payload::LENGTH_MIN, max = crate::payload::LENGTH_MAX)]
    PayloadLength,
    /// See [`MintKey::account`].
    #[error("an account has at most 64 bytes")]
    AccountTooLong,
    /// The key would be longer than anybody reads.
    #[error("the key would be longer than 16 KiB")]
    KeyTooLarge,
    /// See [`AddClient`].
    #[error("a client needs a secret, a certificate or a federated credential")]
    CredentialMissing,
    /// See [`AddClient::certificate`].
    #[error("the certificate is not X.509 with an RSA key of at least 2048 bits")]
    CertificateUnreadable,
    /// A tenant is a GUID.
    #[error("`{0}` is not a tenant id: a GUID is needed")]
    TenantMalformed(String),
    /// The snapshot's version, or something in it, is not understood.
    #[error("the snapshot cannot be used: {0}")]
    Snapshot(String),
}

fn token_exchange() -> String {
    String::from("api://AzureADTokenExchange")
}

fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

fn secret_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret<String>>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bodies_of_the_contract_are_read() {
        let key: MintKey = serde_json::from_str(r#"{"kind":"purchase","user_id":"u"}"#).unwrap();
        assert_eq!((key.kind, key.user_id.as_str(), key.issued_at), (KeyKind::Purchase, "u", None));
        let ticket: MintTicket = serde_json::from_str(r#"{"audience":"service","claims":{"appid":null}}"#).unwrap();
        assert_eq!(ticket.claims.len(), 1);
        let client: AddClient = serde_json::from_str(r#"{"tenant_id":"t","client_id":"c","secret":"s3"}"#).unwrap();
        assert!(!format!("{client:?}").contains("s3"));
        let all = [
            r#"{"fingerprint":"00112233445566778899aabbccddeeff"}"#,
            r#"{"user_id":"u"}"#,
            r#"{"client_id":"c"}"#,
            r#"{"certificate":"AB"}"#,
        ];
        for text in all {
            let revocation: Revocation = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&revocation).unwrap(), text);
        }
    }

    #[test]
    fn unknown_names_and_kinds_are_refused() {
        assert!(serde_json::from_str::<MintKey>(r#"{"kind":"gift","user_id":"u"}"#).is_err());
        assert!(serde_json::from_str::<MintKey>(r#"{"kind":"purchase","user_id":"u","isued_at":null}"#).is_err());
        assert!(serde_json::from_str::<Revocation>(r#"{"user":"u"}"#).is_err());
    }
}
