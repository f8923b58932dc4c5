//! The state of the emulated services and what every conversation shares: its exchange, its tickets and its answers.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use storekeeper_model::{Fingerprint, KeyKind, Timestamp};

use crate::authority::Authority;
use crate::calendar::http_date;
use crate::certificate::SigningCertificate;
use crate::client_registry::ClientRegistry;
use crate::correlation::store_headers;
use crate::entropy::{Draw, Entropy};
use crate::judgement::{Circumstances, TicketFacts, TicketFault};
use crate::known::KnownSignatures;
use crate::payload::PayloadMask;
use crate::rate::RateBuckets;
use crate::request::{BODY_BYTES_MAX, Endpoint, ExchangeNote, StoreAnswer, StoreRequest, VirtualHost};
use crate::revocation::{Revocations, SupersededKeys};
use crate::service_error::ServiceError;
use crate::sync::read;
use crate::ticket::{TicketCache, read_ticket};
use crate::{EmulatorOptions, Switches};

/// Everything that reset and restore replace. Each part has its own lock, and none is held across RSA work.
pub(crate) struct State {
    pub(crate) switches: RwLock<Switches>,
    pub(crate) public_url: Option<String>,
    pub(crate) entropy: Entropy,
    pub(crate) mask: PayloadMask,
    pub(crate) server_id: String,
    pub(crate) authority: Authority,
    pub(crate) entra: SigningCertificate,
    pub(crate) registry: RwLock<ClientRegistry>,
    pub(crate) tickets: TicketCache,
    pub(crate) known: KnownSignatures,
    pub(crate) revocations: RwLock<Revocations>,
    pub(crate) superseded: SupersededKeys,
    pub(crate) rate: RateBuckets,
}

/// The common name of Entra's signing certificate.
const ENTRA_SUBJECT: &str = "accounts.accesscontrol.windows.net (emulated)";

impl State {
    /// A fresh one.
    pub(crate) fn new(options: &EmulatorOptions, now: Timestamp) -> Self {
        let entropy = Entropy::new(options.seed, 1);
        let authority = Authority::new(options.switches.profile, options.signatures, &entropy, now);
        let entra = SigningCertificate::generate(ENTRA_SUBJECT, options.signatures, &mut entropy.draw());
        Self::assemble(options, options.switches, entropy, authority, entra)
    }

    /// From its signing keys; everything else is fresh.
    pub(crate) fn assemble(
        options: &EmulatorOptions,
        switches: Switches,
        entropy: Entropy,
        authority: Authority,
        entra: SigningCertificate,
    ) -> Self {
        Self {
            switches: RwLock::new(switches),
            public_url: options.public_url.as_deref().map(|url| url.trim_end_matches('/').to_owned()),
            mask: PayloadMask::new(entropy.seed()),
            server_id: format!("{:09}", u32::from_be_bytes(entropy.named("server id").bytes()) % 1_000_000_000),
            entropy,
            authority,
            entra,
            registry: RwLock::new(ClientRegistry::development()),
            tickets: TicketCache::default(),
            known: KnownSignatures::default(),
            revocations: RwLock::default(),
            superseded: SupersededKeys::default(),
            rate: RateBuckets::default(),
        }
    }

    /// Answers one request.
    pub(crate) fn answer(&self, request: &StoreRequest<'_>, now: Timestamp) -> StoreAnswer {
        let endpoint = Endpoint::of(request.host, request.path);
        let exchange = self.open(request, endpoint, now);
        match (endpoint, request.host.kind()) {
            (Endpoint::Renew, Some(host)) => self.renew(exchange, host),
            (Endpoint::Keys, Some(host)) => self.create_key(exchange, host),
            (Endpoint::Token, None) => self.token(exchange),
            (Endpoint::Discovery, None) => self.discovery(exchange),
            // Step 1 of store.md 4.5, and the routes that are not emulated.
            _ => self.close(exchange, 404, Vec::new()),
        }
    }

    /// Begins an exchange.
    pub(crate) fn open<'a>(&self, request: &'a StoreRequest<'a>, endpoint: Endpoint, now: Timestamp) -> Exchange<'a> {
        let switches = *read(&self.switches);
        Exchange {
            request,
            now,
            switches,
            draw: self.entropy.draw(),
            note: ExchangeNote::new(endpoint),
            extra: Vec::new(),
        }
    }

    /// Ends an exchange with a JSON document, or with none.
    pub(crate) fn close(&self, exchange: Exchange<'_>, status: u16, body: impl Into<Bytes>) -> StoreAnswer {
        let Exchange { request, now, switches, mut draw, note, extra } = exchange;
        let body: Bytes = body.into();
        let mut headers = match request.host {
            VirtualHost::Login => vec![("Date", http_date(now))],
            _ => store_headers(request.ms_cv, switches.correlation, &self.server_id, now, &mut draw),
        };
        if !body.is_empty() {
            let content_type = match request.host {
                VirtualHost::Login => "application/json; charset=utf-8",
                _ => "application/json",
            };
            headers.push(("Content-Type", content_type.to_owned()));
        }
        headers.extend(extra);
        StoreAnswer { status, headers, body, note }
    }

    /// Ends an exchange with the Store's error document.
    pub(crate) fn close_with_error(
        &self,
        mut exchange: Exchange<'_>,
        host: KeyKind,
        error: ServiceError,
    ) -> StoreAnswer {
        let shaped = error.shape(exchange.switches.errors, host);
        exchange.note.inner_code = Some(shaped.inner_code.to_owned());
        self.close(exchange, shaped.status, shaped.body)
    }

    /// Reads a ticket, remembering the verdict on its signature.
    pub(crate) fn read_ticket(&self, text: &str, switches: &Switches) -> Result<Arc<TicketFacts>, TicketFault> {
        self.tickets.facts(text, || {
            let tenant_known = |tenant: &str| read(&self.registry).knows_tenant(tenant);
            read_ticket(text, &self.entra, switches.format_v2_tickets, tenant_known)
        })
    }

    /// Where Microsoft's URL would point, or the same below the public URL.
    pub(crate) fn url(&self, host: VirtualHost, path: &str) -> String {
        match &self.public_url {
            Some(base) => format!("{base}/{}{path}", host.name()),
            None => format!("https://{}{path}", host.name()),
        }
    }
}

/// One request being answered.
pub(crate) struct Exchange<'a> {
    /// What was asked.
    pub(crate) request: &'a StoreRequest<'a>,
    /// The emulator's time.
    pub(crate) now: Timestamp,
    /// The switches as they were when the request came.
    pub(crate) switches: Switches,
    /// Randomness of its own.
    pub(crate) draw: Draw,
    /// What the ledger will keep.
    pub(crate) note: ExchangeNote,
    /// Header fields besides the common ones.
    pub(crate) extra: Vec<(&'static str, String)>,
}

impl Exchange<'_> {
    /// What a judgement needs to know of this moment.
    pub(crate) fn circumstances(&self, host: KeyKind) -> Circumstances {
        Circumstances {
            host,
            now: self.now,
            skew: Duration::from_secs(self.switches.skew_seconds.into()),
            renews_expired: self.switches.profile.renews_expired(),
        }
    }

    /// Notes the key that is issued.
    pub(crate) fn note_successor(&mut self, key: &str) {
        self.note.successor = Some(Fingerprint::of(key));
    }

    /// 405 unless the method is the one the route takes (store.md 4.5 step 2).
    pub(crate) fn method_fault(&mut self, allowed: &'static str) -> Option<u16> {
        (self.request.method != allowed).then(|| {
            self.extra.push(("Allow", allowed.to_owned()));
            405
        })
    }

    /// 415 or 413 (store.md 4.5 steps 3 and 4).
    pub(crate) fn body_fault(&self) -> Option<u16> {
        let media_type = self.request.content_type.and_then(|value| value.split(';').next()).map(str::trim);
        if !media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json")) {
            return Some(415);
        }
        (self.request.body.len() > BODY_BYTES_MAX).then_some(413)
    }
}
