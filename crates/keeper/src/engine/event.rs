//! What the engine is told, and what it wants done: the whole traffic between engine and shell.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use storekeeper_keyring::{AppRow, Due, DueQuery, Record, SealedKey, Settled, State, Write, successor};
use storekeeper_model::{Audience, Fingerprint, KeyId, KeyKind, ServiceTicket, Timestamp};

use crate::fleet::Share;
use crate::view::KeyView;

/// An app, by its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppIndex(pub usize);

/// A ticket's place: one per (tenant, client ID, audience).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketIndex(pub usize);

/// Somebody who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiter(pub u64);

/// Which of a row's two keys is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The key that is served.
    Held,
    /// The key that waits for proof.
    Newcomer,
}

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// Time has passed.
    Wake,
    /// A scan came back.
    Scanned(Due),
    /// A scan failed.
    ScanFailed,
    /// Rows to probe a paused app with.
    Probes(AppIndex, Vec<Record>),
    /// Rows to hear as witnesses.
    Witnesses(AppIndex, Vec<Record>),
    /// An attempt came back.
    Finished(Box<Finished>),
    /// Entra answered.
    Ticket(TicketIndex, TicketFetched),
    /// A group of writes is durable, or was overtaken.
    Settled(Vec<Settled>),
    /// A group of writes could not be made; they come back to be made later.
    SettleFailed(Arc<Vec<Write>>, SettleFault),
    /// What stands in a row now, if anything does.
    Reread(KeyId, Option<Box<Record>>),
    /// A row could not be read.
    RereadFailed(KeyId),
    /// An app's row could not be saved.
    SaveFailed(AppIndex),
    /// An app's row was saved so, beside what other keepers had changed in it.
    AppSaved(AppIndex, Box<AppRow>),
    /// So an app's row stands: another keeper may have changed it.
    AppSeen(AppIndex, Box<AppRow>),
    /// A beat was answered, or leases came or went.
    Leases(Share),
    /// Somebody enrolled a key, or made one due, at this instant.
    Changed(Timestamp),
    /// These rows are another keeper's to renew, by marks that are durable.
    HandedOver(Vec<KeyId>),
    /// Somebody wants this row renewed now.
    Ask(Waiter, Box<Record>),
    /// Somebody wants a ticket.
    AskTicket(Waiter, AppIndex, Audience),
    /// An operator's order.
    Order(Waiter, AppIndex, Order),
    /// An app's credentials may have changed.
    CredentialsChanged,
    /// How many keys an app has.
    Counted(AppIndex, u64),
}

/// Why a group of writes could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettleFault {
    /// The keyring takes no writes at the moment.
    Keyring,
    /// A row of the group is at fault: the others can be written without it.
    Row,
}

/// A successor that is not durable, packed for the rescue file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endangered {
    /// The successor.
    pub fingerprint: Fingerprint,
    /// As a rescue file holds it.
    pub packed: Vec<u8>,
}

impl Endangered {
    /// The successor that this row is to hold in the place of that key.
    pub fn new(predecessor: Fingerprint, record: &Record) -> Self {
        Self { fingerprint: record.key.fingerprint, packed: successor::pack(predecessor, record) }
    }
}

/// What an operator may order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Stop renewing.
    Pause,
    /// Renew again; with `condemn`, lift the cap on condemnations for today.
    Resume {
        /// Whether to lift the cap.
        condemn: bool,
    },
    /// What was held against the app's keys until now proves nothing.
    VoidEvidence,
}

/// The shell has to do something.
#[derive(Debug)]
pub enum Action {
    /// Find what is due; answer with [`Event::Scanned`] or [`Event::ScanFailed`].
    Scan(DueQuery),
    /// Find rows to probe a paused app with: live ones from this id on, so that one sick key is not asked for ever.
    FindProbes(AppIndex, KeyId),
    /// Find rows to hear as witnesses.
    FindWitnesses(AppIndex, KeyId),
    /// Ask Entra for a ticket, with this one of the app's credentials.
    FetchTicket {
        /// Which ticket.
        ticket: TicketIndex,
        /// An app that uses it, whose credentials are asked.
        app: AppIndex,
        /// For what.
        audience: Audience,
        /// Which credential.
        credential: usize,
    },
    /// Ask the Store for a successor; answer with [`Event::Finished`].
    Renew(Box<Call>),
    /// Make a group of writes durable. At most one group is under way.
    Settle(Arc<Vec<Write>>),
    /// Put successors into the rescue file: the keyring has not taken them.
    Rescue(Vec<Endangered>),
    /// Everything that was put into the rescue file is durable: empty it.
    EndRescue,
    /// Read a row again; answer with [`Event::Reread`] or [`Event::RereadFailed`].
    Reread(KeyId),
    /// Save an app's row.
    SaveApp(AppIndex, Box<Saving>),
    /// Make rows due now.
    Hasten(HashSet<KeyId>),
    /// Answer who asked for a renewal.
    Reply(Waiter, Asked),
    /// Answer who asked for a ticket.
    ReplyTicket(Waiter, Result<Arc<ServiceTicket>, TicketFault>, Timestamp),
    /// Answer who gave an order: how many keys it concerns.
    ReplyOrder(Waiter, u64),
    /// Tell the world.
    Announce(Announcement),
}

/// What is to be saved of an app.
#[derive(Debug, Clone)]
pub struct Saving {
    /// The row as it was saved or seen last.
    pub seen: AppRow,
    /// The row as it is to be.
    pub row: AppRow,
}

/// One attempt to be made.
#[derive(Debug)]
pub struct Call {
    /// The row, on loan.
    pub record: Box<Record>,
    /// Which of its keys.
    pub subject: Subject,
    /// The app.
    pub app: AppIndex,
    /// The ticket to send along.
    pub ticket: Arc<ServiceTicket>,
}

/// One attempt that was made.
#[derive(Debug)]
pub struct Finished {
    /// The row, given back.
    pub record: Box<Record>,
    /// Which of its keys.
    pub subject: Subject,
    /// What the Store's answer says about it.
    pub answer: Answer,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// A short stable word.
    pub code: &'static str,
    /// The Store's `MS-CorrelationId`, bounded and scrubbed.
    pub correlation_id: Option<String>,
    /// The answer's `Date`, where the Store itself wrote the answer.
    pub store_date: Option<Timestamp>,
    /// How long the Store took, or we waited; `None` where nothing was sent.
    pub took: Option<Duration>,
}

impl Finished {
    /// Nothing was sent: the row's lease is not ours for long enough.
    pub fn unleased(call: Call) -> Self {
        Self {
            record: call.record,
            subject: call.subject,
            answer: Answer::Unleased,
            status: None,
            code: "unleased",
            correlation_id: None,
            store_date: None,
            took: None,
        }
    }
}

impl Finished {
    /// The successor in the answer, for the rescue file; `None` when there is none.
    pub fn into_successor(self) -> Option<Endangered> {
        let Answer::Renewed(key) = self.answer else { return None };
        let mut record = self.record;
        let predecessor = record.key.fingerprint;
        record.key = key;
        record.key_version += 1;
        (record.proven, record.state, record.failures) = (true, State::ACTIVE, 0);
        if self.subject == Subject::Newcomer {
            record.newcomer = None;
        }
        // It is looked at as soon as it is in its row.
        record.next_attempt_at = Some(record.key.lifetime.issued_at());
        Some(Endangered::new(predecessor, &record))
    }
}

/// What an answer says about the key.
#[derive(Debug)]
pub enum Answer {
    /// A successor, checked and sealed under the row's next key version.
    Renewed(SealedKey),
    /// `AuthenticationTokenInvalid`: ticket or key, nobody knows which.
    Refused,
    /// `InconsistentClientId`: our configuration.
    WrongClient,
    /// 400: our fault.
    BadRequest,
    /// Nothing about the key: the Store is slow, throttles, fails or cannot be read.
    Silent(Silence),
    /// The sealed key cannot be opened, so nothing was sent.
    Unsealable,
    /// The row's lease is not ours for long enough, so nothing was sent.
    Unleased,
}

/// Why an answer says nothing about the key, as far as pace and breaker care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// 429, 503 or a time-out: the Store is asked too much.
    pub congested: bool,
    /// 5xx, a broken connection or nonsense: the Store is not well.
    pub broken: bool,
    /// How long the Store wants to be left alone.
    pub retry_after: Option<Duration>,
}

/// What a request for a ticket brought.
#[derive(Debug)]
pub struct TicketFetched {
    /// The ticket, or why there is none.
    pub result: Result<Arc<ServiceTicket>, TicketFault>,
    /// The response's `Date`, where Entra itself wrote the response.
    pub date: Option<Timestamp>,
}

/// Why Entra gave no ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketFault {
    /// A short stable word, such as `invalid_client`.
    pub code: String,
    /// One line for the operator, without secrets.
    pub detail: String,
    /// Whether only an operator can mend it.
    pub refused: bool,
    /// How long Entra wants to be left alone.
    pub retry_after: Option<Duration>,
}

/// What became of a renewal that was asked for.
#[derive(Debug, Clone)]
pub enum Asked {
    /// The row as it is durable now.
    Renewed(Box<KeyView>),
    /// The row changed meanwhile: read it again.
    Overtaken,
    /// The row's lease is another keeper's.
    Elsewhere,
    /// The app is paused.
    Paused(String),
    /// The Store said no.
    Refused,
    /// No answer that says anything about the key.
    Failed(&'static str, Option<Duration>),
}

/// Something others want to hear of. Names follow the CloudEvents types of `docs/reference/events.md`.
#[derive(Debug, Clone, PartialEq)]
pub enum Announcement {
    /// About a key.
    Key {
        /// What happened.
        event: KeyEvent,
        /// The app.
        app: AppIndex,
        /// The kind.
        kind: KeyKind,
        /// The key.
        fingerprint: Fingerprint,
        /// Why, as a stable word.
        reason: &'static str,
    },
    /// An app is paused.
    Paused {
        /// The app.
        app: AppIndex,
        /// A stable word.
        reason: &'static str,
        /// One line for the operator.
        detail: String,
    },
    /// An app is resumed.
    Resumed {
        /// The app.
        app: AppIndex,
        /// What it had been paused for.
        reason: String,
    },
    /// Keys of this app are issued for another span than before.
    LifetimeChanged {
        /// The app.
        app: AppIndex,
        /// Until now.
        before: Duration,
        /// From now on.
        after: Duration,
    },
    /// Our clock and the Store's (or Entra's) disagree by more than five minutes.
    ClockSkewed {
        /// Ours.
        ours: Timestamp,
        /// The Store's.
        theirs: Timestamp,
    },
    /// They agree again.
    ClockAgrees,
    /// A host is not asked for a while, or asked again.
    Store {
        /// Whether it is well.
        restored: bool,
        /// Which.
        kind: KeyKind,
        /// For whose keys.
        app: AppIndex,
    },
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyEvent {
    /// The Store renewed this line for the first time.
    Proven,
    /// A newcomer was refused for good and dropped.
    EnrollmentRefused,
    /// The first refusal.
    Refused,
    /// Renewed after refusals.
    Recovered,
    /// Only the player can obtain another.
    ReenrollRequired,
}

impl KeyEvent {
    /// The last part of the event's type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::EnrollmentRefused => "enrollment_refused",
            Self::Refused => "refused",
            Self::Recovered => "recovered",
            Self::ReenrollRequired => "reenroll_required",
        }
    }
}
