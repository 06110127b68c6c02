//! Times as the token file writes them: seconds since the Unix epoch inside, RFC 3339 in UTC outside.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat};

/// The second now, by the system's clock. A clock that is before 1970 counts as the end of time, when every token has
/// expired.
pub(crate) fn now_unix_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(i64::MAX)
}

/// The second as RFC 3339 in UTC; `None` outside the years that text can hold.
pub(crate) fn to_text(unix_s: i64) -> Option<String> {
    let time = DateTime::from_timestamp(unix_s, 0)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// The second of an RFC 3339 text, any offset.
pub(crate) fn from_text(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable_and_come_back() {
        assert_eq!(to_text(1_795_555_860).as_deref(), Some("2026-11-24T21:31:00Z"));
        assert_eq!(from_text("2026-11-24T21:31:00Z"), Some(1_795_555_860));
        assert_eq!(from_text("2026-11-24T22:31:00+01:00"), Some(1_795_555_860));
        assert_eq!(from_text("yesterday"), None);
        assert_eq!(to_text(i64::MAX), None);
    }
}
