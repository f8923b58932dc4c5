//! One key from a file or stdin: the bare text, or the JSON document that an API answered with.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use serde::Deserialize;
use storekeeper_model::{Secret, StoreIdKey};
use zeroize::Zeroizing;

use crate::exit::{CommandError, Exit};
use crate::output::remark;

/// More than a key in a JSON document with everything that is known of it.
const BYTES_MAX: u64 = 2 * StoreIdKey::BYTES_MAX as u64;

/// Reads the key in `file`; stdin where none is named, or `-`.
///
/// # Errors
/// When it cannot be read, or holds more than a key.
pub fn read(file: Option<&Path>) -> Result<Secret<String>, CommandError> {
    let mut text = Zeroizing::new(Vec::with_capacity(StoreIdKey::BYTES_MAX));
    let read = match file.filter(|file| *file != Path::new("-")) {
        Some(file) => std::fs::File::open(file).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut text)),
        None => {
            let stdin = std::io::stdin();
            if stdin.is_terminal() {
                remark("paste the key, then press Enter and Ctrl-D");
            }
            stdin.lock().take(BYTES_MAX + 1).read_to_end(&mut text)
        }
    };
    let name = file.map_or_else(|| String::from("stdin"), |file| file.display().to_string());
    let fail = |error: &dyn std::fmt::Display| CommandError::new(Exit::Usage, format!("{name}: {error}"));
    if read.map_err(|error| fail(&error))? as u64 > BYTES_MAX {
        return Err(fail(&"holds more than a key"));
    }
    let text = std::str::from_utf8(&text).map_err(|_| fail(&"holds no text"))?;
    key_of(text.trim()).ok_or_else(|| fail(&"is a JSON document without a member `key`"))
}

fn key_of(text: &str) -> Option<Secret<String>> {
    #[derive(Deserialize)]
    struct Document {
        key: String,
    }
    if !text.starts_with('{') {
        return Some(Secret::new(text.to_owned()));
    }
    serde_json::from_str::<Document>(text).ok().map(|document| Secret::new(document.key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_bare_or_in_a_document() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(key_of(text).map(|key| key.expose().clone()).as_deref(), expected, "{text}");
        };
        check("a.b.c", Some("a.b.c"));
        check(r#"{"key":"a.b.c","state":"active"}"#, Some("a.b.c"));
        check("{}", None);
        check("", Some(""));
    }

    #[test]
    fn a_file_that_is_no_key_is_not_read_to_its_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b'a'; 100_000]).unwrap();
        let error = read(Some(file.path())).unwrap_err();
        assert!(error.message.ends_with("holds more than a key"), "{error}");
    }
}
