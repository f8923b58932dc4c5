//! Each key's place in the window, derived from its identity: load is flat and every node agrees without talking.

use storekeeper_model::KeyId;

/// Where in the spread a key stands: from -1 (as early as allowed) to just below 1 (as late as allowed), uniform over
/// identities and the same on every node and in every run.
///
/// Taken from the second half of the id, because the first bits are the bucket: within a bucket, which one node scans,
/// keys must be spread as evenly as over all.
///
/// ```
/// use storekeeper_model::KeyId;
/// use storekeeper_policy::offset_share;
/// assert_eq!(offset_share(KeyId::from_bytes([0; 16])), -1.0);
/// assert!(offset_share(KeyId::from_bytes([0xff; 16])) < 1.0);
/// ```
pub fn offset_share(id: KeyId) -> f64 {
    let [.., a, b, c, d, e, f, g, h] = *id.as_bytes();
    // 53 bits are what an f64 holds exactly, so every platform computes the same value.
    let place = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 11;
    place as f64 / HALF - 1.0
}

/// 2^52: half of the 2^53 places.
const HALF: f64 = (1_u64 << 52) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(second_half: u64, expected: f64) {
        for first in [0x00, 0x5a, 0xff] {
            let mut bytes = [first; 16];
            bytes[8..].copy_from_slice(&second_half.to_be_bytes());
            assert_eq!(offset_share(KeyId::from_bytes(bytes)), expected, "{second_half:x}");
        }
    }

    #[test]
    fn golden_places() {
        check(0, -1.0);
        check(1 << 62, -0.5);
        check(1 << 63, 0.0);
        check(3 << 62, 0.5);
        check(u64::MAX, 1.0 - f64::EPSILON);
    }
}
