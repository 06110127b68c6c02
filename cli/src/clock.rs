//! The clock and the random bytes of this process.

use std::time::{SystemTime, UNIX_EPOCH};

use retrace_proto::Id;

/// Microseconds since the Unix epoch. A clock before it reads as the epoch.
pub(crate) fn now_unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Seconds since the Unix epoch.
pub(crate) fn now_unix_s() -> i64 {
    now_unix_us() / 1_000_000
}

/// A new UUIDv7.
pub(crate) fn new_id() -> Id {
    let mut random = [0; 10];
    getrandom::fill(&mut random).expect("the operating system has random bytes");
    Id::from_parts(u64::try_from(now_unix_us() / 1000).unwrap_or(0), random)
}
