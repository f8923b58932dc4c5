//! What an error of SQLite means to a user of the keyring.

use rusqlite::{Error, ErrorCode};
use storekeeper_keyring::KeyringError;

/// An error met while the keyring is in use.
pub(crate) fn in_use(error: &Error) -> KeyringError {
    match error {
        _ if is_damage(error) => KeyringError::Corrupt(one_line(error)),
        _ if is_refusal(error) => KeyringError::Refused(one_line(error)),
        _ => KeyringError::Unavailable(one_line(error)),
    }
}

/// Whether it is about a row, not about the database: what else is in the group may fare better.
fn is_refusal(error: &Error) -> bool {
    let is_odd_row = matches!(error, Error::QueryReturnedNoRows | Error::ToSqlConversionFailure(_));
    let code = error.sqlite_error_code();
    is_odd_row || matches!(code, Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig))
}

/// An error met while the keyring is opened.
pub(crate) fn opening(path: &std::path::Path, error: &Error) -> KeyringError {
    let what = format!("{}: {}", path.display(), one_line(error));
    if is_damage(error) { KeyringError::Corrupt(what) } else { KeyringError::Unreachable(what) }
}

fn is_damage(error: &Error) -> bool {
    let is_odd_value = matches!(
        error,
        Error::FromSqlConversionFailure(..) | Error::InvalidColumnType(..) | Error::IntegralValueOutOfRange(..)
    );
    is_odd_value || matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// The first line of a message.
pub(crate) fn one_line(error: &impl ToString) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// What stands in a column cannot be.
pub(crate) fn corrupt(what: &str) -> KeyringError {
    KeyringError::Corrupt(format!("a row's {what}"))
}

/// It was closed, or its thread is gone.
pub(crate) fn closed() -> KeyringError {
    KeyringError::Unavailable(String::from("it is closed"))
}

/// The same error for everybody who shared a group.
pub(crate) fn again(error: &KeyringError) -> KeyringError {
    match error {
        KeyringError::Corrupt(what) => KeyringError::Corrupt(what.clone()),
        KeyringError::Refused(what) => KeyringError::Refused(what.clone()),
        KeyringError::Unavailable(what) => KeyringError::Unavailable(what.clone()),
        other => KeyringError::Unavailable(other.to_string()),
    }
}
