//! Amounts of bytes and spans of time as people write them.

use std::time::Duration;

/// Reads "0", "4096", "64K", "1.5G", "64MiB": powers of 1024.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let shift = match unit.strip_suffix("iB").or_else(|| unit.strip_suffix('B')).unwrap_or(unit) {
        "" if !unit.starts_with('i') => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let (whole, fraction) = number.split_once('.')?;
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let scaled = u128::from(whole.parse::<u64>().ok()?) * 10u128.pow(9)
        + u128::from(fraction.parse::<u64>().ok()?) * 10u128.pow(9 - u32::try_from(fraction.len()).ok()?);
    u64::try_from((scaled << shift) / 10u128.pow(9)).ok()
}

/// Reads "5s", "100ms", "1m 30s". A bare number has no unit and is refused.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|_| text.chars().any(|c| c.is_ascii_alphabetic()))
}

/// Writes what [`bytes`] reads, in the largest unit that divides it.
pub(crate) fn show_bytes(bytes: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Writes what [`duration`] reads.
pub(crate) fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_powers_of_1024() {
        for (text, expected) in [
            ("0", 0),
            ("4096", 4096),
            ("1K", 1024),
            ("64M", 64 << 20),
            ("1.5G", 3 << 29),
            ("2 GiB", 2 << 30),
            ("7B", 7),
            ("0.5K", 512),
        ] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "M",
            "-1",
            "1k",
            "1X",
            "1.M",
            ".5M",
            "1.2.3M",
            "1iM",
            "1i",
            "1iB",
            "99999999999999999999",
            "9999999999T",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for amount in [0, 1, 1023, 1024, 64 << 20, 3 << 29, u64::MAX] {
            assert_eq!(bytes(&show_bytes(amount)), Some(amount));
        }
    }

    #[test]
    fn a_span_of_time_needs_its_unit() {
        assert_eq!(duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(duration("1m 30s"), Some(Duration::from_secs(90)));
        for text in ["", "5", "0", "s", "5 parsecs", "-1s", "1e3s", "99999999999999999999s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
