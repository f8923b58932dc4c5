//! What counts as failure, and what is counted.

use storekeeper_keyring::{Record, Write};
use storekeeper_model::{Fingerprint, Timestamp};

use crate::store::SimulatedStore;

/// How a simulation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The promise that was broken.
    pub kind: Broken,
    /// When, in the Store's time.
    pub at: Timestamp,
    /// What exactly.
    pub detail: String,
}

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A key expired that could have been renewed.
    AvoidableLapse,
    /// A key was condemned that the Store would renew.
    WrongCondemnation,
    /// A newcomer was dropped that the Store would renew.
    WrongDrop,
    /// A row is gone.
    LostKey,
    /// A held key was replaced by one that the Store did not make of it.
    Displaced,
    /// More was asked of the Store in a second than the pace allows.
    PaceExceeded,
    /// The engine works without time passing.
    Spinning,
}

/// What a year brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Successors that became durable.
    pub renewals: u64,
    /// Attempts made.
    pub attempts: u64,
    /// Keys condemned, each rightly.
    pub condemned: u64,
    /// Keys that expired and could not have been saved: dead at the Store, or past what its certificates allow.
    pub unavoidable: u64,
    /// Newcomers that took their place.
    pub replaced: u64,
    /// Newcomers dropped, each rightly.
    pub dropped: u64,
    /// Times an app was paused.
    pub pauses: u64,
    /// Times the clocks were found to disagree.
    pub skews: u64,
    /// Writes that were overtaken.
    pub conflicts: u64,
    /// Restarts.
    pub restarts: u64,
}

/// Judges one write that was made, by what stood there before.
pub(crate) fn write(
    before: Option<&Record>,
    write: &Write,
    store: &SimulatedStore,
    excused: impl Fn(&Record) -> bool,
    now: Timestamp,
    report: &mut Report,
) -> Result<(), Failure> {
    let Write::Put { record, .. } = write else { return Ok(()) };
    let Some(before) = before else { return Ok(()) };
    let fail = |kind, detail: String| Err(Failure { kind, at: now, detail });
    let is_dead = |fingerprint: &Fingerprint| store.with_truth(|truth| truth.dead.contains(fingerprint));
    let came_of =
        |parent: &Fingerprint| store.with_truth(|truth| truth.predecessor.get(&record.key.fingerprint) == Some(parent));
    if record.state.is_revoked() && !before.state.is_revoked() {
        report.condemned += 1;
        if !is_dead(&record.key.fingerprint) && !excused(before) {
            return fail(Broken::WrongCondemnation, format!("{:?}", record.identity));
        }
    }
    let changed = record.key.fingerprint != before.key.fingerprint;
    let waiting = before.newcomer.as_ref().map(|newcomer| newcomer.key.fingerprint);
    let took_over = waiting.is_some_and(|waiting| came_of(&waiting));
    if changed {
        report.renewals += 1;
        report.replaced += u64::from(took_over);
        if !took_over && !came_of(&before.key.fingerprint) {
            return fail(Broken::Displaced, format!("{:?}", record.identity));
        }
    }
    if let (Some(waiting), None, false) = (waiting, &record.newcomer, took_over) {
        report.dropped += 1;
        let expired = before.newcomer.as_ref().and_then(|newcomer| newcomer.key.lifetime.expires_at());
        if !is_dead(&waiting) && expired.is_none_or(|at| at > now) {
            return fail(Broken::WrongDrop, format!("{:?}", record.identity));
        }
    }
    Ok(())
}
