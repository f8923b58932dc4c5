//! A signing certificate: an RSA-2048 key held parsed, its self-signed X.509 certificate, and the names made from it.

use std::fmt::Write;

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore;
use storekeeper_model::{CertificateId, Secret};

use crate::Signatures;
use crate::der;
use crate::entropy::Draw;

/// Bytes of an RSA-2048 signature.
const SIGNATURE_BYTES: usize = 256;

/// Signs, verifies and has a name. Without a key (see [`Signatures::Skipped`]) it signs with random bytes and verifies
/// everything.
pub(crate) struct SigningCertificate {
    key: Option<RsaKey>,
    thumbprint: [u8; 20],
    id: CertificateId,
    x5t: String,
}

struct RsaKey {
    pair: RsaKeyPair,
    public: ParsedPublicKey,
    certificate: Vec<u8>,
}

impl SigningCertificate {
    /// A fresh one, named `subject`. With real signatures this takes 50 to 200 ms.
    pub(crate) fn generate(subject: &str, signatures: Signatures, draw: &mut Draw) -> Self {
        match signatures {
            Signatures::Skipped => Self::unsigned(draw.bytes()),
            Signatures::Real => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048)
                    .expect("generating an RSA key fails only where the operating system has no randomness");
                let certificate = self_signed(subject, &pkcs8(&pair));
                Self::with_key(pair, certificate).expect("a key and a certificate made a moment ago are sound")
            }
        }
    }

    /// One that signs with random bytes.
    pub(crate) fn unsigned(thumbprint: [u8; 20]) -> Self {
        Self::named(None, thumbprint)
    }

    /// From what a snapshot keeps: the private key as PKCS#8 DER, and the certificate. `None` when unreadable.
    pub(crate) fn restore(pkcs8: &[u8], certificate: Vec<u8>) -> Option<Self> {
        Self::with_key(RsaKeyPair::from_pkcs8(pkcs8).ok()?, certificate)
    }

    fn with_key(pair: RsaKeyPair, certificate: Vec<u8>) -> Option<Self> {
        let public = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref()).ok()?;
        let thumbprint = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &certificate);
        let thumbprint = thumbprint.as_ref().try_into().ok()?;
        Some(Self::named(Some(RsaKey { pair, public, certificate }), thumbprint))
    }

    fn named(key: Option<RsaKey>, thumbprint: [u8; 20]) -> Self {
        let kid = thumbprint.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02X}").expect("writing to a string cannot fail");
            text
        });
        Self { key, thumbprint, id: CertificateId::new(&kid), x5t: URL_SAFE_NO_PAD.encode(thumbprint) }
    }

    /// The thumbprint in upper-case hexadecimal: the `kid` of Store ID keys (store.md 3.1).
    pub(crate) fn id(&self) -> &CertificateId {
        &self.id
    }

    /// The thumbprint as base64url: the `x5t` of Store ID keys, the `kid` and `x5t` of tickets.
    pub(crate) fn x5t(&self) -> &str {
        &self.x5t
    }

    /// The SHA-1 thumbprint.
    pub(crate) fn thumbprint(&self) -> [u8; 20] {
        self.thumbprint
    }

    /// The certificate as DER; `None` without a key.
    pub(crate) fn der(&self) -> Option<&[u8]> {
        self.key.as_ref().map(|key| key.certificate.as_slice())
    }

    /// The private key as PKCS#8 DER, for a snapshot.
    pub(crate) fn private_key(&self) -> Option<Secret<Vec<u8>>> {
        self.key.as_ref().map(|key| Secret::new(pkcs8(&key.pair)))
    }

    /// Modulus and exponent of the public key, big-endian.
    pub(crate) fn rsa_numbers(&self) -> Option<(&[u8], &[u8])> {
        der::rsa_numbers(self.key.as_ref()?.pair.public_key().as_ref())
    }

    /// Appends a dot and the signature over everything in `text` from `start` on.
    pub(crate) fn sign(&self, text: &mut String, start: usize, draw: &mut Draw) {
        let mut signature = [0; SIGNATURE_BYTES];
        match &self.key {
            Some(key) => key
                .pair
                .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &text.as_bytes()[start..], &mut signature)
                .expect("a 2048-bit key signs any message into 256 bytes"),
            None => draw.random().fill_bytes(&mut signature),
        }
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, text);
    }

    /// Whether `signature`, still base64url, is this certificate's over `message`.
    pub(crate) fn verifies(&self, message: &str, signature: &str) -> bool {
        let Some(key) = &self.key else { return true };
        let mut bytes = [0; SIGNATURE_BYTES + 4];
        let Ok(length) = URL_SAFE_NO_PAD.decode_slice(signature, &mut bytes) else { return false };
        key.public.verify_sig(message.as_bytes(), &bytes[..length]).is_ok()
    }
}

fn pkcs8(pair: &RsaKeyPair) -> Vec<u8> {
    let der: Pkcs8V1Der<'_> = pair.as_der().expect("a parsed RSA key can be written as PKCS#8");
    der.as_ref().to_vec()
}

fn self_signed(subject: &str, pkcs8: &[u8]) -> Vec<u8> {
    let signed = || {
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(pkcs8);
        let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_RSA_SHA256)?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, subject);
        // Nobody validates these dates: the emulator's clock may stand in any year.
        params.not_before = rcgen::date_time_ymd(2015, 1, 1);
        params.not_after = rcgen::date_time_ymd(2115, 1, 1);
        params.self_signed(&key)
    };
    signed().expect("rcgen signs with every RSA-2048 key").der().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;

    fn draw() -> Draw {
        Entropy::new(1, 1).draw()
    }

    #[test]
    fn what_it_signs_it_verifies_and_nothing_else() {
        let certificate = SigningCertificate::generate("test", Signatures::Real, &mut draw());
        let mut text = String::from("noise.message");
        certificate.sign(&mut text, 6, &mut draw());
        let signature = text.strip_prefix("noise.message.").unwrap();
        assert_eq!(signature.len(), 342);
        assert!(certificate.verifies("message", signature));
        assert!(!certificate.verifies("massage", signature));
        assert!(!certificate.verifies("message", &signature[4..]));
        assert!(!certificate.verifies("message", &format!("{signature}AAAA")));
        assert!(!certificate.verifies("message", "not base64!"));
    }

    #[test]
    fn names_are_thumbprints_of_the_certificate() {
        let certificate = SigningCertificate::generate("test", Signatures::Real, &mut draw());
        let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, certificate.der().unwrap());
        assert_eq!(certificate.x5t(), URL_SAFE_NO_PAD.encode(sha1));
        let hex: String = sha1.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(certificate.id().as_str(), hex);
    }

    #[test]
    fn the_documented_pair_of_names_belongs_together() {
        // store.md 3.1: 36D101AF… encodes to NtEBr2ep9huAF_uW-R7dSyLwWAQ.
        let thumbprint = [
            0x36, 0xd1, 0x01, 0xaf, 0x67, 0xa9, 0xf6, 0x1b, 0x80, 0x17, 0xfb, 0x96, 0xf9, 0x1e, 0xdd, 0x4b, 0x22, 0xf0,
            0x58, 0x04,
        ];
        let certificate = SigningCertificate::unsigned(thumbprint);
        assert_eq!(certificate.id().as_str(), "36D101AF67A9F61B8017FB96F91EDD4B22F05804");
        assert_eq!(certificate.x5t(), "NtEBr2ep9huAF_uW-R7dSyLwWAQ");
    }

    #[test]
    fn it_survives_a_snapshot() {
        let certificate = SigningCertificate::generate("test", Signatures::Real, &mut draw());
        let private_key = certificate.private_key().unwrap();
        let der = certificate.der().unwrap().to_vec();
        let restored = SigningCertificate::restore(private_key.expose(), der.clone()).unwrap();
        assert_eq!(restored.id(), certificate.id());
        let mut text = String::from("message");
        certificate.sign(&mut text, 0, &mut draw());
        assert!(restored.verifies("message", &text[8..]));
        let published = der::certificate_public_key(&der).unwrap();
        let published = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, published).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(&text[8..]).unwrap();
        assert!(published.verify_sig(b"message", &signature).is_ok());
        assert!(SigningCertificate::restore(b"garbage", der).is_none());
    }

    #[test]
    fn without_a_key_signatures_are_noise_of_the_right_length() {
        let certificate = SigningCertificate::generate("test", Signatures::Skipped, &mut draw());
        let mut text = String::from("message");
        certificate.sign(&mut text, 0, &mut draw());
        assert_eq!(text.len(), "message".len() + 1 + 342);
        assert!(certificate.verifies("message", "anything"));
    }
}
