//! Which keys no longer renew: those named in a revocation, and those superseded where that ends a key's life.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use storekeeper_model::{CertificateId, ClientId, Fingerprint, Timestamp};

use crate::Revocation;
use crate::sync::lock;

/// All revocations. A user, client or certificate is revoked up to a serial number: exactly the keys minted before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Revocations {
    fingerprints: BTreeSet<Fingerprint>,
    users: BTreeMap<String, u64>,
    clients: BTreeMap<String, u64>,
    certificates: BTreeMap<CertificateId, u64>,
}

/// What a key is revoked by.
pub(crate) struct RevocationSubject<'a> {
    /// The key itself.
    pub(crate) fingerprint: Fingerprint,
    /// Its claim `userId`.
    pub(crate) user_id: &'a str,
    /// Its claim `clientId`.
    pub(crate) client_id: &'a ClientId,
    /// Which certificate signed it.
    pub(crate) certificate: &'a CertificateId,
    /// When it was minted, in minting order.
    pub(crate) serial: u64,
}

impl Revocations {
    /// Revokes what has a serial below `next_serial`.
    pub(crate) fn add(&mut self, revocation: Revocation, next_serial: u64) {
        match revocation {
            Revocation::Fingerprint(fingerprint) => {
                self.fingerprints.insert(fingerprint);
            }
            Revocation::UserId(user) => {
                self.users.insert(user, next_serial);
            }
            Revocation::ClientId(client) => {
                self.clients.insert(ClientId::new(&client).compact().to_owned(), next_serial);
            }
            Revocation::Certificate(certificate) => {
                self.certificates.insert(certificate, next_serial);
            }
        }
    }

    /// Whether the key is revoked.
    pub(crate) fn cover(&self, key: &RevocationSubject<'_>) -> bool {
        let before = |until: Option<&u64>| until.is_some_and(|until| key.serial < *until);
        self.fingerprints.contains(&key.fingerprint)
            || before(self.users.get(key.user_id))
            || before(self.clients.get(key.client_id.compact()))
            || before(self.certificates.get(key.certificate))
    }
}

const SHARDS: usize = 16;

/// Keys that were renewed while a superseded key is refused, each until its `exp`.
#[derive(Default)]
pub(crate) struct SupersededKeys {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    expiry: HashMap<Fingerprint, Timestamp>,
    sweep_at: usize,
}

impl SupersededKeys {
    /// From a snapshot's list.
    pub(crate) fn restore(keys: impl IntoIterator<Item = (Fingerprint, Timestamp)>) -> Self {
        let superseded = Self::default();
        for (key, expires_at) in keys {
            lock(superseded.shard(key)).expiry.insert(key, expires_at);
        }
        superseded
    }

    /// For a snapshot, in order.
    pub(crate) fn list(&self) -> BTreeMap<Fingerprint, Timestamp> {
        self.shards.iter().flat_map(|shard| lock(shard).expiry.clone()).collect()
    }

    /// Whether this key was renewed.
    pub(crate) fn contains(&self, key: Fingerprint) -> bool {
        lock(self.shard(key)).expiry.contains_key(&key)
    }

    /// Remembers a key as renewed; false when it already was, by whoever came first.
    ///
    /// Keys that expired before `forget_before` are forgotten on occasion.
    pub(crate) fn insert(&self, key: Fingerprint, expires_at: Timestamp, forget_before: Timestamp) -> bool {
        let mut shard = lock(self.shard(key));
        if shard.expiry.len() >= shard.sweep_at.max(64) {
            shard.expiry.retain(|_, expires_at| *expires_at >= forget_before);
            shard.sweep_at = shard.expiry.len() * 2;
        }
        shard.expiry.insert(key, expires_at).is_none()
    }

    fn shard(&self, key: Fingerprint) -> &Mutex<Shard> {
        &self.shards[usize::from(key.as_bytes()[0]) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(byte: u8) -> Fingerprint {
        Fingerprint::from_bytes([byte; 16])
    }

    #[test]
    fn a_revocation_means_the_keys_minted_before_it() {
        let check = |revocation: Revocation, serial, expected| {
            let mut revocations = Revocations::default();
            revocations.add(revocation.clone(), 10);
            let key = RevocationSubject {
                fingerprint: fingerprint(1),
                user_id: "u",
                client_id: &ClientId::new("1d5773695a3b44928227393bfef1e13d"),
                certificate: &CertificateId::new("AB"),
                serial,
            };
            assert_eq!(revocations.cover(&key), expected, "{revocation:?} {serial}");
        };
        check(Revocation::Fingerprint(fingerprint(1)), 9, true);
        check(Revocation::Fingerprint(fingerprint(2)), 9, false);
        for revocation in [
            Revocation::UserId(String::from("u")),
            Revocation::ClientId(String::from("1D577369-5A3B-4492-8227-393BFEF1E13D")),
            Revocation::Certificate(CertificateId::new("AB")),
        ] {
            check(revocation.clone(), 9, true);
            check(revocation, 10, false);
        }
        check(Revocation::UserId(String::from("U")), 9, false);
    }

    #[test]
    fn superseding_happens_once_and_is_forgotten_after_expiry() {
        let superseded = SupersededKeys::default();
        let at = Timestamp::from_seconds;
        assert!(superseded.insert(fingerprint(1), at(5), at(0)));
        assert!(!superseded.insert(fingerprint(1), at(5), at(0)));
        assert!(superseded.contains(fingerprint(1)) && !superseded.contains(fingerprint(2)));
        let restored = SupersededKeys::restore(superseded.list());
        assert!(restored.contains(fingerprint(1)));
        for number in 0_u16..4000 {
            let mut bytes = [1; 16];
            bytes[1..3].copy_from_slice(&number.to_be_bytes());
            superseded.insert(Fingerprint::from_bytes(bytes), at(i64::from(number)), at(i64::from(number) - 100));
        }
        assert!(superseded.list().len() < 1000);
    }
}
