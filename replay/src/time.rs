//! Times and durations as people read them. All times are UTC: evidence is compared across places.

use chrono::{DateTime, SecondsFormat};

/// For example `2026-11-24 21:30:58.123456 UTC`. A time outside what calendars hold stands as its microseconds.
#[must_use]
pub fn date_and_time(unix_us: i64) -> String {
    match DateTime::from_timestamp_micros(unix_us) {
        Some(at) => at.format("%Y-%m-%d %H:%M:%S%.6f UTC").to_string(),
        None => format!("{unix_us} µs"),
    }
}

/// For example `21:30:58.123`.
#[must_use]
pub fn time_of_day(unix_us: i64) -> String {
    match DateTime::from_timestamp_micros(unix_us) {
        Some(at) => at.format("%H:%M:%S%.3f").to_string(),
        None => format!("{unix_us} µs"),
    }
}

/// RFC 3339 with microseconds, for example `2026-11-24T21:30:58.123456Z`.
#[must_use]
pub fn rfc3339(unix_us: i64) -> String {
    match DateTime::from_timestamp_micros(unix_us) {
        Some(at) => at.to_rfc3339_opts(SecondsFormat::Micros, true),
        None => unix_us.to_string(),
    }
}

/// For example `0.412 ms`, `12.300 s`, `3 min 12 s`, `2 h 5 min`.
#[must_use]
pub fn duration(us: u64) -> String {
    let seconds = us / 1_000_000;
    match seconds {
        0 => format!("{}.{:03} ms", us / 1000, us % 1000),
        1..60 => format!("{seconds}.{:03} s", us / 1000 % 1000),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let cases: &[(u64, &str)] = &[
            (0, "0.000 ms"),
            (412, "0.412 ms"),
            (999_999, "999.999 ms"),
            (1_000_000, "1.000 s"),
            (59_999_999, "59.999 s"),
            (192_000_000, "3 min 12 s"),
            (7_500_000_000, "2 h 5 min"),
        ];
        for (us, text) in cases {
            assert_eq!(duration(*us), *text);
        }
    }

    #[test]
    fn times_are_utc_and_never_fail() {
        assert_eq!(date_and_time(1_795_555_858_123_456), "2026-11-24 21:30:58.123456 UTC");
        assert_eq!(rfc3339(1_795_555_858_123_456), "2026-11-24T21:30:58.123456Z");
        assert_eq!(time_of_day(1_795_555_858_123_456), "21:30:58.123");
        assert_eq!(date_and_time(i64::MAX), format!("{} µs", i64::MAX));
        assert_eq!(date_and_time(i64::MIN), format!("{} µs", i64::MIN));
    }
}
