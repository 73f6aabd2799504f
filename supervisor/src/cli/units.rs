//! Figures as people read them.

use std::time::Duration;

use jiff::Timestamp;

/// 3.4M, 812K, 17: three digits at most before the unit, powers of 1024.
pub fn bytes(bytes: u64) -> String {
    let units = ["", "K", "M", "G", "T", "P", "E"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.95 {
        format!("{value:.0}{}", units[unit])
    } else {
        format!("{value:.1}{}", units[unit])
    }
}

/// A number with its limit, or without one.
pub fn of(used: String, limit: Option<String>) -> String {
    match limit {
        Some(limit) => format!("{used}/{limit}"),
        None => used,
    }
}

/// CPU time: 1.2s, 3m05s, 2h10m.
pub fn cpu(usec: u64) -> String {
    if usec < 60_000_000 { format!("{:.1}s", usec as f64 / 1e6) } else { age(Duration::from_micros(usec)) }
}

/// 12s, 3m05s, 2h10m, 4d3h.
pub fn age(age: Duration) -> String {
    let s = age.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{}h", s / 86_400, s / 3600 % 24),
    }
}

/// How long something took: 85ms, 1.2s, 3m05s.
pub fn took(began: Timestamp, ended: Timestamp) -> String {
    let took = Duration::try_from(ended.duration_since(began)).unwrap_or_default();
    match took.as_millis() {
        ms @ 0..1000 => format!("{ms}ms"),
        ms @ 1000..60_000 => format!("{:.1}s", ms as f64 / 1e3),
        _ => age(took),
    }
}

/// How long ago that was.
pub fn since(then: Timestamp, now: Timestamp) -> String {
    age(Duration::try_from(now.duration_since(then)).unwrap_or_default())
}

/// 870ns, 12µs, 3.4ms, 1.2s.
pub fn latency(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{:.0}µs", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}ms", value / 1e6),
        _ => format!("{:.1}s", value / 1e9),
    }
}

/// Per second: 0, 0.4, 12, 3.4k, 1.2M.
pub fn rate(per_second: f64) -> String {
    match per_second {
        it if it < 0.05 => "0".to_owned(),
        it if it < 9.95 => format!("{it:.1}"),
        it if it < 999.5 => format!("{it:.0}"),
        it if it < 999_950.0 => format!("{:.1}k", it / 1e3),
        it => format!("{:.1}M", it / 1e6),
    }
}

/// Reads cores, in thousandths.
pub fn milli(text: &str) -> Option<u64> {
    let cores: f64 = text.parse().ok().filter(|it: &f64| it.is_finite() && (0.0..=1e6).contains(it))?;
    let milli = (cores * 1_000.0).round();
    ((milli / 1_000.0 - cores).abs() < 1e-9).then_some(milli as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits_at_most() {
        for (amount, shown) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.0K"),
            (1 << 20, "1.0M"),
            (1000 << 10, "1.0M"),
            (100 << 20, "100M"),
            (3 << 29, "1.5G"),
            (u64::MAX, "16.0E"),
        ] {
            assert_eq!(bytes(amount), shown, "{amount}");
        }
    }

    #[test]
    fn ages_have_two_units_at_most() {
        for (seconds, shown) in [(0, "0s"), (59, "59s"), (185, "3m05s"), (7800, "2h10m"), (356_400, "4d3h")] {
            assert_eq!(age(Duration::from_secs(seconds)), shown);
        }
        let now = Timestamp::from_second(1000).unwrap();
        assert_eq!(since(Timestamp::from_second(2000).unwrap(), now), "0s", "a clock that was set back");
    }

    #[test]
    fn what_is_quick_took_milliseconds() {
        let took = |ms| took(Timestamp::UNIX_EPOCH, Timestamp::from_millisecond(ms).unwrap());
        assert_eq!([0, 85, 1200, 185_000].map(took), ["0ms", "85ms", "1.2s", "3m05s"]);
    }

    #[test]
    fn rates_and_latencies_fit_into_a_column() {
        assert_eq!([0.0, 0.42, 12.3, 3400.0, 1.2e6].map(rate), ["0", "0.4", "12", "3.4k", "1.2M"]);
        assert_eq!([870, 12_000, 3_400_000, 1_200_000_000].map(latency), ["870ns", "12µs", "3.4ms", "1.2s"]);
    }
}
