//! Arithmetic on spans that never panics: what overflows saturates, what is no number counts as nothing.

use core::time::Duration;

/// `span` times `factor`, in whole milliseconds, rounded down.
pub(crate) fn scaled(span: Duration, factor: f64) -> Duration {
    // The cast saturates at both ends and takes NaN for zero.
    Duration::from_millis((span.as_millis() as f64 * factor) as u64)
}

/// The place between `low` and `high` that `jitter` (0 to 1, cut off outside) points at.
pub(crate) fn between(low: Duration, high: Duration, jitter: f64) -> Duration {
    low.saturating_add(scaled(high.saturating_sub(low), jitter.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_neither_panics_nor_escapes() {
        let (low, high) = (Duration::from_secs(30), Duration::from_secs(60));
        for jitter in [f64::NAN, f64::NEG_INFINITY, -1.0, 0.0, 0.5, 1.0, 7.0, f64::INFINITY] {
            let wait = between(low, high, jitter);
            assert!(wait >= low && wait <= high, "{jitter}: {wait:?}");
        }
        assert_eq!(between(low, high, 0.5), Duration::from_secs(45));
        assert_eq!(scaled(Duration::MAX, 2.0), Duration::from_millis(u64::MAX));
        assert_eq!(scaled(high, -1.0), Duration::ZERO);
    }
}
