//! Minting a key, whoever asks for it: renewal, creation or the control port.

use storekeeper_model::{ClientId, KeyKind, StoreIdKey, Timestamp};

use crate::Profile;
use crate::authority::StoreCertificate;
use crate::entropy::Draw;
use crate::key_text::NewKey;
use crate::management::ControlError;
use crate::payload::{self, Payload};
use crate::request::VirtualHost;
use crate::state::State;

/// What a key is to say.
pub(crate) struct Minting<'a> {
    /// The service it is for.
    pub(crate) kind: KeyKind,
    /// Whose it is.
    pub(crate) client_id: &'a ClientId,
    /// The claim `userId`.
    pub(crate) user_id: &'a str,
    /// The hidden Store account.
    pub(crate) account: String,
    /// Characters of the payload.
    pub(crate) payload_length: usize,
    /// The claim `refreshUri`; by default the emulator's own.
    pub(crate) refresh_uri: Option<&'a str>,
    /// The claim `iat`.
    pub(crate) issued_at: Timestamp,
    /// Decides the lifetime.
    pub(crate) profile: Profile,
}

impl State {
    /// Appends the key to `out`. The draw's serial becomes the key's.
    ///
    /// # Errors
    /// [`ControlError::PayloadLength`], [`ControlError::AccountTooLong`] or [`ControlError::KeyTooLarge`].
    pub(crate) fn mint(
        &self,
        wish: Minting<'_>,
        signer: &StoreCertificate,
        draw: &mut Draw,
        out: &mut String,
    ) -> Result<(), ControlError> {
        let hidden = Payload { serial: draw.serial(), account: wish.account };
        let mut payload = String::with_capacity(wish.payload_length);
        self.mask.hide(&hidden, wish.payload_length, draw.random(), &mut payload)?;
        let own_uri;
        let refresh_uri = match wish.refresh_uri {
            Some(uri) => uri,
            None => {
                own_uri = self.url(VirtualHost::from(wish.kind), RENEW_PATH);
                &own_uri
            }
        };
        let key = NewKey {
            kind: wish.kind,
            client_id: wish.client_id.compact(),
            payload: &payload,
            user_id: wish.user_id,
            refresh_uri,
            iat: wish.issued_at.seconds(),
            lifetime_seconds: i64::try_from(wish.profile.lifetime().as_secs()).expect("90 days fit"),
        };
        let start = out.len();
        key.write(&signer.header, &signer.certificate, draw, out);
        if out.len() - start > StoreIdKey::BYTES_MAX { Err(ControlError::KeyTooLarge) } else { Ok(()) }
    }
}

const RENEW_PATH: &str = "/v6.0/b2b/keys/renew";

/// The length of a predecessor's payload, where a successor can have it too.
pub(crate) fn payload_length_like(payload: &str) -> usize {
    let is_possible = (payload::LENGTH_MIN..=payload::LENGTH_MAX).contains(&payload.len());
    if is_possible && payload.len().is_multiple_of(4) { payload.len() } else { payload::LENGTH_DEFAULT }
}
