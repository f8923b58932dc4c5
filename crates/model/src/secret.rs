//! `Secret<T>`: a value that cannot be printed by accident and is zeroed when dropped.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// Wraps a value that must not reach a log line, a metric, an error or a page.
///
/// There is no `Display` and no `Serialize`; `Debug` prints `[redacted]`. Reading the value is an explicit act,
/// [`Secret::expose`], that a reviewer can search for. The memory is zeroed on drop.
///
/// ```
/// use storekeeper_model::Secret;
/// let secret = Secret::new(String::from("eyJhbGciOi…"));
/// assert_eq!(format!("{secret:?}"), "[redacted]");
/// assert_eq!(secret.expose(), "eyJhbGciOi…");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes the value into custody.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// Reads the value. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
