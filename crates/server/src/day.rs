//! A day as it is written: `2026-01-31`.

use storekeeper_model::Timestamp;

/// Writes a day since the epoch.
pub(crate) fn write(day: i64) -> String {
    let text = Timestamp::from_seconds(day.saturating_mul(86_400)).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// Reads a day since the epoch; `None` if this is none.
pub(crate) fn read(text: &str) -> Option<i64> {
    Some(format!("{text}T00:00:00Z").parse::<Timestamp>().ok()?.day())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is_written() {
        for (number, text) in [(0, "1970-01-01"), (20_484, "2026-01-31")] {
            assert_eq!(write(number), text);
            assert_eq!(read(text), Some(number));
        }
        assert_eq!(read("yesterday"), None);
    }
}
