//! `Rescue`: the rescue file of this keeper. A successor that the keyring does not take is put there, sealed as it is, so
//! that it survives this process; and what earlier processes left is put into its rows as soon as the keyring takes it.
//!
//! A successor exists only in memory until it is committed, and its predecessor may be worth nothing by then. So a file is
//! made when the keeper starts, with its space reserved: the disk that is full may be this one.

mod folder;
mod take_up;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use storekeeper_keyring::{KeyringId, NodeId};
use storekeeper_model::{Fingerprint, Timestamp};

use crate::engine::Endangered;
pub(crate) use folder::Folder;
use folder::OwnFile;

/// What became of the successors that a keeper held when it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drained {
    /// Successors that are in the rescue file.
    pub rescued: usize,
    /// Where that is, if there are any.
    pub rescue_file: Option<PathBuf>,
    /// Successors that are nowhere, and why.
    pub lost: usize,
    /// Why they are.
    pub lost_because: Option<String>,
    /// Renewals that were under way without an answer: the Store may have issued successors.
    pub unanswered: usize,
}

impl Drained {
    /// Whether everything that the Store issued is in the keyring.
    pub const fn is_clean(&self) -> bool {
        self.rescued == 0 && self.lost == 0 && self.unanswered == 0
    }
}

impl std::fmt::Display for Drained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let successors = |count| if count == 1 { String::from("1 successor") } else { format!("{count} successors") };
        let mut parts = Vec::new();
        if self.lost > 0 {
            let why = self.lost_because.as_deref().unwrap_or(NO_FOLDER);
            let lost = successors(self.lost);
            parts.push(format!("{lost} lost: not written to the keyring, and not to a rescue file ({why})"));
        }
        if self.rescued > 0 {
            let file = self.rescue_file.as_deref().map_or_else(String::new, |file| format!(" {}", file.display()));
            let rescued = successors(self.rescued);
            parts.push(format!(
                "{rescued} not written to the keyring: put into the rescue file{file}, which the next start takes up"
            ));
        }
        if self.unanswered > 0 {
            let renewals = if self.unanswered == 1 { "renewal" } else { "renewals" };
            parts.push(format!(
                "{} {renewals} under way without an answer: what the Store may have issued is lost",
                self.unanswered
            ));
        }
        f.write_str(&parts.join("; "))
    }
}

/// What is to be seen of rescue files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RescueFacts {
    /// Successors of this process in its rescue file, not in the keyring.
    pub held: usize,
    /// Files of earlier processes that wait until the keyring takes their successors.
    pub waiting: usize,
    /// Files that cannot be used, or not as a whole: damaged, or of another keyring.
    pub unusable: Vec<PathBuf>,
    /// Why this keeper could not rescue anything now.
    pub problem: Option<String>,
}

/// The rescue file of this keeper, and those of others.
#[derive(Debug)]
pub(crate) struct Rescue {
    folder: Option<Folder>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<OwnFile>,
    held: HashSet<Fingerprint>,
    /// They could not be written, and are tried again.
    unwritten: Vec<Endangered>,
    facts: RescueFacts,
}

const NO_FOLDER: &str = "no rescue folder is configured";

impl Rescue {
    /// Reserves space in the folder. A folder that cannot be used is reported, and tried again.
    pub(crate) fn open(folder: Option<&Path>, keyring: KeyringId, node: NodeId, now: Timestamp) -> Self {
        let folder = folder.map(|path| Folder::new(path.to_owned(), keyring, node, now));
        let rescue = Self { folder, state: Mutex::default() };
        if rescue.folder.is_some() {
            rescue.reserve(&mut rescue.state());
        }
        rescue
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a panicking writer leaves behind is a file with an end missing, at worst.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Makes this keeper's file when it is not there.
    fn reserve(&self, state: &mut State) {
        let Some(folder) = self.folder.as_ref().filter(|_| state.file.is_none()) else { return };
        let problem = match folder.reserve() {
            Ok(file) => {
                state.file = Some(file);
                None
            }
            Err(error) => Some(format!("{}: {error}", folder.path().display())),
        };
        if let Some(problem) = problem.as_ref().filter(|problem| state.facts.problem.as_ref() != Some(problem)) {
            tracing::warn!(
                problem,
                "no space is reserved for a rescue file: successors that the keyring does not take are lost with the process"
            );
        }
        state.facts.problem = problem;
    }

    /// Puts successors into the file, durably; those in it already are not put there twice. Blocks for the disk.
    ///
    /// # Errors
    /// One line that says why they are in no file. They are tried again by [`Rescue::retry`].
    pub(crate) fn write(&self, endangered: Vec<Endangered>) -> Result<Option<PathBuf>, String> {
        if self.folder.is_none() {
            return Err(String::from(NO_FOLDER));
        }
        let mut state = self.state();
        let state = &mut *state;
        state.unwritten.extend(endangered.into_iter().filter(|one| !state.held.contains(&one.fingerprint)));
        if state.unwritten.is_empty() {
            return Ok(state.file.as_ref().and_then(OwnFile::rescue_file));
        }
        self.reserve(state);
        let Some(file) = state.file.as_mut() else { return Err(state.facts.problem.clone().unwrap_or_default()) };
        match file.append(&state.unwritten) {
            Ok(()) => {
                let count = state.unwritten.len();
                tracing::warn!(
                    successors = count,
                    file = %file.path().display(),
                    "the keyring takes no writes: successors are put into the rescue file"
                );
                state.held.extend(state.unwritten.drain(..).map(|one| one.fingerprint));
                (state.facts.held, state.facts.problem) = (state.held.len(), None);
                Ok(file.rescue_file())
            }
            Err(error) => {
                let problem = format!("{}: {error}", file.path().display());
                tracing::error!(problem, "successors cannot be put into the rescue file");
                state.facts.problem = Some(problem.clone());
                Err(problem)
            }
        }
    }

    /// Tries again what failed. Blocks for the disk.
    pub(crate) fn retry(&self) {
        let mut state = self.state();
        self.reserve(&mut state);
        let has_unwritten = !state.unwritten.is_empty();
        drop(state);
        if has_unwritten {
            // Its failure is reported where it happens.
            drop(self.write(Vec::new()));
        }
    }

    /// Every successor in the file is in the keyring: empties it. Blocks for the disk.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.unwritten.clear();
        if state.held.is_empty() {
            return;
        }
        state.held.clear();
        state.facts.held = 0;
        let ended = state.file.as_mut().map(OwnFile::empty).transpose();
        match ended {
            Ok(_) => tracing::info!("the keyring has taken every successor of the rescue file"),
            Err(error) => {
                tracing::warn!(%error, "the rescue file cannot be emptied; its successors are found in their rows already");
                // Another one is made; the next start finds in this one what is in the rows already.
                state.file = None;
            }
        }
    }

    /// The keeper ends with these successors in no row: says what becomes of them. Without any, no file stays.
    pub(crate) fn finish(&self, unsettled: Vec<Endangered>, unanswered: usize) -> Drained {
        let count = unsettled.len();
        if count == 0 {
            self.end();
            if let Some(file) = self.state().file.take() {
                file.remove();
            }
            return Drained { unanswered, ..Drained::default() };
        }
        let fingerprints: Vec<Fingerprint> = unsettled.iter().map(|one| one.fingerprint).collect();
        let written = self.write(unsettled);
        let mut state = self.state();
        let rescued = fingerprints.iter().filter(|one| state.held.contains(one)).count();
        Drained {
            rescued,
            // It is closed: whatever comes later goes into another one, and this one may be taken up.
            rescue_file: state.file.take().and_then(|file| file.rescue_file()),
            lost: count - rescued,
            lost_because: written.err(),
            unanswered,
        }
    }

    /// The engine died: what is known of the successors that it held.
    pub(crate) fn abandoned(&self) -> Drained {
        let state = self.state();
        Drained {
            rescued: state.held.len(),
            rescue_file: state.file.as_ref().and_then(OwnFile::rescue_file),
            lost: state.unwritten.len(),
            lost_because: state.facts.problem.clone(),
            unanswered: 0,
        }
    }

    /// Whether there is a folder to look into.
    pub(crate) const fn has_folder(&self) -> bool {
        self.folder.is_some()
    }

    /// What is to be seen.
    pub(crate) fn facts(&self) -> RescueFacts {
        self.state().facts.clone()
    }
}
