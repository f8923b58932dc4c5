//! Made-up keys and tickets in the shape of real ones (store.md 2.8 and 3). Signatures are random bytes: whoever
//! measures signing does not use these.

use std::ops::Range;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use storekeeper_emulator::{DEV_CLIENT_ID, DEV_TENANT_ID};
use storekeeper_model::{AppName, Audience, ClientId, Identity, KeyKind, Slot, Timestamp, UserName};

/// The one app of a bench.
pub(super) const APP: &str = "bench";
/// `exp` - `iat`, in seconds.
const LIFETIME: i64 = 2_592_000;
/// How far `nbf` lies before `iat`.
const BACKDATED: i64 = 3600;
const CLAIM: &str = "http://schemas.microsoft.com/marketplace/2015/08/claims/key";
/// Of the certificate that would have signed: a SHA-1 thumbprint as `kid` has it.
const THUMBPRINT: &str = "C5D2A1E09B7F4836AD10E2C7B845F6039D8E1A74";

/// The name of the player who holds the key of this number: each holds one of either kind.
pub(super) fn player(number: u64) -> String {
    format!("player-{:07}", number / 2)
}

/// Of which kind the key of this number is.
pub(super) const fn kind(number: u64) -> KeyKind {
    if number.is_multiple_of(2) { KeyKind::Collections } else { KeyKind::Purchase }
}

/// Whose key has this number.
pub(super) fn identity(number: u64) -> Identity {
    Identity {
        app: AppName::new(APP).expect("the name is made of letters"),
        user: UserName::from_bytes(player(number).as_bytes()).expect("the name is short ASCII"),
        slot: Slot::default(),
        kind: kind(number),
    }
}

/// Makes up keys.
pub(super) struct Maker {
    random: SmallRng,
    header: String,
    claims: Vec<u8>,
}

impl Maker {
    /// The same keys for the same seed.
    pub(super) fn new(seed: u64) -> Self {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"RS256","kid":"{THUMBPRINT}","typ":"JWT"}}"#));
        Self { random: SmallRng::seed_from_u64(seed), header, claims: Vec::new() }
    }

    /// The key of this number, about 1.6 kB.
    pub(super) fn key(&mut self, number: u64, issued_at: Timestamp) -> String {
        let (kind, iat) = (kind(number), issued_at.seconds());
        let mut payload = [0; 198];
        self.random.fill(payload.as_mut_slice());
        let claims = format!(
            r#"{{"{CLAIM}/clientId":"{client}","{CLAIM}/payload":"{payload}","{CLAIM}/userId":"{user}","{CLAIM}/refreshUri":"{uri}","iat":{iat},"iss":"{aud}","aud":"{aud}","exp":{exp},"nbf":{nbf}}}"#,
            client = ClientId::new(DEV_CLIENT_ID).compact(),
            payload = STANDARD.encode(payload),
            user = player(number),
            uri = kind.refresh_uri(),
            aud = kind.audience(),
            exp = iat + LIFETIME,
            nbf = iat - BACKDATED,
        );
        let mut key = self.header.clone();
        key.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut key);
        self.sign(&mut key);
        key
    }

    /// Appends a successor of `key` that is issued now: the same claims but for the times. `None` when `key` is none of
    /// these.
    pub(super) fn succeed(&mut self, key: &str, issued_at: Timestamp, successor: &mut String) -> Option<()> {
        let (header, rest) = key.split_once('.')?;
        let (claims, _signature) = rest.split_once('.')?;
        self.claims.clear();
        URL_SAFE_NO_PAD.decode_vec(claims, &mut self.claims).ok()?;
        let iat = issued_at.seconds();
        for (name, instant) in [("\"iat\":", iat), ("\"exp\":", iat + LIFETIME), ("\"nbf\":", iat - BACKDATED)] {
            let place = digits_after(&self.claims, name)?;
            self.claims[place].copy_from_slice(instant.to_string().as_bytes().first_chunk::<10>()?);
        }
        successor.push_str(header);
        successor.push('.');
        URL_SAFE_NO_PAD.encode_string(&self.claims, successor);
        self.sign(successor);
        Some(())
    }

    /// A number that the Store would put in `MS-CorrelationId`.
    pub(super) fn correlation_id(&mut self) -> String {
        let (high, low): (u64, u64) = self.random.random();
        let [a, b, c, d] = [high >> 32, high >> 16 & 0xffff, high & 0xffff, low >> 48];
        format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{:012x}", low & 0xffff_ffff_ffff)
    }

    /// A span within these.
    pub(super) fn span(&mut self, within: Range<Duration>) -> Duration {
        self.random.random_range(within)
    }

    fn sign(&mut self, key: &mut String) {
        let mut signature = [0; 256];
        self.random.fill(signature.as_mut_slice());
        key.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, key);
    }
}

/// Where the ten digits of an instant stand. Times stand last, so the search starts there.
fn digits_after(claims: &[u8], name: &str) -> Option<Range<usize>> {
    let start = claims.windows(name.len()).rposition(|window| window == name.as_bytes())? + name.len();
    let digits = claims.get(start..start + 10)?;
    digits.iter().all(u8::is_ascii_digit).then_some(start..start + 10)
}

/// A service ticket of an hour.
pub(super) fn ticket(now: Timestamp) -> String {
    let iat = now.seconds();
    let header = json!({"alg": "RS256", "kid": THUMBPRINT, "typ": "JWT", "x5t": THUMBPRINT});
    let claims = json!({
        "aud": Audience::Service.resource(), "iss": format!("https://sts.windows.net/{DEV_TENANT_ID}/"),
        "iat": iat, "nbf": iat, "exp": iat + 3600, "appid": DEV_CLIENT_ID, "appidacr": "1", "tid": DEV_TENANT_ID,
        "ver": "1.0", "oid": DEV_CLIENT_ID, "sub": DEV_CLIENT_ID,
        "idp": format!("https://sts.windows.net/{DEV_TENANT_ID}/"),
    });
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([7; 256]))
}

#[cfg(test)]
mod tests {
    use storekeeper_model::{Secret, ServiceTicket, StoreIdKey};

    use super::*;

    fn parsed(key: &str) -> StoreIdKey {
        StoreIdKey::parse(Secret::new(key.to_owned())).unwrap()
    }

    #[test]
    fn a_key_is_one_and_its_successor_is_too() {
        let mut maker = Maker::new(1);
        let issued_at = Timestamp::from_seconds(1_800_000_000);
        for number in [0, 1, 77] {
            let key = maker.key(number, issued_at);
            let old = parsed(&key);
            assert_eq!(old.kind(), kind(number));
            assert_eq!(old.user_id().as_str(), player(number));
            assert_eq!(*old.client_id(), ClientId::new(DEV_CLIENT_ID));
            assert_eq!(old.lifetime().issued_at(), issued_at);
            let later = issued_at + Duration::from_secs(12 * 86_400);
            let mut successor = String::new();
            maker.succeed(&key, later, &mut successor).unwrap();
            let new = parsed(&successor);
            assert_eq!((new.kind(), new.client_id(), new.user_id()), (old.kind(), old.client_id(), old.user_id()));
            assert_eq!(new.lifetime().issued_at(), later);
            assert_eq!(new.lifetime().length(), Some(Duration::from_secs(2_592_000)));
            assert_eq!(successor.len(), key.len());
            assert_ne!(new.fingerprint(), old.fingerprint());
        }
        assert!(maker.succeed("no key", issued_at, &mut String::new()).is_none());
    }

    #[test]
    fn a_ticket_is_one() {
        let ticket = ServiceTicket::parse(Secret::new(ticket(Timestamp::from_seconds(1_800_000_000)))).unwrap();
        assert_eq!(ticket.audience(), Audience::Service);
        assert_eq!(*ticket.client_id(), ClientId::new(DEV_CLIENT_ID));
        assert_eq!(ticket.lifetime(), Duration::from_secs(3600));
    }

    #[test]
    fn a_correlation_id_is_a_guid() {
        let id = Maker::new(2).correlation_id();
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    }
}
