//! What commands print: tables for people, JSON for programs, spans and counts as a person says them.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use storekeeper_model::Timestamp;

use crate::exit::{CommandError, CommandResult, Exit};

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Prints a text and a line end on stdout. A reader that has gone away is no failure.
///
/// # Errors
/// When stdout cannot be written.
pub fn print(text: &str) -> CommandResult {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::new(Exit::Failure, format!("cannot write the answer: {error}")))
        }
        _ => Ok(()),
    }
}

/// Stdout for keys, which are lost where they are not written: the standard library's own takes some failures for success,
/// and writes to nowhere when stdout was closed.
///
/// # Errors
/// When there is no stdout.
pub fn secret_stdout() -> Result<File, CommandError> {
    let fail = |error: io::Error| CommandError::new(Exit::Failure, format!("stdout: {error}"));
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(fail)?);
    if is_missing(&stdout).map_err(fail)? {
        return Err(CommandError::new(Exit::Failure, "stdout is closed, so keys would be lost: nothing was done"));
    }
    Ok(stdout)
}

/// Whether this stands in for a stdout that was closed: the null device, open for reading too, as no shell opens it.
#[cfg(target_os = "linux")]
fn is_missing(stdout: &File) -> io::Result<bool> {
    use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, makedev};
    let (stat, flags) = (fstat(stdout)?, fcntl_getfl(stdout)?);
    let is_null = FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == makedev(1, 3);
    Ok(is_null && flags.contains(OFlags::RDWR))
}

#[cfg(not(target_os = "linux"))]
fn is_missing(_: &File) -> io::Result<bool> {
    Ok(false)
}

/// Prints a value as JSON: in one line, or indented where a person reads it.
///
/// # Errors
/// As [`print()`].
pub fn print_json(value: &(impl Serialize + ?Sized)) -> CommandResult {
    let text = if io::stdout().is_terminal() {
        // By way of a value: what came from a keeper as text would stay in one line.
        serde_json::to_value(value).and_then(|value| serde_json::to_string_pretty(&value))
    } else {
        serde_json::to_string(value)
    };
    print(&text.map_err(|error| CommandError::new(Exit::Failure, error))?)
}

/// Says something to the person on stderr, beside what is printed.
pub fn remark(text: &str) {
    // Where stderr cannot be written there is no other place to say so.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Rows below headers, without lines between them and without colour.
#[derive(Debug)]
pub struct Rows(Table);

impl Rows {
    /// No rows yet.
    pub fn new<const N: usize>(headers: [&str; N]) -> Self {
        let mut table = plain();
        table.set_header(headers);
        Self(table)
    }

    /// Names on the left, values on the right.
    pub fn pairs() -> Self {
        Self(plain())
    }

    /// Aligns columns to the right: those that hold counts.
    #[must_use]
    pub fn numbers(mut self, columns: &[usize]) -> Self {
        for column in columns {
            if let Some(column) = self.0.column_mut(*column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self
    }

    /// Adds a row. What came from elsewhere is made safe for a terminal.
    pub fn add<T: AsRef<str>, const N: usize>(&mut self, cells: [T; N]) {
        self.0.add_row(cells.map(|cell| safe(cell.as_ref())));
    }

    /// The text, without spaces at line ends.
    pub fn text(&self) -> String {
        let text = self.0.to_string();
        text.lines().map(flush_left).collect::<Vec<_>>().join("\n")
    }
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// Without the space that every cell has on its left.
fn flush_left(line: &str) -> &str {
    line.strip_prefix(' ').unwrap_or(line).trim_end()
}

/// Without control characters: a name is free text and must not drive a terminal.
pub fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `1234567` as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and its noun: `1 key`, `2,000 keys`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A span by its two largest units, rounded: `3 days 4 h`, `5 min`, `40 s`.
pub fn span(span: Duration) -> String {
    let unit = match span.as_secs() {
        0..60 => 1,
        60..86_370 => 60,
        _ => 3600,
    };
    let seconds = (span.as_secs() + unit / 2) / unit * unit;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let days_text = if days == 1 { String::from("1 day") } else { format!("{days} days") };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (_, 0, _) => days_text,
        (_, hours, _) => format!("{days_text} {hours} h"),
    }
}

/// An instant seen from another: `in 3 days 4 h`, `5 min ago`, `now`.
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    if at.distance(now) < Duration::from_secs(1) {
        String::from("now")
    } else if at > now {
        format!("in {}", span(at.since(now)))
    } else {
        format!("{} ago", span(now.since(at)))
    }
}

/// An instant to the second, as tables show it.
pub fn instant(at: Timestamp) -> String {
    Timestamp::from_seconds(at.seconds()).to_string()
}

/// An instant that may not be there.
pub fn instant_or_dash(at: Option<Timestamp>) -> String {
    at.map_or_else(|| String::from("-"), instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_commas() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(counted(1, "key"), "1 key");
        assert_eq!(counted(2000, "key"), "2,000 keys");
    }

    #[test]
    fn spans_are_told_by_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3600, "1 h"),
            (3660, "1 h 1 min"),
            (86_400, "1 day"),
            (86_369, "23 h 59 min"),
            (86_370, "1 day"),
            (90_000, "1 day 1 h"),
            (86_400 * 7 - 12, "7 days"),
            (86_400 * 30, "30 days"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn instants_are_told_from_where_one_stands() {
        let now = Timestamp::from_seconds(1_000_000);
        assert_eq!(relative(now, now), "now");
        assert_eq!(relative(now + Duration::from_secs(86_400), now), "in 1 day");
        assert_eq!(relative(now - Duration::from_secs(120), now), "2 min ago");
        assert_eq!(instant(Timestamp::from_millis(999)), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_name_does_not_drive_the_terminal() {
        let mut rows = Rows::new(["USER", "KEYS"]).numbers(&[1]);
        rows.add(["a\u{1b}[31m", "7"]);
        rows.add(["b", "10"]);
        assert_eq!(rows.text(), "USER    KEYS\na\u{fffd}[31m     7\nb         10");
    }
}
