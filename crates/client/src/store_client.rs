//! `StoreClient`: both conversations over one transport, for programs that just want to renew a key.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::RngCore;
use storekeeper_model::{Audience, ClientId, ServiceTicket, StoreIdKey, Timestamp};

use crate::entra::{self, Credential, EntraVersion};
use crate::renewal::{self, RenewalAnswer, RenewalCall};
use crate::{CorrelationVector, Endpoints, TicketError, Transport};

/// Talks to Entra and the Store. It keeps no ticket and no key: fetch a ticket, use it for as many renewals of the same
/// client ID as its lifetime allows, and fetch the next past half of it.
///
/// ```
/// use storekeeper_client::{Credential, Endpoints, EntraVersion, StoreClient, TicketError, Transport};
/// use storekeeper_model::{Audience, ClientId, Secret, StoreIdKey, Timestamp};
///
/// async fn renew(client: &StoreClient<impl Transport>, key: &StoreIdKey, now: Timestamp) -> Result<(), TicketError> {
///     let credential = Credential::ClientSecret(Secret::new(String::from("read it from a file")));
///     let id = key.client_id();
///     let ticket =
///         client.fetch_ticket("contoso.example", id, Audience::Service, &credential, EntraVersion::V2, now).await?;
///     match client.renew(key, &ticket, now).await.result {
///         Ok(successor) => println!("{} became {}", key.fingerprint(), successor.fingerprint()),
///         Err(error) => println!("{error}: {:?}", error.advice()),
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct StoreClient<T> {
    transport: T,
    endpoints: Endpoints,
    limit: Duration,
    correlation: Mutex<CorrelationVector>,
}

impl<T: Transport> StoreClient<T> {
    /// How long an exchange may take unless [`StoreClient::limit`] says otherwise.
    pub const LIMIT: Duration = Duration::from_secs(30);

    /// Uses a transport and endpoints. `random` seeds the correlation vector that every attempt counts up.
    pub fn new(transport: T, endpoints: Endpoints, random: &mut impl RngCore) -> Self {
        Self { transport, endpoints, limit: Self::LIMIT, correlation: Mutex::new(CorrelationVector::seed(random)) }
    }

    /// Sets how long an exchange may take, in the operating system's time.
    #[must_use]
    pub fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Renews a key once, at the endpoint of its kind. There is no retry: [`RenewError::advice`](crate::RenewError::advice)
    /// says what to do about a failure.
    pub async fn renew(&self, key: &StoreIdKey, ticket: &ServiceTicket, now: Timestamp) -> RenewalAnswer {
        if !key.refresh_uri_is_known() {
            tracing::debug!(fingerprint = %key.fingerprint(), "refresh uri ignored");
        }
        let correlation = self.next_correlation();
        let call = RenewalCall::new(self.endpoints.for_kind(key.kind()), key, ticket, &correlation);
        match self.transport.send(renewal::prepare(&call), self.limit).await {
            Ok(answer) => renewal::interpret(key, &answer, now),
            Err(error) => RenewalAnswer::unanswered(error),
        }
    }

    /// Asks Entra for a ticket. Renewal takes one of [`Audience::Service`].
    ///
    /// # Errors
    /// See [`TicketError`].
    pub async fn fetch_ticket(
        &self,
        tenant: &str,
        client_id: &ClientId,
        audience: Audience,
        credential: &Credential,
        version: EntraVersion,
        now: Timestamp,
    ) -> Result<ServiceTicket, TicketError> {
        let request = entra::prepare_ticket(&self.endpoints.entra, tenant, client_id, audience, credential, version);
        let answer = self.transport.send(request, self.limit).await.map_err(TicketError::Transport)?;
        entra::interpret_ticket(audience, client_id, &answer, now)
    }

    fn next_correlation(&self) -> CorrelationVector {
        // A vector is whole after every step, so one that another thread left in a panic is still good.
        let mut vector = self.correlation.lock().unwrap_or_else(PoisonError::into_inner);
        vector.increment();
        vector.clone()
    }
}
