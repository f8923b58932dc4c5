//! Taking up: the successors that ended processes left in rescue files are put into their rows, compare-and-set. A file is
//! removed only after the commit, so that being killed half-way, or finding a file twice, changes nothing.

use std::collections::HashSet;
use std::sync::Arc;

use storekeeper_keyring::seal::{Role, Sealer};
use storekeeper_keyring::{Keyring as _, KeyringError, Record, Settled, Successor};
use storekeeper_model::{Fingerprint, KeyId, Timestamp};

use super::Rescue;
use super::folder::{Found, LeftFile};
use crate::rows::Rows;

/// So many successors are put into their rows at once.
const GROUP: usize = 512;
/// A row that others write at the same moment is tried this often.
const ROUNDS_MAX: usize = 8;

/// What became of successors.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    /// They are in their rows.
    taken: usize,
    /// Their rows hold them, or something newer, or are gone.
    overtaken: usize,
    /// They do not open for their rows.
    unsealable: usize,
    /// Their rows cannot be written now.
    waiting: usize,
}

impl Rescue {
    /// Puts what ended processes left into its rows, as far as the keyring takes it. Returns how many rows changed.
    pub(crate) async fn take_up(self: &Arc<Self>, keyring: &Rows, sealer: &Sealer, now: Timestamp) -> usize {
        if self.folder.is_none() {
            return 0;
        }
        let rescue = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || {
            rescue.retry();
            rescue.folder.as_ref().map(super::Folder::look)
        });
        let found = match looked.await {
            Ok(Some(Ok(found))) => found,
            Ok(Some(Err(error))) => {
                self.note_problem(&error);
                return 0;
            }
            Ok(None) | Err(_) => return 0,
        };
        let Found { left, mut unusable } = found;
        let (mut taken, mut waiting) = (0, 0);
        for file in left {
            let tally = put_all(keyring, sealer, &file.contents.successors, now).await;
            taken += tally.taken;
            if tally.waiting > 0 {
                waiting += 1;
                continue;
            }
            close(file, tally, &mut unusable);
        }
        self.note_found(waiting, unusable);
        taken
    }

    fn note_problem(&self, error: &std::io::Error) {
        let Some(folder) = &self.folder else { return };
        let mut state = self.state();
        if state.facts.problem.is_none() {
            tracing::warn!(%error, folder = %folder.path().display(), "rescue files cannot be looked for");
            state.facts.problem = Some(format!("{}: {error}", folder.path().display()));
        }
    }

    /// What is new is logged; what stays as it was is not logged again.
    fn note_found(&self, waiting: usize, unusable: Vec<std::path::PathBuf>) {
        let mut state = self.state();
        for file in unusable.iter().filter(|file| !state.facts.unusable.contains(file)) {
            tracing::warn!(
                file = %file.display(),
                "a rescue file cannot be used: it is damaged, or of another keyring, and is left as it is"
            );
        }
        if waiting > 0 && state.facts.waiting != waiting {
            tracing::warn!(files = waiting, "successors in rescue files wait until the keyring takes writes");
        }
        (state.facts.waiting, state.facts.unusable) = (waiting, unusable);
    }
}

/// Ends with a file whose successors wait for nothing.
fn close(file: LeftFile, tally: Tally, unusable: &mut Vec<std::path::PathBuf>) {
    let (path, damaged) = (file.path.clone(), file.contents.damaged);
    let Tally { taken, overtaken, unsealable, .. } = tally;
    if damaged + unsealable > 0 {
        tracing::error!(
            file = %path.display(), taken, overtaken, damaged, unsealable,
            "a rescue file is damaged: what could be read of it is taken up, the file is kept"
        );
    } else {
        tracing::info!(file = %path.display(), taken, overtaken, "the successors of a rescue file are taken up");
    }
    match file.done(damaged + unsealable > 0) {
        Ok(aside) => unusable.extend(aside),
        Err(error) => tracing::warn!(%error, file = %path.display(), "a rescue file cannot be put away"),
    }
}

async fn put_all(keyring: &Rows, sealer: &Sealer, successors: &[Successor], now: Timestamp) -> Tally {
    let mut tally = Tally::default();
    for group in successors.chunks(GROUP) {
        let group: Vec<&Successor> = group.iter().collect();
        match put_group(keyring, sealer, &group, now, &mut tally).await {
            Ok(()) => {}
            Err(KeyringError::Refused(_) | KeyringError::Corrupt(_)) => {
                // One row must not keep the others.
                for one in group {
                    let mut alone = tally;
                    match put_group(keyring, sealer, &[one], now, &mut alone).await {
                        Ok(()) => tally = alone,
                        Err(error) => {
                            tracing::error!(%error, key = %one.key.fingerprint, "a successor of a rescue file cannot be put into its row");
                            tally.waiting += 1;
                        }
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "successors of a rescue file cannot be put into their rows");
                tally.waiting += group.len();
            }
        }
    }
    tally
}

/// Puts a group; what was written by others at the same moment is judged again.
async fn put_group(
    keyring: &Rows,
    sealer: &Sealer,
    group: &[&Successor],
    now: Timestamp,
    tally: &mut Tally,
) -> Result<(), KeyringError> {
    let mut sum = *tally;
    let mut open: Vec<&Successor> = group.to_vec();
    for _ in 0..ROUNDS_MAX {
        let ids: Vec<KeyId> = open.iter().map(|one| one.id).collect();
        let rows = keyring.find(&ids).await?;
        let (mut writes, mut written, mut once) = (Vec::new(), Vec::new(), HashSet::new());
        for (one, row) in open.iter().zip(rows) {
            let Some(row) = row.filter(|row| one.fits(row)) else {
                sum.overtaken += 1;
                continue;
            };
            if !once.insert(one.id) {
                sum.overtaken += 1;
            } else if opens(sealer, one, &row) {
                writes.push(one.put_into(row, now));
                written.push(*one);
            } else {
                sum.unsealable += 1;
            }
        }
        if writes.is_empty() {
            *tally = sum;
            return Ok(());
        }
        let settled = keyring.settle(Arc::new(writes)).await?;
        let is_done = |settled: &Settled| matches!(settled, Settled::Done(_));
        sum.taken += settled.iter().filter(|settled| is_done(settled)).count();
        open = written.into_iter().zip(&settled).filter(|(_, settled)| !is_done(settled)).map(|(one, _)| one).collect();
        if open.is_empty() {
            *tally = sum;
            return Ok(());
        }
    }
    Err(KeyringError::Unavailable(String::from("the rows are being written by many at once")))
}

/// Whether it is what was sealed for this row: bytes that are not would cost the player the key that the row holds.
fn opens(sealer: &Sealer, one: &Successor, row: &Record) -> bool {
    let key = sealer.unseal(&row.identity, row.id, Role::Held, one.key_version, &one.key.sealed);
    key.is_ok_and(|key| Fingerprint::of(key.expose()) == one.key.fingerprint)
}
