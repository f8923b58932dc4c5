//! `Emulator`: the emulated services behind one value, and what the control port may do to them.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use storekeeper_model::{CertificateId, ClientId, Fingerprint, Secret, Timestamp};

use crate::client_registry::DEV_CLIENT_ID;
use crate::entra_error::EntraError;
use crate::management::{AddClient, CertificateView, ControlError, MintKey, MintTicket, Revocation};
use crate::minting::Minting;
use crate::payload;
use crate::request::{Endpoint, StoreAnswer, StoreRequest};
use crate::service_error::ServiceError;
use crate::snapshot::Snapshot;
use crate::state::State;
use crate::sync::{read, write};
use crate::ticket::{NewTicket, sign_ticket};
use crate::{EmulatorOptions, Profile, ProfileChange, Switches};

/// The emulated services. Shared freely between threads: locks are short and never held across RSA work on a request.
///
/// A request that is being answered while the emulator is reset or restored finishes on the state it began with.
pub struct Emulator {
    options: EmulatorOptions,
    state: RwLock<Arc<State>>,
}

impl Emulator {
    /// Starts with the development identity, a fresh signing certificate and a fresh Entra key. With real signatures
    /// this takes some tenths of a second.
    pub fn new(options: EmulatorOptions, now: Timestamp) -> Self {
        let state = RwLock::new(Arc::new(State::new(&options, now)));
        Self { options, state }
    }

    /// Starts where a snapshot ended, but with the switches of `options`: the seed is the snapshot's.
    ///
    /// # Errors
    /// [`ControlError::Snapshot`].
    pub fn resume(options: EmulatorOptions, snapshot: &Snapshot, now: Timestamp) -> Result<Self, ControlError> {
        let state = State::restore(&options, snapshot)?;
        *write(&state.switches) = options.switches;
        state.authority.follow(options.switches.profile, now);
        Ok(Self { options, state: RwLock::new(Arc::new(state)) })
    }

    /// Answers one request. Does the RSA work itself, so it belongs off the threads that serve sockets.
    pub fn answer(&self, request: &StoreRequest<'_>, now: Timestamp) -> StoreAnswer {
        self.state().answer(request, now)
    }

    /// What the service would say with this status, for a planned fault that names no body of its own.
    ///
    /// The Store: 400, 401, 429 (with `Retry-After: 1`) and 500 as error documents, 500 under wrapped errors as the 401
    /// of store.md 5.3. Entra: 401 as a wrong secret, 429 and 503 as `temporarily_unavailable`. Everything else has
    /// an empty body.
    pub fn fault_answer(&self, request: &StoreRequest<'_>, status: u16, now: Timestamp) -> StoreAnswer {
        let state = self.state();
        let mut exchange = state.open(request, Endpoint::of(request.host, request.path), now);
        let Some(host) = request.host.kind() else {
            return match status {
                401 => state.close_with_entra_error(exchange, EntraError::secret_wrong(DEV_CLIENT_ID)),
                429 | 503 => state.close_with_entra_error(exchange, EntraError::unavailable(status)),
                _ => state.close(exchange, status, Vec::new()),
            };
        };
        let error = match status {
            400 => ServiceError::invalid_parameter("body", "refused by a planned fault"),
            401 => ServiceError::TokenInvalid(None),
            429 => {
                exchange.extra.push(("Retry-After", String::from("1")));
                let limit = exchange.switches.rate_limit.unwrap_or_default();
                ServiceError::Throttled(limit)
            }
            500 => ServiceError::Internal,
            _ => return state.close(exchange, status, Vec::new()),
        };
        state.close_with_error(exchange, host, error)
    }

    /// Mints a key.
    ///
    /// # Errors
    /// [`ControlError::CertificateUnknown`], [`ControlError::PayloadLength`], [`ControlError::AccountTooLong`] or
    /// [`ControlError::KeyTooLarge`].
    pub fn mint_key(&self, wish: MintKey, now: Timestamp) -> Result<Secret<String>, ControlError> {
        let state = self.state();
        let profile = read(&state.switches).profile;
        let issued_at = wish.issued_at.unwrap_or(now);
        // Where certificates follow a schedule the past had another one; elsewhere whoever signs now signs everything.
        let signs_at = if profile == Profile::GameDocs { issued_at.min(now) } else { now };
        let signer = match &wish.certificate {
            Some(id) => state.authority.find(&CertificateId::new(id)).ok_or_else(|| unknown_certificate(id))?,
            None => state.authority.list_for(signs_at, now, &state.entropy).signing_at(signs_at).clone(),
        };
        let client_id = ClientId::new(wish.client_id.as_deref().unwrap_or(DEV_CLIENT_ID));
        let account = wish.account.unwrap_or_else(|| account_of(&wish.user_id));
        let minting = Minting {
            kind: wish.kind,
            client_id: &client_id,
            user_id: &wish.user_id,
            account,
            payload_length: wish.payload_length.unwrap_or(payload::LENGTH_DEFAULT),
            refresh_uri: None,
            issued_at,
            profile,
        };
        let mut key = String::with_capacity(2048);
        state.mint(minting, &signer, &mut state.entropy.draw(), &mut key)?;
        Ok(Secret::new(key))
    }

    /// Mints a ticket of one hour with any claims.
    pub fn mint_ticket(&self, wish: MintTicket, now: Timestamp) -> Secret<String> {
        let state = self.state();
        let client_id = ClientId::new(wish.client_id.as_deref().unwrap_or(DEV_CLIENT_ID));
        let tenant = read(&state.registry).tenant_of(&client_id);
        let ticket = NewTicket {
            tenant: &tenant,
            client_id: &client_id,
            resource: wish.audience.resource(),
            appidacr: "1",
            iat: now.seconds(),
            lifetime_seconds: 3600,
        };
        let mut draw = state.entropy.draw();
        let mut claims = ticket.claims(&state.entropy, &mut draw);
        for (name, value) in wish.claims {
            if value.is_null() {
                claims.remove(&name);
            } else {
                claims.insert(name, value);
            }
        }
        Secret::new(sign_ticket(&claims, &state.entra, &mut draw))
    }

    /// Revokes exactly the keys minted so far that the revocation names.
    ///
    /// # Errors
    /// [`ControlError::CertificateUnknown`].
    pub fn revoke(&self, revocation: Revocation) -> Result<(), ControlError> {
        let state = self.state();
        if let Revocation::Certificate(id) = &revocation {
            state.authority.find(id).ok_or_else(|| unknown_certificate(id.as_str()))?;
        }
        write(&state.revocations).add(revocation, state.entropy.next());
        Ok(())
    }

    /// Registers a client, or replaces its registration.
    ///
    /// # Errors
    /// [`ControlError::TenantMalformed`], [`ControlError::CredentialMissing`] or [`ControlError::CertificateUnreadable`].
    pub fn add_client(&self, client: AddClient) -> Result<(), ControlError> {
        write(&self.state().registry).add(client)
    }

    /// The signing certificates in the order in which they began to sign.
    pub fn certificates(&self, now: Timestamp) -> Vec<CertificateView> {
        let state = self.state();
        state.authority.list_for(now, now, &state.entropy);
        state.authority.views(now)
    }

    /// Makes a new signing certificate. All others are accepted for renewal for at most `accept_previous_for` more;
    /// without it they keep their own end, or in the `game-docs` era get its 14 days.
    pub fn rotate(&self, accept_previous_for: Option<Duration>, now: Timestamp) -> CertificateView {
        let state = self.state();
        state.authority.rotate(accept_previous_for, now, &state.entropy)
    }

    /// Changes switches and answers those now in force.
    pub fn set_profile(&self, change: ProfileChange, now: Timestamp) -> Switches {
        let state = self.state();
        let changed = {
            let mut switches = write(&state.switches);
            *switches = change.apply(*switches);
            *switches
        };
        state.tickets.clear();
        state.authority.follow(changed.profile, now);
        changed
    }

    /// The switches in force.
    pub fn profile(&self) -> Switches {
        *read(&self.state().switches)
    }

    /// The whole state; see [`Snapshot`] for how sensitive it is.
    pub fn snapshot(&self) -> Snapshot {
        self.state().snapshot()
    }

    /// Returns to a snapshot, its switches included.
    ///
    /// # Errors
    /// [`ControlError::Snapshot`]; the state is then as it was.
    pub fn restore(&self, snapshot: &Snapshot) -> Result<(), ControlError> {
        let state = State::restore(&self.options, snapshot)?;
        *write(&self.state) = Arc::new(state);
        Ok(())
    }

    /// Starts afresh with the options it was made with: new signing keys, the development identity, nothing revoked.
    pub fn reset(&self, now: Timestamp) {
        let state = Arc::new(State::new(&self.options, now));
        *write(&self.state) = state;
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&read(&self.state))
    }
}

fn unknown_certificate(id: &str) -> ControlError {
    ControlError::CertificateUnknown(CertificateId::new(id).as_str().to_owned())
}

/// One account per publisher user, unless told otherwise.
fn account_of(user_id: &str) -> String {
    if user_id.len() <= payload::ACCOUNT_BYTES_MAX { user_id.to_owned() } else { Fingerprint::of(user_id).to_string() }
}
