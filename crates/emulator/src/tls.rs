//! The emulator's own certificate authority: good for the emulated hosts and this machine, for nothing else.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use storekeeper_model::Timestamp;

use crate::request::VirtualHost;

const DAY: Duration = Duration::from_secs(86_400);
/// How long the authority lasts.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3650 * 86_400);
/// How long a server's certificate lasts; new ones are made at every start. Longer ones are refused by some clients.
const SERVER_LIFETIME: Duration = Duration::from_secs(397 * 86_400);
/// By what name this machine is called when it is none of the emulated hosts.
const LOCALHOST: &str = "localhost";

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The stored authority cannot be read.
    #[error("the stored certificate authority cannot be read")]
    Authority(#[source] rcgen::Error),
    /// No certificate could be made.
    #[error("no certificate could be made")]
    Certificate(#[source] rcgen::Error),
    /// The TLS library refuses what was made.
    #[error("the certificate cannot be used")]
    Unusable(#[from] rustls::Error),
}

/// A local certificate authority, name-constrained (critically) to the three hosts, `localhost` and loopback addresses.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

impl Authority {
    /// Makes a new one; `today` is the operating system's, by which clients judge.
    pub(crate) fn new(today: Timestamp) -> Result<Self, TlsError> {
        let key = KeyPair::generate().map_err(TlsError::Certificate)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("storekeeper emulator, this machine only");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(NameConstraints { permitted_subtrees: permitted(), excluded_subtrees: vec![] });
        last(&mut params, today, AUTHORITY_LIFETIME);
        let certificate = params.self_signed(&key).map_err(TlsError::Certificate)?;
        Ok(Self { certificate_pem: certificate.pem(), issuer: Issuer::new(params, key) })
    }

    /// Reads one back.
    pub(crate) fn read(certificate_pem: String, key_pem: &str) -> Result<Self, TlsError> {
        let key = KeyPair::from_pem(key_pem).map_err(TlsError::Authority)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key).map_err(TlsError::Authority)?;
        Ok(Self { issuer, certificate_pem })
    }

    /// What clients have to trust.
    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The secret half.
    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// What a listener needs: a certificate for each host, chosen by SNI. A client that names none, since it calls an
    /// address, or `localhost`, gets the one for this machine; a foreign name is refused.
    pub(crate) fn server_config(&self, today: Timestamp) -> Result<Arc<rustls::ServerConfig>, TlsError> {
        let mut hosts = Vec::with_capacity(VirtualHost::ALL.len());
        for host in VirtualHost::ALL {
            hosts.push((host.name(), self.certify(&[host.name()], today)?));
        }
        let machine = self.certify(&[LOCALHOST, "127.0.0.1", "::1"], today)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(BySni { hosts, machine }));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn certify(&self, names: &[&str], today: Timestamp) -> Result<Arc<CertifiedKey>, TlsError> {
        let key = KeyPair::generate().map_err(TlsError::Certificate)?;
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).map_err(TlsError::Certificate)?;
        params.distinguished_name = common_name(&names[0]);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        last(&mut params, today, SERVER_LIFETIME);
        let certificate = params.signed_by(&key, &self.issuer).map_err(TlsError::Certificate)?;
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = aws_lc_rs::sign::any_supported_type(&PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
        Ok(Arc::new(CertifiedKey::new(chain, key)))
    }
}

fn permitted() -> Vec<GeneralSubtree> {
    let names = VirtualHost::ALL.map(VirtualHost::name).into_iter().chain([LOCALHOST]);
    let addresses = [CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8), CidrSubnet::from_v6_prefix(LOOPBACK_V6, 128)];
    let names = names.map(|name| GeneralSubtree::DnsName(name.to_owned()));
    names.chain(addresses.into_iter().map(GeneralSubtree::IpAddress)).collect()
}

const LOOPBACK_V6: [u8; 16] = std::net::Ipv6Addr::LOCALHOST.octets();

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// From the day before, for clocks that differ a little.
fn last(params: &mut CertificateParams, today: Timestamp, lifetime: Duration) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + (today - DAY).since(Timestamp::EPOCH);
    params.not_after = epoch + (today + lifetime).since(Timestamp::EPOCH);
}

#[derive(Debug)]
struct BySni {
    hosts: Vec<(&'static str, Arc<CertifiedKey>)>,
    machine: Arc<CertifiedKey>,
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = hello.server_name() else { return Some(Arc::clone(&self.machine)) };
        if name.eq_ignore_ascii_case(LOCALHOST) {
            return Some(Arc::clone(&self.machine));
        }
        let host = self.hosts.iter().find(|(host, _)| name.eq_ignore_ascii_case(host));
        host.map(|(_, certificate)| Arc::clone(certificate))
    }
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    const TODAY: Timestamp = Timestamp::from_seconds(1_800_000_000);

    /// Whether a client that trusts the authority accepts its certificate for `name` at `at`.
    fn check(authority: &Authority, name: &'static str, at: Timestamp, expected: bool) {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let certificate = authority.certify(&[name], TODAY).unwrap();
        let at = UnixTime::since_unix_epoch(at.since(Timestamp::EPOCH));
        let name = ServerName::try_from(name).unwrap();
        let verified = verifier.verify_server_cert(&certificate.cert[0], &[], &name, &[], at);
        assert_eq!(verified.is_ok(), expected, "{name:?}: {verified:?}");
    }

    #[test]
    fn the_authority_is_good_for_its_names_only() {
        let made = Authority::new(TODAY).unwrap();
        let read = Authority::read(made.certificate_pem().to_owned(), &made.key_pem()).unwrap();
        for authority in [made, read] {
            for host in VirtualHost::ALL {
                check(&authority, host.name(), TODAY, true);
            }
            for name in ["localhost", "127.0.0.1", "127.1.2.3", "::1"] {
                check(&authority, name, TODAY, true);
            }
            for name in ["onestore.microsoft.com", "mp.microsoft.com", "example.com", "10.0.0.1", "::2"] {
                check(&authority, name, TODAY, false);
            }
        }
    }

    #[test]
    fn a_certificate_lasts_a_year_and_begins_a_day_early() {
        let authority = Authority::new(TODAY).unwrap();
        check(&authority, LOCALHOST, TODAY - DAY, true);
        check(&authority, LOCALHOST, TODAY + DAY * 396, true);
        check(&authority, LOCALHOST, TODAY + DAY * 398, false);
        check(&authority, LOCALHOST, TODAY - DAY * 2, false);
    }
}
