//! Formatting of durations and times.

use std::{fmt::Display, time::Duration};

use crate::clock::Timestamp;

/// Formats a duration: `195 µs`, `3 ms`, `4.2 s`, `5 min`, `3 h`, `12 d`.
pub(super) fn format_duration(duration: Duration) -> String {
    match duration.as_micros() {
        0 => "0 s".to_owned(),
        micros @ 1..1_000 => format!("{micros} µs"),
        micros @ 1_000..1_000_000 => format!("{} ms", micros / 1_000),
        1_000_000..10_000_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ => coarse_duration(duration),
    }
}

/// Formats a duration in the largest unit of which it has at least two: `0 s`, `9 s`, `5 min`, `3 h`, `12 d`.
pub(super) fn coarse_duration(duration: Duration) -> String {
    match duration.as_secs() {
        secs @ 0..120 => format!("{secs} s"),
        secs @ 120..7_200 => format!("{} min", (secs + 30) / 60),
        secs @ 7_200..172_800 => format!("{} h", (secs + 1_800) / 3_600),
        secs => format!("{} d", (secs + 43_200) / 86_400),
    }
}

/// Formats a time relative to now: `in 9 s`, `3 h ago`.
pub(super) fn relative_time(at: Timestamp, now: Timestamp) -> String {
    // Rounded to the nearest second: 9.9 s ahead is "in 10 s".
    match at.since(now) {
        Duration::ZERO => format!("{} ago", coarse_duration(now.since(at))),
        until => format!("in {}", coarse_duration(until + Duration::from_millis(500))),
    }
}

/// Formats a time, also relative to now: `2026-11-24 14:12:07 UTC (9 s ago)`.
pub(super) fn format_timestamp(at: Timestamp) -> String {
    with_relative_time(at.civil().strftime("%Y-%m-%d %H:%M:%S UTC"), at)
}

/// Appends the relative time to a formatted time.
pub(super) fn with_relative_time(formatted: impl Display, at: Timestamp) -> String {
    format!("{formatted} ({})", relative_time(at, Timestamp::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown = [0, 195, 3_999, 4_200_000, 42_900_000, 65_000_000, 7_200_000_000, 172_800_000_000]
            .map(|micros| format_duration(Duration::from_micros(micros)));
        assert_eq!(shown, ["0 s", "195 µs", "3 ms", "4.2 s", "42 s", "65 s", "2 h", "2 d"]);
    }
}
