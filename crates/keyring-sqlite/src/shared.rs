//! `Shared`: what the threads of a keyring tell each other.

use std::sync::Arc;

use crate::names::Names;
use crate::whereabouts::Whereabouts;

/// Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// Of apps.
    pub(crate) names: Names,
    /// Of rows.
    pub(crate) whereabouts: Arc<Whereabouts>,
}
